//! Rollouts that do not end by themselves.

use std::collections::BTreeSet;

use serde_json::Value;

use super::pods::{Template, templates};
use super::{Facts, Foreseen};
use crate::api::{CheckName, Finding};
use crate::core::object::ObjectRef;
use crate::core::rollout::readiness::{is_waited_for, unready};

const CLAIM: &str = "PersistentVolumeClaim";

/// [`CheckName::Rollout`]
pub fn check(facts: &Facts, foreseen: &Foreseen) -> Vec<Finding> {
    let held_back = templates(&foreseen.new).filter_map(|template| held_back(facts, &template));
    held_back.chain(waits(facts, foreseen)).chain(unmounted(foreseen)).collect()
}

/// A workload that leaves pods on the old template until somebody deletes them.
fn held_back(facts: &Facts, template: &Template<'_>) -> Option<Finding> {
    let strategy = &template.spec["updateStrategy"];
    let partition = strategy["rollingUpdate"]["partition"].as_i64().unwrap_or(0);
    let (how, field) = match template.kind() {
        "StatefulSet" | "DaemonSet" if strategy["type"] == "OnDelete" => {
            ("updates no pod by itself (OnDelete)".to_owned(), "spec.updateStrategy.type")
        }
        "StatefulSet" if partition > 0 => (
            format!("updates only the pods from number {partition} on (its partition)"),
            "spec.updateStrategy.rollingUpdate.partition",
        ),
        _ => return None,
    };
    let finding = if template.server().is_some() {
        let message = format!("{} {how}: Coder would go on with the old version", template.object);
        Finding::refusal(CheckName::Rollout, message, format!("Change {field} of {} in the values.", template.object))
    } else {
        let message = format!("{} {how}: the others keep the old template, and are not waited for", template.object);
        let next = format!(
            "Delete its old pods after the upgrade, one after the other (kubectl delete pod --namespace {}).",
            facts.namespace
        );
        Finding::warning(CheckName::Rollout, message, next)
    };
    Some(finding.about(&template.object).at(field))
}

/// Objects that helm would wait for in vain, as far as one can tell: they are not ready now.
fn waits<'a>(facts: &'a Facts, foreseen: &'a Foreseen) -> impl Iterator<Item = Finding> + 'a {
    let waited = |object: &ObjectRef| object.kind != CLAIM && is_waited_for(object, foreseen.helm_waits_for_all);
    let written = foreseen.rehearsal.writes.iter().filter(move |write| waited(&write.object) && write.after.is_some());
    written.filter_map(|write| {
        let (object, live): (_, &Value) = (&write.object, write.before.as_ref()?);
        let why = unready(live)?;
        let message = format!(
            "{object} is not ready ({why}), and helm waits for it: if it stays so, the upgrade fails after {} although Coder runs",
            facts.spec.helm.timeout
        );
        let next = format!(
            "Make {object} ready first (kubectl describe {} {} --namespace {}), or take it out of the values.",
            object.kind.to_lowercase(),
            object.name,
            facts.namespace
        );
        Some(Finding::warning(CheckName::Rollout, message, next).about(object).at("status.conditions"))
    })
}

/// Claims that no pod of the chart mounts: without a pod, many storage classes give them no volume.
fn unmounted(foreseen: &Foreseen) -> impl Iterator<Item = Finding> + '_ {
    let mut mounted = BTreeSet::new();
    foreseen.new.objects().for_each(|(_, object)| mounts(object, &mut mounted));
    let bound = |name: &ObjectRef| {
        let write = foreseen.rehearsal.writes.iter().find(|write| write.object.is(&name.to_string()));
        write.and_then(|write| write.before.as_ref()).is_some_and(|live| unready(live).is_none())
    };
    let claims = foreseen.new.objects().map(|(name, _)| name).filter(|name| name.kind == CLAIM);
    let open = claims.filter(move |name| !mounted.contains(&name.name) && !bound(name));
    open.map(|name| {
        let message = format!(
            "{name} is mounted by no pod of the chart, and helm waits until it is bound: with a storage class that waits for a \
             pod (WaitForFirstConsumer) that never happens"
        );
        let next = format!("Take {name} out of the values, have a pod mount it, or use a storage class that binds at once.");
        Finding::warning(CheckName::Rollout, message, next).about(&name).at("status.phase")
    })
}

