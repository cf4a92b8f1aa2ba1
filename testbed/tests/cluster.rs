//! What a cluster promises to those who start one.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "helpers of tests")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Service};
use k8s_openapi::api::networking::v1::Ingress;
use kube::api::{DeleteParams, PostParams};
use kube::runtime::conditions::is_deleted;
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use serde_json::{Value, json};
use testbed::process::{Identity, Signal};
use testbed::supervisor::options::ReleaseDelay;
use testbed::supervisor::state::Phase;
use testbed::{Cluster, ClusterOptions};
use tokio::time::{Instant, timeout};

/// Long enough for a busy machine, short enough to notice a hang.
const PATIENCE: Duration = Duration::from_secs(30);

/// How slowly a Service or an Ingress gives up its address.
const RELEASE_DELAY: &str = "testbed.coderupgrade.dev/release-delay";

/// A cluster that ends with this test process, in a directory that outlives it.
async fn up(dir: &Path, options: ClusterOptions) -> Cluster {
    let owner_pid = Some(std::process::id());
    Cluster::up(ClusterOptions { dir: Some(dir.to_owned()), owner_pid, ..options }).await.unwrap()
}

/// All processes of a cluster, the supervisor first.
fn processes(cluster: &Cluster) -> Vec<Identity> {
    let state = cluster.status().unwrap();
    let components = state.components.values().filter_map(|component| component.process);
    std::iter::once(state.supervisor).chain(components).collect()
}

async fn all_ended(processes: &[Identity]) {
    for process in processes {
        if let Some(running) = process.open().unwrap() {
            timeout(PATIENCE, running.ended()).await.expect("a process goes on").unwrap();
        }
    }
}

fn object<K: serde::de::DeserializeOwned>(json: Value) -> K {
    serde_json::from_value(json).unwrap()
}

fn load_balancer(name: &str) -> Service {
    let ports = json!([{"port": 80}]);
    object(json!({"metadata": {"name": name}, "spec": {"type": "LoadBalancer", "ports": ports}}))
}

fn address(service: &Service) -> Option<String> {
    service.status.as_ref()?.load_balancer.as_ref()?.ingress.as_ref()?.first()?.ip.clone()
}

fn has_address(service: Option<&Service>) -> bool {
    service.is_some_and(|service| address(service).is_some())
}

async fn create_and_wait_for_address(services: &Api<Service>, name: &str) -> Service {
    services.create(&PostParams::default(), &load_balancer(name)).await.unwrap();
    timeout(PATIENCE, await_condition(services.clone(), name, has_address)).await.unwrap().unwrap().unwrap()
}

async fn delete_and_time(services: &Api<Service>, service: &Service) -> Duration {
    let name = service.metadata.name.clone().unwrap();
    let uid = service.metadata.uid.clone().unwrap();
    let started = Instant::now();
    services.delete(&name, &DeleteParams::default()).await.unwrap();
    timeout(PATIENCE, await_condition(services.clone(), &name, is_deleted(&uid))).await.unwrap().unwrap();
    started.elapsed()
}

