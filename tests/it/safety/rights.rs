//! P8 and the promise of rest: what the controller asks the API server for, as the server's own audit log tells it. And the rights
//! of the runner: those that are shipped suffice for what the public charts grant, and what is missing is told and granted.

use std::collections::HashSet;
use std::time::Duration;

use crate::common::{
    World,
    audit::{CONTROLLER, of_controller, requests, runner},
    is,
    terminal::Terminal,
};
use coder_upgrade_operator::api::{CheckName, CoderUpgrade, FailureClass};
use kube::ResourceExt;
use rstest::rstest;
use serde_json::{Value, json};
use testbed::{Cluster, charts::charts_dir};

/// Whether a right was missing. Quotas and namespaces that are being deleted refuse with 403, too, but are no authorizer.
fn lacks_right(entry: &Value) -> bool {
    entry["annotations"]["authorization.k8s.io/decision"] == "forbid"
}

#[tokio::test]
async fn an_unchanged_object_costs_the_controller_no_request() {
    let world = World::with_v2("rest", "2.30.0", &[]).await;
    let _undisturbed = world.undisturbed().await;
    world.upgrade_to("2.31.7").await;
    world.ready("coder").await;
    world.until("coder", "released", |o| o.metadata.finalizers.as_ref().is_none_or(Vec::is_empty)).await;
    let job = world
        .jobs()
        .await
        .into_iter()
        .find(|job| job.metadata.labels.as_ref().unwrap()["coderupgrade.dev/step"] == "upgrade");
    let name = job.unwrap().metadata.name.unwrap();
    world.kubectl(&["wait", "--for=condition=Complete", &format!("job/{name}"), "--timeout=60s"]).await;
    // What is on its way by now (events, the last look at the Job) arrives within a time that depends on the machine; once
    // nothing has come for five seconds, nothing may follow.
    let asked = || -> Vec<String> {
        of_controller(&world).iter().map(|entry| format!("{} {}", entry["verb"], entry["objectRef"])).collect()
    };
    let mut before = asked();
    for _ in 0..12 {
        tokio::time::sleep(Duration::from_secs(5)).await;
        let now = asked();
        if now.len() == before.len() {
            break;
        }
        before = now;
    }
    assert!(before.len() > 5, "the log shows the upgrade itself: {before:?}");
    tokio::time::sleep(Duration::from_secs(10)).await;
    let after = asked();
    assert_eq!(after[before.len()..], [] as [String; 0]);
    world.finish().await;
}

#[tokio::test]
async fn the_controller_reads_no_secret_and_needs_no_right_that_it_lacks() {
    let world = World::with_v2("least", "2.30.0", &[]).await;
    world.upgrade_to("2.31.7").await;
    world.ready("coder").await;
    let controller = requests(&world, CONTROLLER);
    assert!(controller.iter().any(|entry| entry["objectRef"]["resource"] == "jobs" && entry["verb"] == "create"));
    for entry in &controller {
        assert_ne!(entry["objectRef"]["resource"], "secrets", "{entry}");
        assert!(!lacks_right(entry), "{entry}");
    }
    let runner = requests(&world, &runner(&world));
    assert!(
        runner.iter().any(|entry| entry["objectRef"]["resource"] == "secrets"),
        "the runner works under its own name"
    );
    for entry in &runner {
        assert!(!lacks_right(entry), "{entry}");
    }
    // They are the largest answers of the API server: one reading of each is enough for a plan and its upgrade.
    let described = runner.iter().filter_map(|entry| entry["requestURI"].as_str()?.strip_prefix("/openapi/v3/"));
    let described: Vec<&str> = described.collect();
    assert!(described.iter().any(|group| group.starts_with("apis/apps/v1")), "the rehearsal validates: {described:?}");
    assert_eq!(described.iter().collect::<HashSet<_>>().len(), described.len(), "{described:?}");
    world.finish().await;
}

/// An empty namespace in which the runner may do nothing.
async fn bare(name: &str) -> World {
    let cluster = Cluster::for_tests().await.unwrap();
    let namespace = format!("{name}-{:x}", std::process::id());
    cluster.kubectl(&["delete", "namespace", &namespace, "--ignore-not-found"]).await.unwrap();
    cluster.kubectl(&["create", "namespace", &namespace]).await.unwrap();
    World { cluster, client: cluster.client().await.unwrap(), namespace }
}

