//! The command line.

use std::ffi::OsString;
use std::path::Path;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::controller::ControllerArgs;
use crate::core::text::log_format::LogFormat;
use crate::plugin::PluginCommand;
use crate::runner::RunnerArgs;
use crate::runner::preview::PreviewArgs;
use crate::runner::preview::rights::RightsArgs;

/// Upgrades Coder on Kubernetes safely.
///
/// `kubectl apply` a CoderUpgrade that names a version; the controller takes the Helm release there in Jobs, verifies
/// that every pod answers with that version on the same data, and says in status what it does and why.
#[derive(Debug, Parser)]
#[command(version, max_term_width = 120)]
pub struct Cli {
    /// What to do
    #[command(subcommand)]
    pub command: Command,
}

/// The parts of the program.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Watch CoderUpgrades and start the Jobs that they need (runs in a Deployment, see deploy/)
    Controller(ControllerArgs),
    /// Show what an upgrade would do, and change nothing
    ///
    /// Makes the plan now, as the operator would, with the rights of your kubeconfig and the helm in your PATH: it reads the
    /// release, fetches the chart, merges the values, rehearses the upgrade and goes through the checks. Nothing is written
    /// to the cluster: no plan, no Job, no record of helm.
    Plan(PreviewArgs),
    /// Print the ServiceAccount of the runner and the Roles that it needs, as YAML for kubectl apply -f -
    ///
    /// The rights that suffice for every public chart of Coder, or the least that one CoderUpgrade takes.
    Rights(RightsArgs),
    /// What people do at a terminal.
    #[command(flatten)]
    Plugin(PluginCommand),
    /// Perform one step of an upgrade (runs in the Jobs that the controller makes)
    Runner(RunnerArgs),
    /// Print the CustomResourceDefinition as YAML, for kubectl apply -f -
    Crd,
}

impl Command {
    /// The form of the log. At a terminal people read it.
    pub(crate) fn log_format(&self) -> LogFormat {
        match self {
            Self::Controller(args) => args.log_format,
            Self::Runner(args) => args.log_format(),
            Self::Plan(_) | Self::Rights(_) | Self::Plugin(_) | Self::Crd => LogFormat::Text,
        }
    }

    /// Whether a person at a terminal has called it, who is told by itself what happens.
    pub(crate) fn is_for_people(&self) -> bool {
        matches!(self, Self::Plan(_) | Self::Rights(_) | Self::Plugin(_))
    }
}

/// Name of the program as a plugin of kubectl, which takes the underscore for a dash.
const PLUGIN: &str = "kubectl-coder_upgrade";
/// Name under which kubectl asks it what may follow.
const COMPLETION: &str = "kubectl_complete-coder_upgrade";

