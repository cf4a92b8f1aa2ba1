use proptest::prelude::*;
use rstest::rstest;
use serde_json::json;

use super::*;
use crate::core::object::KindName;
use crate::core::object::ObjectRef;

fn right(group: &str, resource: &str, verb: &str) -> Right {
    Right::new(group, resource, verb)
}

fn holds(parts: &[RightsGroup], wanted: &Right) -> bool {
    parts.iter().flat_map(|part| &part.rights).any(|held| held.includes(wanted))
}

const ESCALATION: &str = "roles.rbac.authorization.k8s.io \"coder\" is forbidden: user \"system:serviceaccount:ns:coder-upgrade-runner\" (groups=[\"system:serviceaccounts\" \"system:serviceaccounts:ns\" \"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"pods/exec\"], Verbs:[\"create\" \"delete\"]}\n{APIGroups:[\"apps\"], Resources:[\"events\"], Verbs:[\"get\" \"create\"]}";

#[test]
fn the_rules_of_a_refusal_become_one_sentence() {
    let lacking = Lacking::read(ESCALATION).unwrap();
    assert!(lacking.by_account());
    assert_eq!(
        lacking.sentence(Some(&KindName::new("Role", "coder")), Some("ns")),
        "Role/coder grants create, delete pods/exec; get, create events.apps, which the runner lacks"
    );
    assert_eq!(
        lacking.sentence(Some(&KindName::new("Role", "coder")), Some("lab")),
        "Role/coder in namespace lab grants create, delete pods/exec; get, create events.apps, which the runner lacks"
    );
}

#[rstest]
#[case::write(
    "services \"coder\" is forbidden: User \"system:serviceaccount:ns:runner\" cannot patch resource \"services\" in API group \"\" in the namespace \"ns\"",
    Some("Service/coder"),
    "Service/coder needs the right to patch services in namespace ns, which the runner lacks"
)]
#[case::part(
    "deployments.apps \"coder\" is forbidden: User \"system:serviceaccount:ns:runner\" cannot get resource \"deployments/scale\" in API group \"apps\" in the namespace \"ns\"",
    None,
    "helm needs the right to get deployments/scale.apps in namespace ns, which the runner lacks"
)]
#[case::lookup(
    "template: coder/templates/nodes.yaml:1:7: executing \"coder/templates/nodes.yaml\" at <lookup \"v1\" \"Node\" \"\" \"\">: error calling lookup: nodes is forbidden: User \"system:serviceaccount:ns:runner\" cannot list resource \"nodes\" in API group \"\" at the cluster scope",
    None,
    "template coder/templates/nodes.yaml needs the right to list nodes in the whole cluster, which the runner lacks"
)]
#[case::evaluated(
    "template: coder/templates/extra.yaml:3:3: executing \"coder/templates/extra.yaml\" at <tpl . $>: error calling tpl: error during tpl function execution for \"…\": template: gotpl:4:17: executing \"gotpl\" at <lookup \"v1\" \"Node\" \"\" \"\">: error calling lookup: nodes is forbidden: User \"system:serviceaccount:ns:runner\" cannot list resource \"nodes\" in API group \"\" at the cluster scope",
    None,
    "template coder/templates/extra.yaml needs the right to list nodes in the whole cluster, which the runner lacks"
)]
#[case::person(
    "secrets is forbidden: User \"jane\" cannot list resource \"secrets\" in API group \"\" in the namespace \"ns\"",
    None,
    "helm needs the right to list secrets in namespace ns, which user jane lacks"
)]
#[case::named(
    "roles.rbac.authorization.k8s.io \"r\" is forbidden: user \"system:serviceaccount:ns:a\" (groups=[]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"secrets\"], ResourceNames:[\"token\"], Verbs:[\"get\"]}\n{NonResourceURLs:[\"/metrics\"], Verbs:[\"get\"]}",
    Some("ClusterRole/r"),
    "ClusterRole/r grants get /metrics; get secrets \"token\", which the runner lacks"
)]
fn a_refusal_says_what_takes_which_right(#[case] text: &str, #[case] object: Option<&str>, #[case] said: &str) {
    assert_eq!(Lacking::read(text).unwrap().sentence(object.and_then(KindName::read).as_ref(), Some("ns")), said);
}

