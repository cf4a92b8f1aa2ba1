//! What must be so before a change begins: each gate is a phase that says what it waits for, and opens by itself.

use crate::common::{World, is, observed, reason};
use coder_upgrade_operator::api::{CoderUpgrade, CoderUpgradeStatus, Phase};
use jiff::{Timestamp, ToSpan, tz::TimeZone};
use k8s_openapi::api::core::v1::Event;
use kube::api::ListParams;
use serde_json::{Value, json};

fn status(object: &CoderUpgrade) -> &CoderUpgradeStatus {
    object.status.as_ref().unwrap()
}

fn spec(world: &World, more: &Value) -> Value {
    let mut spec = json!({"version": "2.31.7", "chart": {"repository": world.repositories().v2}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

/// Waits for a phase in which nothing is changed, and for what it says.
async fn waits(world: &World, phase: Phase, says: &str) -> CoderUpgrade {
    let what = format!("{phase} with {says:?}");
    let found = |o: &CoderUpgrade| observed(o) && status(o).phase == phase && status(o).message.contains(says);
    let object = world.until("coder", &what, |o| o.status.is_some() && found(o)).await;
    assert_eq!(reason(&object, "Ready").unwrap(), ("False".into(), phase.to_string()));
    assert!(object.metadata.finalizers.is_none_or(|held| held.is_empty()), "nothing is under way");
    world.get("coder").await
}

async fn approve(world: &World, value: &str) {
    let annotation = format!("coderupgrade.dev/approve={value}");
    world.kubectl(&["annotate", "--overwrite", "coderupgrade", "coder", &annotation]).await;
}

fn plan_id(object: &CoderUpgrade) -> String {
    status(object).plan.as_ref().unwrap().id.clone()
}

#[tokio::test]
async fn a_manual_approval_is_for_one_plan_and_what_it_was_made_for() {
    let world = World::with_v2("manual", "2.30.0", &[]).await;
    world.declare("coder", spec(&world, &json!({"approval": "Manual"}))).await;
    let object = waits(&world, Phase::AwaitingApproval, "To allow it").await;
    let first = plan_id(&object);
    assert_eq!(status(&object).approval.as_ref().unwrap().value, first);
    let command = format!("coderupgrade coder -n {} coderupgrade.dev/approve={first}", world.namespace);
    assert!(status(&object).message.ends_with(&command), "{}", status(&object).message);
    assert_eq!(reason(&object, "Stalled").unwrap(), ("True".into(), "AwaitingApproval".into()));

    // The id of another plan does not count, and that is said.
    approve(&world, "0123456789ab").await;
    world
        .eventually("word about the approval that is ignored", || async {
            let events = world.api::<Event>().list(&ListParams::default()).await.unwrap().items;
            let told = |event: &&Event| event.reason.as_deref() == Some("ApprovalIgnored");
            events.iter().find(told).and_then(|event| event.message.clone()).filter(|text| text.contains(&first))
        })
        .await;
    assert_eq!((world.job_counts().await, world.release().await.0), ((1, 0), 1));

    // Somebody else upgrades meanwhile: the plan does not fit any more, and neither does its approval.
    let repository = &world.repositories().v2;
    let by_hand =
        ["upgrade", "coder", "coder", "--repo", repository, "--version", "2.31.6", "--reuse-values", "--wait"];
    world.helm(&by_hand).await;
    approve(&world, &first).await;
    let again = |o: &CoderUpgrade| {
        status(o).phase == Phase::AwaitingApproval && status(o).plan.as_ref().is_some_and(|plan| plan.id != first)
    };
    let object = world.until("coder", "planned again", again).await;
    assert_eq!(status(&object).plan.as_ref().unwrap().from.as_deref(), Some("2.31.6"));
    assert_eq!(world.release().await, (2, "deployed".into()), "nothing was changed under the old approval");
    approve(&world, &plan_id(&object)).await;
    let object = world.ready("coder").await;
    assert_eq!(status(&object).history[0].from.as_deref(), Some("2.31.6"));
    assert_eq!((status(&object).approval.as_ref(), world.release().await), (None, (3, "deployed".into())));
    world.finish().await;
}

#[tokio::test]
async fn a_closed_window_says_when_it_opens_and_an_edited_one_counts_at_once() {
    let world = World::with_v2("window", "2.30.0", &[]).await;
    let now = Timestamp::now();
    let later = now.to_zoned(TimeZone::get("Europe/Berlin").unwrap()).checked_add(3.days()).unwrap();
    let window = |days: Value, start: &str, end: &str, zone: &str| json!({"window": {"days": days, "start": start, "end": end, "timeZone": zone}});

    // A zone that does not exist is refused before anything is planned.
    let day = later.strftime("%a").to_string();
    world.declare("coder", spec(&world, &window(json!([day]), "22:00", "04:00", "Europe/Berlln"))).await;
    let object = world.stalled("coder").await;
    let failure = status(&object).failure.as_ref().unwrap();
    assert_eq!(failure.field.as_deref(), Some("spec.window.timeZone"));
    assert!(failure.message.contains("Europe/Berlin"), "{}", failure.message);
    assert_eq!(world.job_counts().await, (0, 0));

    world.declare("coder", spec(&world, &window(json!([day]), "22:00", "04:00", "Europe/Berlin"))).await;
    let opens = format!("opens on {} 22:00 (Europe/Berlin)", later.strftime("%a %Y-%m-%d"));
    let object = waits(&world, Phase::AwaitingWindow, &opens).await;
    let next = status(&object).next_check_time.as_ref().unwrap().0;
    assert_eq!(next, later.with().hour(22).minute(0).second(0).subsec_nanosecond(0).build().unwrap().timestamp());
    assert!(is(&object, "Reconciling", "True") && is(&object, "Stalled", "False") && is(&object, "Planned", "True"));
    assert_eq!((world.job_counts().await, world.release().await.0), ((1, 0), 1));

    // The other gates come first, whatever was closed before.
    let mut suspended = window(json!([day]), "22:00", "04:00", "Europe/Berlin");
    suspended["suspend"] = true.into();
    world.declare("coder", spec(&world, &suspended)).await;
    let object = waits(&world, Phase::Suspended, "spec.suspend").await;
    assert_eq!(status(&object).next_check_time, None);

    let all = json!(["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]);
    world.declare("coder", spec(&world, &window(all, "00:00", "24:00", "UTC"))).await;
    let object = world.ready("coder").await;
    assert_eq!(
        (status(&object).next_check_time.as_ref(), world.job_counts().await),
        (None, (1, 1)),
        "the plan was kept"
    );
    world.finish().await;
}

#[tokio::test]
async fn what_comes_after_another_begins_when_that_is_ready() {
    let world = World::with_v2("after", "2.30.0", &[]).await;
    let repository = world.repositories().v1.clone();
    world.declare("coder", spec(&world, &json!({"dependsOn": [{"name": "classic"}]}))).await;
    let object = waits(&world, Phase::AwaitingDependency, "classic must be ready first").await;
    assert!(status(&object).message.contains("does not exist"), "{}", status(&object).message);

    // Each waits for the other: a person must decide.
    let other = |more: Value| {
        let mut spec = json!({"release": "classic", "version": "1.15.2", "chart": {"repository": repository}});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    };
    world.declare("classic", other(json!({"suspend": true, "dependsOn": [{"name": "coder"}]}))).await;
    waits(&world, Phase::AwaitingDependency, "coder after classic after coder").await;
    let object = world.stalled("coder").await;
    assert_eq!(reason(&object, "Stalled").unwrap().1, "AwaitingDependency");

    world.declare("classic", other(json!({"suspend": true}))).await;
    waits(&world, Phase::AwaitingDependency, "it is Suspended").await;
    assert!(is(&world.get("coder").await, "Stalled", "False"));
    assert_eq!((world.job_counts().await, world.release().await.0), ((1, 0), 1));

    // A release that runs as wanted is all that its CoderUpgrade needs to be ready.
    world.install("classic", &repository, "1.15.2", "coder-v1-values.yaml", &[]).await;
    world.declare("classic", other(json!({}))).await;
    world.ready("classic").await;
    let object = world.ready("coder").await;
    assert_eq!(status(&object).current.as_ref().unwrap().version, "2.31.7");
    world.finish().await;
}