/// Installs a public chart as an administrator would.
async fn install(world: &World, chart: &str, version: &str, values: &str) {
    let values = charts_dir().join(values).display().to_string();
    let mut arguments = vec!["install", "coder", chart, "--repo", &world.repositories().public, "--version", version];
    arguments.extend(["--wait", "--timeout", "3m"]);
    if chart == "coder" {
        arguments.extend(["--values", &values]);
    }
    world.helm(&arguments).await;
}

fn spec(world: &World, chart: &str, version: &str, more: &Value) -> Value {
    let mut spec = json!({"version": version, "chart": {"name": chart, "repository": world.repositories().public}});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    spec
}

async fn grant(world: &World, printed: &str) {
    world.cluster.kubectl_with_input(&["apply", "-f", "-"], printed).await.unwrap();
}

/// Runs the command that a message ends with, as far as the pipe.
async fn run(world: &World, message: &str) -> String {
    let (_, command) = message.rsplit_once("run: coder-upgrade-operator ").unwrap();
    let command = command.strip_suffix(" | kubectl apply -f -").unwrap();
    let arguments: Vec<&str> = command.split(' ').collect();
    let printed = Terminal::of(world).await.run(&arguments, "").await;
    assert_eq!(printed.code, 0, "{}", printed.err);
    printed.out
}

async fn ask_again(world: &World) {
    world.kubectl(&["annotate", "--overwrite", "cu", "coder", "coderupgrade.dev/requested-at=again"]).await;
}

/// The sentence about a missing right: it is short, names the object, and no list of the API server is in it.
fn told(object: &CoderUpgrade, words: &str) -> String {
    let status = object.status.as_ref().unwrap();
    let failure = status.failure.as_ref().unwrap();
    assert_eq!(failure.class, FailureClass::Forbidden, "{failure:?}");
    let finding = status.checks.iter().find(|finding| finding.check == CheckName::RunnerRights).unwrap();
    for text in [&failure.message, &status.message, &finding.message] {
        assert!(text.contains(words) && text.len() < 600, "{text}");
        assert!(!text.contains("APIGroups") && !text.contains('\n'), "{text}");
    }
    let command =
        format!("; run: coder-upgrade-operator rights coder -n {} | kubectl apply -f -", object.namespace().unwrap());
    assert!(finding.message.ends_with(&command), "{finding:?}");
    finding.message.clone()
}

/// One row for each form that the Roles of the public charts have.
#[rstest]
#[case::classic_1_21("coder", "1.21.0", "1.22.0", "coder-classic-values.yaml")]
#[case::classic_1_26("coder", "1.26.0", "1.27.0", "coder-classic-values.yaml")]
#[case::classic_1_28("coder", "1.27.0", "1.28.0", "coder-classic-values.yaml")]
#[case::classic_1_44("coder", "1.43.0", "1.44.3", "coder-classic-values.yaml")]
#[case::v2_0_14("coder", "0.14.3", "0.15.0", "coder-v2-values.yaml")]
#[case::v2_0_15("coder", "0.15.0", "0.15.1", "coder-v2-values.yaml")]
#[case::v2_11("coder", "2.11.0", "2.11.1", "coder-v2-values.yaml")]
#[case::v2_32("coder", "2.30.0", "2.32.0", "coder-v2-values.yaml")]
#[case::provisioner("coder-provisioner", "2.30.0", "2.32.0", "")]
#[tokio::test]
async fn the_shipped_rights_suffice_for_a_public_chart(
    #[case] chart: &str,
    #[case] from: &str,
    #[case] to: &str,
    #[case] values: &str,
) {
    let world = World::new(&format!("public-{}", from.replace('.', "-"))).await;
    world.database().await;
    world.create_secret("coder-provisioner-psk", json!({"psk": "shared-by-both-ends"})).await;
    install(&world, chart, from, values).await;
    let claims = world.claims().await;
    // Whoever leaves a Role as it is is not asked for what it grants: helm shall create it.
    let role = match values {
        "coder-classic-values.yaml" => "coder".to_owned(),
        _ => format!("{chart}-workspace-perms"),
    };
    world.kubectl(&["delete", "role", &role]).await;
    world.declare("coder", spec(&world, chart, to, &json!({}))).await;
    let object = world.ready("coder").await;
    assert!(object.status.unwrap().checks.iter().all(|finding| finding.check != CheckName::RunnerRights));
    assert_eq!(world.claims().await, claims);
    world.kubectl(&["get", "role", &role]).await;
    world.finish().await;
}

