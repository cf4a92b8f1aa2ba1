//! The API: what it promises in its schema, and what it refuses with a sentence that helps.

use crate::common::{
    World,
    samples::{Sample, malformed, samples},
};
use coder_upgrade_operator::api::{CoderUpgrade, CoderUpgradeSpec, ConditionType, FailureClass, Reason, crd};
use kube::{
    Api,
    api::{Patch, PatchParams},
};
use serde_json::{Value, json};
use strum::IntoEnumIterator;

fn schema() -> Value {
    serde_json::to_value(crd().spec.versions[0].schema.as_ref().unwrap().open_api_v3_schema.as_ref().unwrap()).unwrap()
}

/// Every schema with its path.
fn walk(path: &str, schema: &Value, visit: &mut impl FnMut(&str, &Value)) {
    visit(path, schema);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(&format!("{path}.{name}"), property, visit);
    }
    if schema["items"].is_object() {
        walk(&format!("{path}[]"), &schema["items"], visit);
    }
}

fn upgrade(spec: &Value) -> CoderUpgrade {
    CoderUpgrade::new("coder", serde_json::from_value::<CoderUpgradeSpec>(spec.clone()).unwrap())
}

/// The API server fills in defaults before it checks; the types do the same when they are read.
fn offline(sample: &Sample) -> Result<(), String> {
    let new = upgrade(&sample.spec);
    match &sample.old {
        Some(old) => new.validate_cel_update(&upgrade(old)),
        None => new.validate_cel(),
    }
    .map_err(|errors| errors.to_string())
}

fn judge(sample: &Sample, answer: Result<(), String>) {
    match (sample.refused, answer) {
        (None, Ok(())) => {}
        (Some(words), Err(message)) if message.contains(words) => {}
        (expected, answer) => panic!("{}: expected {expected:?}, got {answer:?}", sample.name),
    }
}

#[test]
fn the_generated_definition_is_up_to_date() {
    let generated = serde_saphyr::to_string(&crd()).unwrap();
    let stored = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/crds/coderupgrades.yaml")).unwrap();
    assert!(generated == stored, "crds/coderupgrades.yaml is stale: run cargo xtask generate");
}

#[test]
fn every_field_is_described_and_no_number_is_unsigned() {
    let mut faults = Vec::new();
    // What Kubernetes defines itself is described there, and partly not at all.
    let foreign = ["resources.claims", "nodeSelector", "tolerations[]", "labels"];
    walk("", &schema(), &mut |path, schema| {
        if schema["description"].is_null()
            && !path.is_empty()
            && !path.ends_with("[]")
            && !foreign.iter().any(|f| path.contains(f))
        {
            faults.push(format!("{path} has no description"));
        }
        if schema["format"].as_str().is_some_and(|format| format.starts_with("uint")) {
            faults.push(format!("{path} is unsigned, which the API server warns about"));
        }
    });
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn conditions_are_a_map_by_type() {
    let conditions = &schema()["properties"]["status"]["properties"]["conditions"];
    assert_eq!(conditions["x-kubernetes-list-type"], "map");
    assert_eq!(conditions["x-kubernetes-list-map-keys"], json!(["type"]));
}

#[test]
fn a_new_object_is_never_taken_for_ready() {
    assert_eq!(schema()["properties"]["status"]["default"], json!({"observedGeneration": -1}));
}

#[test]
fn every_rule_has_a_sample_that_it_refuses() {
    let refusals: Vec<_> = samples().iter().chain(&malformed()).filter_map(|sample| sample.refused).collect();
    walk("", &schema(), &mut |path, schema| {
        for rule in schema["x-kubernetes-validations"].as_array().into_iter().flatten() {
            let message = rule["message"].as_str().expect("every rule has a message");
            assert!(
                refusals.iter().any(|words| message.contains(words)),
                "no sample for the rule of {path}: {message}"
            );
        }
    });
}

#[test]
fn the_rules_accept_and_refuse_as_they_say() {
    for sample in samples() {
        judge(&sample, offline(&sample));
    }
}

#[test]
fn reasons_are_camel_case_and_every_failure_tells_what_to_do() {
    let words = Reason::iter().map(|reason| reason.to_string());
    let words = words.chain(ConditionType::iter().map(|type_| type_.to_string()));
    for word in words.chain(FailureClass::iter().map(|class| class.to_string())) {
        assert!(word.chars().all(char::is_alphanumeric) && word.starts_with(char::is_uppercase), "{word}");
    }
    for class in FailureClass::iter() {
        assert!(class.next_step().len() > 20 && class.next_step().ends_with('.'), "{class}: {}", class.next_step());
    }
}

/// Applies a spec with strict validation, as kubectl does.
async fn applied(api: &Api<CoderUpgrade>, spec: &Value, dry_run: bool) -> Result<(), String> {
    let object = json!({"apiVersion": "coderupgrade.dev/v1alpha1", "kind": "CoderUpgrade", "metadata": {"name": "sample"}, "spec": spec});
    let parameters = PatchParams { dry_run, ..PatchParams::apply("tests").force().validation_strict() };
    api.patch("sample", &parameters, &Patch::Apply(object)).await.map(|_| ()).map_err(|error| error.to_string())
}

#[tokio::test]
async fn the_api_server_accepts_and_refuses_the_same() {
    let world = World::new("api").await;
    // Suspended, so that the operator leaves it alone.
    let spec = |spec: &Value| {
        let mut spec = spec.clone();
        spec["suspend"] = json!(true);
        spec
    };
    for sample in samples().iter().chain(&malformed()) {
        if let Some(old) = &sample.old {
            applied(&world.api(), &spec(old), false).await.unwrap();
            judge(sample, applied(&world.api(), &spec(&sample.spec), true).await);
            world.kubectl(&["delete", "cu", "sample"]).await;
        } else {
            judge(sample, applied(&world.api(), &spec(&sample.spec), true).await);
        }
    }
    world.finish().await;
}
