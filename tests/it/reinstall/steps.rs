//! P1 and P2: a release is uninstalled without losing what cannot be made again, and comes back.

use crate::common::steps::{HelmMajor, Steps};
use coder_upgrade_operator::{api::FailureClass, core::report::Uninstalled};
use rstest::rstest;
use serde_json::{Value, json};

/// Values that make the StatefulSet refuse the upgrade, in the middle of it.
fn larger_volume() -> Value {
    json!({"timescale": {"resources": {"requests": {"storage": "128Mi"}}}})
}

fn names(uninstalled: &Uninstalled) -> Vec<String> {
    uninstalled.leftovers.iter().map(|left| format!("{}/{}", left.kind, left.name)).collect()
}

#[rstest]
#[case::helm_3(HelmMajor::Three)]
#[case::helm_4(HelmMajor::Four)]
#[tokio::test]
async fn a_reinstall_keeps_data_addresses_and_secrets(#[case] helm: HelmMajor) {
    let steps = Steps::with("reinstall-keep", helm, |r| &r.v1, "1.16.2", &[]).await;
    let claims = steps.world.claims().await;
    // One has an address outside, the others a cluster IP each.
    let kept = [
        "Secret/built-in-envproxy-token",
        "Service/cemanager",
        "Service/dashboard",
        "Service/envproxy",
        "Service/ingress-nginx",
        "Service/timescale",
        "Ingress/web-ingress",
    ];
    let before = steps.identities(&kept).await;
    steps.plan(json!({"version": "1.17.0"})).await;

    let uninstalled = steps.uninstall(&[]).await;
    assert_eq!((uninstalled.current.revision, uninstalled.current.status.as_str()), (1, "uninstalled"));
    assert_eq!(uninstalled.kept, kept);
    assert!(steps.uid("deployment/cemanager").await.is_empty());
    steps.gone("pod/timescale-0").await;

    let again = steps.uninstall(&[]).await;
    assert_eq!((again.current, again.kept, again.leftovers), (uninstalled.current, uninstalled.kept, vec![]));

    let installed = steps.install(&[]).await;
    assert_eq!((installed.current.version.as_str(), installed.current.revision), ("1.17.0", 2));
    assert_eq!(installed.address_changes, []);
    assert_eq!(steps.identities(&kept).await, before, "the same objects, with the same address and the same key");
    assert_eq!(steps.world.claims().await, claims);
    steps.world.finish().await;
}

#[tokio::test]
async fn what_helm_3_made_is_taken_back_by_helm_4() {
    let steps = Steps::with("reinstall-mixed", HelmMajor::Three, |r| &r.v1, "1.16.2", &[]).await;
    steps.run_with(HelmMajor::Four).await;
    let kept = ["secret/built-in-envproxy-token", "service/ingress-nginx", "ingress/web-ingress"];
    let before = steps.identities(&kept).await;
    let values = json!({"ingress": {"service": {"externalTrafficPolicy": "Cluster"}, "host": "new.example.com"}});
    steps.plan(json!({"version": "1.17.0", "values": values})).await;
    steps.uninstall(&[]).await;
    steps.gone("pod/timescale-0").await;
    steps.install(&[]).await;
    assert_eq!(steps.identities(&kept).await, before);
    let policy = ["get", "service", "ingress-nginx", "-o", "jsonpath={.spec.externalTrafficPolicy}"];
    assert_eq!(steps.world.kubectl(&policy).await, "Cluster", "what changed in a kept object is applied");
    steps.world.finish().await;
}

#[tokio::test]
async fn a_claim_grows_after_a_reinstall_where_its_class_allows_it() {
    let class = ["storageClassName=expandable"];
    let steps = Steps::with("reinstall-grow", HelmMajor::Four, |r| &r.v1, "1.16.2", &class).await;
    let claims = steps.world.claims().await;
    steps.plan(json!({"version": "1.17.0", "values": larger_volume()})).await;
    steps.uninstall(&[]).await;
    steps.gone("pod/timescale-0").await;
    let installed = steps.install(&[]).await;
    let size = ["get", "pvc", "timescale-data-timescale-0", "-o", "jsonpath={.spec.resources.requests.storage}"];
    assert_eq!(steps.world.kubectl(&size).await, "128Mi", "{:?}", installed.claims);
    assert_eq!(steps.world.claims().await, claims);
    steps.world.finish().await;
}

