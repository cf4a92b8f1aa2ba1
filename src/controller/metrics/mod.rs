//! `/metrics`: what the objects say, in the words of Prometheus.
//!
//! Everything is derived from the cached objects when it is asked for: nothing is counted, so nothing is lost by a restart.

mod families;

use std::sync::{Arc, OnceLock};

use kube::runtime::reflector::Store;
use prometheus_client::encoding::text::encode;
use prometheus_client::registry::Registry;
use tracing::error;

use self::families::Families;
use crate::api::CoderUpgrade;

/// The cache of the objects, once this instance leads.
#[derive(Clone, Default)]
pub struct Metrics(Arc<OnceLock<Store<CoderUpgrade>>>);

impl Metrics {
    /// Tells where the objects are cached.
    pub fn observe(&self, upgrades: Store<CoderUpgrade>) {
        // An instance leads once; a second cache cannot come.
        let _ = self.0.set(upgrades);
    }

    /// The answer to a scrape. An instance that stands by has no objects.
    pub fn text(&self) -> String {
        render(&self.0.get().map(Store::state).unwrap_or_default())
    }
}

fn render(upgrades: &[Arc<CoderUpgrade>]) -> String {
    let mut registry = Registry::with_prefix("coder_upgrade");
    let families = Families::registered(&mut registry);
    for upgrade in upgrades {
        if let Some(status) = &upgrade.status {
            families.record(upgrade, status);
        }
    }
    let mut text = String::new();
    if let Err(error) = encode(&mut text, &registry) {
        error!(%error, "cannot write the metrics");
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
    use kube::ResourceExt;

    use super::*;
    use crate::api::{
        AddressChange, CoderUpgradeSpec, CoderUpgradeStatus, Failure, FailureClass, Phase, Step, StepName, StepState,
    };

    fn rendered(status: CoderUpgradeStatus) -> String {
        let mut upgrade = CoderUpgrade::new("coder", CoderUpgradeSpec::default());
        upgrade.metadata.namespace = Some("prod".into());
        assert_eq!(upgrade.name_any(), "coder");
        upgrade.status = Some(status);
        render(&[Arc::new(upgrade)])
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

    /// What rules and documentation name, and nothing else.
    #[test]
    fn every_metric_is_documented_and_every_alert_asks_for_one() {
        let known: CoderUpgrade = serde_json::from_value(serde_json::json!({
            "apiVersion": "coderupgrade.dev/v1alpha1", "kind": "CoderUpgrade", "metadata": {"name": "coder"},
            "spec": {"version": "2.31.7"},
            "status": {
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
                "addressChanges": [{"kind": "Service", "name": "coder"}],
            },
        }))
        .unwrap();
        let text = render(&[Arc::new(known)]);
        let named = |text: &str| -> BTreeSet<String> {
            let words = text.split(|c: char| !(c.is_ascii_lowercase() || c == '_'));
            words.filter(|word| word.starts_with("coder_upgrade_")).map(ToOwned::to_owned).collect()
        };
        let served = named(&text);
        assert_eq!(named(include_str!("../../../docs/metrics.md")), served);
        let asked = named(include_str!("../../../deploy/monitoring/rules.yaml"));
        assert!(!asked.is_empty() && asked.is_subset(&served), "{asked:?}");
        for alert in include_str!("../../../deploy/monitoring/rules.yaml").split("- alert: ").skip(1) {
            let name = alert.lines().next().unwrap();
            assert!(include_str!("../../../docs/runbook.md").contains(&format!("## {name}\n")), "{name}");
            assert!(alert.contains(&format!("docs/runbook.md#{}\n", name.to_lowercase())), "{name}");
        }
    }
}
