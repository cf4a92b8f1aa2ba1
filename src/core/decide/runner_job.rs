//! The Job of a step.

use crate::core::object::label_value;
use std::{collections::BTreeMap, sync::Arc, time::Duration};

use k8s_openapi::{
    api::{
        batch::v1::{Job, JobSpec},
        core::v1::{
            Capabilities, Container, EmptyDirVolumeSource, EnvVar, EnvVarSource, ObjectFieldSelector,
            PodSecurityContext, PodSpec, PodTemplateSpec, ProjectedVolumeSource, SeccompProfile, SecretProjection,
            SecurityContext, Volume, VolumeMount, VolumeProjection,
        },
    },
    apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference},
};
use kube::{Resource, ResourceExt};

use super::runner_proxy;
use crate::api::{CoderUpgrade, ScaledDown, StepName, Strategy, annotation, label};
use crate::core::allowed::Allowed;
use crate::core::decide::job::{CONTAINER, JOB_UID_LABEL, JobRequest};
use crate::core::outbound::Outbound;
use crate::core::text::digest::short_hash;
use crate::core::text::log_format::LogFormat;

/// Where the runner keeps its scratch files; the root of its file system is read-only.
const WORK_DIR: &str = "/work";
/// Where the Secrets with the plan are mounted, all in one directory.
const PLAN_DIR: &str = "/plan";
/// Time for helm to record a failure after SIGTERM. helm needs about a second; a rollback that has begun needs longer.
const GRACE: i64 = 120;
/// What a step may take beside the waits that the spec sets: fetching the chart, starting the pod, asking for answers.
const MARGIN: Duration = Duration::from_secs(15 * 60);
/// User of the image; nobody in most systems.
const USER: i64 = 65532;

/// What the controller gives to every Job that the spec does not set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerDefaults {
    /// Image with this program and helm.
    pub image: String,
    /// What the spec may name; the rest of it never comes into a Job.
    pub allowed: Arc<Allowed>,
    /// How it reaches repositories.
    pub outbound: Arc<Outbound>,
    /// The form of its log.
    pub log_format: LogFormat,
}

/// Builds the Job of a step.
///
/// - `backoffLimit: 0`: retries are the operator's, which looks at the outcome first. A pod that Kubernetes starts again
///   by itself after a power cut would only meet the lock that the killed helm left.
/// - The deadline stands on the pod: a Job's deadline deletes the pod, and with it the log and the exit code.
/// - `podReplacementPolicy: Failed`: the Job has not ended while its pod may still be at work.
/// - `suspend: true`: the Job does nothing until its UID is in the status; only then does the controller let it start.
pub fn job(upgrade: &CoderUpgrade, request: &JobRequest, defaults: &RunnerDefaults) -> Job {
    let ours = labels(upgrade, request);
    let pod_labels = upgrade.spec.job.labels.clone().into_iter().chain(ours.clone()).collect();
    let safe_to_evict =
        BTreeMap::from([("cluster-autoscaler.kubernetes.io/safe-to-evict".to_owned(), "false".to_owned())]);
    Job {
        metadata: ObjectMeta {
            name: Some(request.name.clone()),
            namespace: upgrade.namespace(),
            labels: Some(ours),
            annotations: Some(BTreeMap::from([(annotation::SETTINGS.to_owned(), settings(upgrade, defaults))])),
            owner_references: owner(upgrade).map(|owner| vec![owner]),
            ..ObjectMeta::default()
        },
        spec: Some(JobSpec {
            backoff_limit: Some(0),
            suspend: Some(true),
            pod_replacement_policy: Some("Failed".into()),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(pod_labels),
                    annotations: Some(safe_to_evict),
                    ..ObjectMeta::default()
                }),
                spec: Some(pod(upgrade, request, defaults)),
            },
            ..JobSpec::default()
        }),
        status: None,
    }
}

/// Digest of the settings that a pod is built with, beside what its step is told. A pod that cannot be created or started with
/// some is tried with others as soon as these change.
pub fn settings(upgrade: &CoderUpgrade, defaults: &RunnerDefaults) -> String {
    let request = JobRequest::planning();
    let mut pod = pod(upgrade, &request, defaults);
    for container in &mut pod.containers {
        container.args = None;
    }
    let pod = serde_json::to_string(&(pod, &upgrade.spec.job.labels)).unwrap_or_default();
    short_hash(&[&pod], 16)
}

