use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use serde_json::{Value, json};

use super::labels::OfRequest;
use super::*;
use crate::api::{
    AddressChange, CoderUpgradeSpec, CoderUpgradeStatus, Failure, FailureClass, Phase, Step, StepName, StepState,
};

fn rendered(status: CoderUpgradeStatus) -> String {
    let mut upgrade = CoderUpgrade::new("coder", CoderUpgradeSpec::default());
    upgrade.metadata.namespace = Some("prod".into());
    assert_eq!(upgrade.name_any(), "coder");
    upgrade.status = Some(status);
    render(&OwnMetrics::default(), Some(&[Arc::new(upgrade)]))
}

fn assert_told(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(text.lines().any(|told| told == *line), "{line} is not in\n{text}");
    }
}

#[test]
fn a_changed_address_is_told_until_the_next_upgrade() {
    let change = AddressChange {
        kind: "Service".into(),
        name: "coderd".into(),
        before: vec!["203.0.113.1".into()],
        after: vec!["203.0.113.2".into()],
        hosts: vec!["coder.example.com".into()],
    };
    let text = rendered(CoderUpgradeStatus {
        phase: Phase::Succeeded,
        address_changes: vec![change],
        ..CoderUpgradeStatus::default()
    });
    assert_told(
        &text,
        &[
            r#"coder_upgrade_address_changed{namespace="prod",name="coder",object="Service/coderd"} 1"#,
            r#"coder_upgrade_phase{namespace="prod",name="coder",phase="Succeeded"} 1"#,
            r#"coder_upgrade_ready{namespace="prod",name="coder"} 0"#,
        ],
    );
}

#[test]
fn steps_have_their_durations_and_a_failure_its_class() {
    let at = |second: i64| Time(jiff::Timestamp::from_second(second).unwrap());
    let step = |name, state, started, finished: Option<i64>| Step {
        name,
        state,
        try_number: 1,
        job_name: String::new(),
        job_uid: String::new(),
        started: at(started),
        finished: finished.map(at),
        message: String::new(),
    };
    let failure = Failure {
        step: StepName::Upgrade,
        class: FailureClass::OutOfMemory,
        object: None,
        field: None,
        message: "no memory".into(),
        next_step: String::new(),
        remedy: None,
        retryable: true,
        retry_at: None,
        excerpt: None,
    };
    let text = rendered(CoderUpgradeStatus {
        phase: Phase::Upgrading,
        retries: 2,
        failure: Some(failure),
        steps: vec![
            step(StepName::Plan, StepState::Succeeded, 100, Some(107)),
            step(StepName::Upgrade, StepState::Running, 110, None),
        ],
        ..CoderUpgradeStatus::default()
    });
    assert_told(
        &text,
        &[
            r#"coder_upgrade_step_duration_seconds{namespace="prod",name="coder",step="Plan"} 7"#,
            r#"coder_upgrade_step_started_timestamp_seconds{namespace="prod",name="coder",step="Upgrade"} 110"#,
            r#"coder_upgrade_failure{namespace="prod",name="coder",class="OutOfMemory"} 1"#,
            r#"coder_upgrade_retries{namespace="prod",name="coder"} 2"#,
        ],
    );
}

#[test]
fn jobs_that_run_and_that_wait_are_counted_by_step_and_purpose() {
    let upgrade = |phase: &str, step: &str| -> Arc<CoderUpgrade> {
        let steps = json!([{"name": step, "state": "Running", "try": 1, "started": "2026-01-01T00:00:00Z"}]);
        let steps = if step.is_empty() { json!([]) } else { steps };
        object(&json!({"phase": phase, "steps": steps}))
    };
    let objects = [
        upgrade("Upgrading", "Upgrade"),
        upgrade("Verifying", "Upgrade"),
        upgrade("Draining", "Drain"),
        upgrade("AwaitingPlace", ""),
    ];
    let own = OwnMetrics::default();
    own.leads(2);
    let text = render(&own, Some(&objects));
    assert_told(
        &text,
        &[
            r#"coder_upgrade_operator_jobs_running{step="Upgrade"} 2"#,
            r#"coder_upgrade_operator_jobs_running{step="Plan"} 0"#,
            r#"coder_upgrade_operator_jobs_queued{purpose="Plan"} 1"#,
            r#"coder_upgrade_operator_jobs_queued{purpose="Change"} 0"#,
            "coder_upgrade_operator_jobs_limit 2",
            "coder_upgrade_operator_leading 1",
        ],
    );
    assert!(!text.contains("jobs_running{step=\"Drain\"}"), "the drain has no Job: {text}");
}

#[test]
fn what_is_usual_is_the_median_of_what_succeeded() {
    let entry = |outcome: &str, second: u8| {
        json!({"attempt": 1, "outcome": outcome, "started": "2026-01-01T00:00:00Z", "message": "",
            "finished": format!("2026-01-01T00:00:{second:02}Z")})
    };
    let history = [entry("Succeeded", 50), entry("Succeeded", 7), entry("Failed", 1), entry("Succeeded", 9)];
    let usual = |history: &[Value]| render(&OwnMetrics::default(), Some(&[object(&json!({"history": history}))]));
    let line = r#"coder_upgrade_usual_duration_seconds{namespace="",name="coder"}"#;
    assert_told(&usual(&history), &[&format!("{line} 9")]);
    assert!(!usual(&history[2..3]).contains(line), "nothing is usual before an upgrade has succeeded");
}