#[tokio::test]
async fn what_a_role_grants_beyond_the_runner_is_told_in_a_sentence_and_granted_by_its_command() {
    let world = World::new("grants").await;
    install(&world, "coder", "1.27.0", "coder-classic-values.yaml").await;
    // A person who thought that nobody executes anything.
    let role = world.kubectl(&["get", "role", "coder-upgrade-runner", "-o", "json"]).await;
    let role: Value = serde_json::from_str(&role).unwrap();
    let rules = role["rules"].as_array().unwrap().iter();
    let kept: Vec<_> = rules.filter(|rule| !rule["resources"].to_string().contains("pods/exec")).collect();
    assert!(kept.len() < role["rules"].as_array().unwrap().len());
    let patch = json!({"rules": kept}).to_string();
    world.kubectl(&["patch", "role", "coder-upgrade-runner", "--type=merge", "-p", &patch]).await;

    world.declare("coder", spec(&world, "coder", "1.28.0", &json!({}))).await;
    let object = world.stalled("coder").await;
    let message = told(&object, "Role/coder grants ");
    assert!(message.contains("which the runner lacks") && message.contains(" more"), "{message}");
    assert_eq!(object.status.unwrap().failure.unwrap().object.as_deref(), Some("Role/coder"));
    grant(&world, &run(&world, &message).await).await;
    ask_again(&world).await;
    world.ready("coder").await;
    world.finish().await;
}

/// Objects that `extraTemplates` may hold, of the namespace and of the whole cluster: a right that is granted, a role of
/// somebody else that is bound.
fn extra(name: &str) -> [Value; 3] {
    let metadata = json!({"name": name});
    let rbac = "rbac.authorization.k8s.io";
    let version = format!("{rbac}/v1");
    [
        json!({
            "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": metadata,
            "spec": {"maxUnavailable": 1, "selector": {"matchLabels": {"app.kubernetes.io/name": "coder"}}},
        }),
        json!({
            "apiVersion": version, "kind": "ClusterRole", "metadata": metadata,
            "rules": [{"apiGroups": [""], "resources": ["nodes"], "resourceNames": ["some"], "verbs": ["get"]}],
        }),
        json!({
            "apiVersion": version, "kind": "ClusterRoleBinding", "metadata": metadata,
            "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "view"},
            "subjects": [{"kind": "ServiceAccount", "name": "nobody", "namespace": name}],
        }),
    ]
}

