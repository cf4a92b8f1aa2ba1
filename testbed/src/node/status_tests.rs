use super::*;
use serde_json::{from_value, json};

fn pod(policy: &str) -> Pod {
    from_value(json!({
        "metadata": {"name": "a", "namespace": "n", "uid": "u", "generation": 3},
        "spec": {
            "restartPolicy": policy,
            "initContainers": [{"name": "init"}, {"name": "side", "restartPolicy": "Always"}],
            "containers": [{"name": "one", "image": "i:1"}, {"name": "two", "image": "i:2"}],
        },
    }))
    .unwrap()
}

fn running(name: &str) -> ContainerState {
    let activity = Activity::Running { since: Timestamp::UNIX_EPOCH };
    ContainerState { activity, ready: true, started: true, ..ContainerState::waiting(name, "") }
}

fn ended(name: &str, code: i32) -> ContainerState {
    let exit = Exit { code, ..Exit::unseen(None, Timestamp::UNIX_EPOCH) };
    ContainerState { activity: Activity::Terminated(exit), finished: true, ..ContainerState::waiting(name, "") }
}

fn waiting(name: &str) -> ContainerState {
    ContainerState::waiting(name, "PodInitializing")
}

fn crashing(name: &str) -> ContainerState {
    ContainerState {
        last: Some(Exit::unseen(None, Timestamp::UNIX_EPOCH)),
        restarts: 1,
        ..ContainerState::waiting(name, "CrashLoopBackOff")
    }
}

fn view(init: ContainerState, one: ContainerState, two: ContainerState) -> PodView {
    let over = [&init, &one, &two].iter().all(|state| state.finished) || init.end().is_some_and(|end| end.code != 0);
    let side = if over { ended("side", 0) } else { running("side") };
    PodView {
        address: Some(Ipv4Addr::new(127, 1, 0, 10)),
        host: Ipv4Addr::LOCALHOST,
        started: Timestamp::UNIX_EPOCH,
        mounted: true,
        init: vec![init, side],
        main: vec![one, two],
        stopping: false,
        verdict: None,
    }
}

fn phase_of(policy: &str, view: &PodView) -> String {
    compute(&pod(policy), view, Timestamp::UNIX_EPOCH).phase.unwrap()
}

fn is_true(status: &PodStatus, type_: &str) -> bool {
    status.conditions.iter().flatten().any(|condition| condition.type_ == type_ && condition.status == "True")
}

#[test]
fn phases() {
    let done = || ended("init", 0);
    for (policy, view, expected) in [
        ("Always", view(waiting("init"), waiting("one"), waiting("two")), "Pending"),
        ("Always", view(crashing("init"), waiting("one"), waiting("two")), "Pending"),
        ("Always", view(done(), running("one"), waiting("two")), "Pending"),
        ("Always", view(done(), running("one"), running("two")), "Running"),
        ("Always", view(done(), running("one"), crashing("two")), "Running"),
        ("Never", view(ended("init", 1), waiting("one"), waiting("two")), "Failed"),
        ("Never", view(done(), ended("one", 0), running("two")), "Running"),
        ("Never", view(done(), ended("one", 0), ended("two", 0)), "Succeeded"),
        ("Never", view(done(), ended("one", 0), ended("two", 2)), "Failed"),
        ("OnFailure", view(done(), ended("one", 0), crashing("two")), "Running"),
    ] {
        assert_eq!(phase_of(policy, &view), expected, "{policy} {view:?}");
    }
}

#[test]
fn a_verdict_is_a_failure_with_a_reason_once_nothing_runs_any_more() {
    for (two, expected) in [(running("two"), "Running"), (ended("two", 0), "Failed")] {
        let mut view = view(ended("init", 0), ended("one", 0), two);
        view.verdict = Some(("DeadlineExceeded".into(), "too long".into()));
        let status = compute(&pod("Never"), &view, Timestamp::UNIX_EPOCH);
        assert_eq!(status.phase.as_deref(), Some(expected));
        assert_eq!(status.reason.as_deref(), (expected == "Failed").then_some("DeadlineExceeded"));
    }
}

#[test]
fn ready_means_every_container_and_names_those_that_are_not() {
    let ready = compute(&pod("Always"), &view(ended("init", 0), running("one"), running("two")), Timestamp::UNIX_EPOCH);
    assert!(is_true(&ready, "Ready") && is_true(&ready, "ContainersReady") && is_true(&ready, "Initialized"));
    assert_eq!(ready.observed_generation, Some(3));

    let mut two = running("two");
    two.ready = false;
    let unready = compute(&pod("Always"), &view(ended("init", 0), running("one"), two), Timestamp::UNIX_EPOCH);
    assert!(!is_true(&unready, "Ready"));
    let why = |status: PodStatus| status.conditions.unwrap().into_iter().find(|c| c.type_ == "Ready").unwrap().message;
    assert_eq!(why(unready).as_deref(), Some("containers with unready status: [two]"));

    let mut view = view(ended("init", 0), running("one"), running("two"));
    view.init[1].ready = false;
    let unready = compute(&pod("Always"), &view, Timestamp::UNIX_EPOCH);
    assert!(is_true(&unready, "Initialized"), "a sidecar that has started lets the containers start");
    assert_eq!(why(unready).as_deref(), Some("containers with unready status: [side]"));
}

#[test]
fn a_condition_keeps_its_time_while_its_status_stays() {
    let mut pod = pod("Always");
    let before = view(ended("init", 0), waiting("one"), waiting("two"));
    pod.status = Some(compute(&pod, &before, Timestamp::UNIX_EPOCH));
    let later = Timestamp::from_second(60).unwrap();
    let after = compute(&pod, &view(ended("init", 0), running("one"), running("two")), later);
    let since = |type_: &str| {
        let condition = after.conditions.iter().flatten().find(|condition| condition.type_ == type_).unwrap();
        condition.last_transition_time.clone().unwrap().0
    };
    assert_eq!(since("Initialized"), Timestamp::UNIX_EPOCH);
    assert_eq!(since("Ready"), later);
}