#[test]
fn who_stands_by_tells_of_itself_alone() {
    let own = OwnMetrics::default();
    let text = render(&own, None);
    let version = env!("CARGO_PKG_VERSION");
    let build = format!(r#"coder_upgrade_operator_build_info{{version="{version}"}} 1"#);
    assert_told(&text, &[&build, "coder_upgrade_operator_leading 0"]);
    let families = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    assert!(families.clone().all(|family| family.starts_with("coder_upgrade_operator_")), "{text}");
}

fn object(status: &Value) -> Arc<CoderUpgrade> {
    let object = json!({
        "apiVersion": "coderupgrade.dev/v1alpha1", "kind": "CoderUpgrade", "metadata": {"name": "coder"},
        "spec": {"version": "2.31.7"}, "status": status,
    });
    Arc::new(serde_json::from_value(object).unwrap())
}

/// The metrics that are served, each with its labels beside namespace and name, when there is something to say with each.
fn served() -> BTreeMap<String, BTreeSet<String>> {
    let known = object(&json!({
        "phase": "Draining",
        "conditions": [{"type": "DataKept", "status": "False", "reason": "x", "message": "",
            "lastTransitionTime": "2026-01-01T00:00:00Z"}],
        "steps": [
            {"name": "Plan", "state": "Succeeded", "try": 1, "started": "2026-01-01T00:00:00Z",
                "finished": "2026-01-01T00:00:01Z"},
            {"name": "Drain", "state": "Running", "try": 1, "started": "2026-01-01T00:00:02Z"},
        ],
        "failure": {"step": "Upgrade", "class": "Immutable", "message": "", "nextStep": "", "retryable": false},
        "waitingFor": [{"kind": "Ingress", "name": "web", "uid": "u", "since": "2026-01-01T00:00:00Z"}],
        "persistentVolumeClaims": [{"name": "data", "uid": "u"}],
        "addresses": [{"kind": "Service", "name": "coder", "uid": "u"}],
        "addressChanges": [{"kind": "Service", "name": "coder"}],
        "history": [{"attempt": 1, "outcome": "Succeeded", "started": "2026-01-01T00:00:00Z",
            "finished": "2026-01-01T00:00:01Z", "message": ""}],
    }));
    let own = OwnMetrics::default();
    own.asked(&OfRequest { verb: "get", resource: "jobs", code: "2xx" });
    let text = render(&own, Some(&[known]));
    let mut served = BTreeMap::new();
    for line in text.lines() {
        if let Some((family, kind)) = line.strip_prefix("# TYPE ").and_then(|line| line.split_once(' ')) {
            let suffix = if kind == "counter" { "_total" } else { "" };
            served.insert(format!("{family}{suffix}"), BTreeSet::new());
        } else if let Some((name, labels)) = line.split_once('{') {
            let labels = labels.split(['{', ',']).filter_map(|label| label.split_once('=')).map(|(label, _)| label);
            let labels = labels.filter(|label| !["namespace", "name"].contains(label)).map(ToOwned::to_owned);
            served.entry(name.to_owned()).or_default().extend(labels);
        }
    }
    served.retain(|name, _| !name.ends_with("_bucket"));
    let registered = concat!(include_str!("families.rs"), include_str!("operator.rs")).matches(".register(").count();
    assert_eq!(served.len(), registered, "a metric without a value is not looked at: give it one above\n{served:#?}");
    served
}

/// Names, and labels beside namespace and name, of the tables of docs/metrics.md.
fn documented() -> BTreeMap<String, BTreeSet<String>> {
    let code = |cell: &str| cell.split('`').skip(1).step_by(2).map(ToOwned::to_owned).collect::<Vec<_>>();
    let rows = include_str!("../../../docs/metrics.md").lines().filter(|line| line.starts_with("| `coder_upgrade_"));
    let cells = rows.map(|row| row.split('|').skip(1).map(code).collect::<Vec<_>>());
    cells.map(|cells| (cells[0][0].clone(), cells[1].iter().cloned().collect())).collect()
}

#[test]
fn the_documents_list_every_metric_with_its_labels_and_no_other() {
    assert_eq!(documented(), served());
}

/// Metrics in a text; a histogram by its name alone.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
    let names = words.filter(|word| word.starts_with("coder_upgrade_"));
    let family = |name: &str| name.trim_end_matches("_bucket").trim_end_matches("_count").to_owned();
    names.map(family).collect()
}

#[test]
fn every_alert_and_every_panel_asks_for_metrics_that_there_are() {
    let served: BTreeSet<String> = served().into_keys().collect();
    for file in [
        include_str!("../../../deploy/monitoring/rules.yaml"),
        include_str!("../../../deploy/monitoring/dashboard.json"),
    ] {
        let asked = named(file);
        assert!(!asked.is_empty());
        assert_eq!(asked.difference(&served).collect::<Vec<_>>(), [""; 0]);
    }
}

#[test]
fn every_alert_leads_to_its_section_of_the_runbook() {
    let rules = include_str!("../../../deploy/monitoring/rules.yaml");
    for alert in rules.split("- alert: ").skip(1) {
        let name = alert.lines().next().unwrap();
        assert!(include_str!("../../../docs/runbook.md").contains(&format!("## {name}\n")), "{name}");
        assert!(alert.contains(&format!("runbook_url: docs/runbook.md#{}\n", name.to_lowercase())), "{name}");
    }
}
