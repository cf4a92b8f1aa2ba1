//! Write access to CoderUpgrades is the right to upgrade Coder, and no more: a controller with its default flags, and somebody
//! who may write CoderUpgrades and nothing else.

use crate::common::{World, recorder::Recorder};
use coder_upgrade_operator::api::{CoderUpgrade, Phase};
use serde_json::{Value, json};
use testbed::{
    Cluster, ClusterOptions,
    cluster::{OPERATOR_NAMESPACE, ToolError},
};
use tokio::sync::OnceCell;

const WRITER: &str = "jane";
const VERSION: &str = "2.31.7";

/// A cluster whose controller is deployed as deploy/default has it; the one of other tests allows everything.
async fn cluster() -> &'static Cluster {
    static CLUSTER: OnceCell<Cluster> = OnceCell::const_new();
    let start = async || {
        let options = ClusterOptions { owner_pid: Some(std::process::id()), ..ClusterOptions::default() };
        let cluster = Cluster::up(options).await.unwrap();
        cluster.load_operator_as_deployed().await.unwrap();
        cluster
    };
    CLUSTER.get_or_init(start).await
}

/// A namespace in which the runner may work, another ServiceAccount may do everything, another application has a Secret, and
/// somebody may write CoderUpgrades.
async fn world(name: &str) -> World {
    let world = World::on(cluster().await, name).await;
    world.kubectl(&["create", "role", "writer", "--verb=create,get,patch", "--resource=coderupgrades"]).await;
    world.kubectl(&["create", "rolebinding", "writer", "--role=writer", &format!("--user={WRITER}")]).await;
    world.kubectl(&["create", "serviceaccount", "powerful"]).await;
    let account = format!("--serviceaccount={}:powerful", world.namespace);
    world.kubectl(&["create", "rolebinding", "powerful", "--clusterrole=admin", &account]).await;
    world.create_secret("ldap", json!({"username": "svc-ldap", "password": "planted-password"})).await;
    world
}

/// Applies a CoderUpgrade with the rights of the writer.
async fn apply(world: &World, spec: &Value) -> Result<String, ToolError> {
    apply_with(world, spec, "--dry-run=none").await
}

async fn apply_with(world: &World, spec: &Value, dry_run: &str) -> Result<String, ToolError> {
    let object = json!({
        "apiVersion": "coderupgrade.dev/v1alpha1", "kind": "CoderUpgrade", "metadata": {"name": "coder"}, "spec": spec
    });
    let arguments = ["apply", dry_run, "--server-side", "--as", WRITER, "--namespace", &world.namespace, "-f", "-"];
    world.cluster.kubectl_with_input(&arguments, &object.to_string()).await
}

/// Declares what must be refused before anything is started for it.
async fn refused(world: &World, spec: Value, field: &str, flag: &str) -> CoderUpgrade {
    apply(world, &spec).await.unwrap();
    let generation = world.get("coder").await.metadata.generation;
    let told = move |o: &CoderUpgrade| {
        o.status.as_ref().is_some_and(|s| s.failure.is_some() && Some(s.observed_generation) == generation)
    };
    let object = world.until("coder", "refused", told).await;
    let status = object.status.clone().unwrap();
    let failure = status.failure.unwrap();
    let about = (failure.class.to_string(), failure.field.as_deref(), status.phase);
    assert_eq!(about, ("NotAllowed".into(), Some(field), Phase::Failed), "{}", failure.message);
    assert!(failure.message.contains(flag), "{}", failure.message);
    assert!(crate::common::is(&object, "Stalled", "True") && crate::common::is(&object, "Ready", "False"));
    assert_eq!(world.jobs().await.len(), 0, "no Job was created");
    object
}

