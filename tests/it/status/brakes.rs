//! Brakes: what comes back again and again is answered later each time, and many upgrades at once wait for each other without
//! one that is broken holding up the others.

use crate::common::{
    PATIENCE, World,
    drift::{verified, verified_again},
    reason,
};
use coder_upgrade_operator::api::{CoderUpgrade, Phase};
use k8s_openapi::api::batch::v1::Job;
use kube::{ResourceExt, api::ListParams};
use serde_json::json;

/// Another program changes an annotation of the pods.
async fn rotate(world: &World, value: &str) {
    let patch = json!({"spec": {"template": {"metadata": {"annotations": {"rotated": value}}}}}).to_string();
    world.kubectl(&["patch", "deployment", "coder", "--field-manager=rotator", "--type=merge", "-p", &patch]).await;
}

#[tokio::test]
async fn a_change_that_comes_back_waits_and_is_told_with_who_makes_it() {
    let world = verified("rotated", json!({})).await;
    // Long enough for all that is changed while the plan is held back.
    let _patient = world.retrying_after(10).await;
    rotate(&world, "1").await;
    let attempt = verified_again(&world, 1).await.status.unwrap().attempt;
    rotate(&world, "2").await;
    let held = |o: &CoderUpgrade| o.status.as_ref().is_some_and(|s| s.drift_answer_at.is_some());
    let object = world.until("coder", "held back", held).await;
    assert_eq!(reason(&object, "Ready"), Some(("False".into(), "Drifted".into())));
    let status = object.status.unwrap();
    assert_eq!((status.phase, status.attempt), (Phase::Pending, attempt), "no plan yet");
    let line = &status.drift[0];
    assert!(line.contains("by rotator: the annotations of its pods differ") && line.contains("(rotated)"), "{line}");
    let repeat = &status.drift_repeats[0];
    assert_eq!((repeat.times, repeat.manager.as_deref()), (2, Some("rotator")));
    let plans = world.job_counts().await.0;
    // Whatever changes meanwhile is not planned for by itself.
    for value in ["3", "4", "5"] {
        rotate(&world, value).await;
    }
    let object = verified_again(&world, attempt).await;
    assert_eq!(object.status.unwrap().drift_repeats[0].times, 2);
    assert_eq!(world.job_counts().await.0, plans + 1);
    world.finish().await;
}

/// How many are declared at once, and how many of them cannot begin.
const MANY: usize = 60;
const BROKEN: usize = 24;
/// As many Jobs as the controller lets run at a time.
const PLACES: usize = 20;

#[tokio::test]
async fn many_at_once_take_turns_and_the_broken_ones_hold_up_nobody() {
    let world = World::new("many").await;
    let _disturbing = World::disturbing().await;
    let chart = json!({"repository": world.repositories().v2});
    for number in 0..MANY {
        let name = format!("coder-{number}");
        let account = if number < BROKEN { "nobody" } else { "coder-upgrade-runner" };
        let spec = json!({"version": "2.31.7", "release": name, "chart": chart, "approval": "Manual",
            "job": {"serviceAccountName": account}});
        world.declare(&name, spec).await;
    }
    let (mut most, begun) = (0, std::time::Instant::now());
    loop {
        let jobs = world.api::<Job>().list(&ListParams::default()).await.unwrap().items;
        let running = jobs.iter().filter(|job| {
            let status = job.status.clone().unwrap_or_default();
            let suspended = job.spec.as_ref().and_then(|spec| spec.suspend) == Some(true);
            !suspended && status.conditions.iter().flatten().all(|c| c.type_ == "Suspended" || c.status != "True")
        });
        most = most.max(running.count());
        let upgrades = world.api::<CoderUpgrade>().list(&ListParams::default()).await.unwrap().items;
        let planned = |upgrade: &&CoderUpgrade| {
            upgrade.status.as_ref().is_some_and(|status| status.plan.is_some() || status.failure.is_some())
        };
        let good = upgrades.iter().filter(planned).filter(|upgrade| number(upgrade) >= BROKEN).count();
        if good == MANY - BROKEN {
            break;
        }
        assert!(begun.elapsed() < 2 * PATIENCE, "{good} of {} are planned\n{}", MANY - BROKEN, world.dump().await);
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    }
    // A runner has given its place back when its outcome is known, a moment before its Job has ended.
    assert!(most <= 2 * PLACES, "{most} Jobs ran at a time");
    for number in 0..BROKEN {
        let told =
            |o: &CoderUpgrade| o.status.as_ref().is_some_and(|s| s.message.contains(r#"serviceaccount "nobody""#));
        world.until(&format!("coder-{number}"), "told what is missing", told).await;
    }
    world.finish().await;
}

fn number(upgrade: &CoderUpgrade) -> usize {
    upgrade.name_any().trim_start_matches("coder-").parse().unwrap()
}
