//! Who else has this Coder: records of helm that are kept elsewhere or are lost, Coder that was applied without helm, and other
//! programs that manage the release. All of it is told before anything is changed, and taken over only on purpose.

use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Stdio;

use crate::common::World;
use crate::common::steps::{HelmMajor, Steps};
use coder_upgrade_operator::api::{
    CheckName, FailureClass, Finding, InterruptionLength, PlannedAction, Remedy, Severity,
};
use coder_upgrade_operator::core::report::{PlanReport, Problem};
use jiff::Timestamp;
use serde_json::{Value, json};
use testbed::charts::charts_dir;

const OBJECTS: &str = "deployments,services,serviceaccounts,roles,rolebindings,statefulsets,secrets,configmaps";
const RECORDS: &str = "owner=helm,name=coder";

/// The values that the administrator has used, and more.
fn values(more: &Value) -> Value {
    let text = std::fs::read_to_string(charts_dir().join("coder-v2-values.yaml")).unwrap();
    let mut values: Value = serde_saphyr::from_str(&text).unwrap();
    for (key, value) in more.as_object().unwrap() {
        values["coder"][key] = value.clone();
    }
    values
}

/// What identifies every object of the namespace, and every change of it. The declaration's own are left out.
async fn everything(world: &World) -> String {
    let columns = "custom-columns=KIND:.kind,NAME:.metadata.name,UID:.metadata.uid,GENERATION:.metadata.generation,\
                   ROLE:.roleRef.name,MARKS:.metadata.annotations";
    let all = world.kubectl(&["get", OBJECTS, "--no-headers", "-o", columns]).await;
    all.lines().filter(|line| !line.contains("coder-plan")).collect::<Vec<_>>().join("\n")
}

async fn replicas(world: &World) -> String {
    world.kubectl(&["get", "deployment", "coder", "-o", "jsonpath={.spec.replicas}"]).await
}

/// helm with its records in `ConfigMaps`, as its administrator runs it.
async fn install_with_config_maps(world: &World, repository: &str, version: &str, values: &str, more: &[&str]) {
    let values = charts_dir().join(values);
    let mut helm = world.cluster.helm_command();
    helm.args(["install", "coder", "coder", "--repo", repository, "--version", version, "--wait", "--timeout", "3m"]);
    helm.args(["--values", values.to_str().unwrap(), "--namespace", &world.namespace]);
    let done = helm.args(more).env("HELM_DRIVER", "configmap").output().await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

/// What Argo CD, and everybody who pipes `helm template` into `kubectl apply`, does.
async fn apply_template(steps: &Steps, version: &str, more: &[&str]) {
    let world = &steps.world;
    let values = charts_dir().join("coder-v2-values.yaml");
    let mut template = vec!["template", "coder", "coder", "--repo", &world.repositories().v2, "--version", version];
    template.extend(["--values", values.to_str().unwrap()]);
    template.extend(more);
    let manifest = steps.helm(&template).await;
    let apply = ["apply", "--namespace", &world.namespace, "-f", "-"];
    world.cluster.kubectl_with_input(&apply, &manifest).await.unwrap();
    world.kubectl(&["rollout", "status", "deployment/coder", "--timeout=120s"]).await;
}

fn found(findings: &[Finding], check: CheckName) -> &Finding {
    findings.iter().find(|finding| finding.check == check).unwrap_or_else(|| panic!("no {check} in {findings:?}"))
}

/// The refusal that comes first is of this class, and says these words.
fn says(problem: &Problem, class: FailureClass, words: &[&str]) {
    assert_eq!(problem.class, class, "{problem:?}");
    for words in words {
        assert!(problem.message.contains(words), "{words}: {}", problem.message);
    }
}

fn adopted(planned: &PlanReport) -> Vec<&str> {
    let repairs = planned.plan.forecast.repairs.iter().filter(|repair| repair.remedy == Remedy::Adopt);
    repairs.map(|repair| repair.object.as_str()).collect()
}

/// The commands of a section of a page, as a person copies them.
fn recipe(page: &str, heading: &str) -> String {
    let page = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(page)).unwrap();
    let section = page.split(&format!("\n## {heading}\n")).nth(1).unwrap_or_else(|| panic!("no {heading}"));
    let block = section.split("```sh\n").nth(1).unwrap();
    block.split("```").next().unwrap().to_owned()
}