/// The claims that an object, or a template in it, mounts.
fn mounts(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get("claimName").and_then(Value::as_str).map(ToOwned::to_owned));
            map.values().for_each(|value| mounts(value, found));
        }
        Value::Array(items) => items.iter().for_each(|item| mounts(item, found)),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::api::Severity;
    use crate::core::plan::checks::sample;
    use crate::core::plan::rehearsal::{Verb, Write};

    #[rstest]
    #[case::rolling("StatefulSet", json!({"type": "RollingUpdate"}), "cache", None)]
    #[case::on_delete("StatefulSet", json!({"type": "OnDelete"}), "cache", Some(Severity::Warning))]
    #[case::daemons("DaemonSet", json!({"type": "OnDelete"}), "agent", Some(Severity::Warning))]
    #[case::partition("StatefulSet", json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 1}}), "cache", Some(Severity::Warning))]
    #[case::no_partition("StatefulSet", json!({"rollingUpdate": {"partition": 0}}), "cache", None)]
    #[case::coder("StatefulSet", json!({"type": "OnDelete"}), "coder", Some(Severity::Refusal))]
    fn pods_that_stay_old_are_told(
        #[case] kind: &str,
        #[case] strategy: Value,
        #[case] container: &str,
        #[case] expected: Option<Severity>,
    ) {
        let mut workload = sample::deployment("x", &json!({"name": container}));
        (workload["kind"], workload["spec"]["updateStrategy"]) = (kind.into(), strategy);
        let foreseen = Foreseen { new: sample::documents(&[workload]), ..sample::foreseen() };
        let found = check(&sample::facts("2.30.0", "2.31.7"), &foreseen);
        assert_eq!(found.first().map(|finding| finding.severity), expected, "{found:?}");
    }

    #[rstest]
    #[case::nobody(json!([]), true)]
    #[case::somebody(json!([{"name": "x", "persistentVolumeClaim": {"claimName": "scratch"}}]), false)]
    fn a_claim_that_nobody_mounts_is_told(#[case] volumes: Value, #[case] told: bool) {
        let mut deployment = sample::deployment("coder", &json!({"name": "coder"}));
        deployment["spec"]["template"]["spec"]["volumes"] = volumes;
        let claim = json!({"apiVersion": "v1", "kind": CLAIM, "metadata": {"name": "scratch"}});
        let foreseen = Foreseen { new: sample::documents(&[deployment, claim]), ..sample::foreseen() };
        let found = check(&sample::facts("2.30.0", "2.31.7"), &foreseen);
        assert_eq!(found.iter().any(|finding| finding.message.contains("mounted by no pod")), told, "{found:?}");
    }

    #[rstest]
    #[case::not_ready("cert-manager.io/v1", "False", true, true)]
    #[case::ready("cert-manager.io/v1", "True", true, false)]
    #[case::helm_3("cert-manager.io/v1", "False", false, false)]
    #[case::built_in("networking.k8s.io/v1", "False", true, false)]
    fn what_helm_waits_for_is_told(
        #[case] api_version: &str,
        #[case] ready: &str,
        #[case] helm_waits_for_all: bool,
        #[case] told: bool,
    ) {
        let live = json!({
            "apiVersion": api_version, "kind": "Certificate", "metadata": {"name": "coder-tls"},
            "status": {"conditions": [{"type": "Ready", "status": ready, "message": "no issuer"}]},
        });
        let object = ObjectRef::of(&live).unwrap();
        let write = Write { verb: Verb::Update, object, before: Some(live.clone()), after: Some(live) };
        let mut foreseen = Foreseen { helm_waits_for_all, ..sample::foreseen() };
        foreseen.rehearsal.writes = vec![write];
        let found = check(&sample::facts("2.30.0", "2.31.7"), &foreseen);
        assert_eq!(found.iter().any(|finding| finding.message.contains("no issuer")), told, "{found:?}");
    }
}
