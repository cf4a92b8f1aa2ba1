//! The operator's image as the Dockerfile lists it, without a container engine: its files in a directory that is the root of the
//! processes, and its user.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use testbed::cluster::OPERATOR_VARIABLE;
use testbed::components::{Component, ensure};
use testbed::real_node::{ImageConfig, lay_out_operator};

use crate::common::{installed, node::leave_out};

/// A directory in which the programs of the image run.
struct Image {
    root: tempfile::TempDir,
    config: ImageConfig,
}

impl Image {
    fn laid_out() -> Self {
        let root = tempfile::tempdir().unwrap();
        let helm = ensure(&[Component::Helm], &|_| {}).unwrap();
        let operator = release().unwrap_or_else(|| env!("CARGO_BIN_EXE_coder-upgrade-operator").into());
        let config = lay_out_operator(root.path(), &operator, helm.get(Component::Helm).unwrap()).unwrap();
        // A kubelet mounts them; the runner's pods have /tmp as a volume.
        for name in ["dev", "proc", "tmp"] {
            std::fs::create_dir_all(root.path().join(name)).unwrap();
        }
        Self { root, config }
    }

    /// Runs a program as a container does: in the image's root, as its user, with its variables. In a namespace of the user who
    /// runs this, or by chroot for root.
    fn run(&self, program: &[&str]) -> Output {
        let (user, group) = self.config.user.split_once(':').unwrap();
        let mut command = if rustix::process::geteuid().is_root() {
            let mut chroot = Command::new(found("chroot"));
            chroot.arg(format!("--userspec={user}:{group}")).arg(self.root.path());
            chroot
        } else {
            let mut unshare = Command::new(found("unshare"));
            unshare.args(["--user", &format!("--map-user={user}"), &format!("--map-group={group}")]);
            unshare.arg(format!("--root={}", self.root.path().display()));
            unshare
        };
        let variables = self.config.env.iter().filter_map(|variable| variable.split_once('='));
        command.args(program).env_clear().envs(variables).output().unwrap()
    }
}

/// The release build of the operator, if the suite was told to use it.
fn release() -> Option<PathBuf> {
    std::env::var_os(OPERATOR_VARIABLE).map(PathBuf::from)
}

/// A program of this machine: the child's PATH is that of the image.
fn found(name: &str) -> PathBuf {
    installed(name).unwrap_or_else(|| panic!("{name} is not in PATH"))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn its_programs_run_in_it_as_its_user() {
    let image = Image::laid_out();
    assert_ne!(image.config.user.split_once(':').unwrap().0, "0");
    let entrypoint: Vec<&str> = image.config.entrypoint.iter().map(String::as_str).collect();
    let tried = image.run(&[&entrypoint[..], &["--version"]].concat());
    if !tried.status.success() && text(&tried.stderr).contains("Operation not permitted") {
        return leave_out("machine", &format!("it gives users no namespace: {}", text(&tried.stderr).trim()));
    }
    assert_eq!(text(&tried.stdout).trim(), concat!("coder-upgrade-operator ", env!("CARGO_PKG_VERSION")));

    // By its name: the runner looks for helm in PATH.
    let helm = image.run(&["helm", "version", "--short"]);
    assert!(text(&helm.stdout).starts_with("v4."), "{helm:?}");
    let roots = std::fs::read_to_string(image.root.path().join("etc/ssl/certs/ca-certificates.crt")).unwrap();
    assert!(roots.matches("BEGIN CERTIFICATE").count() > 50, "the roots of public repositories");

    // Without a cluster both end at once, and say what is missing.
    let runner = image.run(&[&entrypoint[..], &["runner", "--help"]].concat());
    assert!(runner.status.success(), "{runner:?}");
    let controller = image.run(&[&entrypoint[..], &["controller", "--runner-image=none", "--listen-port=0"]].concat());
    assert_eq!(controller.status.code(), Some(1), "{controller:?}");
    assert!(text(&controller.stderr).contains("cannot find out how to reach the API server"), "{controller:?}");
}

/// Bytes of all files below a directory, but for helm.
fn size(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
    entries
        .filter(|path| !path.ends_with("usr/local/bin/helm") && !path.is_symlink())
        .map(|path| if path.is_dir() { size(&path) } else { path.metadata().unwrap().len() })
        .sum()
}

#[test]
fn beside_helm_it_takes_at_most_60_megabytes() {
    if release().is_none() {
        return leave_out("suite without --release", "a development build is several times as large");
    }
    let size = size(Image::laid_out().root.path());
    assert!(size <= 60_000_000, "{size} bytes");
}