fn owner(upgrade: &CoderUpgrade) -> Option<OwnerReference> {
    let mut owner = upgrade.controller_owner_ref(&())?;
    owner.block_owner_deletion = None; // It would need the right to set finalizers and holds nothing up that matters.
    Some(owner)
}

fn labels(upgrade: &CoderUpgrade, request: &JobRequest) -> BTreeMap<String, String> {
    let uid = upgrade.uid().unwrap_or_default();
    let labels = [
        ("app.kubernetes.io/name", "coder-upgrade-runner".to_owned()),
        ("app.kubernetes.io/managed-by", "coder-upgrade-operator".to_owned()),
        (label::UPGRADE, label_value(&upgrade.name_any())),
        (label::UPGRADE_UID, uid),
        (label::STEP, request.step.to_string().to_lowercase()),
        (label::ATTEMPT, request.attempt.to_string()),
    ];
    let plan = request.plan_id.iter().map(|id| (label::PLAN, id.clone()));
    labels.into_iter().chain(plan).map(|(key, value)| (key.to_owned(), value)).collect()
}

fn pod(upgrade: &CoderUpgrade, request: &JobRequest, defaults: &RunnerDefaults) -> PodSpec {
    let settings = &upgrade.spec.job;
    let plan = (!request.plan_secrets.is_empty()).then(|| Volume {
        name: "plan".into(),
        projected: Some(ProjectedVolumeSource {
            sources: Some(request.plan_secrets.iter().map(|secret| part(secret)).collect()),
            ..ProjectedVolumeSource::default()
        }),
        ..Volume::default()
    });
    let work = Volume { name: "work".into(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() };
    PodSpec {
        service_account_name: Some(defaults.allowed.service_account(settings).to_owned()),
        restart_policy: Some("Never".into()),
        active_deadline_seconds: Some(deadline(upgrade, request.step)),
        termination_grace_period_seconds: Some(GRACE),
        image_pull_secrets: (!settings.image_pull_secrets.is_empty()).then(|| settings.image_pull_secrets.clone()),
        node_selector: (!settings.node_selector.is_empty()).then(|| settings.node_selector.clone()),
        tolerations: (!settings.tolerations.is_empty()).then(|| settings.tolerations.clone()),
        security_context: Some(PodSecurityContext {
            run_as_non_root: Some(true),
            run_as_user: Some(USER),
            fs_group: Some(USER),
            seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), ..SeccompProfile::default() }),
            ..PodSecurityContext::default()
        }),
        containers: vec![container(upgrade, request, defaults)],
        volumes: Some([work].into_iter().chain(plan).collect()),
        ..PodSpec::default()
    }
}

/// A Secret of the plan. A runner that does not find one says so; a pod that waits for it would not.
fn part(secret: &str) -> VolumeProjection {
    let secret = SecretProjection { name: secret.into(), optional: Some(true), ..SecretProjection::default() };
    VolumeProjection { secret: Some(secret), ..VolumeProjection::default() }
}

fn container(upgrade: &CoderUpgrade, request: &JobRequest, defaults: &RunnerDefaults) -> Container {
    let settings = &upgrade.spec.job;
    let mount = |name: &str, path: &str, read_only: bool| VolumeMount {
        name: name.into(),
        mount_path: path.into(),
        read_only: read_only.then_some(true),
        ..VolumeMount::default()
    };
    let plan = (!request.plan_secrets.is_empty()).then(|| mount("plan", PLAN_DIR, true));
    Container {
        name: CONTAINER.into(),
        image: Some(defaults.allowed.image(settings).unwrap_or(&defaults.image).to_owned()),
        args: Some(arguments(upgrade, request, defaults)),
        env: Some(
            [
                EnvVar { name: "HOME".into(), value: Some(WORK_DIR.into()), ..EnvVar::default() },
                EnvVar { name: "RUNNER_JOB_UID".into(), value_from: Some(job_uid()), ..EnvVar::default() },
            ]
            .into_iter()
            .chain(runner_proxy::variables(&defaults.outbound))
            .collect(),
        ),
        resources: settings.resources.clone(),
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            read_only_root_filesystem: Some(true),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), ..Capabilities::default() }),
            ..SecurityContext::default()
        }),
        volume_mounts: Some([mount("work", WORK_DIR, false)].into_iter().chain(plan).collect()),
        ..Container::default()
    }
}

/// UID of the Job that a pod belongs to, as the Job controller writes it into a label: a pod that outlives its Job must not
/// report into a later Job of that name.
fn job_uid() -> EnvVarSource {
    let field_path = format!("metadata.labels['{JOB_UID_LABEL}']");
    let field_ref = Some(ObjectFieldSelector { field_path, ..ObjectFieldSelector::default() });
    EnvVarSource { field_ref, ..EnvVarSource::default() }
}