#[test]
fn all_verbs_are_said_in_two_words() {
    let rights =
        |resource: &str, verbs: &[&str]| verbs.iter().map(|verb| right("", resource, verb)).collect::<Vec<_>>();
    let all = [rights("a", &VERBS), rights("b", &["*"]), rights("c", &["use", "get"])].concat();
    assert_eq!(said(&all.into_iter().collect()), "all verbs on a; any verb (*) on b; get, use c");
}

#[rstest]
#[case("configmaps \"a\" is forbidden: exceeded quota: few")]
#[case("admission webhook \"x\" denied the request: no")]
#[case("")]
fn other_refusals_are_about_no_right(#[case] text: &str) {
    assert_eq!(Lacking::read(text), None);
}

#[test]
fn a_sentence_stays_short_whatever_a_role_grants() {
    let long = "x".repeat(253);
    let verbs: Vec<String> = (0..500).map(|n| format!("\"{long}{n}\"")).collect();
    let rule = format!("{{APIGroups:[\"{long}\"], Resources:[\"{long}\"], Verbs:[{}]}}", verbs.join(" "));
    let rules = vec![rule; 40].join("\n").replacen("x\"]", "y\"]", 9);
    let lacking =
        Lacking::read(&format!("user \"u\" is attempting to grant RBAC permissions not currently held:\n{rules}"));
    let sentence = lacking.unwrap().sentence(Some(&KindName::new("Role", &*long)), Some(&long));
    assert!(sentence.len() < 3000, "{}", sentence.len());
}

#[test]
fn the_lists_are_left_out_of_any_text() {
    let text = format!("cannot roll back: {ESCALATION} && other words");
    let short = without_lists(&text);
    assert!(short.ends_with("not currently held: {…} && other words"), "{short}");
    assert!(!short.contains("groups=") && short.starts_with("cannot roll back: roles.rbac"), "{short}");
}

proptest! {
    #[test]
    fn any_text_is_read_or_not(text in any::<String>(), near in "[{}\\[\\]\",:\\\\ A-Za-z]{0,60}") {
        let _ = Lacking::read(&text);
        let refusal = format!("user \"u\" is attempting to grant RBAC permissions not currently held:\n{near}");
        let _ = Lacking::read(&refusal).map(|lacking| lacking.sentence(None, None));
        let _ = without_lists(&refusal);
    }
}

/// What each line of public charts grants: groups, resources, verbs. Every word on the left is granted in combination.
#[rstest]
#[case::classic_1_21(
    &["", "apps", "networking.k8s.io"],
    &["persistentvolumeclaims", "pods", "deployments", "services", "secrets", "pods/exec", "pods/log", "events", "networkpolicies"],
    &VERBS
)]
#[case::classic_1_26(&["", "apps", "networking.k8s.io"], &["serviceaccounts"], &VERBS)]
#[case::classic_metrics(&["metrics.k8s.io", "storage.k8s.io"], &["pods", "storageclasses"], &["get", "list", "watch"])]
#[case::v2_0(&[""], &["pods", "persistentvolumeclaims"], &["*"])]
#[case::v2(&[""], &["pods", "persistentvolumeclaims"], &VERBS)]
#[case::v2_deployments(&["apps"], &["deployments"], &VERBS)]
fn the_base_suffices_for_what_public_charts_grant(
    #[case] groups: &[&str],
    #[case] resources: &[&str],
    #[case] verbs: &[&str],
) {
    let role = json!({"rules": [{"apiGroups": groups, "resources": resources, "verbs": verbs}]});
    let base = base(&[]);
    for wanted in granted_by(&role) {
        assert!(holds(&base.home, &wanted), "{wanted:?}");
    }
}