#[rstest]
#[case::helm_3(HelmMajor::Three)]
#[case::helm_4(HelmMajor::Four)]
#[tokio::test]
async fn addresses_go_if_that_is_wanted_and_slow_ones_are_named(#[case] helm: HelmMajor) {
    let steps = Steps::with("reinstall-plain", helm, |r| &r.v1, "1.16.2", &[]).await;
    let claims = steps.world.claims().await;
    let address = steps.uid("service/ingress-nginx").await;
    steps.hold("service/ingress-nginx", "example.com/slow-address").await;
    steps.plan(json!({"version": "1.17.0"})).await;

    let uninstalled = steps.uninstall(&["--keep-addresses", "false", "--helm-timeout", "3s"]).await;
    assert_eq!(uninstalled.kept, ["Secret/built-in-envproxy-token"]);
    let slow = uninstalled.leftovers.iter().find(|left| left.kind == "Service").expect("the slow Service");
    assert_eq!((slow.name.as_str(), &slow.uid), ("ingress-nginx", &address));
    assert!(slow.finalizers.contains(&"example.com/slow-address".to_owned()), "{slow:?}");
    assert_eq!(uninstalled.current.status, "uninstalled");

    steps.release("service/ingress-nginx").await;
    steps.gone("service/ingress-nginx").await;
    steps.gone("pod/timescale-0").await;
    assert_eq!(names(&steps.uninstall(&["--keep-addresses", "false"]).await), [] as [String; 0]);
    let installed = steps.install(&[]).await;
    assert_ne!(steps.uid("service/ingress-nginx").await, address);
    let named = |name: &str| installed.address_changes.iter().find(|change| change.name == name).expect("a change");
    let change = named("ingress-nginx");
    let ports = |told: &[String]| told.iter().filter(|told| told.starts_with("node port")).count();
    assert_eq!((ports(&change.before), ports(&change.after)), (3, 3), "{change:?}");
    assert_eq!(change.hosts, ["*.dev.example.com", "coder.example.com"]);
    let inner = named("cemanager");
    assert!(inner.hosts.is_empty() && inner.before[0].starts_with("cluster IP "), "{inner:?}");
    assert_eq!(steps.world.claims().await, claims);
    steps.world.finish().await;
}

#[rstest]
#[case::helm_3(HelmMajor::Three, false)]
#[case::helm_4(HelmMajor::Four, false)]
#[case::helm_3_rolled_back(HelmMajor::Three, true)]
#[case::helm_4_rolled_back(HelmMajor::Four, true)]
#[tokio::test]
async fn what_a_failed_upgrade_has_left_out_or_begun_goes_as_well(#[case] helm: HelmMajor, #[case] rollback: bool) {
    let steps = Steps::with("reinstall-half", helm, |r| &r.v1, "1.16.1", &[]).await;
    let claims = steps.world.claims().await;
    let token = steps.uid("secret/local-envproxy-token").await;
    // The operator would have foreseen what helm is refused for in the middle.
    let settings = ["--set", "timescale.resources.requests.storage=128Mi", "--atomic"];
    steps.upgrade_by_hand_fails("1.16.2", if rollback { &settings } else { &settings[..2] }).await;
    steps.plan(json!({"version": "1.16.2", "values": larger_volume()})).await;
    println!("{}", steps.helm(&["history", "coder"]).await);
    assert_eq!(steps.uid("secret/local-envproxy-token").await, token, "helm does not remove it after a failure");

    let uninstalled = steps.uninstall(&[]).await;
    println!("{:?}", uninstalled.kept);
    assert!(steps.uid("secret/local-envproxy-token").await.is_empty(), "it was in the older manifest only");
    // The rollback of helm 4 deletes what the failed upgrade has brought, and then waits for pods. That of helm 3 fails before: the
    // record of the failed upgrade has not the older Secret.
    let deleted = rollback && matches!(helm, HelmMajor::Four);
    let kept = uninstalled.kept.contains(&"Secret/built-in-envproxy-token".to_owned());
    assert_eq!(kept, !deleted, "{:?}", uninstalled.kept);
    steps.gone("pod/timescale-0").await;
    let installed = steps.install(&["--recovery", "stop"]).await;
    assert_eq!(steps.world.claims().await, claims);
    let note = installed.claims[0].note.clone().unwrap_or_default();
    assert!(note.contains("the chart asks for 128Mi and the claim has 64Mi"), "{note}");
    steps.world.finish().await;
}

