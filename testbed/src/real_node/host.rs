//! What a real node takes from the machine, and what to do when something is missing. Nothing is installed or changed here.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};

use super::cgroups;
use super::first_process::HIDDEN;

/// Directories of programs that the `PATH` of an ordinary user leaves out.
const SYSTEM: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];
/// Where distributions put the CNI plugins: Debian, Fedora and upstream.
const CNI: [&str; 3] = ["/usr/lib/cni", "/usr/libexec/cni", "/opt/cni/bin"];
/// The CNI plugins that are configured.
const PLUGINS: [&str; 3] = ["ptp", "host-local", "loopback"];

/// Programs that are run, each with its package at Debian, Fedora and Arch.
const PROGRAMS: [(&str, [&str; 3]); 8] = [
    ("containerd", ["containerd"; 3]),
    ("ctr", ["containerd"; 3]),
    ("runc", ["runc"; 3]),
    ("ip", ["iproute2", "iproute", "iproute2"]),
    ("unshare", ["util-linux"; 3]),
    ("nsenter", ["util-linux"; 3]),
    ("mount", ["util-linux"; 3]),
    ("ldd", ["libc-bin", "glibc-common", "glibc"]),
];
/// The packages with the plugins and with `nft`, in the same order.
const PLUGIN_PACKAGES: [&str; 3] = ["containernetworking-plugins", "containernetworking-plugins", "cni-plugins"];
const RULES_PACKAGE: &str = "nftables";
/// The commands that install packages, in the same order.
const INSTALL: [(&str, &str); 3] =
    [("apt-get", "apt-get install -y"), ("dnf", "dnf install -y"), ("pacman", "pacman -S --noconfirm")];

/// The kernel's interface through which kube-proxy leads connections to Services.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rules {
    Nftables,
    Iptables,
}

impl Rules {
    /// The `mode` of kube-proxy.
    pub(super) fn mode(self) -> &'static str {
        match self {
            Self::Nftables => "nftables",
            Self::Iptables => "iptables",
        }
    }
}

/// A machine that can run a real node.
#[derive(Debug, Clone)]
pub struct Host {
    path: OsString,
    cni: PathBuf,
    pub(super) rules: Rules,
    pub(super) restricted_oom_score: bool,
}

/// Why a machine cannot run a real node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct Unfit {
    /// What stands against it, each as a clause.
    reasons: Vec<String>,
    /// The command that installs what is missing.
    install: Option<String>,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "this machine cannot run a real node: {}", self.reasons.join("; "))?;
        match &self.install {
            Some(command) => write!(f, ". Install it with: {command}"),
            None => Ok(()),
        }
    }
}

/// What is looked at.
struct Machine<'a> {
    path: &'a OsStr,
    /// Directories to look for CNI plugins in.
    cni: &'a [&'a Path],
    root: bool,
    /// `/proc/self/status`.
    status: &'a str,
    cgroups: Result<(), String>,
}

impl Host {
    /// Looks at this machine, for a cluster that needs these directories.
    ///
    /// # Errors
    /// Everything that stands against a real node, with the one command that installs what is missing.
    pub fn examine(needed: &[&Path]) -> Result<Self, Unfit> {
        let own = std::env::var_os("PATH").unwrap_or_default();
        let directories = std::env::split_paths(&own).chain(SYSTEM.map(PathBuf::from));
        let machine = Machine {
            path: &std::env::join_paths(directories).unwrap_or(own.clone()),
            cni: &CNI.map(Path::new),
            root: rustix::process::geteuid().is_root(),
            status: &fs::read_to_string("/proc/self/status").unwrap_or_default(),
            cgroups: cgroups::check(),
        };
        examine(&machine, needed)
    }

    /// Where programs are looked for: the `PATH`, and the directories of an administrator.
    pub(super) fn path(&self) -> &OsStr {
        &self.path
    }

    /// The directory of the CNI plugins.
    pub(super) fn cni(&self) -> &Path {
        &self.cni
    }

    /// Where a program of [`PROGRAMS`] is.
    pub(super) fn program(&self, name: &str) -> PathBuf {
        find(&self.path, name).unwrap_or_else(|| name.into())
    }
}

