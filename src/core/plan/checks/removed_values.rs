//! Values that the new chart does not know any more. Charts ignore them without a word, so what they said is lost.

use serde_json::{Map, Value};

use super::paths::{at, how_to_drop};
use super::{Facts, Foreseen};
use crate::api::{CheckName, Finding, ProductLine};
use crate::core::helm::version;

/// A value that was renamed or removed.
struct RemovedValue {
    line: ProductLine,
    /// First minor version of the line whose charts ignore or refuse it.
    since: u64,
    path: &'static str,
    /// What took its place; none if nothing did.
    now: Option<&'static str>,
}

const fn classic(path: &'static str, now: &'static str) -> RemovedValue {
    RemovedValue { line: ProductLine::V1, since: 27, path, now: Some(now) }
}

const fn gone(path: &'static str) -> RemovedValue {
    RemovedValue { line: ProductLine::V1, since: 27, path, now: None }
}

/// What was renamed or removed. The charts of Coder Classic 1.21 to 1.26 accept both names.
const REMOVED: &[RemovedValue] = &[
    classic("cemanager", "coderd"),
    classic("devurls.host", "coderd.devurlsHost"),
    classic("ingress.loadBalancerIP", "coderd.serviceSpec.loadBalancerIP"),
    classic("ingress.loadBalancerSourceRanges", "coderd.serviceSpec.loadBalancerSourceRanges"),
    classic("ingress.service.externalTrafficPolicy", "coderd.serviceSpec.externalTrafficPolicy"),
    classic("ingress.tls.hostSecretName", "coderd.tls.hostSecretName"),
    classic("ingress.tls.devurlsHostSecretName", "coderd.tls.devurlsHostSecretName"),
    classic("storageClassName", "postgres.default.storageClassName"),
    classic("timescale.image", "postgres.default.image"),
    classic("timescale.resources", "postgres.default.resources"),
    classic("postgres.useDefault", "postgres.default.enable"),
    classic("deploymentAnnotations", "services.annotations"),
    classic("serviceTolerations", "services.tolerations"),
    classic("clusterDomainSuffix", "services.clusterDomainSuffix"),
    classic("serviceType", "services.type"),
    classic("serviceAccount", "coderd.builtinProviderServiceAccount"),
    gone("dashboard"),
    gone("envproxy"),
    RemovedValue { line: ProductLine::V2, since: 0, path: "coder.tls.secretName", now: Some("coder.tls.secretNames") },
];

/// [`CheckName::RemovedValues`] of values: what is known to be renamed or removed at the version of the chart. `drop` says
/// how a value is taken away.
pub fn check(facts: &Facts, values: &Map<String, Value>, drop: impl Fn(&str) -> String) -> Vec<Finding> {
    let Some(target) = version::parse(facts.chart.coder_version()) else { return Vec::new() };
    let removed = REMOVED.iter().filter(|row| row.line == facts.line() && row.since <= target.minor);
    let removed = removed.map(|row| (facts.value_path(row.path), row.now.map(|now| facts.value_path(now))));
    let set = removed.filter(|(path, _)| at(values, path).is_some_and(says_something));
    set.map(|(path, now)| {
        let path = path.as_str();
        let (message, next) = match now {
            Some(now) => (
                format!(
                    "the value {path} is called {now} now; chart {} does not heed it any more",
                    facts.chart.coder_version()
                ),
                format!("Set {now} in spec.values to what {path} says, and {}.", drop(path)),
            ),
            None => (
                format!(
                    "the value {path} is about a part of Coder that chart {} does not have any more",
                    facts.chart.coder_version()
                ),
                format!("Do without it: {}.", drop(path)),
            ),
        };
        Finding::refusal(CheckName::RemovedValues, message, next).at(path)
    })
    .collect()
}

/// An empty text, list or map, and null, ask for nothing. False and 0 do.
fn says_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(items) => !items.is_empty(),
        Value::Object(map) => map.values().any(says_something),
        Value::Bool(_) | Value::Number(_) => true,
    }
}

