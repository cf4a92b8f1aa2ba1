//! Whatever stands in an annotation, the status can be stored, and says what is wrong.

use super::*;
use crate::{
    api::{ClaimStatus, Exposure, Remedy, Repair, annotation},
    core::report::{LIMIT, Report},
};

/// What the API server can store of one object is 1.5 MiB; the spec and its managed fields take a part of it.
const STORABLE: usize = 768 * 1024;

fn size(status: &CoderUpgradeStatus) -> usize {
    serde_json::to_vec(status).unwrap().len()
}

/// The largest report of this outcome that is read, with something in it that grows.
fn largest(grow: impl Fn(usize) -> Report) -> Report {
    let mut largest = Report::default();
    for count in (1..4000).step_by(20) {
        let Ok(report) = Report::read(&serde_json::to_string(&grow(count)).unwrap()) else { break };
        largest = report;
    }
    assert!(serde_json::to_vec(&largest).unwrap().len() > LIMIT / 4, "it has grown");
    largest
}

fn claim(number: usize) -> ClaimStatus {
    let long = Some("c".repeat(400));
    ClaimStatus {
        name: format!("{number}"),
        uid: "u".into(),
        volume: long.clone(),
        phase: None,
        reclaim_policy: None,
        capacity: None,
        note: long,
    }
}

fn exposure(number: usize) -> Exposure {
    let addresses = vec!["a".repeat(500)];
    Exposure { kind: "Service".into(), name: format!("{number}"), uid: "u".into(), addresses, assigned: Vec::new() }
}

fn with(outcome: Outcome) -> Report {
    Report { outcome: Some(outcome), ..Report::default() }
}

#[test]
fn the_largest_reports_after_another_still_fit() {
    let mut world = World::new("2.31.7");
    world.edit(|spec| (spec.history_limit, spec.retry.limit) = (50, 100));
    let plan = largest(|count| {
        let Outcome::Planned(mut planned) = planned(PlannedAction::Upgrade, "2.31.7") else { unreachable!() };
        planned.claims = (0..count).map(claim).collect();
        with(Outcome::Planned(planned))
    });
    world.settle().running_job().unwrap().report = plan;
    world.settle();
    for round in 0..20 {
        let failed = largest(|count| {
            let message = format!("{round} {}", "failed ".repeat(count));
            let problem = Problem {
                excerpt: Some("x".repeat(4000)),
                changed: true,
                ..Problem::new(FailureClass::WebhookUnavailable, message)
            };
            let repair = |number| Repair {
                remedy: Remedy::Adopt,
                object: format!("Service/{round}-{number}-{}", "n".repeat(300)),
                message: "m".repeat(100),
                time: world.observed.time(),
            };
            Report { repairs: (0..count).map(repair).collect(), ..with(Outcome::Failed(problem)) }
        });
        world.running_job().unwrap().report = failed;
        world.settle().wait(600);
        assert!(size(&world.status()) < STORABLE, "{round}: {}", size(&world.status()));
    }
    let upgraded = largest(|count| {
        let Outcome::Upgraded(mut upgraded) = upgraded("2.31.7") else { unreachable!() };
        upgraded.exposures = (0..count).map(exposure).collect();
        upgraded.verified = "v".repeat(4000);
        with(Outcome::Upgraded(upgraded))
    });
    world.running_job().unwrap().report = upgraded;
    world.settle();
    assert!(size(&world.status()) < STORABLE, "{}", size(&world.status()));
    assert_eq!(world.status().phase, Phase::Succeeded);
}

#[test]
fn a_report_that_cannot_be_read_is_named_and_does_not_go_round_for_ever() {
    let mut world = upgrading();
    for _ in 0..=3 {
        let job = world.running_job().expect("the step is done again");
        let name = job.name.clone();
        job.unreadable = Some("its annotation coderupgrade.dev/report is no report of a runner: x".into());
        world.settle();
        assert!(world.status().message.contains(&format!("Job {name}: its annotation")), "{}", world.status().message);
        world.kill();
        world.wait(600);
    }
    let failure = world.status().failure.unwrap();
    assert_eq!(failure.class, FailureClass::RetriesExhausted);
    assert_eq!(world.status().phase, Phase::Restoring, "the step is not done again: what was changed is taken back");
    assert!(failure.message.contains("its annotation coderupgrade.dev/report is no report"), "{}", failure.message);
    assert!(!world.pass(), "it stays there");
}

#[test]
fn values_that_were_not_read_are_refused_by_name_and_a_smaller_spec_goes_on() {
    let mut world = World::new("2.31.7");
    let unread = serde_json::json!({"values": {"a": "x".repeat(300_000)}});
    let spec: CoderUpgradeSpec = serde_json::from_value(unread).unwrap();
    world.edit(|own| own.values = spec.values);
    world.settle();
    let failure = world.status().failure.unwrap();
    assert_eq!((failure.class, failure.field.as_deref()), (FailureClass::SpecInvalid, Some("spec.values")));
    assert!(failure.message.contains("takes more than 256 KiB") && failure.message.contains("spec.valuesFrom"));
    assert!(world.created.is_empty());
    world.edit(|spec| spec.values = None);
    assert_eq!(world.settle().status().phase, Phase::Planning);
}

#[test]
fn an_annotation_of_any_length_is_kept_in_short() {
    let mut world = upgrading();
    for text in ["a".repeat(200_000), "é".repeat(100_000), format!("a{}", "é".repeat(100_000))] {
        let annotations = [(annotation::APPROVE.to_owned(), text)].into();
        world.observed.upgrade.metadata.annotations = Some(annotations);
        world.settle();
        assert!(world.status().observed_approval.len() <= 128 && !world.pass());
    }
    assert!(world.events.contains(&"ApprovalIgnored"));
}