fn examine(machine: &Machine<'_>, needed: &[&Path]) -> Result<Host, Unfit> {
    let mut reasons = Vec::new();
    if !machine.root {
        reasons.push("it takes root, for namespaces and cgroups; run the command as root".to_owned());
    }
    if let Err(reason) = &machine.cgroups {
        reasons.push(reason.clone());
    }
    for directory in needed {
        if let Some(hidden) = HIDDEN.iter().find(|hidden| directory.starts_with(hidden)) {
            reasons.push(format!("{} lies in {hidden}, which the node has for itself", directory.display()));
        }
    }
    let mut missing: Vec<(&str, [&str; 3])> = Vec::new();
    missing.extend(PROGRAMS.iter().copied().filter(|(name, _)| find(machine.path, name).is_none()));
    let cni = machine.cni.iter().find(|directory| PLUGINS.iter().all(|plugin| directory.join(plugin).is_file()));
    if cni.is_none() {
        missing.push(("the CNI plugins ptp, host-local and loopback", PLUGIN_PACKAGES));
    }
    let rules = [("nft", Rules::Nftables), ("iptables", Rules::Iptables)];
    let rules = rules.into_iter().find(|(name, _)| find(machine.path, name).is_some()).map(|(_, rules)| rules);
    if rules.is_none() {
        missing.push(("nft", [RULES_PACKAGE; 3]));
    }
    if !missing.is_empty() {
        let names: Vec<_> = missing.iter().map(|(name, _)| *name).collect();
        reasons.push(format!("missing: {}", names.join(", ")));
    }
    match (cni, rules) {
        (Some(cni), Some(rules)) if reasons.is_empty() => Ok(Host {
            path: machine.path.to_owned(),
            cni: cni.to_path_buf(),
            rules,
            restricted_oom_score: !has_sys_resource(machine.status),
        }),
        _ => Err(Unfit { reasons, install: install(machine.path, &missing) }),
    }
}

/// The command that installs all of it; `None` if nothing is missing. Where no package manager is known, the packages are named.
fn install(path: &OsStr, missing: &[(&str, [&str; 3])]) -> Option<String> {
    let known = INSTALL.iter().position(|(manager, _)| find(path, manager).is_some());
    let mut packages: Vec<_> = missing.iter().map(|(_, packages)| packages[known.unwrap_or(0)]).collect();
    packages.sort_unstable();
    packages.dedup();
    let command = known.map_or("your package manager, the packages of Debian are", |position| INSTALL[position].1);
    (!packages.is_empty()).then(|| format!("{command} {}", packages.join(" ")))
}

fn find(path: &OsStr, name: &str) -> Option<PathBuf> {
    std::env::split_paths(path).map(|directory| directory.join(name)).find(|file| file.is_file())
}

/// Whether root may lower the OOM score of processes (`CAP_SYS_RESOURCE`, bit 24). Some virtual machines and containers
/// take this away; runc then fails unless containerd is told.
fn has_sys_resource(status: &str) -> bool {
    let effective = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    effective.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask >> 24 & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with empty programs.
    fn programs(names: &[&str]) -> tempfile::TempDir {
        let directory = tempfile::tempdir().unwrap();
        for name in names {
            fs::write(directory.path().join(name), "").unwrap();
        }
        directory
    }

    fn machine<'a>(path: &'a OsStr, cni: &'a [&'a Path]) -> Machine<'a> {
        Machine { path, cni, root: true, status: "CapEff:\t000001fffeffffff\n", cgroups: Ok(()) }
    }

    fn all() -> Vec<&'static str> {
        PROGRAMS.iter().map(|(name, _)| *name).chain(["iptables"]).chain(PLUGINS).collect()
    }

    #[test]
    fn an_empty_path_is_told_with_all_that_is_missing_and_the_packages() {
        let nobody = Machine { root: false, ..machine(OsStr::new(""), &[]) };
        let text = examine(&nobody, &[]).unwrap_err().to_string();
        for part in ["takes root", "missing: containerd, ctr, runc, ip, unshare", "ptp, host-local", "nft"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(
            text.ends_with("containerd containernetworking-plugins iproute2 libc-bin nftables runc util-linux"),
            "{text}"
        );
    }

    #[test]
    fn one_command_installs_what_is_missing_and_nothing_else() {
        let mut names = all();
        names.retain(|name| !["runc", "iptables"].contains(name));
        for (manager, expected) in
            [("apt-get", "apt-get install -y nftables runc"), ("dnf", "dnf install -y nftables runc")]
        {
            let directory = programs(&[&names[..], &[manager]].concat());
            let path = directory.path();
            let unfit = examine(&machine(path.as_os_str(), &[path]), &[]).unwrap_err();
            assert_eq!(unfit.install.as_deref(), Some(expected));
            assert_eq!(unfit.reasons, ["missing: runc, nft"]);
        }
    }

    #[test]
    fn a_machine_with_everything_is_fit_and_its_limits_are_seen() {
        let directory = programs(&all());
        let path = directory.path();
        let cni = [Path::new("/no/such"), path];
        let host = examine(&machine(path.as_os_str(), &cni), &[]).unwrap();
        assert_eq!((host.rules, host.restricted_oom_score), (Rules::Iptables, true));
        assert_eq!((host.cni(), host.program("runc")), (path, path.join("runc")));
        let full = Machine { status: "CapEff:\t000001ffffffffff\n", ..machine(path.as_os_str(), &cni) };
        assert!(!examine(&full, &[]).unwrap().restricted_oom_score);
    }

    #[test]
    fn a_directory_that_the_node_hides_is_refused() {
        let directory = programs(&all());
        let path = directory.path();
        let text = examine(&machine(path.as_os_str(), &[path]), &[Path::new("/var/lib/c")]).unwrap_err().to_string();
        assert!(text.contains("/var/lib/c lies in /var/lib"), "{text}");
    }
}