/// Names and times only: whoever may look at pods reads these.
fn arguments(upgrade: &CoderUpgrade, request: &JobRequest, defaults: &RunnerDefaults) -> Vec<String> {
    let spec = &upgrade.spec;
    let mut arguments = vec!["runner".to_owned(), request.step.to_string().to_lowercase()];
    let mut flag = |name: &str, value: String| arguments.extend([format!("--{name}"), value]);
    flag("namespace", upgrade.namespace().unwrap_or_default());
    flag("upgrade", upgrade.name_any());
    flag("uid", upgrade.uid().unwrap_or_default());
    flag("job", request.name.clone());
    flag("work-dir", WORK_DIR.into());
    if defaults.log_format != LogFormat::default() {
        flag("log-format", defaults.log_format.to_string());
    }
    match request.step {
        StepName::Plan => {
            flag("verify-timeout", seconds(&spec.verify.timeout));
            flag("generation", upgrade.metadata.generation.unwrap_or_default().to_string());
            for pattern in defaults.allowed.repositories.patterns() {
                flag("allowed-repositories", pattern);
            }
            if let Some(target) = &request.target {
                flag("target", target.clone());
            }
        }
        StepName::Upgrade | StepName::Install | StepName::Restore => {
            flag("plan-dir", PLAN_DIR.into());
            flag("helm-timeout", seconds(&spec.helm.timeout));
            flag("verify-timeout", seconds(&spec.verify.timeout));
            flag("soak", seconds(&spec.verify.soak));
            flag("recovery", request.recovery.to_string().to_lowercase());
            flag("new-version-started", request.new_version_started.to_string());
            flag("recovery-required", request.recovery_required.to_string());
            flag("repair-approved", request.repair_approved.to_string());
            if !request.scaled_down.is_empty() {
                flag("scaled-down", join(&request.scaled_down));
            }
        }
        StepName::Uninstall => {
            flag("plan-dir", PLAN_DIR.into());
            flag("helm-timeout", seconds(&spec.helm.timeout));
            flag("keep-addresses", spec.keep_addresses.to_string());
        }
        StepName::Backup => {
            flag("plan-dir", PLAN_DIR.into());
            flag("attempt", request.attempt.to_string());
            if let Some(backup) = &spec.backup {
                let names = [("cron-job", &backup.cron_job), ("volume-snapshot-class", &backup.volume_snapshot_class)];
                for (name, value) in names {
                    if let Some(value) = value {
                        flag(name, value.clone());
                    }
                }
                if let Some(age) = &backup.max_age {
                    flag("max-age", seconds(age));
                }
                flag("timeout", seconds(&backup.timeout));
            }
        }
        StepName::Drain => {} // It has no Job.
    }
    arguments
}

/// As the runner's `--scaled-down` takes them: Kind/name=replicas, with commas between.
fn join(scaled_down: &[ScaledDown]) -> String {
    let each: Vec<String> = scaled_down.iter().map(ToString::to_string).collect();
    each.join(",")
}

fn deadline(upgrade: &CoderUpgrade, step: StepName) -> i64 {
    let spec = &upgrade.spec;
    let length = |duration: &kube::core::Duration| Duration::from(*duration);
    let waits = match step {
        StepName::Plan => length(&spec.verify.timeout),
        StepName::Backup => spec.backup.as_ref().map(|backup| length(&backup.timeout)).unwrap_or_default(),
        StepName::Uninstall | StepName::Drain => length(&spec.helm.timeout),
        // helm's timeout holds for the upgrade and once more for a rollback after it; and for the pods of each row of
        // Deployments that are scaled to zero before it.
        StepName::Upgrade | StepName::Install | StepName::Restore => {
            let times = if spec.strategy == Strategy::Recreate { 4 } else { 2 };
            let quiesce =
                spec.verify.token_secret_key_ref.as_ref().map(|_| length(&spec.quiesce.timeout)).unwrap_or_default();
            quiesce + length(&spec.helm.timeout) * times + length(&spec.verify.timeout) + length(&spec.verify.soak)
        }
    };
    i64::try_from((waits + MARGIN).as_secs()).unwrap_or(i64::MAX)
}

