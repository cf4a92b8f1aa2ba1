//! Probes and deadlines that end a migration before it is done, or that can never succeed.

use serde_json::Value;

use super::pods::{Template, list, templates};
use super::{Facts, Foreseen};
use crate::api::{CheckName, Finding, ProductLine};

/// Time that a large migration of Coder v2 may take, in seconds.
const LARGE_MIGRATION: i64 = 600;

/// [`CheckName::Probe`]
pub fn check(facts: &Facts, foreseen: &Foreseen) -> Vec<Finding> {
    let mut found: Vec<Finding> = templates(&foreseen.new).flat_map(|template| portless(&template)).collect();
    // In Coder Classic an init container migrates, which no probe watches.
    if facts.line() == ProductLine::V2 && facts.runs_servers() && facts.changes_version() {
        for template in templates(&foreseen.new) {
            found.extend(template.server().and_then(|server| impatient(&template, server)));
            found.extend(deadline(&template));
        }
    }
    found
}

/// Probes that ask a port by a name that no port of the container has.
fn portless(template: &Template<'_>) -> Vec<Finding> {
    let mut found = Vec::new();
    for (section, container) in template.all() {
        let known = |name: &str| list(&container["ports"]).iter().any(|port| port["name"] == name);
        for probe in ["startupProbe", "readinessProbe", "livenessProbe"] {
            for way in ["httpGet", "tcpSocket"] {
                let Some(port) = container[probe][way]["port"].as_str().filter(|port| port.parse::<u16>().is_err())
                else {
                    continue;
                };
                if !known(port) {
                    let message = format!(
                        "the {probe} of {} asks the port {port}, which container {} does not have: it can never succeed",
                        template.object,
                        container["name"].as_str().unwrap_or_default()
                    );
                    let next = "Correct the port of the probe in the values, or name the port of the container so.";
                    let field = Template::field(section, container, &format!("{probe}.{way}.port"));
                    found.push(Finding::refusal(CheckName::Probe, message, next).about(&template.object).at(field));
                }
            }
        }
    }
    found
}

/// A liveness probe that kills a server which has not answered yet because it migrates the database.
fn impatient(template: &Template<'_>, server: &Value) -> Option<Finding> {
    let seconds = budget(&server["livenessProbe"])?.saturating_add(budget(&server["startupProbe"]).unwrap_or(0));
    if seconds >= LARGE_MIGRATION {
        return None;
    }
    let message = format!(
        "the livenessProbe of {} ends a server that has not answered for {seconds} s, and a large migration takes longer",
        template.object
    );
    let next = "Switch it off (coder.livenessProbe.enabled: false), or give it more time, at least for this upgrade.";
    let field = Template::field("containers", server, "livenessProbe");
    Some(Finding::warning(CheckName::Probe, message, next).about(&template.object).at(field))
}

/// Seconds after which a probe that never succeeds has its effect; none if there is no probe. What is left out is what the
/// API server fills in.
fn budget(probe: &Value) -> Option<i64> {
    probe.as_object().filter(|probe| !probe.is_empty())?;
    let of = |key: &str, default: i64| probe[key].as_i64().unwrap_or(default);
    let asked = of("periodSeconds", 10).saturating_mul(of("failureThreshold", 3));
    Some(of("initialDelaySeconds", 0).saturating_add(asked))
}

/// A rollout that counts as failed before a large migration is done. The default is just long enough.
fn deadline(template: &Template<'_>) -> Option<Finding> {
    template.server()?;
    let seconds = template.spec["progressDeadlineSeconds"].as_i64().filter(|seconds| *seconds < LARGE_MIGRATION)?;
    let message = format!(
        "the rollout of {} counts as failed after {seconds} s without progress, and a large migration takes longer",
        template.object
    );
    let next = "Raise progressDeadlineSeconds to 600 or more.";
    Some(Finding::warning(CheckName::Probe, message, next).about(&template.object).at("spec.progressDeadlineSeconds"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::api::Severity;
    use crate::core::plan::checks::sample;

    #[rstest]
    #[case::none(json!({}), &[])]
    #[case::no_liveness(json!({"livenessProbe": null, "readinessProbe": {"httpGet": {"port": 8080}}}), &[])]
    #[case::empty(json!({"livenessProbe": {}}), &[])]
    #[case::impatient(json!({"livenessProbe": {"httpGet": {"port": "http"}}}), &[Severity::Warning])]
    #[case::patient(json!({"livenessProbe": {"initialDelaySeconds": 600}}), &[])]
    #[case::started(json!({"livenessProbe": {"periodSeconds": 1}, "startupProbe": {"failureThreshold": 90}}), &[])]
    #[case::portless(json!({"readinessProbe": {"httpGet": {"port": "web"}}}), &[Severity::Refusal])]
    #[case::numbered(json!({"readinessProbe": {"tcpSocket": {"port": "8080"}}}), &[])]
    fn probes_leave_time(#[case] mut server: Value, #[case] expected: &[Severity]) {
        server["name"] = "coder".into();
        server["ports"] = json!([{"name": "http", "containerPort": 8080}]);
        let foreseen =
            Foreseen { new: sample::documents(&[sample::deployment("coder", &server)]), ..sample::foreseen() };
        let severities = |facts: &Facts| check(facts, &foreseen).into_iter().map(|f| f.severity).collect::<Vec<_>>();
        assert_eq!(severities(&sample::facts("2.30.0", "2.31.7")), expected);
        let same = severities(&sample::facts("2.31.7", "2.31.7"));
        assert!(!same.contains(&Severity::Warning), "the same version migrates nothing");
    }

    #[test]
    fn a_short_deadline_is_told() {
        let mut deployment = sample::deployment("coder", &json!({"name": "coder"}));
        deployment["spec"]["progressDeadlineSeconds"] = 120.into();
        let foreseen = Foreseen { new: sample::documents(&[deployment]), ..sample::foreseen() };
        let found = check(&sample::facts("2.30.0", "2.31.7"), &foreseen);
        assert_eq!(found[0].field.as_deref(), Some("spec.progressDeadlineSeconds"));
    }
}