#[test]
fn only_the_verb_itself_includes_all_verbs() {
    let each: Vec<Right> = VERBS.iter().map(|verb| right("", "pods", verb)).collect();
    assert!(!each.iter().any(|held| held.includes(&right("", "pods", "*"))));
    assert!(right("", "pods", "*").includes(&each[0]));
    let one = Right { name: Some("a".into()), ..right("", "pods", "get") };
    assert!(right("", "pods", "get").includes(&one) && !one.includes(&right("", "pods", "get")));
}

fn subject(kind: &str, plural: &str, body: Value) -> Subject {
    let group = body["apiVersion"].as_str().unwrap().rsplit_once('/').map_or("", |(group, _)| group).to_owned();
    assert_eq!(body["kind"], kind);
    let namespaced = !kind.starts_with("Cluster");
    let object = ObjectRef::of(&body).unwrap();
    Subject { object, resource: Resource { group, plural: plural.into(), namespaced }, body }
}

fn role(kind: &str, namespace: &str, rule: &Value) -> Value {
    let metadata = json!({"name": "coder", "namespace": namespace});
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata, "rules": [rule]})
}

fn binding(role: &str) -> Value {
    let reference = json!({"kind": "ClusterRole", "name": role});
    let metadata = json!({"name": role, "namespace": "ns"});
    json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata, "roleRef": reference})
}

#[test]
fn a_chart_needs_what_it_writes_grants_binds_and_looks_up() {
    let pods = json!({"apiGroups": [""], "resources": ["pods"], "verbs": ["*"]});
    let needs = needs(&Needs {
        namespace: "ns".into(),
        subjects: vec![
            subject("Role", "roles", role("Role", "lab", &pods)),
            subject("ClusterRole", "clusterroles", role("ClusterRole", "ns", &pods)),
            subject("RoleBinding", "rolebindings", binding("view")),
            subject("RoleBinding", "rolebindings", binding("coder")),
        ],
        asked: BTreeSet::from([(None, right("", "nodes", "list"))]),
        defines: false,
    });
    assert!(!holds(&needs.home, &right("", "pods", "*")), "what is granted elsewhere is not granted here");
    assert!(holds(&needs.elsewhere["lab"], &right("", "pods", "*")));
    assert!(holds(&needs.elsewhere["lab"], &right("rbac.authorization.k8s.io", "roles", "create")));
    assert!(holds(&needs.cluster, &right("", "pods", "*")) && holds(&needs.cluster, &right("", "nodes", "list")));
    let bind =
        |name: &str| Right { name: Some(name.into()), ..right("rbac.authorization.k8s.io", "clusterroles", "bind") };
    assert!(holds(&needs.home, &bind("view")) && !holds(&needs.home, &bind("coder")));
    assert!(!holds(&needs.home, &right("networking.k8s.io", "networkpolicies", "get")), "no more than it takes");
}

#[test]
fn what_is_written_is_read_as_what_was_meant() {
    let odd = Right { name: Some("a: b #c".into()), ..right("", "*", "*") };
    let part = RightsGroup { why: "why: \"not\"".into(), rights: BTreeSet::from([odd, right("", "/metrics", "get")]) };
    let grants = Grants { home: vec![part.clone()], cluster: vec![part], ..base(&["lab".into()]) };
    let names = RoleNames { namespace: Some("on".into()), account: "runner".into(), upgrade: Some("coder".into()) };
    let objects: Vec<Value> = serde_saphyr::from_multiple(&yaml(&grants, &names)).unwrap();
    let kinds: Vec<_> = objects.iter().map(|object| object["kind"].as_str().unwrap()).collect();
    let expected =
        ["Role", "RoleBinding", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding", "ServiceAccount"];
    assert_eq!(kinds, expected);
    assert_eq!(granted_by(&objects[0]), grants.home[0].rights);
    assert_eq!(objects[1]["roleRef"]["name"], "runner:coder");
    assert_eq!(objects[3]["subjects"][0], json!({"kind": "ServiceAccount", "name": "runner", "namespace": "on"}));
    assert_eq!(objects[2]["metadata"]["namespace"], "lab");
    assert_eq!(objects[5]["roleRef"]["name"], "runner:on:coder");
}