/// Runs commands in a shell that has kubectl.
async fn shell(world: &World, commands: &str) {
    let bin = tempfile::tempdir().unwrap();
    symlink(world.cluster.kubectl_command().as_std().get_program(), bin.path().join("kubectl")).unwrap();
    let path = format!("{}:{}", bin.path().display(), std::env::var("PATH").unwrap_or_default());
    let mut command = tokio::process::Command::new("sh");
    command.args(["-eu", "-c", commands]).env("PATH", path).env("KUBECONFIG", world.cluster.kubeconfig());
    let done = command.env("NS", &world.namespace).stdin(Stdio::null()).output().await.unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
}

#[tokio::test]
async fn records_in_config_maps_are_named_and_moved_by_the_documented_command() {
    let steps = Steps::empty("configmaps", HelmMajor::Four, |r| &r.v2).await;
    let world = &steps.world;
    world.database().await;
    let repository = world.repositories().v2.clone();
    install_with_config_maps(world, &repository, "2.30.0", "coder-v2-values.yaml", &["--set", "coder.replicaCount=2"])
        .await;
    let before = everything(world).await;
    let spec = json!({"version": "2.31.7"});
    for more in [json!({}), json!({"values": values(&json!({}))}), json!({"values": values(&json!({})), "adopt": true})]
    {
        let mut spec = spec.clone();
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let problem = steps.refused(spec).await;
        says(
            &problem,
            FailureClass::ReleaseMissing,
            &["HELM_DRIVER=configmap", "revision 1 (deployed)", "second history"],
        );
        assert_eq!(problem.object.as_deref(), Some("ConfigMap/sh.helm.release.v1.coder.v1"));
        assert_eq!(problem.findings.iter().filter(|f| f.severity == Severity::Refusal).count(), 1, "{problem:?}");
        assert!(problem.findings[0].next_step.contains("docs/adoption.md"), "{problem:?}");
    }
    assert_eq!(everything(world).await, before);

    shell(world, &recipe("docs/adoption.md", "Records in ConfigMaps")).await;
    let planned = steps.plan(spec.clone()).await;
    assert_eq!((planned.plan.action, planned.plan.from.as_deref()), (PlannedAction::Upgrade, Some("2.30.0")));
    let left = found(&planned.findings, CheckName::ReleaseRecords);
    assert_eq!(left.severity, Severity::Warning, "what was left behind is told: {left:?}");
    assert_eq!(steps.upgrade().await.current.revision, 2);
    assert_eq!((world.values().await["coder"]["replicaCount"].clone(), replicas(world).await), (json!(2), "2".into()));

    // As the warning says.
    world.kubectl(&["delete", "configmaps", "--selector", RECORDS]).await;
    let planned = steps.plan(spec).await;
    assert!(
        planned.findings.iter().all(|finding| finding.check != CheckName::ReleaseRecords),
        "{:?}",
        planned.findings
    );
    steps.world.finish().await;
}

