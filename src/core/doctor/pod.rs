//! A pod as the runner's that makes a plan and writes nothing: whether it is admitted, its image is pulled, and the repository is
//! reached from the cluster.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{EnvVar, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::{Resource, ResourceExt};
use serde_json::Value;

use super::DoctorLine;
use crate::api::CoderUpgrade;
use crate::core::allowed::{Allowed, ImagePattern, RepositoryPattern};
use crate::core::decide::job::{CONTAINER, JobRequest};
use crate::core::decide::runner_job::{RunnerDefaults, job};
use crate::core::outbound::Outbound;
use crate::core::text::log_format::LogFormat;

/// What is looked at.
const SUBJECT: &str = "trial";
/// How long the pod may work, in seconds.
const DEADLINE: i64 = 180;

/// How the pod has ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TrialEnd {
    /// The API server, or a policy in it, refuses the pod.
    Refused(String),
    /// It does not start, and says why.
    NotStarted(String),
    /// It ended with this exit code of `plan`, and this log.
    Ended(i32, String),
}

/// The pod. It is gone with the `CoderUpgrade` at the latest, and does what the command `plan` does, with the rights of the
/// runner.
#[must_use]
pub fn trial(upgrade: &CoderUpgrade, image: &str, outbound: Outbound) -> Option<Pod> {
    let any =
        Allowed::new(vec![RepositoryPattern::Any], vec!["*".into()], "*".parse::<ImagePattern>().into_iter().collect());
    let defaults = RunnerDefaults {
        image: image.to_owned(),
        allowed: Arc::new(any),
        outbound: Arc::new(outbound),
        log_format: LogFormat::Text,
    };
    let mut spec = job(upgrade, &JobRequest::planning(), &defaults).spec?.template.spec?;
    spec.active_deadline_seconds = Some(DEADLINE);
    let container = spec.containers.iter_mut().find(|container| container.name == CONTAINER)?;
    let (name, namespace) = (upgrade.name_any(), upgrade.namespace()?);
    let arguments = ["plan", &name, "--namespace", &namespace, "--output", "json", "--quiet"];
    container.args = Some(arguments.map(str::to_owned).to_vec());
    // The only place where it may write.
    let scratch = EnvVar { name: "TMPDIR".into(), value: Some("/work".into()), ..EnvVar::default() };
    container.env.get_or_insert_default().push(scratch);
    let mut labels = upgrade.spec.job.labels.clone();
    labels.insert("app.kubernetes.io/name".into(), "coder-upgrade-doctor".into());
    let owner = upgrade.owner_ref(&());
    Some(Pod {
        metadata: ObjectMeta {
            generate_name: Some("coder-upgrade-doctor-".into()),
            namespace: Some(namespace),
            labels: Some(labels),
            owner_references: owner.map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(spec),
        status: None,
    })
}

/// What its end tells.
#[must_use]
pub fn trial_lines(end: &TrialEnd, upgrade: &str, namespace: &str, program: &str) -> Vec<DoctorLine> {
    let pulled = || DoctorLine::ok("image", "the image of the runner was pulled, and its pod admitted");
    let plan = format!("{program} plan {upgrade} -n {namespace}");
    match end {
        TrialEnd::Refused(text) => vec![DoctorLine::problem(
            "admission",
            format!("a pod of the runner is refused: {text}"),
            "change spec.job of the CoderUpgrade so that the policy accepts the pod, or have the policy changed",
        )],
        TrialEnd::NotStarted(text) => vec![DoctorLine::problem(
            "image",
            format!("a pod of the runner does not start: {text}"),
            "correct the image or its pull secrets (RUNNER_IMAGE of the controller, spec.job), or give the cluster room",
        )],
        TrialEnd::Ended(0 | 2 | 3, log) => {
            let told = summary(log).unwrap_or_else(|| "a plan was made".into());
            vec![
                pulled(),
                DoctorLine::ok(SUBJECT, format!("the runner reaches the repository from the cluster. {told}")),
            ]
        }
        TrialEnd::Ended(4, log) => {
            let told = summary(log).unwrap_or_else(|| "the operator would refuse to begin".into());
            vec![pulled(), DoctorLine::note(SUBJECT, told, plan)]
        }
        TrialEnd::Ended(code, log) => {
            let (finding, remedy) = error(log).unwrap_or_else(|| (format!("it ended with exit code {code}"), plan));
            vec![
                pulled(),
                DoctorLine::problem(SUBJECT, format!("no plan can be made from the cluster: {finding}"), remedy),
            ]
        }
    }
}

/// The summary of the plan.
fn summary(log: &str) -> Option<String> {
    let plan: Value = serde_json::from_str(&log[log.find('{')?..]).ok()?;
    Some(plan["summary"].as_str()?.to_owned())
}

/// What `plan` says before it ends, and what it advises.
fn error(log: &str) -> Option<(String, String)> {
    let (_, said) = log.split_once("error: ")?;
    let (finding, rest) = said.split_once('\n').unwrap_or((said, ""));
    let remedy = rest.lines().find_map(|line| line.trim_start().strip_prefix("next: ")).unwrap_or_default();
    Some((finding.trim_end().to_owned(), remedy.to_owned()))
}