#[tokio::test]
async fn two_clusters_run_side_by_side_and_leave_nothing() {
    let dirs = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let options = || ClusterOptions { audit_log: true, ..ClusterOptions::default() };
    let (one, other) = tokio::join!(up(dirs[0].path(), options()), up(dirs[1].path(), options()));

    assert!(one.kubectl(&["get", "nodes"]).await.unwrap().contains(" Ready "));
    one.kubectl(&["create", "namespace", "only-here"]).await.unwrap();
    let error = other.kubectl(&["get", "namespace", "only-here"]).await.unwrap_err().to_string();
    assert!(error.contains("kubectl get namespace only-here") && error.contains("not found"), "{error}");
    let ranges = [&one, &other].map(|cluster| cluster.status().unwrap().node.pod_addresses);
    assert_ne!(ranges[0], ranges[1]);
    assert!(one.helm(&["list"]).await.unwrap().contains("NAMESPACE"));
    let audit = fs::read_to_string(dirs[0].path().join("logs/audit.log")).unwrap();
    assert!(audit.contains(r#""username":"admin""#) && audit.contains("only-here"));

    let running = [processes(&one), processes(&other)].concat();
    assert_eq!(running.len(), 10, "a supervisor and four components each");
    one.down().await.unwrap();
    assert!(other.kubectl(&["get", "nodes"]).await.is_ok(), "the other one goes on");
    other.down().await.unwrap();
    assert!(running.iter().all(|process| !process.is_alive()));
    assert_eq!(one.status().unwrap().phase, Phase::Stopped);
    assert!(!one.kubeconfig().exists());
    assert!(Cluster::attach(dirs[0].path()).is_err());
}

#[tokio::test]
async fn load_balancers_have_addresses_and_release_them_late() {
    let dir = tempfile::tempdir().unwrap();
    let delay = Duration::from_secs(2);
    let lb_release_delay = ReleaseDelay::After(delay);
    let cluster = up(dir.path(), ClusterOptions { lb_release_delay, ..ClusterOptions::default() }).await;
    let client = cluster.client().await.unwrap();
    let services = Api::<Service>::namespaced(client.clone(), "default");

    let first = create_and_wait_for_address(&services, "web").await;
    let finalizers = first.metadata.finalizers.clone().unwrap_or_default();
    assert!(finalizers.contains(&"service.kubernetes.io/load-balancer-cleanup".to_owned()));
    assert!(delete_and_time(&services, &first).await >= delay);
    let second = create_and_wait_for_address(&services, "web").await;
    assert_ne!(address(&first), address(&second), "a re-created Service has a new address");

    an_annotation_makes_a_service_linger_for_ever(&cluster, &services).await;
    ingresses_have_addresses_and_may_linger(&client).await;
    volumes_are_removed_at_the_end(&cluster, &client).await;
}

async fn an_annotation_makes_a_service_linger_for_ever(cluster: &Cluster, services: &Api<Service>) {
    let service = services.get("web").await.unwrap();
    cluster.kubectl(&["annotate", "service", "web", &format!("{RELEASE_DELAY}=never")]).await.unwrap();
    services.delete("web", &DeleteParams::default()).await.unwrap();
    let uid = service.metadata.uid.unwrap();
    // Longer than the cluster's own delay of 2 s, which would hold otherwise.
    let gone = timeout(Duration::from_secs(5), await_condition(services.clone(), "web", is_deleted(&uid))).await;
    assert!(gone.is_err(), "it stays");
    cluster.kubectl(&["annotate", "service", "web", "--overwrite", &format!("{RELEASE_DELAY}=0s")]).await.unwrap();
    timeout(PATIENCE, await_condition(services.clone(), "web", is_deleted(&uid))).await.unwrap().unwrap();
}

async fn ingresses_have_addresses_and_may_linger(client: &Client) {
    let ingresses = Api::<Ingress>::namespaced(client.clone(), "default");
    let backend = json!({"service": {"name": "web", "port": {"number": 80}}});
    let create = async |annotations: Value| -> Ingress {
        let metadata = json!({"name": "web", "annotations": annotations});
        let ingress = object(json!({"metadata": metadata, "spec": {"defaultBackend": backend}}));
        ingresses.create(&PostParams::default(), &ingress).await.unwrap();
        let has_address = |ingress: Option<&Ingress>| ingress.is_some_and(|ingress| ingress_address(ingress).is_some());
        timeout(PATIENCE, await_condition(ingresses.clone(), "web", has_address)).await.unwrap().unwrap().unwrap()
    };
    let delete = async |ingress: &Ingress| {
        let (uid, started) = (ingress.metadata.uid.clone().unwrap(), Instant::now());
        ingresses.delete("web", &DeleteParams::default()).await.unwrap();
        timeout(PATIENCE, await_condition(ingresses.clone(), "web", is_deleted(&uid))).await.unwrap().unwrap();
        started.elapsed()
    };
    let plain = create(json!({})).await;
    assert!(delete(&plain).await < Duration::from_secs(2), "most controllers set no finalizer");
    let slow = create(json!({RELEASE_DELAY: "2s"})).await;
    assert_eq!(slow.metadata.finalizers, Some(vec!["ingress.k8s.aws/resources".to_owned()]));
    assert_ne!(ingress_address(&plain), ingress_address(&slow), "a re-created Ingress has a new address");
    assert!(delete(&slow).await >= Duration::from_secs(2));
}

fn ingress_address(ingress: &Ingress) -> Option<String> {
    ingress.status.as_ref()?.load_balancer.as_ref()?.ingress.as_ref()?.first()?.ip.clone()
}

async fn volumes_are_removed_at_the_end(cluster: &Cluster, client: &Client) {
    let claims = Api::<PersistentVolumeClaim>::namespaced(client.clone(), "default");
    let resources = json!({"requests": {"storage": "1Mi"}});
    let spec = json!({"accessModes": ["ReadWriteOnce"], "resources": resources, "storageClassName": "expandable"});
    let claim = object(json!({"metadata": {"name": "data"}, "spec": spec}));
    claims.create(&PostParams::default(), &claim).await.unwrap();
    let bound = |claim: Option<&PersistentVolumeClaim>| {
        claim.and_then(|claim| claim.status.as_ref()).is_some_and(|status| status.phase.as_deref() == Some("Bound"))
    };
    timeout(PATIENCE, await_condition(claims.clone(), "data", bound)).await.unwrap().unwrap();
    a_volume_can_be_enlarged(cluster, claims).await;
    let directory = ["get", "pv", "--output=jsonpath={.items[0].spec.hostPath.path}"];
    let directory = cluster.kubectl(&directory).await.unwrap();
    assert!(Path::new(&directory).is_dir(), "{directory}");
    cluster.down().await.unwrap();
    assert!(!Path::new(&directory).exists(), "{directory}");
}

async fn a_volume_can_be_enlarged(cluster: &Cluster, claims: Api<PersistentVolumeClaim>) {
    let larger = json!({"spec": {"resources": {"requests": {"storage": "2Mi"}}}}).to_string();
    cluster.kubectl(&["patch", "pvc", "data", "--type=merge", "--patch", &larger]).await.unwrap();
    let enlarged = |claim: Option<&PersistentVolumeClaim>| {
        let capacity = claim.and_then(|claim| claim.status.as_ref()?.capacity.as_ref()?.get("storage"));
        capacity.is_some_and(|size| size.0 == "2Mi")
    };
    timeout(PATIENCE, await_condition(claims, "data", enlarged)).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_killed_supervisor_leaves_no_process_and_its_directory_can_be_used_again() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = up(dir.path(), ClusterOptions::default()).await;
    let running = processes(&cluster);
    let etcd = cluster.status().unwrap().components["etcd"].process.unwrap();
    running[0].open().unwrap().unwrap().signal(Signal::KILL).unwrap();
    all_ended(&running).await;
    assert!(!etcd.is_alive());

    let again = up(dir.path(), ClusterOptions::default()).await;
    let error = Cluster::up(ClusterOptions { dir: Some(dir.path().to_owned()), ..ClusterOptions::default() }).await;
    assert!(error.unwrap_err().to_string().contains("runs in"), "one cluster a directory");
    again.down().await.unwrap();
}

#[tokio::test]
async fn a_cluster_ends_with_its_owner_and_takes_its_temporary_directory_along() {
    let mut owner = Command::new("sleep").arg("600").spawn().unwrap();
    let cluster = Cluster::up(ClusterOptions { owner_pid: Some(owner.id()), ..ClusterOptions::default() }).await;
    let cluster = cluster.unwrap();
    let running = processes(&cluster);
    owner.kill().unwrap();
    owner.wait().unwrap();
    all_ended(&running).await;
    assert!(!cluster.dir().exists());
}

#[tokio::test]
async fn a_component_that_dies_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let cluster = up(dir.path(), ClusterOptions::default()).await;
    let scheduler = cluster.status().unwrap().components["kube-scheduler"].process.unwrap();
    let handled = scheduler.open().unwrap().unwrap();
    handled.signal(Signal::KILL).unwrap();
    handled.ended().await.unwrap();
    cluster.down().await.unwrap();
    let ended = cluster.status().unwrap().components["kube-scheduler"].ended.clone();
    assert!(ended.as_deref().is_some_and(|how| how.contains("SIGKILL")), "{ended:?}");
    let log = fs::read_to_string(dir.path().join("logs/supervisor.log")).unwrap();
    assert!(log.contains("kube-scheduler") && log.contains("ended unexpectedly"), "{log}");
}