fn seconds(duration: &kube::core::Duration) -> String {
    format!("{}s", Duration::from(*duration).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::CoderUpgradeSpec;
    use crate::core::plan::parts;
    use serde_json::json;

    fn upgrade() -> CoderUpgrade {
        let values = json!({"password": "planted-secret"}).as_object().cloned();
        let mut upgrade = CoderUpgrade::new("coder", CoderUpgradeSpec { values, ..Default::default() });
        upgrade.metadata.namespace = Some("coder".into());
        upgrade.metadata.uid = Some("uid".into());
        upgrade
    }

    fn defaults_of(image: &str) -> RunnerDefaults {
        let (allowed, outbound, log_format) = (Arc::default(), Arc::default(), LogFormat::Text);
        RunnerDefaults { image: image.into(), allowed, outbound, log_format }
    }

    fn built(step: StepName) -> Job {
        built_for(&upgrade(), step)
    }

    fn built_for(upgrade: &CoderUpgrade, step: StepName) -> Job {
        let plan = if step == StepName::Upgrade { parts::names("coder-plan-1", Some(2)) } else { Vec::new() };
        let request = JobRequest { name: "job".into(), step, plan_secrets: plan, ..JobRequest::planning() };
        job(upgrade, &request, &defaults_of("runner:1"))
    }

    #[test]
    fn a_runner_logs_as_the_controller_does() {
        let request = JobRequest::planning();
        let arguments = |log_format| {
            let defaults = RunnerDefaults { log_format, ..defaults_of("runner:1") };
            arguments(&upgrade(), &request, &defaults).join(" ")
        };
        assert!(arguments(LogFormat::Json).contains("--log-format json"));
        assert!(!arguments(LogFormat::Text).contains("--log-format"), "which another image may not know");
    }

    #[test]
    fn values_are_nowhere_in_a_job() {
        for step in [StepName::Plan, StepName::Upgrade] {
            assert!(!serde_json::to_string(&built(step)).unwrap().contains("planted"));
        }
    }

    #[test]
    fn what_is_not_allowed_never_comes_into_a_job() {
        let mut upgrade = upgrade();
        upgrade.spec.job.image = Some("evil.example/tool:1".into());
        upgrade.spec.job.service_account_name = "admin".into();
        for step in [StepName::Plan, StepName::Backup, StepName::Upgrade, StepName::Uninstall, StepName::Install] {
            let pod = built_for(&upgrade, step).spec.unwrap().template.spec.unwrap();
            assert_eq!(
                (pod.service_account_name.as_deref(), pod.containers[0].image.as_deref()),
                (Some("coder-upgrade-runner"), Some("runner:1"))
            );
        }
    }

    #[test]
    fn a_long_name_makes_a_valid_label() {
        assert_eq!(label_value(&format!("{}.b", "a".repeat(62))), "a".repeat(62));
    }

    #[test]
    fn a_job_waits_until_it_is_let_start() {
        assert_eq!(built(StepName::Upgrade).spec.unwrap().suspend, Some(true));
    }

    #[test]
    fn the_settings_change_with_what_the_pod_is_built_with_and_with_nothing_else() {
        let defaults = defaults_of("runner:1");
        let (mut other, before) = (upgrade(), settings(&upgrade(), &defaults));
        other.metadata.generation = Some(7);
        other.spec.version = Some("2.31.7".into());
        assert_eq!(settings(&other, &defaults), before);
        other.spec.job.labels.insert("team".into(), "platform".into());
        assert_ne!(settings(&other, &defaults), before);
        assert_ne!(settings(&upgrade(), &defaults_of("runner:2")), before);
    }

    #[test]
    fn only_the_upgrade_mounts_the_plan_and_all_of_it() {
        let mounts = |step| -> Vec<String> {
            let volumes = built(step).spec.unwrap().template.spec.unwrap().volumes.unwrap();
            let sources = volumes.into_iter().filter_map(|volume| volume.projected?.sources).flatten();
            sources.filter_map(|source| Some(source.secret?.name)).collect()
        };
        assert_eq!(mounts(StepName::Plan), Vec::<String>::new());
        assert_eq!(mounts(StepName::Upgrade), ["coder-plan-1", "coder-plan-1-2"]);
    }

    #[test]
    fn the_deadline_leaves_room_for_a_rollback_and_stands_on_the_pod() {
        let spec = built(StepName::Upgrade).spec.unwrap();
        assert_eq!(spec.active_deadline_seconds, None);
        let deadline = spec.template.spec.unwrap().active_deadline_seconds.unwrap();
        assert_eq!(deadline, 2 * 1800 + 600 + 30 + 900);
    }
}