/// Somebody goes on with helm and its `ConfigMaps` after the records were moved.
#[tokio::test]
async fn a_history_that_goes_on_in_config_maps_is_no_old_one() {
    let steps = Steps::with("two-histories", HelmMajor::Four, |r| &r.v2, "2.30.0", &[]).await;
    let world = &steps.world;
    let mut helm = world.cluster.helm_command();
    helm.args(["upgrade", "--install", "coder", "coder", "--repo", &world.repositories().v2, "--version", "2.31.6"]);
    let values = charts_dir().join("coder-v2-values.yaml");
    helm.args(["--values", values.to_str().unwrap(), "--namespace", &world.namespace, "--wait"]);
    assert!(helm.env("HELM_DRIVER", "configmap").status().await.unwrap().success());
    // As if helm had written both in one second, by a clock that is ahead.
    let written = format!("modifiedAt={}", Timestamp::now().as_second() + 600);
    world.kubectl(&["label", "secrets,configmaps", "--selector", RECORDS, "--overwrite", &written]).await;
    let problem = steps.refused(json!({"version": "2.31.7"})).await;
    says(&problem, FailureClass::ReleaseMissing, &["HELM_DRIVER=configmap"]);

    let raw =
        world.kubectl(&["get", "configmaps", "--selector", RECORDS, "--output=jsonpath={.items[0].data.release}"]);
    let raw = json!({"stringData": {"release": raw.await}}).to_string();
    world.kubectl(&["patch", "secret", "sh.helm.release.v1.coder.v1", "--patch", &raw]).await;
    let planned = steps.plan(json!({"version": "2.31.7"})).await;
    assert_eq!(
        found(&planned.findings, CheckName::ReleaseRecords).severity,
        Severity::Warning,
        "a copy is no newer one"
    );
    steps.world.finish().await;
}

#[tokio::test]
async fn coder_v2_is_not_installed_beside_a_classic_whose_records_are_elsewhere() {
    let steps = Steps::empty("classic", HelmMajor::Four, |r| &r.v2).await;
    let world = &steps.world;
    world.database().await;
    let repository = world.repositories().v1.clone();
    install_with_config_maps(world, &repository, "1.20.0", "coder-v1-values.yaml", &[]).await;
    let before = everything(world).await;
    let mut spec = json!({"version": "2.31.7", "values": values(&json!({}))});
    let problem = steps.refused(spec.clone()).await;
    says(&problem, FailureClass::ProductLineChanged, &["Coder Classic (v1)", "(and one more refusal: ReleaseRecords)"]);

    // No word of the records lets the other product line pass, whether they are there or not, and whether Coder has pods or not.
    spec["overrides"] = json!(["ReleaseRecords"]);
    says(&steps.refused(spec.clone()).await, FailureClass::ProductLineChanged, &["Coder Classic (v1)"]);
    assert_eq!(everything(world).await, before, "the RoleBinding of the other line among it");
    world.kubectl(&["delete", "configmaps", "--selector", RECORDS]).await;
    world.kubectl(&["scale", "deployment", "--all", "--replicas=0"]).await;
    spec["adopt"] = true.into();
    says(&steps.refused(spec).await, FailureClass::ProductLineChanged, &["Coder Classic (v1)"]);
    steps.world.finish().await;
}

#[tokio::test]
async fn coder_that_was_applied_without_helm_is_only_taken_over_on_purpose() {
    let steps = Steps::empty("applied", HelmMajor::Four, |r| &r.v2).await;
    let world = &steps.world;
    world.database().await;
    apply_template(&steps, "2.30.0", &["--set", "coder.replicaCount=2", "--set", "coder.podAnnotations.by=argo"]).await;
    let before = everything(world).await;
    let mut spec = json!({"version": "2.31.7"});
    let problem = steps.refused(spec.clone()).await;
    says(&problem, FailureClass::ReleaseMissing, &["Deployment/coder exists", "belongs to no Helm release"]);
    assert_eq!(problem.findings.len(), 1, "not a word of a database that is missing: {:?}", problem.findings);
    spec["values"] = values(&json!({}));
    says(&steps.refused(spec.clone()).await, FailureClass::ReleaseMissing, &["belongs to no Helm release"]);
    assert_eq!(everything(world).await, before);

    let argo = "argocd.argoproj.io/tracking-id";
    world.kubectl(&["annotate", "deployment", "coder", &format!("{argo}=dev:apps/Deployment:ns/coder")]).await;
    let before = everything(world).await;
    spec["adopt"] = true.into();
    let problem = steps.refused(spec.clone()).await;
    says(&problem, FailureClass::ManagedElsewhere, &["Argo CD (Application dev)"]);
    assert_eq!(everything(world).await, before);
    world.kubectl(&["annotate", "deployment", "coder", &format!("{argo}-")]).await;

    let planned = steps.plan(spec).await;
    assert_eq!(planned.plan.action, PlannedAction::Install);
    assert!(adopted(&planned).contains(&"Deployment/coder"), "{:?}", planned.plan.forecast);
    let interruption = &planned.plan.forecast.interruption;
    assert!(interruption.reason.contains("Deployment/coder replaces its 2 pods"), "{interruption:?}");
    let warning = found(&planned.findings, CheckName::ReleaseRecords);
    assert_eq!(warning.severity, Severity::Warning);
    assert!(warning.message.contains("The values would be: coder.env"), "{warning:?}");
    let upgraded = steps.upgrade().await;
    assert!(upgraded.verified.contains("same deployment"), "{upgraded:?}");
    assert_eq!(world.release().await, (1, "deployed".into()));
    assert_eq!(steps.plan(json!({"version": "2.31.7"})).await.plan.action, PlannedAction::Nothing, "helm has it now");
    steps.world.finish().await;
}