impl Cli {
    /// How the program is called, by the name of its file.
    #[must_use]
    pub fn program(called: &OsString) -> &'static str {
        let name = Path::new(called).file_stem().unwrap_or_default();
        if name == PLUGIN || name == COMPLETION { "kubectl coder-upgrade" } else { env!("CARGO_PKG_NAME") }
    }

    /// Whether kubectl asks what may follow the words of a command line.
    #[must_use]
    pub fn completes(called: &OsString) -> bool {
        Path::new(called).file_stem().is_some_and(|name| name == COMPLETION)
    }

    /// The command line under that name. People at a terminal do not need the parts that run in the cluster.
    #[must_use]
    pub fn under(program: &'static str) -> clap::Command {
        let command = Self::command().bin_name(program);
        if program == env!("CARGO_PKG_NAME") {
            return command;
        }
        ["controller", "runner"]
            .into_iter()
            .fold(command, |command, part| command.mut_subcommand(part, |c| c.hide(true)))
    }

    /// Reads the command line.
    pub fn read(program: &'static str, arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        Self::from_arg_matches(&Self::under(program).try_get_matches_from(arguments)?)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::api::{CoderUpgrade, CoderUpgradeSpec, ScaledDown, StepName};
    use crate::core::decide::job::JobRequest;
    use crate::core::decide::runner_job::{RunnerDefaults, job};
    use serde_json::{Value, json};
    use strum::IntoEnumIterator;

    /// The arguments of the step's Job for an object with this backup.
    fn arguments(step: StepName, backup: &Value) -> Vec<String> {
        let spec = json!({"chart": {"repository": "https://helm.coder.com/v2"}, "backup": backup});
        let mut upgrade = CoderUpgrade::new("coder", serde_json::from_value::<CoderUpgradeSpec>(spec).unwrap());
        upgrade.metadata.namespace = Some("coder".into());
        upgrade.metadata.uid = Some("uid".into());
        let down = ScaledDown { object: "Deployment/coder".into(), replicas: 2 };
        let request = JobRequest {
            name: "job".into(),
            step,
            target: Some("2.31.7".into()),
            scaled_down: vec![down],
            ..JobRequest::planning()
        };
        let defaults = RunnerDefaults {
            image: "operator:1".into(),
            allowed: Arc::default(),
            outbound: Arc::default(),
            log_format: LogFormat::Json,
        };
        let mut pod = job(&upgrade, &request, &defaults).spec.unwrap().template.spec.unwrap();
        pod.containers.remove(0).args.unwrap()
    }

    #[test]
    fn the_runner_reads_the_arguments_of_every_job() {
        let methods = [
            json!({"cronJob": "dump", "maxAge": "1h", "timeout": "5m"}),
            json!({"volumeSnapshotClass": "csi", "timeout": "5m"}),
        ];
        for step in StepName::iter().filter(|step| *step != StepName::Drain) {
            for method in &methods {
                let arguments = arguments(step, method);
                let read = Cli::try_parse_from(["coder-upgrade-operator".to_owned()].iter().chain(&arguments));
                assert!(read.is_ok(), "{step}: {arguments:?}: {}", read.unwrap_err());
            }
        }
    }

    #[test]
    fn kubectl_and_people_call_it_by_different_names() {
        for (called, program) in [
            ("/usr/local/bin/kubectl-coder_upgrade", "kubectl coder-upgrade"),
            ("kubectl-coder_upgrade.exe", "kubectl coder-upgrade"),
            ("/x/coder-upgrade-operator", "coder-upgrade-operator"),
            ("", "coder-upgrade-operator"),
        ] {
            assert_eq!(Cli::program(&called.into()), program, "{called}");
            let help = Cli::under(program).render_help().to_string();
            assert!(help.contains(&format!("Usage: {program} <COMMAND>")), "{help}");
            assert_eq!(help.contains("\n  controller "), program == "coder-upgrade-operator", "{help}");
        }
        Cli::under("kubectl coder-upgrade").debug_assert();
    }

    /// A Deployment sets what it likes by its manifest, without a change of the arguments.
    #[test]
    fn every_flag_of_the_controller_is_an_environment_variable_as_well() {
        let program = Cli::command();
        let controller = program.find_subcommand("controller").unwrap();
        let lacking: Vec<_> = controller
            .get_arguments()
            .filter(|flag| flag.get_env().is_none())
            .map(|flag| flag.get_id().as_str())
            .collect();
        assert_eq!(lacking, [""; 0]);
    }

    #[test]
    fn a_backup_has_one_method() {
        let with = |method: &[&str]| {
            let mut all = arguments(StepName::Backup, &json!({"cronJob": "dump"}));
            let at = all.iter().position(|argument| argument == "--cron-job").unwrap();
            all.splice(at..at + 2, method.iter().map(ToString::to_string));
            Cli::try_parse_from(["coder-upgrade-operator".to_owned()].into_iter().chain(all)).is_ok()
        };
        assert!(with(&["--volume-snapshot-class", "csi"]));
        assert!(!with(&[]));
        assert!(!with(&["--cron-job", "dump", "--volume-snapshot-class", "csi"]));
    }
}
