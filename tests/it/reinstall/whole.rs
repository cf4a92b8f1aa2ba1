//! P1, P2 and P9 through the guide's last resort: uninstall, wait, install. Nothing is lost, whatever dies meanwhile, and
//! Coder comes back however often the install fails.

use crate::common::{CLASSIC_CLAIM, World, is, reason};
use coder_upgrade_operator::api::{CoderUpgrade, CoderUpgradeStatus, Phase, StepName, StepState};
use k8s_openapi::api::core::v1::Service;
use kube::{ResourceExt, api::ListParams};
use rstest::rstest;
use serde_json::{Value, json};

fn status(object: &CoderUpgrade) -> CoderUpgradeStatus {
    object.status.clone().unwrap_or_default()
}

fn steps(object: &CoderUpgrade) -> Vec<StepName> {
    let mut steps: Vec<_> = status(object).steps.iter().map(|step| step.name).collect();
    steps.dedup();
    steps
}

/// Coder Classic, with a change that its `StatefulSet` refuses, and an operator that may only report it.
async fn refused(name: &str, spec: Value) -> World {
    let world = World::with_v1(name, "1.16.1").await;
    let mut whole = json!({
        "version": "1.16.2", "chart": {"repository": world.repositories().v1}, "recovery": "Stop",
        "values": {"timescale": {"resources": {"requests": {"storage": "128Mi"}}}},
    });
    whole.as_object_mut().unwrap().extend(spec.as_object().unwrap().clone());
    world.declare("coder", whole).await;
    let object = world.phase("coder", Phase::AwaitingApproval).await;
    assert_eq!(reason(&object, "Ready").unwrap(), ("False".into(), "AwaitingApproval".into()));
    let foreseen = status(&object).plan.unwrap().forecast.repairs;
    assert_eq!(foreseen.iter().map(|repair| repair.object.as_str()).collect::<Vec<_>>(), ["StatefulSet/timescale"]);
    world
}