#[tokio::test]
async fn what_runs_without_records_is_compared_with_what_is_wanted() {
    let steps = Steps::with("lost", HelmMajor::Four, |r| &r.v2, "2.31.7", &["coder.replicaCount=2"]).await;
    let world = &steps.world;
    world.kubectl(&["delete", "secret", "--selector", RECORDS]).await;
    let before = everything(world).await;
    let mut spec = json!({"version": "2.30.0", "values": values(&json!({"replicaCount": 2}))});
    let problem = steps.refused(spec.clone()).await;
    says(&problem, FailureClass::Downgrade, &["runs Coder 2.31.7 already", "(and one more refusal: ReleaseRecords)"]);
    let records = found(&problem.findings, CheckName::ReleaseRecords);
    assert!(records.message.contains("belongs to it by the annotation meta.helm.sh/release-name"), "{records:?}");
    spec["adopt"] = true.into();
    says(&steps.refused(spec.clone()).await, FailureClass::Downgrade, &["runs Coder 2.31.7 already"]);

    // Its records may lie in a namespace that nobody here may look into.
    let flux = ["helm.toolkit.fluxcd.io/name=dev", "helm.toolkit.fluxcd.io/namespace=flux-system"];
    world.kubectl(&[&["label", "deployment", "coder"], &flux[..]].concat()).await;
    spec["version"] = "2.32.0".into();
    let problem = steps.refused(spec.clone()).await;
    says(&problem, FailureClass::ManagedElsewhere, &["Flux (HelmRelease/dev in flux-system)"]);
    let unlabel = ["helm.toolkit.fluxcd.io/name-", "helm.toolkit.fluxcd.io/namespace-"];
    world.kubectl(&[&["label", "deployment", "coder"], &unlabel[..]].concat()).await;

    // Another database than the one that it works on.
    spec["values"]["coder"]["env"][1]["valueFrom"]["secretKeyRef"]["name"] = "another".into();
    let problem = steps.refused(spec.clone()).await;
    says(&problem, FailureClass::CheckRefused, &["another database"]);
    assert_eq!(everything(world).await, before);

    spec["values"] = values(&json!({"replicaCount": 2}));
    let planned = steps.plan(spec).await;
    assert_ne!(planned.plan.forecast.interruption.length, InterruptionLength::Minutes);
    assert!(!planned.plan.forecast.interruption.reason.contains("installed yet"), "{:?}", planned.plan.forecast);
    let upgraded = steps.upgrade().await;
    assert!(upgraded.verified.contains("same deployment") && replicas(world).await == "2", "{upgraded:?}");
    steps.world.finish().await;
}