#[tokio::test]
async fn whoever_may_write_coderupgrades_has_nothing_of_their_own_run_or_sent() {
    let world = world("writer").await;
    for (verb, resource) in [("create", "jobs"), ("create", "pods"), ("get", "secrets")] {
        let asked = ["auth", "can-i", verb, resource, "--as", WRITER, "--namespace", &world.namespace];
        assert!(world.cluster.kubectl(&asked).await.is_err(), "{verb} {resource}");
    }
    let theirs = Recorder::start(world.machine()).await;
    let image = json!({"version": VERSION, "job": {"image": "attacker.example/own-tool:1"}});
    Box::pin(refused(&world, image, "spec.job.image", "--allowed-job-images")).await;
    let account = json!({"version": VERSION, "job": {"serviceAccountName": "powerful"}});
    Box::pin(refused(&world, account, "spec.job.serviceAccountName", "--allowed-service-accounts")).await;
    let chart = json!({"repository": theirs.url, "credentialsSecretRef": {"name": "ldap"}, "plainHTTP": true});
    let elsewhere = json!({"version": VERSION, "chart": chart});
    Box::pin(refused(&world, elsewhere, "spec.chart.repository", "--allowed-repositories")).await;
    let archive = json!({"secretKeyRef": {"name": "ldap", "key": "password"}});
    let chart = json!({"archive": archive});
    let archived = json!({"version": VERSION, "chart": chart});
    Box::pin(refused(&world, archived, "spec.chart.archive", "--allowed-repositories")).await;
    assert_eq!(theirs.asked(), []);

    // A corrected spec goes on by itself, under the runner's ServiceAccount and the controller's image.
    apply(&world, &json!({"version": VERSION})).await.unwrap();
    let job = world.eventually("a Job", || async { world.jobs().await.pop() }).await;
    let pod = job.spec.unwrap().template.spec.unwrap();
    let image = pod.containers[0].image.clone().unwrap();
    assert!(image.starts_with("coder-upgrade-operator:"), "{image}");
    assert_eq!(pod.service_account_name.as_deref(), Some("coder-upgrade-runner"));
    world.finish().await;
}

#[tokio::test]
async fn a_controller_with_other_flags_goes_on_by_itself() {
    let world = world("flags").await;
    world.database().await;
    let repository = world.repositories().v2.clone();
    world.install("coder", &repository, "2.30.0", "coder-v2-values.yaml", &[]).await;
    let spec = json!({
        "version": VERSION, "chart": {"repository": repository}, "verify": {"timeout": "60s", "soak": "1s"}
    });
    Box::pin(refused(&world, spec, "spec.chart.repository", "--allowed-repositories")).await;
    // Neither time nor a restart alone changes anything.
    world.restart_controller().await;
    let allow = format!("ALLOWED_REPOSITORIES=https://helm.coder.com/v2,{repository}");
    let arguments = ["set", "env", "deployment/coder-upgrade-operator", &allow, "--namespace", OPERATOR_NAMESPACE];
    world.cluster.kubectl(&arguments).await.unwrap();
    assert_eq!(world.ready("coder").await.status.unwrap().current.unwrap().version, VERSION);

    // Refused at once while nothing is to be done, and forgotten with the next edit.
    let mut spec =
        json!({"version": VERSION, "chart": {"repository": repository}, "job": {"serviceAccountName": "powerful"}});
    apply(&world, &spec).await.unwrap();
    world.stalled("coder").await;
    spec["job"] = json!({});
    apply(&world, &spec).await.unwrap();
    world.ready("coder").await;
    world.finish().await;
}

/// Applies a policy of deploy/ for one namespace, because other tests use the cluster as well, and waits until it refuses what
/// the writer changes.
async fn restrict(world: &World, policy: &str) {
    let directory = format!("{}/deploy/{policy}", env!("CARGO_MANIFEST_DIR"));
    let manifests = world.cluster.kubectl(&["kustomize", &directory]).await.unwrap();
    let here = format!(
        "  matchResources:\n    namespaceSelector:\n      matchLabels:\n        kubernetes.io/metadata.name: {}\n",
        world.namespace
    );
    let (head, tail) = manifests.split_once("  validationActions:").unwrap();
    let manifests = format!("{head}{here}  validationActions:{tail}");
    world.cluster.kubectl_with_input(&["apply", "--server-side", "-f", "-"], &manifests).await.unwrap();
    let refused = || async { apply_with(world, &account("powerful"), "--dry-run=server").await.err() };
    world.eventually("admission policy", refused).await;
}

fn repository(address: &str) -> Value {
    json!({"suspend": true, "chart": {"repository": address}})
}

fn account(name: &str) -> Value {
    json!({"suspend": true, "job": {"serviceAccountName": name}})
}

fn image(name: &str) -> Value {
    json!({"suspend": true, "job": {"image": name}})
}

