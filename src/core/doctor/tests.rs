//! What is found, as people read it.

use k8s_openapi::api::apps::v1::Deployment;
use rstest::rstest;
use serde_json::{Value, json};

use super::*;
use crate::api::{CoderUpgrade, crd};
use crate::core::outbound::Outbound;
use crate::core::rights::{base, granted_by};

fn served(edit: impl FnOnce(&mut Value)) -> DoctorLine {
    let mut found = serde_json::to_value(crd()).unwrap();
    found["status"] = json!({"conditions": [{"type": "Established", "status": "True", "reason": "", "message": "", "lastTransitionTime": null}], "acceptedNames": {"kind": "", "plural": ""}, "storedVersions": []});
    let spec = &mut found["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    edit(&mut spec["properties"]);
    definition(Some(&serde_json::from_value(found).unwrap()))
}

#[test]
fn a_definition_of_another_version_is_told() {
    assert_eq!(served(|_| ()).grade, Grade::Ok);
    let older = served(|spec| drop(spec.as_object_mut().unwrap().remove("suspend")));
    assert_eq!(
        (older.grade, older.finding.as_str()),
        (Grade::Problem, "it is older than this program: it lacks spec.suspend")
    );
    let newer = served(|spec| spec["novelty"] = json!({"type": "string"}));
    assert_eq!(
        (newer.grade, newer.finding.as_str()),
        (Grade::Problem, "it is newer than this program, which does not know spec.novelty")
    );
    assert_eq!(definition(None).finding, "the cluster does not know the kind CoderUpgrade");
    assert!(definition(Some(&crd())).finding.contains("Established"));
}

fn deployment(image: &str, available: i32) -> Deployment {
    let env = json!([{"name": "RUNNER_IMAGE", "value": "runner:1"}, {"name": "HTTP_PROXY", "value": "http://p:1"}, {"name": "NO_PROXY", "value": ""}]);
    let containers = json!([{"name": "proxy", "image": "proxy:9"}, {"name": "controller", "image": image, "env": env}]);
    serde_json::from_value(json!({
        "metadata": {"name": "op", "namespace": "ns"},
        "spec": {"selector": {}, "template": {"spec": {"containers": containers}}}, "status": {"availableReplicas": available},
    }))
    .unwrap()
}

#[rstest]
#[case::same("r/op:v0.1.0", 1, Grade::Ok, "Deployment/op in namespace ns runs 0.1.0, as this program")]
#[case::other("r/op:v0.2.0", 1, Grade::Problem, "Deployment/op in namespace ns runs 0.2.0, this program is 0.1.0")]
#[case::untold(
    "r/op:main",
    1,
    Grade::Note,
    "Deployment/op in namespace ns runs r/op:main, whose tag names no version; this program is 0.1.0"
)]
#[case::down("r/op:v0.1.0", 0, Grade::Problem, "Deployment/op in namespace ns: none of its 1 pods is available")]
fn the_controller_is_judged(#[case] image: &str, #[case] available: i32, #[case] grade: Grade, #[case] finding: &str) {
    let lines = controller(&[deployment(image, available)], "0.1.0");
    assert_eq!((lines[0].grade, lines[0].finding.as_str()), (grade, finding));
}

#[test]
fn what_the_controller_is_told_is_what_the_trial_is_told() {
    let deployment = deployment("r/op:v0.1.0", 1);
    assert_eq!(runner_image(&deployment).as_deref(), Some("runner:1"));
    assert_eq!(outbound(&deployment), Outbound { http: Some("http://p:1".into()), ..Outbound::default() });
    assert_eq!(controller(&[], "0.1.0")[0].grade, Grade::Problem);
}