#[tokio::test]
async fn a_first_install_takes_over_nothing_that_somebody_has_made() {
    let steps = Steps::empty("first-owner", HelmMajor::Four, |r| &r.v2).await;
    let world = &steps.world;
    world.database().await;
    let metadata = json!({"name": "coder", "labels": {"kapp.k14s.io/app": "1654770079912481700"}});
    world.apply(&json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})).await;
    let mut spec = json!({"version": "2.31.7", "values": values(&json!({}))});
    let problem = steps.refused(spec.clone()).await;
    says(&problem, FailureClass::ManagedElsewhere, &["ServiceAccount/coder is managed by Carvel kapp"]);
    assert_eq!(found(&problem.findings, CheckName::ReleaseRecords).field.as_deref(), Some("spec.adopt"));
    world.kubectl(&["label", "serviceaccount", "coder", "kapp.k14s.io/app-"]).await;
    let problem = steps.refused(spec.clone()).await;
    says(&problem, FailureClass::ReleaseMissing, &["objects of its chart exist", "ServiceAccount/coder"]);

    // A pod of Coder that no workload has made.
    let container = json!({"name": "coder", "image": "ghcr.io/coder/coder:v2.32.0"});
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod", "spec": {"containers": [container]},
        "metadata": {"name": "by-hand", "labels": {"app.kubernetes.io/name": "coder"}},
    });
    world.apply(&pod).await;
    spec["adopt"] = true.into();
    let problem = steps.refused(spec.clone()).await;
    says(&problem, FailureClass::Downgrade, &["Pod/by-hand runs Coder 2.32.0 already"]);
    world.kubectl(&["delete", "pod", "by-hand", "--grace-period=1"]).await;

    // What appears after the plan is no part of it.
    spec["adopt"] = false.into();
    world.kubectl(&["delete", "serviceaccount", "coder"]).await;
    assert_eq!(steps.plan(spec).await.plan.forecast.repairs, []);
    world.kubectl(&["create", "serviceaccount", "coder"]).await;
    let problem = steps.fails("upgrade", &[]).await;
    says(&problem, FailureClass::PlanOutdated, &["ServiceAccount/coder", "unless spec.adopt is true"]);
    assert_eq!(world.kubectl(&["get", "deployment", "coder", "--ignore-not-found"]).await, "");
    steps.world.finish().await;
}

#[tokio::test]
async fn a_coder_under_another_name_is_not_said_to_be_taken_over() {
    let steps = Steps::empty("other-name", HelmMajor::Four, |r| &r.v2).await;
    let world = &steps.world;
    world.database().await;
    let values = values(&json!({}));
    let labels = json!({"app": "dev"});
    let container = json!({"name": "coder", "image": "ghcr.io/coder/coder:v2.30.0", "args": ["server"],
        "env": values["coder"]["env"]});
    let template = json!({"metadata": {"labels": labels}, "spec": {"containers": [container]}});
    world
        .apply(&json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "dev"},
            "spec": {"selector": {"matchLabels": labels}, "template": template}}))
        .await;
    let spec = json!({"version": "2.31.7", "values": values, "adopt": true, "helm": {"rollbackOnFailure": true}});
    let problem = steps.refused(spec.clone()).await;
    says(&problem, FailureClass::ReleaseMissing, &["Deployment/dev is no object of the new chart", "on one database"]);

    // As the next step says. helm has no record by which to delete it, nor one to go back to.
    world.kubectl(&["scale", "deployment", "dev", "--replicas=0"]).await;
    world.kubectl(&["wait", "pods", "--for=delete", "--selector=app=dev", "--timeout=90s"]).await;
    let planned = steps.plan(spec).await;
    let left = |finding: &&Finding| finding.message.contains("Deployment/dev is no object of the new chart");
    assert_eq!(planned.findings.iter().find(left).unwrap().severity, Severity::Warning);
    assert_eq!(planned.plan.forecast.objects.removed, 0, "{:?}", planned.plan.forecast);
    let settings = found(&planned.findings, CheckName::HelmSettings);
    assert!(settings.message.contains("will not roll back"), "{settings:?}");
    steps.upgrade().await;
    assert_eq!(world.kubectl(&["get", "deployment", "dev", "-o", "jsonpath={.spec.replicas}"]).await, "0");
    steps.world.finish().await;
}

