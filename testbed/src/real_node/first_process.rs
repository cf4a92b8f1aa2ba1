//! The first process in the node's namespaces: `testbed first-process`.
//!
//! It gives the node mounts, kernel settings and a host name of its own, then collects orphans until SIGTERM. When it ends,
//! the kernel ends every process of the node, and with the last one the namespaces and all that is in them.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::mount::{
    MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind, mount_bind_recursive, mount_change, unmount,
};
use rustix::process::{WaitOptions, wait};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};

use super::RealNodeError;

/// Directories of the machine that the node has for itself, because containerd, kubelet and CNI write there.
pub(super) const HIDDEN: [&str; 3] = ["/run", "/var/lib", "/var/log"];

/// What the kubelet demands of the kernel. It reads these files and writes nothing when they say what it wants: so it is
/// shown others, and the machine keeps its settings.
const DEMANDED: [(&str, &str); 4] =
    [("vm/overcommit_memory", "1"), ("vm/panic_on_oom", "0"), ("kernel/panic", "10"), ("kernel/panic_on_oops", "1")];

/// What the first process is told.
#[derive(Debug, Clone, clap::Args)]
pub struct Arguments {
    /// The node's directory.
    #[arg(long)]
    pub(super) dir: PathBuf,
    /// The node's host name.
    #[arg(long)]
    pub(super) hostname: String,
}

/// What it found out, in a file of the node's directory that appears when everything is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Prepared {
    /// The snapshotter of containerd: `overlayfs`, or `native` where that cannot be mounted.
    pub(super) snapshotter: String,
}

impl Prepared {
    fn file(dir: &Path) -> PathBuf {
        dir.join("prepared.json")
    }

    /// Removes what an earlier first process has written.
    pub(super) fn forget(dir: &Path) -> Result<(), RealNodeError> {
        match fs::remove_file(Self::file(dir)) {
            Err(source) if source.kind() != io::ErrorKind::NotFound => {
                Err(RealNodeError::File { path: Self::file(dir), source })
            }
            _ => Ok(()),
        }
    }

    /// What the first process of the node in `dir` has written; `None` before it is ready.
    pub(super) fn read(dir: &Path) -> Option<Self> {
        serde_json::from_slice(&fs::read(Self::file(dir)).ok()?).ok()
    }
}

/// Runs until SIGTERM.
///
/// # Errors
/// With what was tried, when the kernel refuses it.
pub async fn run(arguments: &Arguments) -> io::Result<()> {
    let Arguments { dir, hostname } = arguments;
    let mut orphans = signal(SignalKind::child())?;
    let mut terminate = signal(SignalKind::terminate())?;
    mounts(dir).map_err(|error| io::Error::other(format!("mount {error}")))?;
    settings(hostname)?;
    let prepared = Prepared { snapshotter: snapshotter(dir)?.to_owned() };
    let (draft, file) = (dir.join("prepared.new"), Prepared::file(dir));
    fs::write(&draft, serde_json::to_vec(&prepared)?)?;
    fs::rename(&draft, &file)?;
    loop {
        tokio::select! {
            _ = terminate.recv() => return Ok(()),
            _ = orphans.recv() => while matches!(wait(WaitOptions::NOHANG), Ok(Some(_))) {},
        }
    }
}

fn mounts(dir: &Path) -> io::Result<()> {
    let new = |kind: &str, target: &str, data: Option<&std::ffi::CStr>| {
        mount(kind, target, kind, MountFlags::NOSUID | MountFlags::NODEV, data).map_err(named(target))
    };
    new("proc", "/proc", None)?;
    // A sysfs shows the network interfaces of whoever mounts it; the cgroups are those of the machine.
    let kept = dir.join("cgroups");
    fs::create_dir_all(&kept)?;
    mount_bind_recursive("/sys/fs/cgroup", &kept).map_err(named("cgroups"))?;
    new("sysfs", "/sys", None)?;
    mount_bind_recursive(&kept, "/sys/fs/cgroup").map_err(named("/sys/fs/cgroup"))?;
    unmount(&kept, UnmountFlags::DETACH).map_err(named("cgroups"))?;
    new("tmpfs", "/run", Some(c"mode=755"))?;
    for name in ["lib", "log"] {
        let (own, target) = (dir.join("var").join(name), format!("/var/{name}"));
        fs::create_dir_all(&own)?;
        mount_bind(&own, &target).map_err(named(&target))?;
    }
    // A pod's mounts are made here and must show in its container.
    mount_change("/", MountPropagationFlags::SHARED | MountPropagationFlags::REC).map_err(named("/"))
}

fn settings(hostname: &str) -> io::Result<()> {
    let set = |path: &str, value: &str| {
        fs::write(path, value).map_err(|error| io::Error::other(format!("write {path}: {error}")))
    };
    set("/proc/sys/kernel/hostname", hostname)?;
    set("/proc/sys/net/ipv4/ip_forward", "1")?;
    fs::create_dir_all("/run/shown")?;
    for (name, value) in DEMANDED {
        let (shown, target) = (format!("/run/shown/{}", name.replace('/', ".")), format!("/proc/sys/{name}"));
        set(&shown, &format!("{value}\n"))?;
        mount_bind(&shown, &target).map_err(named(&target))?;
    }
    Ok(())
}

/// `overlayfs` where it can be mounted: not on every file system, and not on another overlay.
fn snapshotter(dir: &Path) -> io::Result<&'static str> {
    let trial = dir.join("trial");
    let [lower, upper, work, merged] = ["lower", "upper", "work", "merged"].map(|name| trial.join(name));
    for directory in [&lower, &upper, &work, &merged] {
        fs::create_dir_all(directory)?;
    }
    let data = format!("lowerdir={},upperdir={},workdir={}", lower.display(), upper.display(), work.display());
    let data = std::ffi::CString::new(data)?;
    let mounted = mount("overlay", &merged, "overlay", MountFlags::empty(), data.as_c_str()).is_ok();
    if mounted {
        unmount(&merged, UnmountFlags::empty())?;
    }
    fs::remove_dir_all(&trial)?;
    Ok(if mounted { "overlayfs" } else { "native" })
}

fn named(what: &str) -> impl FnOnce(rustix::io::Errno) -> io::Error {
    move |errno| io::Error::other(format!("{what}: {}", io::Error::from(errno)))
}