/// What a template looks up, Roles in another namespace, objects of the whole cluster: no set for all charts has it.
#[tokio::test]
async fn what_one_chart_takes_is_told_and_is_all_that_it_needs() {
    let (world, lab) = (bare("least").await, bare("least-lab").await);
    world.database().await;
    install(&world, "coder", "2.30.0", "coder-v2-values.yaml").await;
    world.kubectl(&["create", "serviceaccount", "coder-upgrade-runner"]).await;
    let nodes = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: nodes}\ndata: {count: {{ len (lookup \"v1\" \"Node\" \"\" \"\").items | quote }}}\n";
    let [budget, role, binding] = extra(&world.namespace);
    let values = json!({"extraTemplates": [nodes, budget, role, binding], "coder": {"serviceAccount": {"workspaceNamespaces": [lab.namespace]}}});
    let spec = spec(&world, "coder", "2.32.0", &json!({"values": values}));
    let file = json!({
        "apiVersion": "coderupgrade.dev/v1alpha1", "kind": "CoderUpgrade",
        "metadata": {"name": "coder", "namespace": world.namespace}, "spec": spec,
    });
    let terminal = Terminal::of(&world).await;
    let printed = terminal.run(&["rights", "-f", "-"], &file.to_string()).await;
    assert_eq!(printed.code, 0, "{}", printed.err);
    let printed = printed.out;
    // The least: neither what only Coder Classic grants, nor anything in the whole cluster but what is looked up.
    assert!(!printed.contains("pods/exec") && printed.contains("nodes"), "{printed}");

    let without_lookup: String =
        printed.split("---\n").filter(|part| !part.contains("kind: ClusterRole")).collect::<Vec<_>>().join("---\n");
    grant(&world, &without_lookup).await;
    world.declare("coder", spec).await;
    let object = world.stalled("coder").await;
    let message = told(&object, "needs the right to list nodes in the whole cluster, which the runner lacks");
    assert!(message.contains("template coder/templates/extra.yaml"), "{message}");
    grant(&world, &run(&world, &message).await).await;
    ask_again(&world).await;
    world.ready("coder").await;
    assert!(lab.kubectl(&["get", "role", "-o", "name"]).await.contains("coder-workspace-perms"));
    let held = world.kubectl(&["get", "role", "-o", "name"]).await;
    assert!(!held.contains("/coder-upgrade-runner\n"), "nothing but what the chart takes: {held}");
    world.kubectl(&["delete", "clusterrole,clusterrolebinding", &world.namespace]).await;
    world.finish().await;
    lab.finish().await;
}

/// Coder Classic had `ClusterRoles` up to 1.19. An upgrade within these takes rights in the whole cluster, and so does the one that
/// drops them.
#[tokio::test]
async fn objects_of_the_whole_cluster_are_upgraded_and_dropped_with_the_rights_that_are_told() {
    let world = World::new("cluster-roles").await;
    install(&world, "coder", "1.18.0", "coder-v1-values.yaml").await;
    let ours = async || {
        let all = world.kubectl(&["get", "clusterroles,clusterrolebindings", "--output=name"]).await;
        let of_release = |line: &&str| line.contains(&world.namespace) && !line.contains("upgrade-runner");
        all.lines().filter(of_release).map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(ours().await.len(), 4);
    for version in ["1.19.0", "1.20.0"] {
        world.declare("coder", spec(&world, "coder", version, &json!({}))).await;
        if version == "1.19.0" {
            let object = world.stalled("coder").await;
            let message = told(&object, "lacks");
            assert!(message.contains("ClusterRole"), "{message}");
            grant(&world, &run(&world, &message).await).await;
            ask_again(&world).await;
        }
        let current = |o: &CoderUpgrade| o.status.as_ref().and_then(|status| status.current.clone());
        let there = |o: &CoderUpgrade| is(o, "Ready", "True") && current(o).is_some_and(|now| now.version == version);
        world.until("coder", version, there).await;
    }
    assert_eq!(ours().await, [""; 0]);
    world.finish().await;
}

#[tokio::test]
async fn the_printed_rights_suffice_in_a_namespace_of_any_name_and_in_those_with_workspaces() {
    let (world, lab) = (bare("any-name").await, bare("any-lab").await);
    world.database().await;
    install(&world, "coder", "2.30.0", "coder-v2-values.yaml").await;
    let terminal = Terminal::of(&world).await;
    let values = json!({"coder": {"serviceAccount": {"workspaceNamespaces": [{"name": lab.namespace}]}}});

    let printed = terminal.run(&["rights", "-n", &world.namespace], "").await;
    grant(&world, &printed.out).await;
    world.declare("coder", spec(&world, "coder", "2.32.0", &json!({"values": values}))).await;
    let object = world.stalled("coder").await;
    told(&object, "lacks");

    let more = ["rights", "-n", &world.namespace, "--workspace-namespaces", &lab.namespace];
    grant(&world, &terminal.run(&more, "").await.out).await;
    ask_again(&world).await;
    world.ready("coder").await;
    world.finish().await;
    lab.finish().await;
}

/// It cannot even say so in its Job: its last words are heard.
#[tokio::test]
async fn a_runner_without_any_right_is_told_in_seconds() {
    let world = World::with_v2("rightless", "2.30.0", &[]).await;
    let _undisturbed = world.undisturbed().await;
    world.kubectl(&["delete", "rolebinding", "coder-upgrade-runner"]).await;
    world.upgrade_to("2.31.7").await;
    let declared = std::time::Instant::now();
    let object = world.stalled("coder").await;
    assert!(declared.elapsed() < Duration::from_secs(30), "{:?}", declared.elapsed());
    let failure = object.status.unwrap().failure.unwrap();
    assert_eq!(failure.class, FailureClass::Forbidden, "{failure:?}");
    assert!(failure.message.len() < 400 && failure.message.contains("patch jobs.batch"), "{failure:?}");
    grant(&world, &run(&world, &failure.message).await).await;
    ask_again(&world).await;
    world.ready("coder").await;
    world.finish().await;
}