/// The release has another name than the declaration says.
#[tokio::test]
async fn a_coder_of_another_release_is_pointed_at() {
    let steps = Steps::empty("other-release", HelmMajor::Four, |r| &r.v2).await;
    let world = &steps.world;
    world.database().await;
    world.install("dev", &world.repositories().v2, "2.30.0", "coder-v2-values.yaml", &[]).await;
    let mut spec = json!({"version": "2.31.7", "values": values(&json!({})), "adopt": true});
    let problem = steps.refused(spec.clone()).await;
    says(&problem, FailureClass::OwnedByOther, &["the Helm release dev"]);
    let hint = found(&problem.findings, CheckName::ReleaseRecords);
    assert!(hint.severity == Severity::Warning && hint.next_step.contains("spec.release: dev"), "{hint:?}");

    // That release is gone, but for what it has left.
    world.kubectl(&["delete", "secret", "--selector", "owner=helm,name=dev"]).await;
    spec["adopt"] = false.into();
    says(&steps.refused(spec.clone()).await, FailureClass::ReleaseMissing, &["belongs to the Helm release dev"]);
    steps.world.finish().await;
}

/// What each tool puts on the objects that it manages, on one object of the release that is no workload.
const MARKS: [(&str, &str, &str); 9] = [
    ("label", "kustomize.toolkit.fluxcd.io/name=apps", "Flux (Kustomization/apps in its namespace)"),
    ("annotate", "argocd.argoproj.io/tracking-id=dev:/Service:ns/coder", "Argo CD (Application dev)"),
    ("label", "argocd.argoproj.io/instance=dev", "Argo CD (Application dev)"),
    ("annotate", "objectset.rio.cattle.io/id=default-dev", "Rancher Fleet (bundle default-dev)"),
    ("annotate", "objectset.rio.cattle.io/owner-name=dev", "k3s or Rancher (object/dev)"),
    ("label", "kluctl.io/discriminator=dev", "kluctl (deployment dev)"),
    ("annotate", "configmanagement.gke.io/managed=enabled", "Config Sync"),
    ("label", "crossplane.io/composite=dev", "Crossplane (composite resource dev)"),
    ("label", "app.kubernetes.io/managed-by=pulumi", "pulumi"),
];

#[tokio::test]
async fn another_manager_is_seen_by_its_marks_on_any_object() {
    let steps = Steps::with("marks", HelmMajor::Four, |r| &r.v2, "2.30.0", &[]).await;
    let world = &steps.world;
    let spec = json!({"version": "2.31.7"});
    for (how, mark, who) in MARKS {
        world.kubectl(&[how, "--overwrite", "service", "coder", mark]).await;
        let problem = steps.refused(spec.clone()).await;
        says(&problem, FailureClass::ManagedElsewhere, &[&format!("Service/coder is managed by {who}")]);
        let (key, _) = mark.split_once('=').unwrap();
        let back = if key.ends_with("managed-by") { format!("{key}=Helm") } else { format!("{key}-") };
        world.kubectl(&[how, "--overwrite", "service", "coder", &back]).await;
    }

    // k3s runs helm in a Job, and marks nothing else.
    let job = json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": "helm-install-coder", "labels": {"helmcharts.helm.cattle.io/chart": "coder"}},
        "spec": {"suspend": true, "template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "helm", "image": "none"}]}}},
    });
    world.apply(&job).await;
    says(
        &steps.refused(spec.clone()).await,
        FailureClass::ManagedElsewhere,
        &["Job/helm-install-coder", "HelmChart coder"],
    );
    world.kubectl(&["delete", "job", "helm-install-coder"]).await;

    // Fields that Argo CD has written, and a label that it tracks objects by.
    let service =
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "coder", "labels": {"by": "argo"}}});
    let apply =
        ["apply", "--server-side", "--field-manager=argocd-controller", "--namespace", &world.namespace, "-f", "-"];
    world.cluster.kubectl_with_input(&apply, &service.to_string()).await.unwrap();
    let planned = steps.plan(spec.clone()).await;
    let warning = found(&planned.findings, CheckName::ReleaseManager);
    assert_eq!((warning.severity, warning.object.as_deref()), (Severity::Warning, Some("Service/coder")));
    assert!(warning.message.contains("Argo CD has written fields"), "{warning:?}");
    assert_eq!(world.release().await, (1, "deployed".into()));
    steps.world.finish().await;
}
