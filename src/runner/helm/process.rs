//! Child processes that get their signals from us alone and never outlive us.

use std::io;
use std::process::Stdio;

use rustix::process::{
    Pid, Resource, Rlimit, Signal, getpid, getppid, getrlimit, kill_process, set_parent_process_death_signal, setrlimit,
};
use tokio::process::{Child, Command};

/// What a program may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Address space, in bytes. A limit of data (`RLIMIT_DATA`) does not bound a Go program: where a mapping replaces reserved
    /// address space, as that of Go's heap does, the kernel takes its size off before it compares.
    pub address_space: u64,
    /// Size of a file that it writes, in bytes.
    pub file: u64,
}

/// Starts a program in a process group of its own: a signal to the runner's group reaches it once, through the runner.
///
/// If the runner itself is killed, the kernel kills the child: a helm that nobody watches would work on while the
/// release's Lease runs out and another helm begins.
pub fn spawn(command: &mut Command, limits: Option<Limits>) -> io::Result<Child> {
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
        if getppid() == Some(parent) { Ok(()) } else { Err(io::Error::from(rustix::io::Errno::SRCH)) }
    };
    command.process_group(0).stdin(Stdio::piped()).kill_on_drop(true);
    // SAFETY: between fork and exec only async-signal-safe calls are allowed; these are bare system calls, and making an
    // `io::Error` of an errno does not allocate.
    #[allow(unsafe_code)]
    unsafe {
        command.pre_exec(prepare);
    }
    command.spawn()
}

/// Asks a child to end. One that has ended already is no error.
pub fn terminate(child: &Child) -> io::Result<()> {
    let pid = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw);
    match pid.map(|pid| kill_process(pid, Signal::TERM)) {
        None | Some(Ok(()) | Err(rustix::io::Errno::SRCH)) => Ok(()),
        Some(Err(errno)) => Err(errno.into()),
    }
}
