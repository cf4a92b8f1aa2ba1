//! The rehearsal: what helm would be refused for is known before anything changes, and nothing is written to find it out.

use crate::common::World;
use crate::common::audit::{requests, runner};
use crate::common::steps::{HelmMajor, Steps};
use coder_upgrade_operator::api::{FailureClass, InterruptionLength, PlannedAction, PlannedRepair, Remedy};
use coder_upgrade_operator::core::report::PlanReport;
use rstest::rstest;
use serde_json::{Value, json};
use testbed::charts::charts_dir;

/// Every object of the namespace, with its version. What the runner writes beside the release is left out, and what others
/// write all the time.
async fn everything(world: &World) -> Vec<String> {
    let kinds = ["api-resources", "--namespaced", "--verbs=list", "--output=name", "--cached=false"];
    let kinds = world.cluster.kubectl(&kinds).await.unwrap();
    let left_out = |kind: &&str| {
        !kind.starts_with("events")
            && !kind.starts_with("jobs.")
            && !kind.starts_with("leases")
            && !kind.starts_with("coderupgrades")
    };
    let kinds: Vec<&str> = kinds.lines().map(str::trim).filter(|kind| !kind.is_empty()).filter(left_out).collect();
    let line = "{range .items[*]}{.kind}/{.metadata.name} {.metadata.uid} {.metadata.resourceVersion}{\"\\n\"}{end}";
    let all = world.kubectl(&["get", &kinds.join(","), "-o", &format!("jsonpath={line}")]).await;
    let ours = |line: &&str| !line.starts_with("Secret/coder-plan-");
    let mut all: Vec<String> = all.lines().filter(ours).map(ToOwned::to_owned).collect();
    all.sort();
    all
}

/// Waits until nobody writes any more.
async fn at_rest(world: &World) -> Vec<String> {
    world
        .eventually("rest", || async {
            let before = everything(world).await;
            tokio::time::sleep(std::time::Duration::from_secs(2)).await;
            (before == everything(world).await).then_some(before)
        })
        .await
}

/// Writes of the runner that were no dry runs, and not its own business.
fn writes(world: &World, since: usize) -> Vec<String> {
    let own = |entry: &Value| {
        let object = &entry["objectRef"];
        object["resource"] == "jobs"
            || object["apiGroup"] == "authorization.k8s.io"
            || (object["resource"] == "secrets"
                && entry["verb"] == "create"
                && object["name"].as_str().is_some_and(|name| name.starts_with("coder-plan-")))
    };
    let real = |entry: &&Value| {
        let verb = entry["verb"].as_str().unwrap();
        !matches!(verb, "get" | "list" | "watch")
            && !entry["requestURI"].as_str().unwrap().contains("dryRun=All")
            && !own(entry)
    };
    let all = requests(world, &runner(world));
    all[since..].iter().filter(real).map(|entry| format!("{} {}", entry["verb"], entry["requestURI"])).collect()
}

fn dry_runs(world: &World, since: usize) -> usize {
    let all = requests(world, &runner(world));
    all[since..].iter().filter(|entry| entry["requestURI"].as_str().unwrap().contains("dryRun=All")).count()
}

fn found(repairs: &[PlannedRepair]) -> Vec<(Remedy, &str)> {
    repairs.iter().map(|repair| (repair.remedy, repair.object.as_str())).collect()
}

#[rstest]
#[case::helm_3(HelmMajor::Three)]
#[case::helm_4(HelmMajor::Four)]
#[tokio::test]
async fn a_rehearsal_writes_nothing(#[case] helm: HelmMajor) {
    // An object that the next version does not have: helm deletes it.
    let doomed = ["apiVersion=v1", "kind=ConfigMap", "metadata.name=doomed"];
    let doomed = doomed.map(|setting| format!("extraTemplates[0].{setting}"));
    let settings: Vec<&str> = doomed.iter().map(String::as_str).collect();
    let steps = Steps::with("dry", helm, |r| &r.faults, "2.31.6", &settings).await;
    let world = &steps.world;
    let before = at_rest(world).await;
    let since = requests(world, &runner(world)).len();
    let planned = steps.plan(json!({"version": "2.31.11", "values": {"extraTemplates": []}})).await;
    assert_eq!(planned.plan.forecast.objects.removed, 1);
    assert_eq!(found(&planned.plan.forecast.repairs), [(Remedy::Replace, "Deployment/coder")]);
    assert_eq!(everything(world).await, before);
    assert_eq!(writes(world, since), [] as [String; 0]);
    assert!(dry_runs(world, since) > 5, "it was rehearsed");
    let upgraded = steps.upgrade().await;
    assert_eq!(
        (upgraded.current.revision, upgraded.current.version.as_str()),
        (2, "2.31.11"),
        "no failed revision is left"
    );
    steps.world.finish().await;
}

