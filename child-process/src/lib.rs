//! Child processes that never outlive the process that starts them, however that one ends: the kernel kills them
//! (`PR_SET_PDEATHSIG`).
//!
//! The kernel ties that signal to the *thread* that forked, and sends it when this thread ends. So one thread that never ends
//! does all the forking, whatever runtime the program has.

use std::io;
use std::sync::{Mutex, OnceLock, PoisonError, mpsc};
use std::thread;

use rustix::io::Errno;
use rustix::process::{
    Resource, Rlimit, Signal, getpid, getppid, getrlimit, set_parent_process_death_signal, setrlimit,
};
use tokio::process::{Child, Command};
use tokio::runtime::Handle;
use tokio::sync::oneshot;

/// What a program may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Address space, in bytes. A limit of data (`RLIMIT_DATA`) does not bound a Go program: where a mapping replaces reserved
    /// address space, as that of Go's heap does, the kernel takes its size off before it compares.
    pub address_space: u64,
    /// Size of a file that it writes, in bytes.
    pub file: u64,
}

/// Starts `command` as the leader of its own process group, so that it gets its signals from us alone; to be killed by the
/// kernel when this process ends for whatever reason. Dropping the returned handle kills it, too.
///
/// # Errors
/// As [`Command::spawn`]; also when this process is ending already.
pub async fn spawn(mut command: Command, limits: Option<Limits>) -> io::Result<Child> {
    let parent = getpid();
    let prepare = move || {
        for (resource, most) in limits.iter().flat_map(|l| [(Resource::As, l.address_space), (Resource::Fsize, l.file)])
        {
            // The surroundings may allow less already, and never more.
            let most = getrlimit(resource).maximum.map_or(most, |allowed| allowed.min(most));
            setrlimit(resource, Rlimit { current: Some(most), maximum: Some(most) })?;
        }
        set_parent_process_death_signal(Some(Signal::KILL))?;
        // The parent may have ended between fork and the line above; then no signal would ever come.
        if getppid() == Some(parent) { Ok(()) } else { Err(io::Error::from(Errno::SRCH)) }
    };
    command.process_group(0).kill_on_drop(true);
    // SAFETY: between fork and exec only async-signal-safe calls are allowed; these are bare system calls, and making an
    // `io::Error` of an errno does not allocate.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(prepare);
    }
    let (answer, spawned) = oneshot::channel();
    let order = Order { command, runtime: Handle::current(), answer };
    let gone = || io::Error::other("the thread that starts processes has ended");
    let queue = forker().lock().unwrap_or_else(PoisonError::into_inner).clone();
    queue.send(order).map_err(|_| gone())?;
    spawned.await.map_err(|_| gone())?
}

/// One process to start.
struct Order {
    command: Command,
    /// Tokio registers the child with the runtime that is entered when it is started.
    runtime: Handle,
    answer: oneshot::Sender<io::Result<Child>>,
}

/// The queue of the thread that does all the forking; the thread lives as long as the process.
fn forker() -> &'static Mutex<mpsc::Sender<Order>> {
    static FORKER: OnceLock<Mutex<mpsc::Sender<Order>>> = OnceLock::new();
    FORKER.get_or_init(|| {
        let (queue, orders) = mpsc::channel::<Order>();
        thread::spawn(move || {
            for mut order in orders {
                let _runtime = order.runtime.enter();
                // Nobody waits any more: the child is dropped, and thereby killed.
                drop(order.answer.send(order.command.spawn()));
            }
        });
        Mutex::new(queue)
    })
}

#[cfg(test)]
mod tests {
    use std::process::Stdio;

    use tokio::io::AsyncWriteExt;
    use tokio::runtime::Runtime;

    use super::*;

    #[test]
    fn a_child_outlives_the_thread_that_asks_for_it() {
        let runtime = Runtime::new().unwrap();
        let handle = runtime.handle().clone();
        let mut command = Command::new("sh");
        command.args(["-c", "read line; exit 7"]).stdin(Stdio::piped());
        let asking = thread::spawn(move || handle.block_on(spawn(command, None)));
        let mut child = asking.join().unwrap().unwrap();
        let ended = runtime.block_on(async move {
            child.stdin.take().unwrap().write_all(b"end\n").await.unwrap();
            child.wait().await.unwrap()
        });
        assert_eq!(ended.code(), Some(7), "{ended}");
    }

    #[tokio::test]
    async fn limits_are_those_of_the_program() {
        let mut command = Command::new("sh");
        command.args(["-c", "ulimit -f"]).stdout(Stdio::piped());
        let limits = Limits { address_space: 1 << 30, file: 1 << 20 };
        let child = spawn(command, Some(limits)).await.unwrap();
        let printed = String::from_utf8(child.wait_with_output().await.unwrap().stdout).unwrap();
        assert_eq!(printed.trim(), "2048", "in blocks of 512 bytes");
    }

    #[tokio::test]
    async fn a_program_that_is_missing_is_an_error() {
        let error = spawn(Command::new("/no/such/program"), None).await.unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }
}
