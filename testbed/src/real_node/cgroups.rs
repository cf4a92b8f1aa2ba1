//! The cgroups of the pods. They belong to the whole machine, so they are all of a node that outlives its namespaces.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

/// Controllers that the kubelet demands.
const DEMANDED: [&str; 4] = ["cpu", "cpuset", "memory", "pids"];
/// The kernel takes processes out of a cgroup a moment after they were killed.
const REMOVE_AGAIN: Duration = Duration::from_millis(50);
const REMOVE_ATTEMPTS: usize = 100;

/// Whether the kubelet finds the cgroups that it demands on this machine, of version 1 or 2.
///
/// # Errors
/// A clause that says what is missing.
pub(super) fn check() -> Result<(), String> {
    let mounts = fs::read_to_string("/proc/mounts").map_err(|error| format!("/proc/mounts: {error}"))?;
    check_in(&mounts, |path| fs::read_to_string(path).unwrap_or_default())
}

fn check_in(mounts: &str, read: impl Fn(&Path) -> String) -> Result<(), String> {
    let mounted = hierarchies(mounts);
    let lacking = |has: &[&str]| {
        let missing: Vec<_> = DEMANDED.into_iter().filter(|controller| !has.contains(controller)).collect();
        (!missing.is_empty()).then(|| missing.join(", "))
    };
    if mounted.contains(&("cgroup2", Path::new("/sys/fs/cgroup"))) {
        let enabled = read(Path::new("/sys/fs/cgroup/cgroup.subtree_control"));
        let missing = lacking(&enabled.split_whitespace().collect::<Vec<_>>());
        return missing.map_or(Ok(()), |missing| {
            Err(format!(
                "/sys/fs/cgroup/cgroup.subtree_control lacks {missing}, and the machine's settings are not changed"
            ))
        });
    }
    // Two controllers may share a hierarchy, as /sys/fs/cgroup/cpu,cpuacct.
    let names = mounted.iter().filter(|(kind, _)| *kind == "cgroup").filter_map(|(_, path)| path.file_name()?.to_str());
    let missing = lacking(&names.flat_map(|name| name.split(',')).collect::<Vec<_>>());
    missing.map_or(Ok(()), |missing| Err(format!("no cgroups of {missing} are mounted")))
}

/// Type and place of each mounted hierarchy.
fn hierarchies(mounts: &str) -> Vec<(&str, &Path)> {
    let fields = mounts.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    fields
        .filter_map(|fields| match fields[..] {
            [_, path, kind @ ("cgroup" | "cgroup2"), ..] => Some((kind, Path::new(path))),
            _ => None,
        })
        .collect()
}

/// Makes the cgroup `name` in each hierarchy.
pub(super) fn create(name: &str) -> io::Result<()> {
    for parent in parents()? {
        let own = parent.join(name);
        fs::create_dir_all(&own)?;
        // A cpuset of v1 takes no process before it has processors and memory nodes.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            if own.join(file).exists() && !own.join("cgroup.controllers").exists() {
                fs::write(own.join(file), fs::read(parent.join(file))?)?;
            }
        }
    }
    Ok(())
}

/// Removes the cgroup `name` and all below it, once its processes are gone.
pub(super) fn remove(name: &str) -> io::Result<()> {
    for parent in parents()? {
        let own = parent.join(name);
        for attempt in 1.. {
            match remove_tree(&own) {
                Err(error) if error.kind() == io::ErrorKind::ResourceBusy && attempt < REMOVE_ATTEMPTS => {
                    thread::sleep(REMOVE_AGAIN);
                }
                Err(error) => return Err(error),
                Ok(()) => break,
            }
        }
    }
    Ok(())
}

fn parents() -> io::Result<Vec<PathBuf>> {
    let mounts = fs::read_to_string("/proc/mounts")?;
    Ok(hierarchies(&mounts).into_iter().map(|(_, path)| path.to_owned()).collect())
}

/// A cgroup is removed as an empty directory, though files show in it.
fn remove_tree(path: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_controller_must_be_mounted() {
        let line = |name: &str| format!("cgroup /sys/fs/cgroup/{name} cgroup rw,{name} 0 0\n");
        let mounts: String = ["cpu,cpuacct", "memory"].map(line).concat();
        let error = check_in(&mounts, |_| String::new()).unwrap_err();
        assert_eq!(error, "no cgroups of cpuset, pids are mounted");
        let mounts: String = DEMANDED.map(line).concat() + "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n";
        assert_eq!(check_in(&mounts, |_| String::new()), Ok(()));
    }

    #[test]
    fn controllers_of_the_second_version_are_never_switched_on_here() {
        let mounts = "cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n";
        assert_eq!(check_in(mounts, |_| "cpuset cpu io memory pids\n".into()), Ok(()));
        let error = check_in(mounts, |_| "memory pids\n".into()).unwrap_err();
        assert!(error.contains("lacks cpu, cpuset"), "{error}");
    }
}
