//! Numbers of replicas that somebody else than helm has set: a person, or an autoscaler. They are kept, by the value from which
//! the chart takes the number.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::rehearsal::{Rehearsal, Verb};
use crate::core::helm::documents::Documents;
use crate::core::helm::ownership::FIELD_MANAGER;
use crate::core::object::ObjectRef;

/// Name under which helm sets fields.
const HELM: &str = "helm";

/// A workload whose number of replicas somebody else has set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scaled {
    /// The workload.
    pub object: ObjectRef,
    /// The number that it has.
    pub live: i64,
    /// The number that the chart would give it.
    pub rendered: i64,
    /// Who has set it, for people.
    pub by: String,
}

/// A value from which the chart takes the number of replicas of a workload.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicasSource {
    /// The workload, as Kind/name.
    pub object: String,
    /// Dotted path of the value.
    pub path: String,
}

/// A number of replicas that is kept, if its value is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeptReplicas {
    /// The workload, its number, and who has set it.
    pub scaled: Scaled,
    /// Dotted path of the value that keeps the number; none if no known value leads to it.
    pub path: Option<String>,
}

impl KeptReplicas {
    /// By the value from which the chart takes the number.
    pub fn by(scaled: Scaled, sources: &[ReplicasSource]) -> Self {
        let named = scaled.object.to_string();
        let path = sources.iter().find(|source| source.object == named).map(|source| source.path.clone());
        Self { scaled, path }
    }
}

/// The values that keep numbers of replicas.
pub fn overlay(kept: &[KeptReplicas]) -> Map<String, Value> {
    let mut values = json!({});
    for KeptReplicas { scaled, path } in kept {
        if let Some(path) = path {
            set(&mut values, path, scaled.live);
        }
    }
    values.as_object().cloned().unwrap_or_default()
}

/// Forgets the values that did not lead to the number.
pub fn confirm(kept: &mut [KeptReplicas], rendered: &Documents) {
    for KeptReplicas { scaled, path } in kept {
        let named = scaled.object.to_string();
        let now = rendered.objects().find(|(name, _)| name.is(&named)).and_then(|(_, object)| replicas(object));
        path.take_if(|_| now != Some(scaled.live));
    }
}

/// The workloads whose number helm would change although somebody else has set it.
///
/// `stored` is the manifest of the installed release, `rendered` the one that would follow. A workload without any replicas is
/// not kept that way: nobody could be asked whether the upgrade went well.
pub fn scaled(rehearsal: &Rehearsal, stored: &Documents, rendered: &Documents) -> Vec<Scaled> {
    let updates = rehearsal.writes.iter().filter(|write| write.verb == Verb::Update && is_scaled(&write.object));
    let scaled = updates.filter_map(|write| {
        let live = write.before.as_ref()?;
        let named = write.object.to_string();
        let of = |documents: &Documents| documents.objects().find(|(name, _)| name.is(&named)).map(|(_, o)| o.clone());
        let number = replicas(live).filter(|live| *live > 0)?;
        let wanted = replicas(&of(rendered)?).filter(|wanted| *wanted != number)?;
        let before = of(stored).as_ref().and_then(replicas);
        let by = set_by(live, before)?;
        Some(Scaled { object: write.object.clone(), live: number, rendered: wanted, by })
    });
    scaled.collect()
}

fn is_scaled(object: &ObjectRef) -> bool {
    matches!((object.group(), object.kind.as_str()), ("apps" | "extensions", "Deployment" | "StatefulSet"))
}

fn replicas(object: &Value) -> Option<i64> {
    object["spec"]["replicas"].as_i64()
}