#[tokio::test]
async fn a_claim_that_would_go_with_its_owner_stops_everything() {
    let steps = Steps::with("reinstall-risk", HelmMajor::Four, |r| &r.v1, "1.16.1", &[]).await;
    steps.plan(json!({"version": "1.16.2"})).await;
    let policy = r#"{"spec":{"persistentVolumeClaimRetentionPolicy":{"whenDeleted":"Delete"}}}"#;
    steps.world.kubectl(&["patch", "statefulset", "timescale", "--patch", policy]).await;
    let risk = async || {
        let problem = steps.fails("uninstall", &[]).await;
        assert_eq!((problem.class, problem.changed), (FailureClass::DataAtRisk, false));
        problem
    };
    risk().await;
    let owned = ["get", "pvc", "timescale-data-timescale-0", "-o", "jsonpath={.metadata.ownerReferences}"];
    steps.world.eventually("owner", || async { (!steps.world.kubectl(&owned).await.is_empty()).then_some(()) }).await;
    let problem = risk().await;
    assert!(
        problem.message.contains("PersistentVolumeClaim/timescale-data-timescale-0 belongs to StatefulSet/timescale"),
        "{}",
        problem.message
    );
    assert_eq!(steps.world.release().await, (1, "deployed".into()));
    steps.world.finish().await;
}

#[tokio::test]
async fn a_claim_that_is_being_deleted_stops_everything() {
    let steps = Steps::with("reinstall-lost", HelmMajor::Four, |r| &r.v1, "1.16.1", &[]).await;
    steps.plan(json!({"version": "1.16.2"})).await;
    steps.world.kubectl(&["delete", "pvc", "timescale-data-timescale-0", "--wait=false"]).await;
    let problem = steps.fails("uninstall", &[]).await;
    assert_eq!((problem.class, problem.changed), (FailureClass::DataMissing, false));
    assert_eq!(steps.world.release().await, (1, "deployed".into()));
    steps.world.finish().await;
}

#[tokio::test]
async fn a_release_that_somebody_else_changed_is_left_alone() {
    let steps = Steps::with("reinstall-outdated", HelmMajor::Four, |r| &r.v2, "2.30.0", &[]).await;
    steps.plan(json!({"version": "2.31.7"})).await;
    steps.upgrade_by_hand("2.31.6", &[]).await;
    let problem = steps.fails("uninstall", &[]).await;
    assert_eq!((problem.class, problem.changed), (FailureClass::PlanOutdated, false));
    assert_eq!(steps.world.release().await, (2, "deployed".into()));
    steps.world.finish().await;
}