/// [`CheckName::RemovedValues`]
pub fn foreseen(facts: &Facts, foreseen: &Foreseen) -> Vec<Finding> {
    let mut found = check(facts, &foreseen.values, |path| how_to_drop(facts, foreseen, path));
    let mut unknown = Vec::new();
    let defaults = (foreseen.old_defaults.as_object(), foreseen.defaults.as_object());
    if let (Some(old), Some(new)) = defaults {
        unknown_keys(&foreseen.values, old, new, "", &mut unknown);
    }
    for path in unknown {
        let told = found.iter().filter_map(|finding| finding.field.as_deref());
        let told = told.map(|known| (path.strip_prefix(known), known.strip_prefix(path.as_str())));
        // A part of what is known to be removed, or what holds it.
        if told.flat_map(|(inner, outer)| [inner, outer]).flatten().any(|rest| rest.is_empty() || rest.starts_with('.'))
        {
            continue;
        }
        let message = format!(
            "the value {path} is among the defaults of the installed chart and no longer among those of {}, which may ignore it",
            facts.chart.version
        );
        let next = format!(
            "Look into the release notes for what took its place, and {}.",
            how_to_drop(facts, foreseen, &path)
        );
        found.push(Finding::warning(CheckName::RemovedValues, message, next).at(path));
    }
    found
}

/// The paths of values that the old defaults have and the new ones do not. What is empty in the defaults is free to hold
/// anything.
fn unknown_keys(
    values: &Map<String, Value>,
    old: &Map<String, Value>,
    new: &Map<String, Value>,
    prefix: &str,
    found: &mut Vec<String>,
) {
    for (key, value) in values {
        let path = if prefix.is_empty() { key.clone() } else { format!("{prefix}.{key}") };
        match (old.get(key), new.get(key)) {
            (Some(_), None) if says_something(value) => found.push(path),
            (Some(Value::Object(old)), Some(Value::Object(new))) if !new.is_empty() => {
                if let Value::Object(inner) = value {
                    unknown_keys(inner, old, new, &path, found);
                }
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::api::Severity;
    use crate::core::plan::checks::sample;

    #[rstest]
    #[case::too_early("1.26.0", json!({"postgres": {"useDefault": false}}), &[])]
    #[case::falsy("1.27.0", json!({"postgres": {"useDefault": false}}), &["postgres.useDefault"])]
    #[case::truthy("1.28.0", json!({"cemanager": {"replicas": 2}, "storageClassName": "fast"}), &["cemanager", "storageClassName"])]
    #[case::asks_for_nothing("1.28.0", json!({"cemanager": {"image": ""}, "storageClassName": ""}), &[])]
    #[case::no_successor("1.28.0", json!({"envproxy": {"replicas": 2}}), &["envproxy"])]
    #[case::v2("2.31.7", json!({"coder": {"tls": {"secretName": "tls"}}}), &["coder.tls.secretName"])]
    #[case::of_the_other_line("2.31.7", json!({"cemanager": {"replicas": 2}}), &[])]
    fn renamed_values_are_translated(#[case] to: &str, #[case] values: Value, #[case] expected: &[&str]) {
        let facts = sample::facts(if to.starts_with('1') { "1.26.0" } else { "2.30.0" }, to);
        let found = foreseen(&facts, &Foreseen { values: sample::map(&values), ..sample::foreseen() });
        let fields: Vec<_> = found.iter().map(|finding| finding.field.as_deref().unwrap()).collect();
        assert_eq!(fields, expected);
        for finding in found {
            let path = finding.field.unwrap();
            let now = REMOVED.iter().find(|row| row.path == path).unwrap().now.unwrap_or("Do without it");
            assert_eq!(finding.severity, Severity::Refusal);
            assert!(finding.next_step.contains(now) && finding.next_step.contains(&path), "{}", finding.next_step);
        }
    }

    #[rstest]
    #[case::known(json!({"coder": {"tls": {"a": 1}}}), &[])]
    #[case::gone(json!({"coder": {"old": 1}}), &["coder.old"])]
    #[case::never_known(json!({"mine": 1, "coder": {"mine": 1}}), &[])]
    #[case::free(json!({"coder": {"annotations": {"x": "y"}}}), &[])]
    fn keys_that_the_new_chart_lacks_are_told(#[case] values: Value, #[case] expected: &[&str]) {
        let foreseen = Foreseen {
            values: sample::map(&values),
            old_defaults: json!({"coder": {"old": 0, "tls": {"a": 0}, "annotations": {"x": "z"}}}),
            defaults: json!({"coder": {"tls": {"a": 0}, "annotations": {}}}),
            ..sample::foreseen()
        };
        let found = super::foreseen(&sample::facts("2.30.0", "2.31.7"), &foreseen);
        let fields: Vec<_> = found.iter().map(|finding| finding.field.as_deref().unwrap()).collect();
        assert_eq!(fields, expected);
    }
}
