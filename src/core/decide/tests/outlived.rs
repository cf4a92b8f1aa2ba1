//! Containers that a webhook adds to the runner's pod go on when the runner has ended.

use super::*;
use crate::core::decide::job::Outlived;

fn outlived(world: &mut World, at: jiff::Timestamp) {
    let job = world.running_job().unwrap();
    let pod = job.pod.as_mut().unwrap();
    pod.outlived = Some(Outlived { how: "container runner ended".into(), at: Some(at) });
}

#[test]
fn a_job_is_suspended_once_its_step_is_over_and_others_go_on() {
    let mut world = upgrading();
    let now = world.observed.now;
    outlived(&mut world, now);
    world.report(upgraded("2.31.7"));
    let suspended = |world: &World| world.observed.jobs.iter().filter(|job| job.suspended).count();
    assert_eq!((world.status().phase, suspended(&world)), (Phase::Succeeded, 0), "they may end by themselves");
    assert!(decide(&world.observed).wake.is_some(), "somebody looks again");
    world.wait(11);
    assert_eq!(suspended(&world), 1);
    world.wait(600);
    assert_eq!(suspended(&world), 1);
}

#[test]
fn a_job_whose_runner_works_is_left_alone() {
    let mut world = upgrading();
    world.wait(60);
    assert!(world.observed.jobs.iter().all(|job| !job.suspended));
}