/// A release that an administrator began to uninstall by hand, as the guide has it, until the terminal was closed.
async fn half_uninstalled(world: World) -> World {
    let service = world.api::<Service>().list(&ListParams::default()).await.unwrap().items.remove(0).name_any();
    let hold = |finalizers: &str| format!(r#"{{"metadata":{{"finalizers":{finalizers}}}}}"#);
    world.kubectl(&["patch", "service", &service, "--type=merge", "-p", &hold(r#"["example.org/hold"]"#)]).await;
    let mut command = world.cluster.helm_command();
    command.args(["uninstall", "coder", "--wait", "--namespace", &world.namespace]).kill_on_drop(true);
    let mut helm = command.spawn().unwrap();
    world
        .eventually("Service that is being deleted", || async {
            let found = world.api::<Service>().get(&service).await.unwrap();
            found.metadata.deletion_timestamp.map(|_| ())
        })
        .await;
    helm.kill().await.unwrap();
    world.kubectl(&["patch", "service", &service, "--type=merge", "-p", &hold("[]")]).await;
    assert_eq!(world.release().await.1, "uninstalling");
    world
}

#[tokio::test]
async fn an_uninstall_by_hand_that_was_interrupted_is_finished_once_a_person_approves() {
    let world = half_uninstalled(World::with_v1("half", "1.16.1").await).await;
    let (claims, data) = (world.claims().await, world.deployment_id().await);
    world.declare("coder", json!({"version": "1.16.2", "chart": {"repository": world.repositories().v1}})).await;
    let object = world.phase("coder", Phase::AwaitingApproval).await;
    let waiting = status(&object);
    assert_eq!(reason(&object, "Stalled").unwrap(), ("True".into(), "AwaitingApproval".into()));
    let value = waiting.approval.unwrap().value;
    assert!(value.ends_with("/reinstall") && waiting.failure.unwrap().next_step.contains(&value));

    world.kubectl(&["annotate", "cu", "coder", "coderupgrade.dev/approve=000000000000/reinstall"]).await;
    world
        .eventually("event about an approval that does not count", || async {
            let events = world.kubectl(&["get", "events", "-o", "jsonpath={.items[*].reason}"]).await;
            events.contains("ApprovalIgnored").then_some(())
        })
        .await;
    assert_eq!(status(&world.get("coder").await).phase, Phase::AwaitingApproval);

    world.approve("reinstall").await;
    let object = world.ready("coder").await;
    assert_eq!(
        steps(&object),
        [StepName::Plan, StepName::Upgrade, StepName::Uninstall, StepName::Drain, StepName::Install]
    );
    assert!(is(&object, "DataKept", "True"));
    assert_eq!((world.claims().await, world.deployment_id().await), (claims, data));
    assert_eq!(world.values().await["ingress"]["host"], "coder.example.com", "the values came through");
    assert_eq!(world.release().await.1, "deployed");
    world.finish().await;
}

/// Who dies.
#[derive(Clone, Copy, Debug)]
enum Victim {
    Runner,
    Controller,
}

#[rstest]
#[case::runner_in_the_uninstall("kill-ru", Phase::Uninstalling, Victim::Runner)]
#[case::controller_in_the_uninstall("kill-cu", Phase::Uninstalling, Victim::Controller)]
#[case::controller_in_the_drain("kill-cd", Phase::Draining, Victim::Controller)]
#[case::runner_in_the_install("kill-ri", Phase::Installing, Victim::Runner)]
#[case::controller_in_the_install("kill-ci", Phase::Installing, Victim::Controller)]
#[tokio::test]
async fn whoever_is_killed_in_a_reinstall_the_end_is_the_same(
    #[case] name: &str,
    #[case] phase: Phase,
    #[case] victim: Victim,
) {
    let world = refused(name, json!({"keepAddresses": false})).await;
    let (claims, data) = (world.claims().await, world.deployment_id().await);
    let slow = "testbed.coderupgrade.dev/release-delay=12s";
    world.kubectl(&["annotate", "service", "ingress-nginx", slow]).await;
    world.approve("reinstall").await;
    world.phase("coder", phase).await;
    match victim {
        Victim::Controller => world.restart_controller().await,
        Victim::Runner => {
            let step = if phase == Phase::Installing { "install" } else { "uninstall" };
            world.kill_runner(step).await;
        }
    }
    let object = world.ready("coder").await;
    assert_eq!(status(&object).current.unwrap().version, "1.16.2");
    assert_eq!((world.claims().await, world.deployment_id().await), (claims, data));
    assert_eq!(world.release().await.1, "deployed");
    assert!(!status(&object).recovery_required && status(&object).waiting_for.is_empty());
    world.finish().await;
}

#[tokio::test]
async fn an_install_that_fails_five_times_is_tried_until_it_works() {
    let world = World::new("five").await;
    world.impatient().await;
    world.database().await;
    let repository = world.repositories().faults.clone();
    world.install("coder", &repository, "2.31.6", "coder-v2-values.yaml", &[]).await;
    let world = half_uninstalled(world).await;
    let port = 31999;
    let taken = json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": "squatter"},
        "spec": {"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]},
    });
    let values = json!({"testbed": {"nodePort": port}});
    let spec = json!({"version": "2.31.19", "chart": {"repository": repository}, "values": values});
    world.declare("coder", spec).await;
    world.phase("coder", Phase::AwaitingApproval).await;
    // A moment later than the plan, which would have seen it.
    world.apply(&taken).await;
    world.approve("reinstall").await;
    let failing = |object: &CoderUpgrade| {
        let status = status(object);
        let installing = status.failure.as_ref().is_some_and(|failure| failure.step == StepName::Install);
        installing && status.retries >= 5
    };
    let object = world.until("coder", "at its fifth failure to install", failing).await;
    assert_eq!(status(&object).failure.unwrap().class.to_string(), "PortTaken");
    assert!(status(&object).recovery_required && status(&object).message.contains("goes on until Coder is back"));
    assert!(is(&object, "Reconciling", "True") && is(&object, "Stalled", "False"));
    world.kubectl(&["delete", "service", "squatter"]).await;
    let object = world.ready("coder").await;
    assert_eq!(status(&object).current.unwrap().version, "2.31.19");
    world.finish().await;
}

#[rstest]
#[case::with_helm_3("no-image-3", "coder-upgrade-operator:v0.1.0-helm3")]
#[case::with_helm_4("no-image-4", "coder-upgrade-operator:v0.1.0")]
#[tokio::test]
async fn a_new_version_that_cannot_start_gives_way_to_the_old_one(#[case] name: &str, #[case] image: &str) {
    let world = World::new(name).await;
    let repository = world.repositories().faults.clone();
    world.database().await;
    world.install("coder", &repository, "2.31.6", "coder-v2-values.yaml", &[]).await;
    let given = world.values().await;
    let world = half_uninstalled(world).await;
    let claims = world.claims().await;
    // Nobody has the image of this version.
    let spec = json!({
        "version": "2.31.17", "chart": {"repository": repository}, "recovery": "Reinstall",
        "job": {"image": image}, "helm": {"timeout": "15s"},
    });
    world.declare("coder", spec).await;
    let object = world.stalled("coder").await;
    let ended = status(&object);
    assert_eq!(ended.steps.last().unwrap().name, StepName::Restore, "{ended:?}");
    assert_eq!((ended.phase, ended.current.unwrap().version.as_str()), (Phase::Failed, "2.31.6"));
    assert_eq!(ended.failure.unwrap().class.to_string(), "RolloutTimedOut");
    assert!(ended.message.contains("was restored and runs"), "{}", ended.message);
    assert_eq!((world.claims().await, world.values().await), (claims, given));
    assert_eq!(world.release().await.1, "deployed");
    world.finish().await;
}

/// helm goes on after a refused object: pods of the new version start, and migrate the database. There is no way back then.
#[tokio::test]
async fn an_install_that_is_refused_while_its_pods_start_goes_on_with_the_new_version() {
    let world = World::new("broken-install").await;
    let repository = world.repositories().faults.clone();
    world.install("coder", &repository, "1.16.1", "coder-v1-values.yaml", &[]).await;
    let world = half_uninstalled(world).await;
    let (claims, data) = (world.claims().await, world.deployment_id().await);
    let spec = json!({"version": "1.16.2", "chart": {"repository": repository}, "recovery": "Reinstall"});
    world.declare("coder", spec).await;
    let object = world.ready("coder").await;
    let failed = status(&object).steps.into_iter().find(|step| step.name == StepName::Install).unwrap();
    assert_eq!(failed.state, StepState::Failed, "the chart refuses every first install");
    assert_eq!(status(&object).current.unwrap().version, "1.16.2");
    assert_eq!((world.claims().await, world.deployment_id().await), (claims, data));
    world.finish().await;
}

#[tokio::test]
async fn a_claim_that_is_deleted_during_the_drain_stops_everything() {
    let world = refused("claim-lost", json!({"keepAddresses": false})).await;
    world.kubectl(&["annotate", "service", "ingress-nginx", "testbed.coderupgrade.dev/release-delay=never"]).await;
    world.approve("reinstall").await;
    world.phase("coder", Phase::Draining).await;
    world.kubectl(&["delete", "pvc", CLASSIC_CLAIM, "--wait=false"]).await;
    let object = world.stalled("coder").await;
    assert_eq!(reason(&object, "DataKept").unwrap(), ("False".into(), "DataMissing".into()));
    let failure = status(&object).failure.unwrap();
    assert!(
        failure.message.contains(CLASSIC_CLAIM) && failure.message.contains("nothing was installed"),
        "{failure:?}"
    );
    assert_eq!(world.release().await.1, "uninstalled");
    world
        .kubectl(&["annotate", "--overwrite", "service", "ingress-nginx", "testbed.coderupgrade.dev/release-delay=0s"])
        .await;
    world.finish().await;
}