/// Who has set the number of replicas of a live workload, if it was neither helm nor the operator. `stored` is the number that
/// helm gave it last.
///
/// Whoever scales owns the field, as `kubectl scale` and autoscalers do. A program with another name may be another helm client:
/// it counts only if the number is not what helm's record says.
pub fn set_by(live: &Value, stored: Option<i64>) -> Option<String> {
    let entries = live["metadata"]["managedFields"].as_array().map(Vec::as_slice).unwrap_or_default();
    let owns = |entry: &&Value| !entry["fieldsV1"]["f:spec"]["f:replicas"].is_null();
    let mut others = entries.iter().filter(owns).filter_map(|entry| {
        let manager = entry["manager"].as_str().filter(|manager| ![HELM, FIELD_MANAGER].contains(manager))?;
        let scaled = entry["subresource"] == "scale" || manager.starts_with("kubectl");
        (scaled || stored.is_some_and(|stored| Some(stored) != replicas(live))).then_some((manager, entry))
    });
    let (manager, entry) = others.next_back()?;
    let autoscaler = manager == "kube-controller-manager" && entry["subresource"] == "scale";
    Some(if autoscaler { "a HorizontalPodAutoscaler".into() } else { manager.to_owned() })
}

/// Paths under which the charts of Coder, and many others, have the number of replicas of a workload.
fn paths(name: &str, under: Option<&str>) -> Vec<String> {
    let own = ["coder.replicaCount".to_owned(), format!("{name}.replicas"), format!("{name}.replicaCount")];
    let own = own.into_iter().chain(["coderd.replicas".to_owned(), "replicaCount".into(), "replicas".into()]);
    match under {
        Some(under) => own.map(|path| format!("{under}.{path}")).collect(),
        None => own.collect(),
    }
}

/// The values from which a chart takes the numbers of replicas of its workloads, as far as they are known.
pub fn sources(
    rendered: &Documents,
    values: &Map<String, Value>,
    defaults: &Value,
    under: Option<&str>,
) -> Vec<ReplicasSource> {
    let workloads = rendered.objects().filter(|(name, _)| is_scaled(name));
    workloads.filter_map(|(name, object)| source(&name, replicas(object)?, values, defaults, under)).collect()
}

/// The value from which a chart takes the number of replicas of a workload, if it has the number that is rendered. `under` is the
/// key under which the chart gives values to the Coder that it wraps; of such values no default is known here.
fn source(
    object: &ObjectRef,
    rendered: i64,
    values: &Map<String, Value>,
    defaults: &Value,
    under: Option<&str>,
) -> Option<ReplicasSource> {
    let at =
        |values: &Value, path: &str| path.split('.').try_fold(values.clone(), |value, key| value.get(key).cloned());
    let values = Value::Object(values.clone());
    let number = |path: &String| at(&values, path).or_else(|| at(defaults, path)).filter(|value| !value.is_null());
    let all = paths(&object.name, under);
    let found = all.iter().find(|path| number(path).is_some_and(|number| number.as_i64() == Some(rendered)));
    let unset = || all.first().filter(|path| under.is_some() && number(path).is_none());
    Some(ReplicasSource { object: object.to_string(), path: found.or_else(unset)?.clone() })
}

