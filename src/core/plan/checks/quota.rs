//! Whether quotas and limit ranges of the namespace leave room for the new pods. The rehearsal cannot see that: pods are
//! made by controllers, later.

use std::fmt::Display;

use k8s_openapi::api::core::v1::{LimitRange, ResourceQuota};

use super::pods::{Template, templates};
use super::resources::{Amounts, COUNTED, items, of_container, of_pod};
use super::{Facts, Foreseen};
use crate::api::{CheckName, FailureClass, Finding, Strategy};
use crate::core::text::quantity;

/// [`CheckName::Quota`]
pub fn check(facts: &Facts, foreseen: &Foreseen) -> Vec<Finding> {
    let limits = foreseen.surroundings.limits.as_deref().unwrap_or_default();
    let mut found: Vec<Finding> =
        templates(&foreseen.new).flat_map(|template| outside_of_limits(&template, limits)).collect();
    let more = additional(facts, foreseen, limits);
    for quota in foreseen.surroundings.quotas.iter().flatten() {
        let spec = quota.spec.as_ref();
        let scoped = spec.is_some_and(|spec| spec.scope_selector.is_some() || spec.scopes.iter().flatten().count() > 0);
        if !scoped {
            found.extend(unspecified(quota, foreseen, limits));
            found.extend(exceeded(quota, &more));
        }
    }
    found
}

fn refusal(message: String, object: impl Display) -> Finding {
    Finding::refusal(CheckName::Quota, message, FailureClass::QuotaExceeded.next_step()).about(object)
}

/// What all rollouts together take beyond what the pods of the installed release have.
fn additional(facts: &Facts, foreseen: &Foreseen, limits: &[LimitRange]) -> Amounts {
    let mut sum = Amounts::new();
    for new in templates(&foreseen.new).filter(|template| template.kind() != "DaemonSet") {
        let old = templates(&facts.old).find(|old| old.object == new.object);
        if old
            .as_ref()
            .is_some_and(|old| old.spec["template"] == new.spec["template"] && old.replicas() >= new.replicas())
        {
            continue;
        }
        let before = old.as_ref().map(|old| of_pod(old, limits)).unwrap_or_default();
        let count = i128::from(old.as_ref().map_or(0, Template::replicas));
        let surge = i128::from(facts.spec.strategy == Strategy::RollingUpdate && old.is_some() && must_surge(&new));
        for (name, each) in of_pod(&new, limits) {
            let all = each.saturating_mul(i128::from(new.replicas()));
            let growth = all.saturating_sub(before.get(name).copied().unwrap_or_default().saturating_mul(count));
            let most = growth.max(each.saturating_mul(surge)).max(0);
            let total = sum.entry(name).or_default();
            *total = total.saturating_add(most);
        }
    }
    sum
}

/// Whether a new pod must start before an old one may go. (`maxUnavailable` is 25 % by default, which is no pod of three.)
fn must_surge(template: &Template<'_>) -> bool {
    let strategy = &template.spec["strategy"];
    if template.kind() != "Deployment" || strategy["type"] == "Recreate" {
        return false;
    }
    match &strategy["rollingUpdate"]["maxUnavailable"] {
        serde_json::Value::Number(count) => count.as_i64() == Some(0),
        value => {
            let share = value.as_str().and_then(|text| text.trim_end_matches('%').parse::<i64>().ok()).unwrap_or(25);
            share.saturating_mul(template.replicas()) < 100
        }
    }
}

/// Quotas that the additional pods would exceed.
fn exceeded(quota: &ResourceQuota, more: &Amounts) -> Vec<Finding> {
    let object = format!("ResourceQuota/{}", quota.metadata.name.as_deref().unwrap_or_default());
    let hard = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
    let used = quota.status.as_ref().and_then(|status| status.used.as_ref());
    let finding = |(key, limit): (&String, &k8s_openapi::apimachinery::pkg::api::resource::Quantity)| {
        let name = match key.as_str() {
            "cpu" => "requests.cpu",
            "memory" => "requests.memory",
            other => other,
        };
        let more = *more.get(name)?;
        let taken = used?.get(key)?;
        let room = quantity::parse(&limit.0)?.checked_sub(quantity::parse(&taken.0)?)?;
        (more > room).then(|| {
            let message = format!(
                "{object} leaves no room for the pods of the new version: {key} is {} of {} already, and the rollout takes more",
                taken.0, limit.0
            );
            refusal(message, &object).at(format!("spec.hard[{key}]"))
        })
    };
    hard.into_iter().flatten().filter_map(finding).collect()
}

/// A quota on requests or limits refuses pods that name none.
fn unspecified(quota: &ResourceQuota, foreseen: &Foreseen, limits: &[LimitRange]) -> Vec<Finding> {
    let name = quota.metadata.name.as_deref().unwrap_or_default();
    let hard = quota.spec.as_ref().and_then(|spec| spec.hard.as_ref());
    let is_hard = |key: &str| hard.is_some_and(|hard| hard.contains_key(key));
    let mut found = Vec::new();
    for template in templates(&foreseen.new) {
        for (section, container) in template.all() {
            let amounts = of_container(container, limits);
            let asked =
                COUNTED.iter().filter(|(list, key, name)| is_hard(name) || (*list == "requests" && is_hard(key)));
            for (list, key, _) in asked.filter(|(_, _, name)| !amounts.contains_key(name)) {
                let message = format!(
                    "container {} of {} names no {list}.{key}, and ResourceQuota/{name} asks for it: its pods would be refused",
                    container["name"].as_str().unwrap_or_default(),
                    template.object
                );
                let field = Template::field(section, container, &format!("resources.{list}.{key}"));
                found.push(refusal(message, &template.object).at(field));
            }
        }
    }
    found
}

