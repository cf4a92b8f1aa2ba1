//! The operator's image as the Dockerfile lists it, without a container engine: its files in a directory that is the root of the
//! processes, and its user.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use testbed::components::{Component, ensure};
use testbed::real_node::{ImageConfig, lay_out_operator};

use crate::common::node::leave_out;

/// A directory in which the programs of the image run.
struct Image {
    root: tempfile::TempDir,
    config: ImageConfig,
}

impl Image {
    fn laid_out() -> Self {
        let root = tempfile::tempdir().unwrap();
        let helm = ensure(&[Component::Helm], &|_| {}).unwrap();
        let operator = Path::new(env!("CARGO_BIN_EXE_coder-upgrade-operator"));
        let config = lay_out_operator(root.path(), operator, helm.get(Component::Helm).unwrap()).unwrap();
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

/// A program of this machine: the child's PATH is that of the image.
fn found(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(["/usr/sbin".into(), "/usr/bin".into()]);
    places.map(|place| place.join(name)).find(|file| file.is_file()).unwrap_or_else(|| panic!("{name} is not in PATH"))
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
