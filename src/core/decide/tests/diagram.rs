//! The transitions that are drawn on the first page of `decide`, and those that happen.

use std::collections::BTreeSet;

use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;

use super::properties::{Happening, happen, happenings};
use super::recovery::installing;
use super::*;

type Transition = (String, String);

/// Enough that the rarest transition is met some times.
const STORIES: usize = 800;

/// Where an attempt stands: the step that runs, or what it waits for, or how it ended.
fn place(status: &CoderUpgradeStatus) -> String {
    if let Some(step) = status.running_step() {
        return step.name.to_string();
    }
    match status.phase {
        Phase::Succeeded | Phase::Failed => status.phase.to_string(),
        Phase::Pending | Phase::Planning => "Pending".into(),
        _ => "Waiting".into(),
    }
}

/// Lines such as `Drain --> Install | Failed`.
fn drawn() -> BTreeSet<Transition> {
    let lines = include_str!("../mod.rs").lines().filter_map(|line| line.strip_prefix("//! "));
    let arrows = lines.filter_map(|line| line.split_once(" --> "));
    arrows.flat_map(|(from, to)| to.split(" | ").map(|to| (from.trim().to_owned(), to.to_owned()))).collect()
}

fn seen() -> BTreeSet<Transition> {
    let mut runner = TestRunner::deterministic();
    let stories = happenings();
    let mut nothing_to_do = World::new("2.30.0");
    let planned = planned(PlannedAction::Nothing, "2.30.0");
    let mut seen =
        BTreeSet::from([(place(&nothing_to_do.settle().status()), place(&nothing_to_do.report(planned).status()))]);
    for number in 0..STORIES {
        // Few stories come to an install by themselves.
        let mut world = if number % 2 == 0 { World::new("2.31.7") } else { installing() };
        let story = stories.new_tree(&mut runner).unwrap().current();
        for (next, passes) in story.into_iter().chain([(Happening::Succeed, 20)]) {
            happen(&mut world, next);
            for _ in 0..passes {
                let before = place(&world.status());
                world.pass();
                let after = place(&world.status());
                if before != after {
                    seen.insert((before, after));
                }
            }
        }
    }
    seen
}

#[test]
fn what_is_drawn_is_what_happens() {
    let (drawn, seen) = (drawn(), seen());
    let missing: Vec<_> = seen.difference(&drawn).collect();
    let never: Vec<_> = drawn.difference(&seen).collect();
    assert!(missing.is_empty() && never.is_empty(), "not drawn: {missing:?}\ndrawn and never seen: {never:?}");
}
