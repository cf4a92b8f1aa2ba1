//! The arguments of `testbed serve`; see [`crate::cluster`] for who gives them.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use kube::core::duration::ParseError;

use super::state::NodeKind;
use crate::components::{Binaries, Component};

/// How long a load balancer takes to release an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReleaseDelay {
    /// That long after the Service was deleted.
    After(Duration),
    /// Never: the Service stays terminating until somebody removes its finalizer.
    Never,
}

impl Default for ReleaseDelay {
    fn default() -> Self {
        Self::After(Duration::ZERO)
    }
}

impl ReleaseDelay {
    /// Reads `never` or a duration such as `5s`.
    ///
    /// # Errors
    /// A sentence that says what can be written.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text {
            "never" => Ok(Self::Never),
            text => duration(text).map(Self::After).map_err(|error| format!("{error}, or `never`")),
        }
    }

    fn to_argument(self) -> String {
        match self {
            Self::After(delay) => format!("{}ms", delay.as_millis()),
            Self::Never => "never".to_owned(),
        }
    }
}

/// What a cluster is made of.
#[derive(Debug, Clone, clap::Args)]
pub struct ServeOptions {
    /// The cluster's own directory.
    #[arg(long)]
    pub dir: PathBuf,
    /// Where the programs of this workspace lie that pods run (coder-sim).
    #[arg(long)]
    pub bin_dir: PathBuf,
    /// The program in the image of the operator. It need not exist if no pod has that image.
    #[arg(long, value_name = "FILE")]
    pub operator: PathBuf,
    /// A program of the control plane; once for each.
    #[arg(long = "component", value_name = "NAME=PATH", value_parser = parse_component)]
    pub components: Vec<(Component, PathBuf)>,
    /// Rows to add before the default image table.
    #[arg(long, value_name = "FILE")]
    pub images: Option<PathBuf>,
    /// A directory with servers of Coder, programs named coder-VERSION, for images of their own.
    #[arg(long, value_name = "DIR")]
    pub coder_binaries: Option<PathBuf>,
    /// How long the load balancer stand-in takes to release an address: a duration or `never`.
    #[arg(long, value_name = "DURATION", default_value = "0s", value_parser = ReleaseDelay::parse)]
    pub lb_release_delay: ReleaseDelay,
    /// Delay before the second restart of a container that ends again and again; it doubles each time.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    pub restart_back_off: Duration,
    /// What runs the pods.
    #[arg(long, value_enum, default_value_t)]
    pub node: NodeKind,
    /// Write every API request to logs/audit.log (metadata only).
    #[arg(long)]
    pub audit_log: bool,
    /// End the cluster when this process ends.
    #[arg(long, value_name = "PID")]
    pub owner_pid: Option<u32>,
    /// Remove the directory at the end.
    #[arg(long)]
    pub remove_dir: bool,
    /// Leave the terminal's session, so that closing it does not end the cluster.
    #[arg(long)]
    pub detach: bool,
}

impl ServeOptions {
    /// The arguments that say this, `serve` included.
    #[must_use]
    pub fn to_arguments(&self) -> Vec<OsString> {
        let Self { dir, bin_dir, operator, components, images, coder_binaries, .. } = self;
        let Self { lb_release_delay, restart_back_off, node, owner_pid, audit_log, remove_dir, detach, .. } = *self;
        let mut arguments: Vec<OsString> = vec!["serve".into(), "--dir".into(), dir.into()];
        arguments.extend(["--bin-dir".into(), bin_dir.into(), "--operator".into(), operator.into()]);
        for (component, path) in components {
            let mut value = OsString::from(format!("{component}="));
            value.push(path);
            arguments.extend(["--component".into(), value]);
        }
        if let Some(images) = images {
            arguments.extend(["--images".into(), images.into()]);
        }
        if let Some(directory) = coder_binaries {
            arguments.extend(["--coder-binaries".into(), directory.into()]);
        }
        arguments.extend(["--lb-release-delay".into(), lb_release_delay.to_argument().into()]);
        let back_off = format!("{}ms", restart_back_off.as_millis());
        arguments.extend(["--restart-back-off".into(), back_off.into()]);
        let node = match node {
            NodeKind::Process => "process",
            NodeKind::Real => "real",
        };
        arguments.extend(["--node".into(), node.into()]);
        if let Some(pid) = owner_pid {
            arguments.extend(["--owner-pid".into(), pid.to_string().into()]);
        }
        for (flag, wanted) in [("--audit-log", audit_log), ("--remove-dir", remove_dir), ("--detach", detach)] {
            if wanted {
                arguments.push(flag.into());
            }
        }
        arguments
    }

    /// The programs by name.
    #[must_use]
    pub fn binaries(&self) -> Binaries {
        self.components.iter().cloned().collect()
    }
}

fn duration(text: &str) -> Result<Duration, ParseError> {
    text.parse::<kube::core::Duration>().map(Into::into)
}

fn parse_component(text: &str) -> Result<(Component, PathBuf), String> {
    let (name, path) = text.split_once('=').ok_or("write NAME=PATH")?;
    Ok((<Component as clap::ValueEnum>::from_str(name, false)?, PathBuf::from(path)))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    enum Command {
        Serve(ServeOptions),
    }

    #[test]
    fn arguments_say_what_the_options_say() {
        let options = ServeOptions {
            dir: "/a b".into(),
            bin_dir: "/bin dir".into(),
            operator: "/release/operator".into(),
            components: vec![(Component::Etcd, "/c/etcd".into()), (Component::KubeApiserver, "/c/api".into())],
            images: Some("/images.yaml".into()),
            coder_binaries: Some("/servers".into()),
            lb_release_delay: ReleaseDelay::After(Duration::from_millis(1500)),
            restart_back_off: Duration::from_secs(1),
            node: NodeKind::Process,
            audit_log: true,
            owner_pid: Some(7),
            remove_dir: true,
            detach: true,
        };
        let arguments = options.to_arguments();
        let Command::Serve(read) =
            Command::try_parse_from(std::iter::once(OsString::from("testbed")).chain(arguments.clone())).unwrap();
        assert_eq!(read.to_arguments(), arguments);
        assert_eq!(read.lb_release_delay, options.lb_release_delay);
    }

    #[test]
    fn a_release_delay_may_be_for_ever() {
        assert_eq!(ReleaseDelay::parse("never"), Ok(ReleaseDelay::Never));
        assert_eq!(ReleaseDelay::parse("5s"), Ok(ReleaseDelay::After(Duration::from_secs(5))));
        assert!(ReleaseDelay::parse("soon").unwrap_err().contains("or `never`"));
    }
}