#[rstest]
#[case::install("install")]
#[case::restore("restore")]
#[tokio::test]
async fn helm_does_not_install_over_what_is_still_being_deleted(#[case] step: &str) {
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "slow"}, "data": {"a": "b"}});
    let steps = Steps::with(&format!("{step}-over"), HelmMajor::Four, |r| &r.v2, "2.30.0", &[]).await;
    steps.plan(json!({"version": "2.31.6", "values": {"extraTemplates": [map]}})).await;
    steps.upgrade().await;
    steps.hold("configmap/slow", "example.com/audit").await;
    let old = steps.uid("configmap/slow").await;
    steps.plan(json!({"version": "2.31.7"})).await;
    let uninstalled = steps.uninstall(&[]).await;
    assert!(!names(&uninstalled).contains(&"ConfigMap/slow".to_owned()), "the controller cannot look at such a kind");

    let problem = steps.fails(step, &[]).await;
    assert_eq!((problem.class, problem.changed), (FailureClass::StillDeleting, false), "{}", problem.message);
    assert_eq!(problem.object.as_deref(), Some("ConfigMap/slow"));
    assert!(problem.message.contains("held by example.com/audit"), "{}", problem.message);
    assert_eq!(steps.world.release().await.1, "uninstalled", "helm was not run");

    steps.release("configmap/slow").await;
    steps.gone("configmap/slow").await;
    match step {
        "install" => steps.install(&[]).await,
        _ => steps.restore(&[]).await,
    };
    let new = steps.uid("configmap/slow").await;
    assert!(!new.is_empty() && new != old, "recreated: {new}");
    steps.world.finish().await;
}

#[rstest]
#[case::helm_3(HelmMajor::Three)]
#[case::helm_4(HelmMajor::Four)]
#[tokio::test]
async fn what_a_person_did_after_an_upgrade_is_not_taken_for_the_upgrade(#[case] helm: HelmMajor) {
    let steps = Steps::with("handed-on", helm, |r| &r.v2, "2.30.0", &[]).await;
    steps.plan(json!({"version": "2.31.7"})).await;
    steps.upgrade().await;
    steps.upgrade_by_hand("2.31.7", &["--set", "coder.podAnnotations.by=hand"]).await;
    let labels = steps.world.kubectl(&["get", "secret", "sh.helm.release.v1.coder.v3", "--show-labels"]).await;
    assert!(labels.contains("coderupgrade.dev/plan="), "helm hands labels on: {labels}");
    for step in ["upgrade", "uninstall", "restore"] {
        let problem = steps.fails(step, &[]).await;
        assert_eq!((problem.class, problem.changed), (FailureClass::PlanOutdated, false), "{}", problem.message);
    }
    assert_eq!(steps.world.release().await, (3, "deployed".into()));
    steps.world.finish().await;
}

#[tokio::test]
async fn what_another_release_has_taken_is_not_uninstalled() {
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shared"}, "data": {"a": "b"}});
    let steps = Steps::with("taken-over", HelmMajor::Four, |r| &r.v2, "2.30.0", &[]).await;
    steps.plan(json!({"version": "2.31.6", "values": {"extraTemplates": [map]}})).await;
    steps.upgrade().await;
    let uid = steps.uid("configmap/shared").await;
    steps.plan(json!({"version": "2.31.7"})).await;
    let taken = ["annotate", "--overwrite", "configmap", "shared", "meta.helm.sh/release-name=other"];
    steps.world.kubectl(&taken).await;
    let problem = steps.fails("uninstall", &[]).await;
    assert_eq!((problem.class, problem.changed), (FailureClass::OwnedByOther, false), "{}", problem.message);
    assert_eq!(problem.object.as_deref(), Some("ConfigMap/shared"));
    assert_eq!(steps.world.release().await, (2, "deployed".into()));

    steps.plan(json!({"version": "2.31.7", "dropValues": ["extraTemplates"]})).await;
    steps.uninstall(&[]).await;
    assert_eq!(steps.uid("configmap/shared").await, uid);
    steps.install(&[]).await;
    assert_eq!(steps.uid("configmap/shared").await, uid);
    steps.world.finish().await;
}