/// Sets a number at a path.
pub fn set(values: &mut Value, path: &str, number: i64) {
    let mut place = values;
    for key in path.split('.') {
        if !place.is_object() {
            *place = json!({});
        }
        place = &mut place[key];
    }
    *place = number.into();
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::core::plan::rehearsal::Write;

    fn workload(replicas: i64, owners: &[(&str, &str)]) -> Value {
        let owner = |(manager, subresource): &(&str, &str)| json!({"manager": manager, "subresource": subresource, "fieldsV1": {"f:spec": {"f:replicas": {}}}});
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "coder", "managedFields": owners.iter().map(owner).collect::<Vec<_>>()},
            "spec": {"replicas": replicas},
        })
    }

    fn found(stored: i64, live: &Value, rendered: i64) -> Option<(i64, String)> {
        let documents = |replicas| Documents::parse(&workload(replicas, &[]).to_string(), "ns").unwrap();
        let object = ObjectRef { namespace: Some("ns".into()), ..ObjectRef::of(live).unwrap() };
        let write = Write { verb: Verb::Update, object, before: Some(live.clone()), after: None };
        let rehearsal = Rehearsal { writes: vec![write], ..Rehearsal::default() };
        let scaled = scaled(&rehearsal, &documents(stored), &documents(rendered));
        scaled.into_iter().next().map(|scaled| (scaled.live, scaled.by))
    }

    #[rstest]
    #[case::by_kubectl(1, workload(3, &[("helm", ""), ("kubectl", "scale")]), 1, Some((3, "kubectl")))]
    #[case::by_an_autoscaler(1, workload(3, &[("kube-controller-manager", "scale")]), 1, Some((3, "a HorizontalPodAutoscaler")))]
    #[case::by_an_editor(1, workload(3, &[("kubectl-edit", "")]), 1, Some((3, "kubectl-edit")))]
    #[case::taken_over_before(3, workload(3, &[("helm", ""), ("kubectl", "scale")]), 1, Some((3, "kubectl")))]
    #[case::as_wanted(1, workload(3, &[("kubectl", "scale")]), 3, None)]
    #[case::by_helm(3, workload(3, &[("helm", "")]), 1, None)]
    #[case::by_another_helm(3, workload(3, &[("terraform-provider-helm", "")]), 5, None)]
    #[case::by_another_program(1, workload(3, &[("operator", "")]), 1, Some((3, "operator")))]
    #[case::by_the_runner(1, workload(3, &[(FIELD_MANAGER, "")]), 1, None)]
    #[case::to_zero(1, workload(0, &[("kubectl", "scale")]), 1, None)]
    #[case::by_nobody(1, workload(3, &[]), 1, None)]
    fn a_number_of_somebody_else_is_found(
        #[case] stored: i64,
        #[case] live: Value,
        #[case] rendered: i64,
        #[case] expected: Option<(i64, &str)>,
    ) {
        assert_eq!(found(stored, &live, rendered), expected.map(|(live, by)| (live, by.to_owned())));
    }

    #[rstest]
    #[case::default("coder", json!({}), json!({"coder": {"replicaCount": 1}}), None, Some("coder.replicaCount"))]
    #[case::given("coder", json!({"coder": {"replicaCount": 1}}), json!({"coder": {"replicaCount": 9}}), None, Some("coder.replicaCount"))]
    #[case::classic("envproxy", json!({}), json!({"coderd": {"replicas": 1}, "envproxy": {"replicas": 1}}), None, Some("envproxy.replicas"))]
    #[case::another_number("coder", json!({"coder": {"replicaCount": 4}}), json!({}), None, None)]
    #[case::unknown("web", json!({"web": {"count": 1}}), json!({}), None, None)]
    #[case::wrapped("coder", json!({"c": {"coder": {"replicaCount": 1}}}), json!({}), Some("c"), Some("c.coder.replicaCount"))]
    #[case::wrapped_default("coder", json!({}), json!({}), Some("c"), Some("c.coder.replicaCount"))]
    fn the_value_behind_a_number_is_found(
        #[case] name: &str,
        #[case] values: Value,
        #[case] defaults: Value,
        #[case] under: Option<&str>,
        #[case] expected: Option<&str>,
    ) {
        let object = ObjectRef { name: name.into(), ..ObjectRef::of(&workload(1, &[])).unwrap() };
        let found = source(&object, 1, values.as_object().unwrap(), &defaults, under);
        assert_eq!(found.map(|source| source.path).as_deref(), expected);
    }

    #[test]
    fn a_number_is_set_among_what_is_there() {
        let mut values = json!({"coder": {"image": {}, "replicaCount": 1}});
        set(&mut values, "coder.replicaCount", 3);
        set(&mut values, "a.b", 2);
        assert_eq!(values, json!({"coder": {"image": {}, "replicaCount": 3}, "a": {"b": 2}}));
    }
}
