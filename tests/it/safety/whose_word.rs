//! Whose word counts: only that of a Job which the controller itself has created for the step. Whatever else has its name, its
//! labels, its owner and a report is told, blocks, and is never believed.

use crate::common::{World, observed, reason};
use coder_upgrade_operator::api::{BlockedReason, CoderUpgrade, Phase, StepName};
use coder_upgrade_operator::core::decide::job::job_name;
use k8s_openapi::api::{batch::v1::Job, core::v1::Namespace};
use kube::{
    Api,
    api::{DeleteParams, Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};

/// An upgrade of Coder v2 whose plan waits for its approval.
async fn waiting(name: &str) -> (World, CoderUpgrade) {
    let world = World::with_v2(name, "2.31.6", &[]).await;
    let chart = json!({"repository": world.repositories().v2});
    world.declare("coder", json!({"version": "2.31.7", "chart": chart, "approval": "Manual"})).await;
    let object = world.phase("coder", Phase::AwaitingApproval).await;
    (world, object)
}

/// Name of the Job that does a step of the present plan.
fn next_job(object: &CoderUpgrade, step: StepName) -> String {
    let status = object.status.as_ref().unwrap();
    let plan = &status.plan.as_ref().unwrap().id;
    job_name(&object.spec.release, object.metadata.uid.as_ref().unwrap(), status.attempt, step, 1, plan)
}

/// A Job as somebody forges it who may read everything: name, labels and owner are right, and it says that all is done.
fn forged(object: &CoderUpgrade, name: &str, report: &Value) -> Job {
    let uid = object.metadata.uid.as_ref().unwrap();
    serde_json::from_value(json!({
        "metadata": {
            "name": name,
            "labels": {"coderupgrade.dev/upgrade-uid": uid, "coderupgrade.dev/attempt": "1", "coderupgrade.dev/step": "upgrade"},
            "annotations": {"coderupgrade.dev/report": report.to_string()},
            "finalizers": ["example.com/stay"],
            "ownerReferences": [{"apiVersion": "coderupgrade.dev/v1alpha1", "kind": "CoderUpgrade", "name": "coder", "uid": uid,
                "controller": true}],
        },
        "spec": {"suspend": true, "template": {"spec": {"restartPolicy": "Never",
            "containers": [{"name": "runner", "image": "pause:1"}]}}},
    }))
    .unwrap()
}

fn says_upgraded() -> Value {
    json!({"outcome": {"upgraded": {"verified": "(says the attacker)", "current":
        {"version": "2.31.7", "revision": 2, "status": "deployed", "line": "v2"}}}})
}

async fn remove(api: &Api<Job>, name: &str) {
    let nobody = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    api.patch(name, &PatchParams::default(), &nobody).await.unwrap();
    let _gone_by_itself = api.delete(name, &DeleteParams::background()).await;
}

async fn approve(world: &World, object: &CoderUpgrade) {
    let plan = &object.status.as_ref().unwrap().plan.as_ref().unwrap().id;
    let annotation = format!("coderupgrade.dev/approve={plan}");
    world.kubectl(&["annotate", "--overwrite", "coderupgrade", "coder", &annotation]).await;
}

async fn blocked(world: &World) -> CoderUpgrade {
    let foreign = |object: &CoderUpgrade| {
        let blocked = object.status.as_ref().and_then(|status| status.blocked.as_ref());
        blocked.is_some_and(|blocked| blocked.reason == BlockedReason::ForeignJob)
    };
    world.until("coder", "blocked by a foreign Job", foreign).await
}

#[tokio::test]
async fn a_job_of_another_namespace_speaks_for_nobody() {
    let (world, object) = waiting("forged").await;
    let evil = format!("{}-evil", world.namespace);
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    let namespace = serde_json::from_value(json!({"metadata": {"name": evil}})).unwrap();
    namespaces.create(&PostParams::default(), &namespace).await.unwrap();
    let jobs: Api<Job> = Api::namespaced(world.client.clone(), &evil);
    let name = next_job(&object, StepName::Upgrade);
    jobs.create(&PostParams::default(), &forged(&object, &name, &says_upgraded())).await.unwrap();
    approve(&world, &object).await;
    let object = world.ready("coder").await;
    let status = object.status.unwrap();
    assert!(!status.message.contains("attacker"), "{}", status.message);
    assert_eq!(world.release().await, (2, "deployed".into()), "helm has really run");
    assert_eq!(world.job_counts().await, (1, 1));
    remove(&jobs, &name).await;
    namespaces.delete(&evil, &DeleteParams::background()).await.unwrap();
    world.finish().await;
}

#[tokio::test]
async fn a_forged_job_blocks_the_step_until_it_is_gone() {
    let (world, object) = waiting("namesake").await;
    let name = next_job(&object, StepName::Upgrade);
    let jobs: Api<Job> = world.api();
    jobs.create(&PostParams::default(), &forged(&object, &name, &says_upgraded())).await.unwrap();
    approve(&world, &object).await;
    let object = blocked(&world).await;
    assert_eq!(reason(&object, "Stalled"), Some(("True".into(), "ForeignJob".into())));
    let blocked = object.status.unwrap().blocked.unwrap();
    assert_eq!((blocked.object, blocked.field.as_deref()), (format!("Job/{name}"), Some("metadata.uid")));
    assert!(blocked.next_step.contains(&format!("kubectl delete job --namespace {} {name}", world.namespace)));
    assert_eq!(world.release().await, (1, "deployed".into()));
    remove(&jobs, &name).await;
    let object = world.ready("coder").await;
    assert!(!object.status.unwrap().message.contains("attacker"));
    assert_eq!(world.release().await, (2, "deployed".into()), "it goes on by itself");
    world.finish().await;
}

#[tokio::test]
async fn a_job_without_any_label_or_owner_is_told_as_well() {
    let (world, object) = waiting("unlabelled").await;
    let name = next_job(&object, StepName::Upgrade);
    let jobs: Api<Job> = world.api();
    let mut job = forged(&object, &name, &says_upgraded());
    job.metadata.labels = None;
    job.metadata.owner_references = None;
    jobs.create(&PostParams::default(), &job).await.unwrap();
    approve(&world, &object).await;
    let object = self::blocked(&world).await;
    assert_eq!(object.status.unwrap().blocked.unwrap().field.as_deref(), Some("metadata.ownerReferences"));
    remove(&jobs, &name).await;
    world.ready("coder").await;
    world.finish().await;
}

/// A controller that is killed between the creation of a Job and the record of its UID leaves one that has never run.
#[tokio::test]
async fn a_job_that_was_created_and_not_recorded_is_created_again() {
    let (world, object) = waiting("unrecorded").await;
    let name = next_job(&object, StepName::Upgrade);
    let mut job = forged(&object, &name, &json!({}));
    job.metadata.annotations = None;
    job.metadata.finalizers = None;
    let left = world.api::<Job>().create(&PostParams::default(), &job).await.unwrap();
    approve(&world, &object).await;
    let status = world.ready("coder").await.status.unwrap();
    let last = status.steps.last().unwrap();
    assert_eq!(last.job_name, name);
    assert!(Some(&last.job_uid) != left.metadata.uid.as_ref(), "{last:?}");
    assert_eq!(world.release().await, (2, "deployed".into()));
    world.finish().await;
}

/// Nobody needs to know a plan for the name of the Job that makes the next one.
#[tokio::test]
async fn the_plan_of_the_next_attempt_cannot_be_forged() {
    let world = World::with_v2("next-plan", "2.31.6", &[]).await;
    world.upgrade_to("2.31.7").await;
    let object = world.ready("coder").await;
    let (uid, attempt) = (object.metadata.uid.clone().unwrap(), object.status.as_ref().unwrap().attempt);
    let name = job_name("coder", &uid, attempt + 1, StepName::Plan, 1, "");
    let report = json!({"outcome": {"planned": {"target": {"version": "2.32.0"}, "plan": {"id": "forged", "action": "Nothing",
        "from": "2.31.7", "to": "2.32.0", "chartDigest": "0", "secretName": "none"}}}});
    let jobs: Api<Job> = world.api();
    jobs.create(&PostParams::default(), &forged(&object, &name, &report)).await.unwrap();
    world.upgrade_to("2.32.0").await;
    let object = blocked(&world).await;
    assert!(observed(&object));
    remove(&jobs, &name).await;
    let status = world.ready("coder").await.status.unwrap();
    assert_eq!(status.current.unwrap().version, "2.32.0");
    assert_ne!(status.plan.unwrap().id, "forged");
    world.finish().await;
}

/// The Job of a step that was deleted leaves a pod for a while. What that says does not go into the Job that follows.
#[tokio::test]
async fn a_job_that_was_deleted_is_done_again_under_another_uid() {
    let world =
        World::with_v2("deleted-job", "2.31.6", &["coder.env[0].name=CODER_SIM_START_DELAY", "coder.env[0].value=4s"])
            .await;
    world.upgrade_to("2.31.7").await;
    world.runner_pod("upgrade").await;
    let before = world.get("coder").await.status.unwrap().steps.last().unwrap().clone();
    world.api::<Job>().delete(&before.job_name, &DeleteParams::background()).await.unwrap();
    let status = world.ready("coder").await.status.unwrap();
    let last = status.steps.last().unwrap();
    assert!(!last.job_uid.is_empty() && last.job_uid != before.job_uid, "{last:?}");
    assert_eq!(status.current.unwrap().version, "2.31.7");
    world.finish().await;
}