/// The helm that installed the release, and the helm of the runner.
const HELMS: [(HelmMajor, HelmMajor); 3] =
    [(HelmMajor::Three, HelmMajor::Three), (HelmMajor::Four, HelmMajor::Four), (HelmMajor::Three, HelmMajor::Four)];

/// Objects of three kinds that refuse a change, as the values of the chart have them.
fn extras(role: &str, size: &str, more: &[Value]) -> Value {
    let template = json!({
        "metadata": {"name": "data"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}},
    });
    let labels = json!({"app": "extra"});
    let set = json!({
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": "extra"},
        "spec": {
            "replicas": 0, "serviceName": "extra", "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "extra", "image": "pause:1"}]}},
            "volumeClaimTemplates": [template],
        },
    });
    let binding = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": "extra"},
        "subjects": [], "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": role},
    });
    let rights = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": {"name": role},
        "rules": [{"apiGroups": [""], "resources": ["pods"], "verbs": ["get"]}],
    });
    let mut all = vec![set, rights, binding];
    all.extend(more.iter().cloned());
    json!({"extraTemplates": all})
}

fn forecast(planned: &PlanReport) -> Vec<(Remedy, &str)> {
    found(&planned.plan.forecast.repairs)
}

/// Everything that helm would be refused for is found by repeating the rehearsal, and repaired before helm runs: no failed
/// revision is left.
#[rstest]
#[case::helm_3(0)]
#[case::helm_4(1)]
#[case::helm_4_after_helm_3(2)]
#[tokio::test]
async fn all_that_can_be_repaired_is_repaired_before_helm_runs(#[case] helms: usize) {
    let (installer, runner) = HELMS[helms];
    let steps = Steps::with(&format!("several-{helms}"), installer, |r| &r.faults, "2.31.6", &[]).await;
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), extras("coder-one-role", "32Mi", &[]).to_string()).unwrap();
    steps.upgrade_by_hand("2.31.6", &["--values", file.path().to_str().unwrap()]).await;
    steps.run_with(runner).await;
    steps
        .world
        .apply(&json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "extra"}, "data": {"by": "hand"}}))
        .await;

    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "extra"}, "data": {"by": "chart"}});
    let values = extras("coder-other-role", "64Mi", &[map]);
    let planned = steps.plan(json!({"version": "2.31.11", "values": values})).await;
    let mut repairs = forecast(&planned);
    repairs.sort();
    assert_eq!(
        repairs,
        [
            (Remedy::Adopt, "ConfigMap/extra"),
            (Remedy::Replace, "Deployment/coder"),
            (Remedy::Replace, "RoleBinding/extra"),
            (Remedy::Replace, "StatefulSet/extra"),
        ]
    );
    let reasons = &planned.plan.forecast.repairs;
    assert!(
        reasons.iter().all(|repair| !repair.message.is_empty() && !repair.message.contains("rehearsal")),
        "{reasons:?}"
    );
    assert_eq!(planned.plan.forecast.objects.replaced, 3);

    let upgraded = steps.upgrade().await;
    assert_eq!((upgraded.current.revision, upgraded.current.status.as_str()), (3, "deployed"));
    let role = ["get", "rolebinding", "extra", "-o", "jsonpath={.roleRef.name}"];
    assert_eq!(steps.world.kubectl(&role).await, "coder-other-role");
    let data = ["get", "configmap", "extra", "-o", "jsonpath={.data.by}"];
    assert_eq!(steps.world.kubectl(&data).await, "chart");
    // All is as the chart wants it: nothing is to be done, and nothing is repaired.
    let again = steps.plan(json!({"version": "2.31.11", "values": values})).await;
    assert_eq!((again.plan.action, forecast(&again)), (PlannedAction::Nothing, vec![]));
    steps.world.finish().await;
}