/// Containers that ask for more or less than a limit range allows.
fn outside_of_limits(template: &Template<'_>, limits: &[LimitRange]) -> Vec<Finding> {
    let mut found = Vec::new();
    for (section, container) in template.all() {
        let amounts = of_container(container, limits);
        for (list, key, name) in COUNTED {
            let Some(asked) = amounts.get(name) else { continue };
            let bound = |bound: &Option<std::collections::BTreeMap<String, _>>| {
                let quantity: &k8s_openapi::apimachinery::pkg::api::resource::Quantity = bound.as_ref()?.get(key)?;
                Some((quantity::parse(&quantity.0)?, quantity.0.clone()))
            };
            for item in items(limits, "Container") {
                let too_much =
                    bound(&item.max).filter(|(max, _)| asked > max).map(|(_, max)| format!("more than {max}"));
                let too_little =
                    bound(&item.min).filter(|(min, _)| asked < min).map(|(_, min)| format!("less than {min}"));
                if let Some(bound) = too_much.or(too_little) {
                    let message = format!(
                        "container {} of {} has {list}.{key} of {bound}, which a LimitRange of the namespace refuses",
                        container["name"].as_str().unwrap_or_default(),
                        template.object
                    );
                    let field = Template::field(section, container, &format!("resources.{list}.{key}"));
                    found.push(refusal(message, &template.object).at(field));
                }
            }
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::*;
    use crate::core::plan::checks::sample;

    fn deployment(replicas: i64, cpu: &str, strategy: &Value) -> Value {
        let container = json!({"name": "coder", "resources": {"requests": {"cpu": cpu}}});
        let mut deployment = sample::deployment("coder", &container);
        deployment["spec"]["replicas"] = replicas.into();
        deployment["spec"]["strategy"] = strategy.clone();
        deployment
    }

    fn quota(hard: &Value, used: &Value) -> ResourceQuota {
        let spec = json!({"metadata": {"name": "few"}, "spec": {"hard": hard}, "status": {"hard": hard, "used": used}});
        serde_json::from_value(spec).unwrap()
    }

    #[rstest]
    #[case::room((1, "1"), (1, "2"), json!({}), "3", "1", None)]
    #[case::no_room_for_a_second((1, "1"), (1, "2"), json!({}), "2", "1", Some("requests.cpu"))]
    #[case::the_old_goes_first((1, "1"), (1, "2"), json!({"type": "Recreate"}), "2", "1", None)]
    #[case::one_may_be_missing((4, "1"), (4, "1100m"), json!({}), "5", "4", None)]
    #[case::more_pods((1, "1"), (4, "1"), json!({}), "3", "1", Some("requests.cpu"))]
    #[case::nothing_changes((1, "1"), (1, "1"), json!({}), "1", "1", None)]
    fn rollouts_need_room(
        #[case] old: (i64, &str),
        #[case] new: (i64, &str),
        #[case] strategy: Value,
        #[case] hard: &str,
        #[case] used: &str,
        #[case] expected: Option<&str>,
    ) {
        let mut facts = sample::facts("2.30.0", "2.31.7");
        facts.old = sample::documents(&[deployment(old.0, old.1, &json!({}))]);
        let mut foreseen = sample::foreseen();
        foreseen.new = sample::documents(&[deployment(new.0, new.1, &strategy)]);
        foreseen.surroundings.quotas =
            Some(vec![quota(&json!({"requests.cpu": hard}), &json!({"requests.cpu": used}))]);
        let found = check(&facts, &foreseen);
        assert_eq!(found.len(), usize::from(expected.is_some()), "{found:?}");
        for finding in found {
            assert_eq!(finding.field, expected.map(|name| format!("spec.hard[{name}]")));
            assert_eq!(finding.object.as_deref(), Some("ResourceQuota/few"));
        }
    }

    #[test]
    fn pods_are_counted_and_must_name_what_is_limited() {
        let mut facts = sample::facts("2.30.0", "2.31.7");
        facts.old = sample::documents(&[deployment(1, "1", &json!({}))]);
        let mut foreseen = sample::foreseen();
        foreseen.new = sample::documents(&[deployment(1, "2", &json!({}))]);
        let hard = json!({"pods": "3", "limits.memory": "1Gi", "memory": "1Gi"});
        foreseen.surroundings.quotas = Some(vec![quota(&hard, &json!({"pods": "3"}))]);
        let fields: Vec<_> = check(&facts, &foreseen).into_iter().map(|finding| finding.field.unwrap()).collect();
        let container = "spec.template.spec.containers[coder].resources";
        assert_eq!(
            fields,
            [format!("{container}.requests.memory"), format!("{container}.limits.memory"), "spec.hard[pods]".into()]
        );
    }

    #[rstest]
    #[case("1", None)]
    #[case("3", Some("more than 2"))]
    #[case("50m", Some("less than 100m"))]
    fn limit_ranges_are_heeded(#[case] cpu: &str, #[case] expected: Option<&str>) {
        let limits = json!({"spec": {"limits": [{"type": "Container", "max": {"cpu": "2"}, "min": {"cpu": "100m"}}]}});
        let mut foreseen = sample::foreseen();
        foreseen.new = sample::documents(&[deployment(1, cpu, &json!({}))]);
        foreseen.surroundings.limits = Some(vec![serde_json::from_value(limits).unwrap()]);
        let found = check(&sample::facts("2.30.0", "2.31.7"), &foreseen);
        assert_eq!(found.len(), usize::from(expected.is_some()), "{found:?}");
        assert!(found.iter().all(|finding| finding.message.contains(expected.unwrap_or_default())));
    }
}
