//! Whole screens, as people read them.

use indoc::indoc;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::core::gates::request;

const NOW: &str = "2026-11-23T12:00:00Z";

fn upgrade(spec: &Value, status: &Value) -> CoderUpgrade {
    let metadata = json!({"name": "coder", "namespace": "ns", "generation": 2});
    let mut upgrade: CoderUpgrade = serde_json::from_value(json!({
        "apiVersion": "coderupgrade.dev/v1alpha1", "kind": "CoderUpgrade", "metadata": metadata, "spec": spec
    }))
    .unwrap();
    let mut fields = json!({"observedGeneration": 2, "request": request::digest(&upgrade.spec, None)});
    fields.as_object_mut().unwrap().extend(status.as_object().unwrap().clone());
    upgrade.status = Some(serde_json::from_value(fields).unwrap());
    upgrade
}

fn overview(upgrade: &CoderUpgrade, workloads: &[WorkloadFacts], pods: &[PodFacts]) -> Overview {
    let (unseen, program, now) = (None, "kubectl coder-upgrade", NOW.parse().unwrap());
    Overview::of(&OverviewInput { upgrade, workloads, pods, unseen, program, now })
}

fn condition(type_: &str, status: &str) -> Value {
    json!({"type": type_, "status": status, "reason": "A", "message": "", "lastTransitionTime": NOW})
}

fn pod(name: &str, tag: &str, ready: bool) -> PodFacts {
    let images = vec![("proxy".into(), "proxy:1".into()), ("coder".into(), format!("ghcr.io/coder/coder:{tag}"))];
    PodFacts { name: name.into(), ready, images, ..PodFacts::default() }
}

#[test]
fn a_rollout_is_shown_with_its_times_and_its_pods() {
    let steps = json!([
        {"name": "Plan", "state": "Succeeded", "try": 1, "jobName": "a", "started": "2026-11-23T11:57:00Z",
         "finished": "2026-11-23T11:57:02Z", "message": "Plan 3869d87a883e: upgrade from 2.30.0 to 2.31.7."},
        {"name": "Upgrade", "state": "Running", "try": 2, "jobName": "b", "started": "2026-11-23T11:58:50Z",
         "message": "Deployment/coder: 1 of 2 pods updated, 2 ready"},
    ]);
    let current =
        json!({"version": "2.30.0", "appVersion": "2.30.0", "revision": 1, "status": "deployed", "line": "v2"});
    let claim = json!({"name": "data", "uid": "u", "phase": "Bound", "volume": "pv-1"});
    let upgrade = upgrade(
        &json!({"version": "2.31.7"}),
        &json!({
            "phase": "Upgrading", "message": "Upgrading the Helm release to 2.31.7.", "attempt": 3, "steps": steps,
            "current": current, "persistentVolumeClaims": [claim],
            "addresses": [{"kind": "Service", "name": "coder", "uid": "u", "addresses": ["203.0.113.1"]}],
            "addressChanges": [{"kind": "Ingress", "name": "web", "before": ["a"], "after": [], "hosts": ["h"]}],
        }),
    );
    let object = "Deployment/coder".to_owned();
    let workload = WorkloadFacts {
        object,
        observed: true,
        desired: 2,
        total: 3,
        updated: 1,
        ready: 2,
        available: 2,
        ..WorkloadFacts::default()
    };
    let ending = PodFacts { leaving: true, ..pod("coder-c", "v2.30.0", true) };
    let pods = [pod("coder-b", "v2.31.7", false), pod("coder-a", "v2.30.0", true), ending];
    let overview = overview(&upgrade, &[workload], &pods);
    assert_eq!(
        overview.text(),
        indoc! {"
            CoderUpgrade coder in namespace ns, Helm release coder
            Upgrading the Helm release to 2.31.7.

              standing   Working
              phase      Upgrading
              installed  2.30.0 (revision 1, deployed)
              wanted     2.31.7

            Steps of attempt 3
              Plan         Succeeded  2s                         Plan 3869d87a883e: upgrade from 2.30.0 to 2.31.7.
              Upgrade (2)  Running    1m10s, helm's timeout 30m  Deployment/coder: 1 of 2 pods updated, 2 ready

            Rollout
              Deployment/coder  [##########----------]  1 of 2 pods updated, 2 ready, 2 old left

            Pods
              coder-a  2.30.0  is ready
              coder-b  2.31.7  is not ready
              coder-c  2.30.0  is ending

            Volumes
              data: Bound, volume pv-1

            Addresses
              Service/coder: 203.0.113.1

            Addresses that changed
              Ingress/web had a and has none: update the DNS of h.
        "}
    );
    let read: Overview = serde_json::from_value(serde_json::to_value(&overview).unwrap()).unwrap();
    assert_eq!(read.text(), overview.text(), "all of it is in the JSON");
}

#[rstest]
#[case::approval(
    json!({"phase": "AwaitingApproval", "approval": {"value": "abc/repair", "action": "replace Deployment/coder", "interruption": "none."}}),
    "A person must approve: replace Deployment/coder. Interruption: none.", Some("approve coder"))]
