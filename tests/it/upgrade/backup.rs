//! What is saved before a change: by a Job made from a `CronJob`, or by snapshots of the claims. Without it nothing changes.

use crate::common::{
    CLASSIC_CLAIM, World, reason,
    steps::{HelmMajor, Steps},
};
use coder_upgrade_operator::api::{FailureClass, Phase, StepName};
use k8s_openapi::api::batch::v1::Job;
use kube::{ResourceExt, api::ListParams};
use serde_json::{Value, json};

/// A `CronJob` whose Jobs run a line of shell.
async fn cron_job(world: &World, name: &str, script: &str) {
    let container = json!({"name": "backup", "image": "testbed-host:1", "command": ["sh", "-c", script]});
    let pod = json!({"restartPolicy": "Never", "terminationGracePeriodSeconds": 1, "containers": [container]});
    let template =
        json!({"metadata": {"labels": {"app": name}}, "spec": {"backoffLimit": 0, "template": {"spec": pod}}});
    world
        .apply(&json!({
            "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name},
            "spec": {"schedule": "0 3 1 1 *", "suspend": true, "jobTemplate": template}
        }))
        .await;
}

async fn jobs_of(world: &World, cron_job: &str) -> Vec<Job> {
    let all = world.api::<Job>().list(&ListParams::default().labels(&format!("app={cron_job}"))).await.unwrap();
    all.items
}

#[tokio::test]
async fn a_job_is_made_from_a_suspended_cron_job_and_found_again() {
    let steps = Steps::with("backup-cron", HelmMajor::Four, |r| &r.v2, "2.30.0", &[]).await;
    let world = &steps.world;
    steps.plan(json!({"version": "2.31.7"})).await;
    cron_job(world, "nightly", "echo saved").await;
    let first = steps.backup(&["--cron-job", "nightly", "--attempt", "1"]).await;
    assert!(!first.recent && first.detail.ends_with("of CronJob/nightly"), "{first:?}");
    let jobs = jobs_of(world, "nightly").await;
    assert_eq!(first.objects, [format!("Job/{}", jobs[0].name_any())]);
    assert_eq!(jobs[0].annotations()["cronjob.kubernetes.io/instantiate"], "manual");
    assert_eq!(jobs[0].owner_references()[0].kind, "CronJob");

    let again = steps.backup(&["--cron-job", "nightly", "--attempt", "1"]).await;
    assert_eq!((again, jobs_of(world, "nightly").await.len()), (first.clone(), 1), "the same Job is found again");
    let recent = steps.backup(&["--cron-job", "nightly", "--attempt", "2", "--max-age", "1h"]).await;
    assert_eq!((recent.recent, recent.objects), (true, first.objects));
    steps.backup(&["--cron-job", "nightly", "--attempt", "2"]).await;
    assert_eq!(jobs_of(world, "nightly").await.len(), 2, "another attempt makes a backup of its own");
    assert_eq!(world.release().await, (1, "deployed".into()));
    steps.world.finish().await;
}

#[tokio::test]
async fn a_backup_that_fails_says_why_and_changes_nothing() {
    let steps = Steps::with("backup-fails", HelmMajor::Four, |r| &r.v2, "2.30.0", &[]).await;
    let world = &steps.world;
    steps.plan(json!({"version": "2.31.7"})).await;
    let pods = world.kubectl(&["get", "pods", "-o", "name"]).await;

    cron_job(world, "broken", "echo no space left in the bucket; exit 3").await;
    let problem = steps.fails("backup", &["--cron-job", "broken", "--attempt", "1"]).await;
    assert_eq!((problem.class, problem.changed), (FailureClass::BackupFailed, false), "{problem:?}");
    assert!(problem.message.contains("has failed with exit code 3"), "{}", problem.message);
    assert!(problem.excerpt.unwrap().contains("no space left in the bucket"));
    assert!(problem.object.unwrap().starts_with("Job/broken-1-"));

    cron_job(world, "slow", "sleep 600").await;
    let problem = steps.fails("backup", &["--cron-job", "slow", "--attempt", "1", "--timeout", "3s"]).await;
    assert_eq!(problem.class, FailureClass::BackupFailed);
    assert!(problem.message.contains("has not ended within 3 s"), "{}", problem.message);

    let problem = steps.fails("backup", &["--cron-job", "nobody", "--attempt", "1"]).await;
    assert_eq!(problem.class, FailureClass::ReferenceMissing);
    assert_eq!(problem.field.as_deref(), Some("spec.backup.cronJob"));

    let problem = steps.fails("backup", &["--volume-snapshot-class", "hostpath", "--attempt", "1"]).await;
    assert_eq!(problem.class, FailureClass::BackupFailed);
    assert!(problem.message.contains("no PersistentVolumeClaim"), "{}", problem.message);

    for job in ["broken", "slow"] {
        world.kubectl(&["delete", "cronjob", job]).await;
    }
    let gone = || async { (world.kubectl(&["get", "pods", "-o", "name"]).await == pods).then_some(()) };
    world.eventually("the same pods as before", gone).await;
    assert_eq!(world.release().await, (1, "deployed".into()));
    steps.world.finish().await;
}

/// A class of snapshots of one test.
async fn class(world: &World, name: &str, fault: &str, value: &str) -> String {
    let name = format!("{}-{name}", world.namespace);
    let class: Value = json!({
        "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshotClass",
        "metadata": {"name": name, "annotations": {format!("testbed.coderupgrade.dev/{fault}"): value}},
        "driver": "kubernetes.io/host-path", "deletionPolicy": "Delete",
    });
    world.cluster.kubectl_with_input(&["apply", "-f", "-"], &class.to_string()).await.unwrap();
    name
}

