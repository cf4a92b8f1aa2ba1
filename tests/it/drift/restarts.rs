//! Changes from outside and a controller that comes and goes: none is missed, and none is planned twice.

use crate::common::drift::{noticed, upgrade_by_hand, verified, verified_again};
use coder_upgrade_operator::api::{FailureClass, Phase};
use serde_json::json;

#[tokio::test]
async fn a_change_made_while_no_controller_runs_is_noticed_later() {
    let world = verified("drift-down", json!({})).await;
    world.restart_controller().await;
    upgrade_by_hand(&world, "2.31.6", &["--set", "coder.podAnnotations.team=platform"]).await;
    let (_, lines) = noticed(&world, 1).await;
    assert!(lines.contains("the annotations of its pods differ from what was verified"), "{lines}");
    verified_again(&world, 1).await;
    world.finish().await;
}

#[tokio::test]
async fn what_was_refused_once_is_not_planned_again_by_another_controller() {
    let world = verified("drift-again", json!({})).await;
    upgrade_by_hand(&world, "2.31.7", &["--wait"]).await;
    let attempt = world.stalled("coder").await.status.unwrap().attempt;
    world.restart_controller().await;
    // An object made now is looked at by the new controller, after the first lists.
    world.declare("other", json!({"release": "other", "suspend": true})).await;
    world.phase("other", Phase::Suspended).await;
    assert_eq!(world.get("coder").await.status.unwrap().attempt, attempt);
    // A further change is planned. While helm is at work a plan is postponed, so there may be more than one attempt.
    upgrade_by_hand(&world, "2.31.7", &["--set", "coder.podAnnotations.team=platform", "--wait"]).await;
    world.until("coder", "planned again", |o| o.status.as_ref().is_some_and(|s| s.attempt > attempt)).await;
    let status = world.stalled("coder").await.status.unwrap();
    assert_eq!((status.phase, status.failure.unwrap().class), (Phase::Failed, FailureClass::Downgrade));
    world.finish().await;
}