#[case::suspended(json!({"phase": "Suspended", "message": "Nothing new is begun."}), "Nothing new is begun.", Some("resume coder"))]
#[case::dependency(json!({"phase": "AwaitingDependency", "message": "database is not ready"}), "database is not ready", Some("status"))]
#[case::window(json!({"phase": "AwaitingWindow", "message": "The window is closed."}), "The window is closed.", None)]
#[case::drain(
    json!({"phase": "Draining", "waitingFor": [{"kind": "Service", "name": "web", "uid": "u", "since": "2026-11-23T11:59:50Z", "finalizers": ["a/b", "c"], "explanation": "The cloud is slow."}]}),
    "Service/web is being deleted for 10s, held by a/b, c. The cloud is slow.", None)]
#[case::retry(
    json!({"phase": "Pending", "failure": {"step": "Plan", "class": "RepositoryUnreachable", "message": "m", "nextStep": "n", "retryable": true, "retryAt": "2026-11-23T12:00:20Z"}}),
    "It is tried again in 20s, at 2026-11-23T12:00:20Z. To try it now:", Some("retry coder"))]
#[case::failed(
    json!({"phase": "Failed", "failure": {"step": "Plan", "class": "Unknown", "message": "m", "nextStep": "Cure it.", "retryable": false}}),
    "Cure it. To try it again then:", Some("retry coder"))]
#[case::blocked(
    json!({"phase": "Planning", "blocked": {"reason": "PodNotStarted", "object": "Pod/a", "message": "No node has room.", "nextStep": "Add one.", "since": "2026-11-23T11:59:00Z"}}),
    "Pod/a, for 1m0s: No node has room. Add one.", None)]
#[case::unseen(json!({"observedGeneration": 1, "phase": "Succeeded"}), "The controller has not answered this spec yet. If that lasts, find out why:", Some("doctor"))]
fn what_it_waits_for_is_told_with_the_command(
    #[case] status: Value,
    #[case] what: &str,
    #[case] command: Option<&str>,
) {
    let upgrade = upgrade(&json!({}), &status);
    let overview = overview(&upgrade, &[], &[]);
    let command = command.map(|command| format!("kubectl coder-upgrade {command} -n ns"));
    assert_eq!(overview.waits, [OverviewWait { what: what.into(), command }]);
    assert!(overview.text().contains(&format!("\nWaits for\n  {what}\n")), "{}", overview.text());
}

#[rstest]
#[case::verified(json!({"phase": "Succeeded", "conditions": [condition("Ready", "True")]}), Standing::Verified, 0)]
#[case::of_another_spec(json!({"phase": "Succeeded", "observedGeneration": 1, "conditions": [condition("Ready", "True")]}), Standing::Working, 4)]
#[case::of_another_request(json!({"phase": "Succeeded", "request": "x", "conditions": [condition("Ready", "True")]}), Standing::Working, 4)]
#[case::failed(json!({"phase": "Failed", "conditions": [condition("Stalled", "True")]}), Standing::Failed, 2)]
#[case::failed_for_another_request(json!({"phase": "Failed", "request": "x"}), Standing::Working, 4)]
#[case::not_allowed(
    json!({"phase": "Failed", "request": "x-flags", "failure": {"step": "Plan", "class": "NotAllowed", "message": "m", "nextStep": "n", "retryable": false}}),
    Standing::Failed, 2)]