#[tokio::test]
async fn snapshots_of_the_claims_hold_the_data() {
    let steps = Steps::with("backup-snapshots", HelmMajor::Four, |r| &r.v1, "1.16.1", &[]).await;
    let world = &steps.world;
    steps.plan(json!({"version": "1.16.2"})).await;
    let arguments = ["--volume-snapshot-class", "hostpath", "--attempt"];
    let backup = async |more: &[&str]| steps.backup(&[&arguments[..], more].concat()).await;
    let record = backup(&["1"]).await;
    assert!(
        !record.recent && record.detail.contains("PersistentVolumeClaim/timescale-data-timescale-0 in"),
        "{record:?}"
    );
    assert!(record.detail.ends_with(", 64Mi"), "{}", record.detail);
    let name = record.objects[0].strip_prefix("VolumeSnapshot/").unwrap();
    let saved = world.cluster.snapshot(&world.namespace, name).await.unwrap();
    assert_eq!(saved, world.cluster.database(&world.namespace, CLASSIC_CLAIM).await.unwrap());

    assert_eq!(backup(&["1"]).await, record, "the same snapshot is found again");
    let recent = backup(&["2", "--max-age", "1h"]).await;
    assert_eq!((recent.recent, &recent.objects), (true, &record.objects));
    assert_ne!(backup(&["2"]).await.objects, record.objects);
    assert_eq!(world.release().await, (1, "deployed".into()));
    steps.world.finish().await;
}

#[tokio::test]
async fn a_snapshot_that_does_not_become_ready_is_named() {
    let steps = Steps::with("backup-faults", HelmMajor::Four, |r| &r.v1, "1.16.1", &[]).await;
    let world = &steps.world;
    steps.plan(json!({"version": "1.16.2"})).await;
    let fails = async |class: &str, attempt: &str, timeout: &str| {
        let arguments = ["--volume-snapshot-class", class, "--attempt", attempt, "--timeout", timeout];
        steps.fails("backup", &arguments).await
    };
    let never = class(world, "never", "snapshot-delay", "never").await;
    let problem = fails(&never, "1", "3s").await;
    assert_eq!(problem.class, FailureClass::BackupFailed);
    assert!(problem.message.contains("did not become ready within 3 s"), "{}", problem.message);

    let error = class(world, "error", "snapshot-error", "the storage is full").await;
    let problem = fails(&error, "2", "60s").await;
    assert_eq!(problem.class, FailureClass::BackupFailed);
    assert!(problem.message.ends_with(": the storage is full"), "{}", problem.message);
    assert!(problem.object.unwrap().starts_with("VolumeSnapshot/timescale-data-timescale-0-2-"));

    let problem = fails("nobody", "3", "60s").await;
    assert_eq!(problem.class, FailureClass::ReferenceMissing);
    assert!(problem.message.contains("VolumeSnapshotClass/nobody"), "{}", problem.message);
    assert_eq!(world.release().await, (1, "deployed".into()));
    for class in [never, error] {
        world.cluster.kubectl(&["delete", "volumesnapshotclass", &class]).await.unwrap();
    }
    steps.world.finish().await;
}

fn spec(world: &World, backup: &Value) -> Value {
    json!({"version": "2.31.7", "chart": {"repository": world.repositories().v2}, "backup": backup})
}

#[tokio::test]
async fn a_runner_killed_while_it_backs_up_is_followed_by_one_that_waits_for_the_same_job() {
    let world = World::with_v2("backup-killed", "2.30.0", &[]).await;
    cron_job(&world, "nightly", "sleep 10").await;
    world.declare("coder", spec(&world, &json!({"cronJob": "nightly"}))).await;
    world.phase("coder", Phase::BackingUp).await;
    world.runner_pod("backup").await;
    world.eventually("the backup", || async { (jobs_of(&world, "nightly").await.len() == 1).then_some(()) }).await;
    world.kill_runner("backup").await;
    let object = world.ready("coder").await;
    assert_eq!(reason(&object, "BackedUp").unwrap(), ("True".into(), "BackupSucceeded".into()));
    let jobs = jobs_of(&world, "nightly").await;
    assert_eq!(jobs.len(), 1, "no second backup was begun");
    let status = object.status.unwrap();
    assert_eq!(status.backup.unwrap().objects, [format!("Job/{}", jobs[0].name_any())]);
    let steps: Vec<_> = status.steps.iter().map(|step| step.name).collect();
    assert_eq!(steps, [StepName::Plan, StepName::Backup, StepName::Backup, StepName::Upgrade]);
    world.finish().await;
}

#[tokio::test]
async fn without_its_backup_nothing_is_upgraded() {
    let world = World::with_v2("backup-stops", "2.30.0", &[]).await;
    cron_job(&world, "nightly", "echo the bucket is gone; exit 1").await;
    world.declare("coder", spec(&world, &json!({"cronJob": "nightly"}))).await;
    let object = world.stalled("coder").await;
    assert_eq!(reason(&object, "Stalled").unwrap().1, "BackupFailed");
    assert_eq!(reason(&object, "BackedUp").unwrap(), ("False".into(), "BackupFailed".into()));
    let status = object.status.unwrap();
    assert!(!status.recovery_required && status.failure.unwrap().excerpt.unwrap().contains("the bucket is gone"));
    assert_eq!((world.job_counts().await, world.release().await), ((1, 0), (1, "deployed".into())));

    cron_job(&world, "nightly", "echo saved").await;
    world.kubectl(&["annotate", "cu", "coder", "coderupgrade.dev/requested-at=again"]).await;
    let object = world.ready("coder").await;
    assert_eq!(reason(&object, "BackedUp").unwrap(), ("True".into(), "BackupSucceeded".into()));
    world.finish().await;
}