#[rstest]
#[case::helm_3(HelmMajor::Three)]
#[case::helm_4(HelmMajor::Four)]
#[tokio::test]
async fn what_no_repair_cures_ends_the_plan(#[case] helm: HelmMajor) {
    let steps = Steps::with("incurable", helm, |r| &r.faults, "2.31.6", &[]).await;
    let world = &steps.world;
    let before = at_rest(world).await;
    let since = requests(world, &runner(world)).len();

    let budget = json!({
        "apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "coder"},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": "coder"}}},
    });
    let problem = steps.refused(json!({"version": "2.31.7", "values": {"extraTemplates": [budget]}})).await;
    assert_eq!(problem.class, FailureClass::Forbidden, "{problem:?}");
    assert!(problem.message.contains("poddisruptionbudgets") && !problem.changed, "{problem:?}");

    let port = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "extra"}, "spec": {"ports": [{"port": 80_000}]},
    });
    let problem = steps.refused(json!({"version": "2.31.7", "values": {"extraTemplates": [port]}})).await;
    assert_eq!((problem.class, problem.object.as_deref()), (FailureClass::ObjectInvalid, Some("Service/extra")));
    assert_eq!(problem.field.as_deref(), Some("spec.ports[0].port"));

    // Together with something that a repair would cure: nothing is half done.
    let problem = steps.refused(json!({"version": "2.31.11", "values": {"extraTemplates": [port]}})).await;
    assert_eq!(problem.class, FailureClass::ObjectInvalid, "{problem:?}");

    let unknown = json!({"apiVersion": "example.com/v1", "kind": "Unknown", "metadata": {"name": "x"}});
    let problem = steps.refused(json!({"version": "2.31.7", "values": {"extraTemplates": [unknown]}})).await;
    assert_eq!(problem.class, FailureClass::DefinitionMissing, "{problem:?}");

    assert_eq!(everything(world).await, before);
    assert_eq!(writes(world, since), [] as [String; 0]);
    steps.world.finish().await;
}

#[rstest]
#[case::helm_3(HelmMajor::Three)]
#[case::helm_4(HelmMajor::Four)]
#[tokio::test]
async fn a_first_install_is_rehearsed_too(#[case] helm: HelmMajor) {
    let steps = Steps::empty("first", helm, |r| &r.v2).await;
    let world = &steps.world;
    world.database().await;
    let taken = json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "coder"}});
    world.apply(&taken).await;
    let before = at_rest(world).await;
    let since = requests(world, &runner(world)).len();
    let values = std::fs::read_to_string(charts_dir().join("coder-v2-values.yaml")).unwrap();
    let values: Value = serde_saphyr::from_str(&values).unwrap();
    let planned = steps.plan(json!({"version": "2.31.7", "values": values, "adopt": true})).await;
    assert_eq!(planned.plan.action, PlannedAction::Install);
    assert_eq!(forecast(&planned), [(Remedy::Adopt, "ServiceAccount/coder")]);
    assert_eq!(everything(world).await, before);
    assert_eq!(writes(world, since), [] as [String; 0]);
    assert_eq!(steps.upgrade().await.current.revision, 1);
    steps.world.finish().await;
}

#[rstest]
#[case::helm_3(HelmMajor::Three)]
#[case::helm_4(HelmMajor::Four)]
#[tokio::test]
async fn what_somebody_edited_or_deleted_is_something_to_do(#[case] helm: HelmMajor) {
    let steps = Steps::with("drift", helm, |r| &r.v2, "2.31.7", &[]).await;
    let world = &steps.world;
    let spec = json!({"version": "2.31.7"});
    assert_eq!(steps.plan(spec.clone()).await.plan.action, PlannedAction::Nothing);

    world.kubectl(&["delete", "rolebinding", "coder"]).await;
    let planned = steps.plan(spec.clone()).await;
    assert_eq!((planned.plan.action, planned.plan.forecast.objects.added), (PlannedAction::Upgrade, 1));
    assert_eq!(planned.plan.forecast.interruption.length, InterruptionLength::None);
    assert_eq!(steps.upgrade().await.current.revision, 2);
    assert!(!steps.uid("rolebinding/coder").await.is_empty(), "it is back");

    world.kubectl(&["scale", "deployment/coder", "--replicas=2"]).await;
    world.kubectl(&["rollout", "status", "deployment/coder", "--timeout=60s"]).await;
    assert_eq!(steps.plan(spec).await.plan.action, PlannedAction::Nothing, "Coder may be scaled");
    steps.world.finish().await;
}

/// Only the rehearsal's helm has this argument.
#[rstest]
#[case::empty(": > \"$KUBECONFIG\"")]
#[case::missing("rm \"$KUBECONFIG\"")]
#[tokio::test]
async fn a_rehearsal_without_its_kubeconfig_fails_and_upgrades_nothing(#[case] loses: &str) {
    let steps = Steps::with("no-config", HelmMajor::Four, |repositories| &repositories.v2, "2.30.0", &[]).await;
    let before = at_rest(&steps.world).await;
    steps.before_helm(&format!("case \" $* \" in *\" --no-hooks \"*) {loses};; esac"));
    let problem = steps.refused(json!({"version": "2.31.7"})).await;
    assert_eq!(problem.class, FailureClass::ApiUnavailable, "{problem:?}");
    assert_eq!(at_rest(&steps.world).await, before);
    assert_eq!(steps.world.release().await, (1, "deployed".into()));
    steps.world.finish().await;
}