#[tokio::test]
async fn the_admission_policy_refuses_the_same_at_once() {
    let world = world("admission").await;
    apply(&world, &repository("https://before.example")).await.unwrap();
    restrict(&world, "admission").await;
    // What is there already can still be changed by those who do not touch its spec, as the controller does.
    let arguments = ["annotate", "coderupgrade", "coder", "a=b", "--as", WRITER];
    world.kubectl(&arguments).await;

    let refused = [
        (repository("https://evil.example"), "spec.chart.repository must be one of these"),
        (repository("https://helm.coder.community"), "spec.chart.repository"),
        (repository("https://helm.coder.com.evil.example"), "spec.chart.repository"),
        (repository("https://helm.coder.com/../evil"), "spec.chart.repository"),
        (repository("https://helm.coder.com/%2e%2e/evil"), "spec.chart.repository"),
        (repository("https://helm.coder.com//evil"), "spec.chart.repository"),
        (repository("https://helm.coder.com:8443"), "spec.chart.repository"),
        (repository("http://helm.coder.com"), "spec.chart.repository"),
        (repository("oci://ghcr.io/coder"), "spec.chart.repository"),
        (
            json!({"suspend": true, "chart": {"archive": {"configMapKeyRef": {"name": "a", "key": "b"}}}}),
            "spec.chart.archive",
        ),
        (account("powerful"), "spec.job.serviceAccountName must be one of these: coder-upgrade-runner"),
        (image("attacker.example/own-tool:1"), "spec.job.image"),
    ];
    for (spec, words) in refused {
        let error = apply(&world, &spec).await.unwrap_err().to_string();
        assert!(error.contains(words), "{spec}: {error}");
    }
    for spec in [
        json!({"suspend": true}),
        repository("https://helm.coder.com/v2/"),
        repository("oci://ghcr.io/coder/chart"),
        account("coder-upgrade-runner"),
    ] {
        apply(&world, &spec).await.unwrap();
    }

    // Other limits count as soon as they are written.
    let data = json!({"data": {"repositories": "*", "serviceAccounts": "*", "jobImages": "attacker.example/own\n"}});
    let arguments = ["patch", "configmap", "coder-upgrade-limits", "--namespace", OPERATOR_NAMESPACE, "--patch"];
    world.cluster.kubectl(&[&arguments[..], &[&data.to_string()]].concat()).await.unwrap();
    let wide = json!({
        "suspend": true, "chart": {"repository": "https://evil.example"},
        "job": {"serviceAccountName": "powerful", "image": "attacker.example/own:1"},
    });
    world.eventually("other limits", || async { apply(&world, &wide).await.ok() }).await;
    let error = apply(&world, &image("attacker.example/own-tool:1")).await.unwrap_err().to_string();
    assert!(error.contains("spec.job.image"), "{error}");
    world.finish().await;
}

#[tokio::test]
async fn with_the_policy_of_roles_a_writer_changes_the_version_only() {
    let world = world("roles").await;
    let values = json!({"coder": {"env": []}});
    let spec = |version: &str| json!({"suspend": true, "version": version, "values": values});
    apply(&world, &spec("2.30.0")).await.unwrap();
    restrict(&world, "admission-roles").await;

    apply(&world, &spec(VERSION)).await.unwrap();
    let edits = [
        ("/spec/values", json!({"coder": {"image": {"repo": "attacker.example/coder"}}})),
        ("/spec/valuesFrom", json!([{"kind": "Secret", "name": "ldap"}])),
        ("/spec/recovery", json!("Reinstall")),
        ("/spec/chart/name", json!("other")),
        ("/metadata/annotations", json!({"coderupgrade.dev/approve": "0123456789ab"})),
    ];
    let patch = |(path, value): (&str, Value)| json!([{"op": "add", "path": path, "value": value}]).to_string();
    let kubectl = async |arguments: &[&str]| {
        let given = ["--as", WRITER, "--namespace", &world.namespace];
        world.cluster.kubectl(&[arguments, &given[..]].concat()).await
    };
    for edit in edits.clone() {
        let refused = kubectl(&["patch", "cu", "coder", "--type=json", "--patch", &patch(edit.clone())]).await;
        let refused = refused.unwrap_err().to_string();
        let verb = if edit.0.starts_with("/spec") { "configure" } else { "approve" };
        assert!(refused.contains(&format!("the verb {verb} on coderupgrades")), "{edit:?}: {refused}");
    }
    let without = json!([{"op": "remove", "path": "/spec/values"}]).to_string();
    assert!(kubectl(&["patch", "cu", "coder", "--type=json", "--patch", &without]).await.is_err());
    assert!(kubectl(&["annotate", "cu", "coder", "coderupgrade.dev/requested-at=now"]).await.is_ok());

    let user = format!("--user={WRITER}");
    for role in ["coder-upgrade-configurator", "coder-upgrade-approver"] {
        world.kubectl(&["create", "rolebinding", role, "--clusterrole", role, &user]).await;
    }
    for edit in edits {
        kubectl(&["patch", "cu", "coder", "--type=json", "--patch", &patch(edit)]).await.unwrap();
    }
    world.finish().await;
}