#[tokio::test]
async fn a_claim_that_the_new_chart_leaves_out_stays() {
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "extra"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "16Mi"}}}
    });
    for helm in [HelmMajor::Three, HelmMajor::Four] {
        let steps = Steps::with("dropped-claim", helm, |r| &r.v2, "2.30.0", &[]).await;
        steps.plan(json!({"version": "2.31.6", "values": {"extraTemplates": [claim]}})).await;
        steps.upgrade().await;
        let uid = steps.uid("pvc/extra").await;
        assert!(!uid.is_empty());
        steps.plan(json!({"version": "2.31.7", "dropValues": ["extraTemplates"]})).await;
        steps.upgrade().await;
        assert_eq!(steps.uid("pvc/extra").await, uid, "{helm:?} deletes what the chart leaves out, but no claim");
        steps.world.finish().await;
    }
}

#[tokio::test]
async fn a_coder_on_another_database_is_found_at_once() {
    let steps = Steps::with("other-database", HelmMajor::Four, |r| &r.v2, "2.30.0", &[]).await;
    steps.world.another_database("other").await;
    let url =
        json!({"name": "CODER_PG_CONNECTION_URL", "value": "postgres://coder:correct-horse-battery@other:5432/coder"});
    let overrides = ["DatabaseTarget"];
    steps.plan(json!({"version": "2.31.7", "values": {"coder": {"env": [url]}}, "overrides": overrides})).await;
    let begun = std::time::Instant::now();
    let problem = steps.fails("upgrade", &[]).await;
    assert_eq!(problem.class, FailureClass::DataMissing, "{}", problem.message);
    assert!(problem.message.contains("works on another database"), "{}", problem.message);
    assert!(begun.elapsed().as_secs() < 30, "{:?}", begun.elapsed());
    steps.world.finish().await;
}

/// A hook that runs before the uninstall.
fn before_the_uninstall(script: &str) -> Value {
    let container = json!({"name": "hook", "image": "testbed-host:1", "command": ["sh", "-c", script]});
    json!({
        "apiVersion": "batch/v1", "kind": "Job",
        "metadata": {"name": "goodbye", "annotations": {"helm.sh/hook": "pre-delete"}},
        "spec": {"backoffLimit": 0, "template": {"spec": {"restartPolicy": "Never", "containers": [container]}}},
    })
}

async fn with_hook(name: &str, helm: HelmMajor, script: &str) -> Steps {
    let steps = Steps::with(name, helm, |r| &r.v2, "2.30.0", &[]).await;
    steps.world.kubectl(&["create", "role", "hooks", "--verb=*", "--resource=jobs.batch"]).await;
    let runner = format!("--serviceaccount={}:coder-upgrade-runner", steps.world.namespace);
    steps.world.kubectl(&["create", "rolebinding", "hooks", "--role=hooks", &runner]).await;
    steps.plan(json!({"version": "2.31.6", "values": {"extraTemplates": [before_the_uninstall(script)]}})).await;
    steps.upgrade().await;
    steps.plan(json!({"version": "2.31.7"})).await;
    steps
}

#[rstest]
#[case::helm_3(HelmMajor::Three)]
#[case::helm_4(HelmMajor::Four)]
#[tokio::test]
async fn a_refused_uninstall_leaves_helms_record_as_it_was(#[case] helm: HelmMajor) {
    let steps = with_hook("refused-uninstall", helm, "exit 1").await;
    let before = steps.helm(&["get", "manifest", "coder"]).await;
    let problem = steps.fails("uninstall", &[]).await;
    assert!(problem.message.contains("goodbye"), "{}", problem.message);
    assert_eq!(steps.helm(&["get", "manifest", "coder"]).await, before, "nothing is marked to be kept any more");
    steps.world.finish().await;
}

#[rstest]
#[case::helm_3(HelmMajor::Three)]
#[case::helm_4(HelmMajor::Four)]
#[tokio::test]
async fn a_hook_of_the_uninstall_may_take_its_time(#[case] helm: HelmMajor) {
    let steps = with_hook("slow-goodbye", helm, "sleep 8").await;
    let uninstalled = steps.uninstall(&[]).await;
    assert_eq!(uninstalled.current.status, "uninstalled");
    steps.world.finish().await;
}