#[test]
fn rights_are_compared_with_what_every_chart_takes() {
    let granted = base(&[]).home.into_iter().flat_map(|part| part.rights).collect();
    assert_eq!(runner(true, &granted, "ns", "p").grade, Grade::Ok);
    let rules = json!({"rules": [{"apiGroups": ["*"], "resources": ["*"], "verbs": ["*"]}]});
    assert_eq!(runner(true, &granted_by(&rules), "ns", "p").grade, Grade::Ok, "all of it");
    let less = granted_by(&json!({"rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}]}));
    assert_eq!(runner(true, &less, "ns", "p").grade, Grade::Note);
    for none in [runner(false, &granted, "ns", "p"), runner(true, &granted_by(&json!({})), "ns", "p")] {
        assert_eq!((none.grade, none.remedy.as_deref()), (Grade::Problem, Some("p setup -n ns")));
    }
    assert_eq!(person(&["patch"], "ns").finding, "you may not patch CoderUpgrades in namespace ns");
}

#[test]
fn the_trial_works_as_the_runner_does_and_writes_nothing() {
    let mut upgrade =
        CoderUpgrade::new("coder", serde_json::from_value(json!({"job": {"labels": {"a": "b"}}})).unwrap());
    upgrade.metadata.namespace = Some("ns".into());
    upgrade.metadata.uid = Some("uid".into());
    let pod = serde_json::to_value(trial(&upgrade, "runner:1", Outbound::default()).unwrap()).unwrap();
    let container = &pod["spec"]["containers"][0];
    assert_eq!(container["args"], json!(["plan", "coder", "--namespace", "ns", "--output", "json", "--quiet"]));
    assert_eq!(
        (&container["image"], &pod["spec"]["serviceAccountName"]),
        (&json!("runner:1"), &json!("coder-upgrade-runner"))
    );
    assert_eq!(
        (&pod["metadata"]["labels"]["a"], &pod["metadata"]["ownerReferences"][0]["uid"]),
        (&json!("b"), &json!("uid"))
    );
    assert_eq!(container["securityContext"]["readOnlyRootFilesystem"], true);
}

#[rstest]
#[case::refused(TrialEnd::Refused("violates PodSecurity".into()), Grade::Problem, "a pod of the runner is refused: violates PodSecurity")]
#[case::image(TrialEnd::NotStarted("image cannot be pulled".into()), Grade::Problem, "a pod of the runner does not start: image cannot be pulled")]
#[case::planned(TrialEnd::Ended(2, "note\n{\"summary\": \"Upgrade.\"}".into()), Grade::Ok, "the runner reaches the repository from the cluster. Upgrade.")]
#[case::would_refuse(TrialEnd::Ended(4, "{\"summary\": \"Refused.\"}".into()), Grade::Note, "Refused.")]
#[case::unreachable(TrialEnd::Ended(1, "error: no route\n  next: Look.\n".into()), Grade::Problem, "no plan can be made from the cluster: no route")]
#[case::killed(
    TrialEnd::Ended(137, String::new()),
    Grade::Problem,
    "no plan can be made from the cluster: it ended with exit code 137"
)]
fn its_end_is_told(#[case] end: TrialEnd, #[case] grade: Grade, #[case] finding: &str) {
    let lines = trial_lines(&end, "coder", "ns", "p");
    let last = lines.last().unwrap();
    assert_eq!((last.grade, last.finding.as_str()), (grade, finding));
    assert_eq!(exit_code(&lines), if grade == Grade::Problem { 2 } else { 0 });
    assert_eq!(last.remedy.is_none(), grade == Grade::Ok, "each problem has a remedy");
}

#[test]
fn findings_stand_below_each_other() {
    let lines = [DoctorLine::ok("you", "fine"), DoctorLine::problem("controller", "down", "Look.")];
    assert_eq!(text(&lines), "ok       you         fine\nproblem  controller  down\n         next: Look.\n");
}

#[rstest]
#[case::whole(json!({"name": "ca"}), "/etc/company", None, Some("ca.pem"))]
#[case::under_another_name(json!({"name": "ca", "items": [{"key": "root", "path": "ca.pem"}]}), "/etc/company/", None, Some("root"))]
#[case::alone(json!({"name": "ca"}), "/etc/company/ca.pem", Some("ca.pem"), Some("ca.pem"))]
#[case::elsewhere(json!({"name": "ca"}), "/etc/comp", None, None)]
#[case::not_among_its_items(json!({"name": "ca", "items": [{"key": "root", "path": "x"}]}), "/etc/company", None, None)]
fn the_certificates_of_runners_are_found_in_the_config_map_that_is_mounted(
    #[case] map: Value,
    #[case] path: &str,
    #[case] sub_path: Option<&str>,
    #[case] key: Option<&str>,
) {
    let mut controller = deployment("r/op:v0.1.0", 1);
    assert_eq!(authorities(&controller), Ok(None));
    let pod = controller.spec.as_mut().unwrap().template.spec.as_mut().unwrap();
    pod.volumes = serde_json::from_value(json!([{"name": "v", "configMap": map}])).unwrap();
    let container = &mut pod.containers[1];
    let file = json!({"name": "RUNNER_CA_FILE", "value": "/etc/company/ca.pem"});
    container.env.as_mut().unwrap().push(serde_json::from_value(file).unwrap());
    let mount = json!([{"name": "v", "mountPath": path, "subPath": sub_path}]);
    container.volume_mounts = serde_json::from_value(mount).unwrap();
    let wanted = |key: &str| ConfigMapKey { namespace: "ns".into(), name: "ca".into(), key: key.into() };
    assert_eq!(authorities(&controller), key.map(wanted).map(Some).ok_or_else(|| "/etc/company/ca.pem".to_owned()));
}