#[case::approval(json!({"phase": "AwaitingApproval", "conditions": [condition("Stalled", "True")]}), Standing::Waiting, 3)]
#[case::suspended(json!({"phase": "Suspended", "request": ""}), Standing::Waiting, 3)]
#[case::blocked(json!({"phase": "Upgrading", "conditions": [condition("Stalled", "True")]}), Standing::Waiting, 3)]
#[case::window(json!({"phase": "AwaitingWindow"}), Standing::Working, 4)]
#[case::new(json!({"observedGeneration": -1}), Standing::Working, 4)]
fn the_exit_code_tells_where_it_stands(#[case] status: Value, #[case] standing: Standing, #[case] code: u8) {
    let found = Standing::of(&upgrade(&json!({}), &status));
    assert_eq!((found, found.exit_code()), (standing, code));
}

#[test]
fn an_approval_that_is_given_is_not_waited_for() {
    let approval = json!({"value": "abc", "action": "upgrade", "interruption": "none"});
    let status =
        json!({"phase": "AwaitingApproval", "approval": approval, "conditions": [condition("Stalled", "True")]});
    let mut upgrade = upgrade(&json!({}), &status);
    for (given, standing) in [("older", Standing::Waiting), ("abc", Standing::Working)] {
        upgrade.metadata.annotations = Some([("coderupgrade.dev/approve".to_owned(), given.to_owned())].into());
        assert_eq!(Standing::of(&upgrade), standing, "{given}");
    }
}

#[test]
fn a_log_gets_a_line_for_what_is_new() {
    let step =
        |message: &str| json!([{"name": "Upgrade", "state": "Running", "try": 1, "started": NOW, "message": message}]);
    let at = |message: &str| {
        let status =
            json!({"phase": "Upgrading", "message": "Upgrading the Helm release to 2.31.7.", "steps": step(message)});
        overview(&upgrade(&json!({}), &status), &[], &[])
    };
    let (first, second) = (at(""), at("1 of 2 pods updated"));
    assert_eq!(first.news(None).as_deref(), Some("Upgrading  Upgrading the Helm release to 2.31.7."));
    assert_eq!(second.news(Some(&first)).as_deref(), Some("Upgrading  1 of 2 pods updated"));
    assert_eq!(second.news(Some(&second)), None);
}

#[test]
fn what_is_approved_is_told_before() {
    let forecast = json!({"objects": {"added": 0, "changed": 3, "removed": 0, "replaced": 1}});
    let plan = json!({"id": "abc", "action": "Upgrade", "from": "2.30.0", "to": "2.31.7", "chartDigest": "d", "secretName": "s", "forecast": forecast});
    let approval = json!({"value": "abc/repair", "action": "replace Deployment/coder", "interruption": "none"});
    let upgrade = upgrade(&json!({}), &json!({"phase": "AwaitingApproval", "plan": plan, "approval": approval}));
    let (value, text) = question(&upgrade).unwrap();
    assert_eq!(value, "abc/repair");
    assert_eq!(
        text,
        indoc! {"
            CoderUpgrade coder in namespace ns, Helm release coder

              approves      replace Deployment/coder
              interruption  none
              annotation    abc/repair
              plan          abc: 2.30.0 -> 2.31.7
              foreseen      None.
              objects       0 added, 3 changed, 0 removed, 1 recreated
        "}
    );
}

#[test]
fn attempts_are_listed_with_their_results() {
    let entry = json!({"attempt": 1, "from": "2.30.0", "to": "2.31.7", "revision": 2, "outcome": "Succeeded",
        "started": "2026-11-23T11:59:00Z", "finished": NOW, "message": "2 pods answer 2.31.7"});
    let shown = history(&[serde_json::from_value(entry).unwrap()]);
    assert_eq!(
        shown,
        "ATTEMPT  FROM    TO      REVISION  OUTCOME    STARTED               TOOK  MESSAGE\n\
         1        2.30.0  2.31.7  2         Succeeded  2026-11-23T11:59:00Z  1m0s  2 pods answer 2.31.7\n"
    );
}
