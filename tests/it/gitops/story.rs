//! Coder Classic at every gate, upgraded, refused and reinstalled, with each state that the API server showed of it.

use coder_upgrade_operator::api::{CoderUpgrade, Phase};
use jiff::{Timestamp, ToSpan, tz::TimeZone};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use super::argocd::perform;
use super::recording::Recording;
use crate::common::{World, is, observed};

static SHOWN: OnceCell<Vec<Value>> = OnceCell::const_new();

/// The phases that the story must show.
const PHASES: [Phase; 13] = [
    Phase::Planning,
    Phase::Suspended,
    Phase::AwaitingDependency,
    Phase::AwaitingWindow,
    Phase::AwaitingApproval,
    Phase::BackingUp,
    Phase::Upgrading,
    Phase::Verifying,
    Phase::Uninstalling,
    Phase::Draining,
    Phase::Installing,
    Phase::Succeeded,
    Phase::Failed,
];

/// Every state of the story. It is played once, for all tests that read it.
pub async fn shown() -> &'static [Value] {
    SHOWN.get_or_init(|| Box::pin(play())).await
}

pub fn phase(object: &Value) -> &str {
    object["status"]["phase"].as_str().unwrap_or_default()
}

/// Whether the status speaks of the spec beside it.
pub fn speaks_of_this_spec(object: &Value) -> bool {
    object["status"]["observedGeneration"] == object["metadata"]["generation"]
}

/// A condition of any object.
pub fn condition<'a>(object: &'a Value, condition: &str) -> Option<&'a Value> {
    object["status"]["conditions"].as_array()?.iter().find(|found| found["type"] == condition)
}

/// Whether a condition is true.
pub fn holds(object: &Value, condition: &str) -> bool {
    self::condition(object, condition).is_some_and(|found| found["status"] == "True")
}

/// Whether Coder was verified at the very version that the spec beside it asks for.
pub fn is_verified(object: &Value) -> bool {
    let runs = &object["status"]["current"]["version"];
    speaks_of_this_spec(object)
        && phase(object) == "Succeeded"
        && holds(object, "Verified")
        && runs.is_string()
        && *runs == object["spec"]["version"]
}

async fn play() -> Vec<Value> {
    let world = World::with_v1("gitops-story", "1.16.1").await;
    let recording = Recording::start(&world, "coder").await;
    upgrade(&world).await;
    gates(&world).await;
    failure(&world).await;
    reinstall(&world).await;
    let shown = recording.end(&world).await;
    assert_eq!(shown[0]["status"]["observedGeneration"], -1, "before the controller has seen it");
    for phase in PHASES {
        let phase = phase.to_string();
        assert!(shown.iter().any(|object| self::phase(object) == phase), "no state in phase {phase} was shown");
    }
    world.finish().await;
    shown
}

fn spec(world: &World, version: &str, more: &Value) -> Value {
    let mut spec = json!({"version": version, "chart": {"repository": world.repositories().v1}, "recovery": "Stop"});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

/// Suspended, then with an approval and a backup.
async fn upgrade(world: &World) {
    let container = json!({"name": "backup", "image": "testbed-host:1", "command": ["sh", "-c", "echo saved"]});
    let pod = json!({"restartPolicy": "Never", "containers": [container]});
    let job = json!({"spec": {"template": {"spec": pod}}});
    let spec_of_job = json!({"schedule": "0 3 1 1 *", "suspend": true, "jobTemplate": job});
    let backup =
        json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": "dump"}, "spec": spec_of_job});
    world.apply(&backup).await;
    let gates = json!({"suspend": true, "approval": "Manual", "backup": {"cronJob": "dump"}});
    world.declare("coder", spec(world, "1.16.2", &gates)).await;
    world.phase("coder", Phase::Suspended).await;
    perform(world, "resume").await;
    world.phase("coder", Phase::AwaitingApproval).await;
    assert_eq!(world.release().await, (1, "deployed".into()), "nothing was changed");
    perform(world, "approve").await;
    world.ready("coder").await;
    assert_eq!(world.release().await, (2, "deployed".into()));
    perform(world, "suspend").await;
    let object = world.ready("coder").await;
    assert!(object.spec.suspend, "what is verified stays so while nothing new may begin");
    perform(world, "resume").await;
}

/// Gates that open by themselves, and stay closed here.
async fn gates(world: &World) {
    let depends = json!({"dependsOn": [{"name": "database"}]});
    world.declare("coder", spec(world, "1.17.0", &depends)).await;
    world.phase("coder", Phase::AwaitingDependency).await;
    let later = Timestamp::now().to_zoned(TimeZone::UTC).checked_add(3.days()).unwrap();
    let day = later.strftime("%a").to_string();
    let window = json!({"days": [day], "start": "22:00", "end": "23:00", "timeZone": "UTC"});
    world.declare("coder", spec(world, "1.17.0", &json!({"window": window}))).await;
    world.phase("coder", Phase::AwaitingWindow).await;
}

/// A version that Coder has no way back to.
async fn failure(world: &World) {
    world.declare("coder", spec(world, "1.15.2", &json!({}))).await;
    let attempt = world.stalled("coder").await.status.unwrap().attempt;
    perform(world, "retry").await;
    let again = |object: &CoderUpgrade| {
        let tried = object.status.as_ref().is_some_and(|status| status.attempt > attempt);
        tried && observed(object) && is(object, "Stalled", "True")
    };
    world.until("coder", "refused once more", again).await;
}

/// A larger volume, which no StatefulSet accepts: a person allows the reinstall.
async fn reinstall(world: &World) {
    let values = json!({"timescale": {"resources": {"requests": {"storage": "128Mi"}}}});
    world.declare("coder", spec(world, "1.16.2", &json!({"values": values}))).await;
    world.until("coder", "one that asks", |o| observed(o) && is(o, "Stalled", "True")).await;
    world.approve("reinstall").await;
    world.ready("coder").await;
}
