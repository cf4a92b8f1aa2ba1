//! A place of its own for each test: a namespace of the test bed's cluster with the runner's rights and, if wanted, a
//! Coder that an administrator has installed.
#![allow(missing_docs)]

pub mod api_server;
pub mod audit;
pub mod drift;
pub mod memory;
pub mod node;
pub mod post_renderer;
pub mod prometheus;
pub mod proxy;
pub mod recorder;
pub mod samples;
pub mod servers;
pub mod steps;
pub mod terminal;

use std::{
    fmt::Write,
    future::Future,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use coder_upgrade_operator::api::{CoderUpgrade, Phase};
use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use k8s_openapi::api::{
    batch::v1::Job,
    core::v1::{Event, PersistentVolumeClaim, Pod, Secret},
};
use kube::{
    Api, Client, ResourceExt,
    api::{DeleteParams, ListParams, LogParams, Patch, PatchParams, PostParams},
    runtime::wait::{Condition, await_condition},
};
use serde_json::{Value, json};
use testbed::{
    Cluster,
    charts::{ChartRepositories, charts_dir},
    components::{Component, ensure},
};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Longest wait for anything. Machines of two cores run several tests at once.
pub const PATIENCE: Duration = Duration::from_secs(180);

/// The claim of the database of Coder Classic.
pub const CLASSIC_CLAIM: &str = "timescale-data-timescale-0";

/// All tests share the controller. Those that measure it hold this while they do, so that no other test ends it.
static CONTROLLER: RwLock<()> = RwLock::const_new(());

/// Namespace of the controller, as in `deploy/controller`.
const OPERATOR_NAMESPACE: &str = "coder-upgrade-operator";

pub struct World {
    pub cluster: &'static Cluster,
    pub client: Client,
    pub namespace: String,
}

impl World {
    /// An empty namespace in which the runner may work.
    pub async fn new(name: &str) -> Self {
        Self::on(Cluster::for_tests().await.expect("the test bed"), name).await
    }

    /// As [`World::new`], on another cluster than that of the other tests.
    pub async fn on(cluster: &'static Cluster, name: &str) -> Self {
        let client = cluster.client().await.expect("a client for the test bed");
        // A test that is run twice on one cluster gets another namespace.
        let namespace = format!("{name}-{}", &uuid()[6..]);
        cluster.allow_runner(&namespace).await.expect("the runner's rights");
        Self { cluster, client, namespace }
    }

    /// A namespace with Coder v2 as an administrator installs it.
    pub async fn with_v2(name: &str, version: &str, settings: &[&str]) -> Self {
        let world = Self::new(name).await;
        world.database().await;
        world.install("coder", &world.repositories().v2, version, "coder-v2-values.yaml", settings).await;
        world
    }

    /// A namespace with Coder Classic as an administrator installs it.
    pub async fn with_v1(name: &str, version: &str) -> Self {
        let world = Self::new(name).await;
        world.install("coder", &world.repositories().v1, version, "coder-v1-values.yaml", &[]).await;
        world
    }

    /// Where pods reach what a test serves.
    pub fn machine(&self) -> Ipv4Addr {
        self.cluster.node().machine
    }

    pub fn repositories(&self) -> &ChartRepositories {
        self.cluster.repositories().expect("a cluster with repositories")
    }

    /// A second database, empty and of another name.
    pub async fn another_database(&self, name: &str) {
        let manifest = std::fs::read_to_string(charts_dir().join("database.yaml")).unwrap();
        let (_, without_secret) = manifest.split_once("\n---\n").unwrap();
        let other = without_secret.replace("database", name);
        let arguments = ["apply", "--namespace", &self.namespace, "-f", "-"];
        self.cluster.kubectl_with_input(&arguments, &other).await.expect("kubectl");
        let ready = format!("statefulset/{name}");
        self.kubectl(&["rollout", "status", &ready, "--timeout=60s"]).await;
    }

    /// The database that the v2 chart asks for.
    pub async fn database(&self) {
        let manifest = charts_dir().join("database.yaml");
        self.kubectl(&["apply", "-f", manifest.to_str().unwrap()]).await;
    }

    /// Deletes the Secret of a plan whose steps have ended so far. A kubelet keeps an immutable Secret that it has read as long
    /// as a pod names it, and would serve the next step from there: their pods go, too.
    pub async fn lose_plan(&self, secret: &str) {
        self.kubectl(&["delete", "secret", secret]).await;
        self.kubectl(&["delete", "pods", "--selector", "coderupgrade.dev/upgrade-uid"]).await;
    }

    /// A node that starts nothing and says nothing: its name, and what brings pods there.
    pub async fn dead_node(&self) -> (String, Value) {
        let name = format!("dead-{}", self.namespace);
        let metadata = json!({"name": name, "labels": {"dead": self.namespace}});
        let spec = json!({"taints": [{"key": "dead", "effect": "NoSchedule"}]});
        self.apply(&json!({"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": spec})).await;
        let room = json!({"pods": "9", "cpu": "9", "memory": "9Gi"});
        let status = json!({"status": {"capacity": room, "allocatable": room}}).to_string();
        self.kubectl(&["patch", "node", &name, "--subresource=status", "--type=merge", "-p", &status]).await;
        (name, json!({"nodeSelector": {"dead": self.namespace}, "tolerations": [{"operator": "Exists"}]}))
    }

    /// Installs a release as an administrator would.
    pub async fn install(&self, release: &str, repository: &str, version: &str, values: &str, settings: &[&str]) {
        let values = charts_dir().join(values);
        let mut arguments = vec!["install", release, "coder", "--repo", repository, "--version", version];
        arguments.extend(["--values", values.to_str().unwrap(), "--wait", "--timeout", "3m"]);
        // Half of the time that helm takes is that of reading the descriptions of the API.
        arguments.push("--disable-openapi-validation");
        arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
        self.helm(&arguments).await;
    }

    pub async fn helm(&self, arguments: &[&str]) -> String {
        let arguments: Vec<_> = arguments.iter().copied().chain(["--namespace", &self.namespace]).collect();
        self.cluster.helm(&arguments).await.expect("helm")
    }

    /// Approves a step of the present plan, as a person would.
    pub async fn approve(&self, step: &str) {
        let plan = self.get("coder").await.status.unwrap().plan.unwrap().id;
        let annotation = format!("coderupgrade.dev/approve={plan}/{step}");
        self.kubectl(&["annotate", "--overwrite", "coderupgrade", "coder", &annotation]).await;
    }

    /// Which database Coder Classic works on, read past it.
    pub async fn deployment_id(&self) -> String {
        self.cluster.database(&self.namespace, CLASSIC_CLAIM).await.unwrap().deployment_id
    }

    /// Applies an object in the namespace.
    pub async fn apply(&self, object: &Value) {
        let arguments = ["apply", "--namespace", &self.namespace, "-f", "-"];
        self.cluster.kubectl_with_input(&arguments, &object.to_string()).await.expect("kubectl apply");
    }

    /// Until this is dropped no other test ends the controller, which works by now: one that was killed keeps its Lease a while.
    pub async fn undisturbed(&self) -> RwLockReadGuard<'static, ()> {
        let undisturbed = CONTROLLER.read().await;
        self.declare("first", json!({"release": "first", "suspend": true})).await;
        self.until("first", "observed", observed).await;
        self.api::<CoderUpgrade>().delete("first", &DeleteParams::default()).await.unwrap();
        self.gone("first").await;
        undisturbed
    }

    /// Until this is dropped no test measures the controller.
    pub async fn disturbing() -> RwLockWriteGuard<'static, ()> {
        CONTROLLER.write().await
    }

    /// Kills the controller, as a power cut would. Its Deployment starts another one.
    pub async fn restart_controller(&self) {
        let _disturbing = Self::disturbing().await;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), OPERATOR_NAMESPACE);
        // A controller that another test has stopped or killed has no pod for a moment.
        let running = || async {
            let mut running = pods.list(&ListParams::default()).await.unwrap().items;
            running.retain(node::is_running);
            (!running.is_empty()).then_some(running)
        };
        for pod in self.eventually("a pod of the controller", running).await {
            node::kill(self.cluster, &pod, "controller").await;
            // Another pod starts, with another name: the Lease has to run out.
            pods.delete(&pod.name_any(), &DeleteParams::default().grace_period(0)).await.unwrap();
        }
    }

    /// Stops the controller, until [`Self::with_controller`] is given what this returns.
    pub async fn without_controller(&self) -> RwLockWriteGuard<'static, ()> {
        let disturbing = Self::disturbing().await;
        self.scale_controller(0).await;
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), OPERATOR_NAMESPACE);
        let gone = || async { pods.list(&ListParams::default()).await.unwrap().items.is_empty().then_some(()) };
        self.eventually("no controller", gone).await;
        disturbing
    }

    /// Starts the controller again.
    pub async fn with_controller(&self, stopped: RwLockWriteGuard<'static, ()>) {
        self.scale_controller(1).await;
        drop(stopped);
    }

    async fn scale_controller(&self, replicas: u8) {
        let replicas = format!("--replicas={replicas}");
        let arguments = ["scale", "deployment/coder-upgrade-operator", &replicas, "--namespace", OPERATOR_NAMESPACE];
        self.cluster.kubectl(&arguments).await.expect("kubectl scale");
    }

    /// Has the controller begin its retries after a second instead of ten. Whoever runs beside this sees it restart once.
    pub async fn impatient(&self) {
        drop(self.retrying_after(1).await);
    }

    /// Has the controller begin its retries after so many seconds; until the guard is dropped no other test changes that.
    pub async fn retrying_after(&self, seconds: u32) -> RwLockWriteGuard<'static, ()> {
        let disturbing = Self::disturbing().await;
        let delay = format!("RETRY_DELAY={seconds}");
        let arguments = ["set", "env", "deployment/coder-upgrade-operator", &delay, "--namespace", OPERATOR_NAMESPACE];
        self.cluster.kubectl(&arguments).await.expect("kubectl set env");
        disturbing
    }

    pub async fn kubectl(&self, arguments: &[&str]) -> String {
        let arguments: Vec<_> = arguments.iter().copied().chain(["--namespace", &self.namespace]).collect();
        self.cluster.kubectl(&arguments).await.expect("kubectl")
    }

    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Applies a `CoderUpgrade` as kubectl would. Tests wait less than people: the soak is short unless they set it.
    pub async fn declare(&self, name: &str, spec: Value) -> CoderUpgrade {
        let mut spec = spec;
        let verify = spec.as_object_mut().unwrap().entry("verify").or_insert(json!({"timeout": "60s", "soak": "1s"}));
        verify.as_object_mut().unwrap().entry("soak").or_insert(json!("1s"));
        let object = json!({
            "apiVersion": "coderupgrade.dev/v1alpha1", "kind": "CoderUpgrade", "metadata": {"name": name}, "spec": spec
        });
        self.api()
            .patch(name, &PatchParams::apply("tests").force(), &Patch::Apply(object))
            .await
            .expect("a valid CoderUpgrade")
    }

    /// Declares the version of Coder v2 from the test bed's repository.
    pub async fn upgrade_to(&self, version: &str) -> CoderUpgrade {
        self.declare("coder", json!({"version": version, "chart": {"repository": self.repositories().v2}})).await
    }

    pub async fn get(&self, name: &str) -> CoderUpgrade {
        self.api().get(name).await.expect("the CoderUpgrade")
    }

    /// Waits, by a watch, until the object is as wanted. Otherwise fails with all that is known.
    pub async fn until(&self, name: &str, what: &str, wanted: impl Fn(&CoderUpgrade) -> bool + Send) -> CoderUpgrade {
        let api = self.api::<CoderUpgrade>();
        let condition = move |object: Option<&CoderUpgrade>| object.is_some_and(&wanted);
        match self.wait(api, name, condition).await {
            Some(Some(object)) => object,
            _ => panic!("{name} does not become {what}.\n{}", self.dump().await),
        }
    }

    /// Waits until the object is verified at its present generation.
    pub async fn ready(&self, name: &str) -> CoderUpgrade {
        self.until(name, "ready", |object| observed(object) && is(object, "Ready", "True")).await
    }

    /// Waits until a person is needed.
    pub async fn stalled(&self, name: &str) -> CoderUpgrade {
        self.until(name, "stalled", |object| observed(object) && is(object, "Stalled", "True")).await
    }

    pub async fn phase(&self, name: &str, phase: Phase) -> CoderUpgrade {
        self.until(name, &format!("{phase}"), |object| object.status.as_ref().is_some_and(|s| s.phase == phase)).await
    }

    async fn wait<K>(&self, api: Api<K>, name: &str, condition: impl Condition<K>) -> Option<Option<K>>
    where
        K: kube::Resource + Clone + std::fmt::Debug + Send + serde::de::DeserializeOwned + 'static,
    {
        tokio::time::timeout(PATIENCE, await_condition(api, name, condition)).await.ok()?.ok()
    }

    /// Waits until the object of that name is gone.
    pub async fn gone(&self, name: &str) {
        let api = self.api::<CoderUpgrade>();
        let gone = self.wait(api, name, |object: Option<&CoderUpgrade>| object.is_none()).await;
        assert!(gone.is_some(), "{name} stays.\n{}", self.dump().await);
    }

    pub async fn jobs(&self) -> Vec<Job> {
        self.api::<Job>().list(&ListParams::default().labels("coderupgrade.dev/upgrade-uid")).await.unwrap().items
    }

    /// How many Jobs of each step there were.
    pub async fn job_counts(&self) -> (usize, usize) {
        let jobs = self.jobs().await;
        let count = |step: &str| jobs.iter().filter(|job| job.labels()["coderupgrade.dev/step"] == step).count();
        (count("plan"), count("upgrade"))
    }

    /// Waits until the pod of a Job of that step runs, and returns it.
    pub async fn runner_pod(&self, step: &str) -> Pod {
        let selector = format!("coderupgrade.dev/step={step}");
        let running = |pod: &Pod| pod.status.as_ref().and_then(|s| s.phase.as_deref()) == Some("Running");
        self.eventually(&format!("a running {step} pod"), || async {
            self.api::<Pod>()
                .list(&ListParams::default().labels(&selector))
                .await
                .unwrap()
                .items
                .into_iter()
                .find(running)
        })
        .await
    }

    /// Kills the runner of that step with SIGKILL: its helm has no time to write anything, and leaves its lock.
    pub async fn kill_runner(&self, step: &str) {
        let pod = self.runner_pod(step).await;
        node::kill(self.cluster, &pod, "runner").await;
    }

    /// Asks again and again until there is an answer; for what cannot be watched by name.
    pub async fn eventually<T, F: Future<Output = Option<T>>>(&self, what: &str, ask: impl Fn() -> F) -> T {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            assert!(tokio::time::Instant::now() < deadline, "no {what}.\n{}", self.dump().await);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// The newest record of the release: revision and status as helm tells them.
    pub async fn release(&self) -> (i64, String) {
        let history: Value = serde_json::from_str(&self.helm(&["history", "coder", "-o", "json"]).await).unwrap();
        let newest = history.as_array().unwrap().last().unwrap().clone();
        (newest["revision"].as_i64().unwrap(), newest["status"].as_str().unwrap().to_owned())
    }

    /// What a person was given as values, as helm tells it.
    pub async fn values(&self) -> Value {
        serde_json::from_str(&self.helm(&["get", "values", "coder", "-o", "json"]).await).unwrap()
    }

    /// Edits the manifest in a record of helm.
    pub async fn edit_manifest(&self, name: &str, edit: impl Fn(&str) -> String) {
        let secrets = self.api::<Secret>();
        let mut secret = secrets.get(name).await.unwrap();
        let stored = secret.data.as_mut().unwrap().get_mut("release").unwrap();
        let unpacked = STANDARD.decode(&stored.0).unwrap();
        let mut release: Value = serde_json::from_reader(GzDecoder::new(unpacked.as_slice())).unwrap();
        release["manifest"] = edit(release["manifest"].as_str().unwrap()).into();
        let mut packer = GzEncoder::new(Vec::new(), Compression::best());
        serde_json::to_writer(&mut packer, &release).unwrap();
        stored.0 = STANDARD.encode(packer.finish().unwrap()).into_bytes();
        secrets.replace(name, &PostParams::default(), &secret).await.unwrap();
    }

    /// Name, UID and volume of every claim.
    pub async fn claims(&self) -> Vec<(String, String, String)> {
        let claims = self.api::<PersistentVolumeClaim>().list(&ListParams::default()).await.unwrap();
        let volume = |claim: &PersistentVolumeClaim| claim.spec.as_ref().and_then(|spec| spec.volume_name.clone());
        claims.iter().map(|c| (c.name_any(), c.uid().unwrap(), volume(c).unwrap_or_default())).collect()
    }

    pub async fn create_secret(&self, name: &str, data: Value) {
        let secret: Secret = serde_json::from_value(json!({"metadata": {"name": name}, "stringData": data})).unwrap();
        self.api().create(&PostParams::default(), &secret).await.unwrap();
    }

    /// Credentials for a repository.
    pub async fn create_login(&self, username: &str, password: &str) {
        let data = json!({"username": username, "password": password});
        let secret = json!({"metadata": {"name": "login"}, "type": "kubernetes.io/basic-auth", "stringData": data});
        let secret: Secret = serde_json::from_value(secret).unwrap();
        self.api().create(&PostParams::default(), &secret).await.unwrap();
    }

    /// Everything that is known of this namespace, for the message of a failed test.
    pub async fn dump(&self) -> String {
        let mut text = self.kubectl(&["get", "cu", "-o", "yaml", "--ignore-not-found"]).await;
        text += &self.kubectl(&["get", "jobs,pods", "-o", "wide", "--ignore-not-found"]).await;
        for event in self.api::<Event>().list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default() {
            let object = format!(
                "{}/{}",
                event.involved_object.kind.unwrap_or_default(),
                event.involved_object.name.unwrap_or_default()
            );
            let _ =
                writeln!(text, "{object} {} {}", event.reason.unwrap_or_default(), event.message.unwrap_or_default());
        }
        for pod in self.api::<Pod>().list(&ListParams::default()).await.map(|list| list.items).unwrap_or_default() {
            let parameters = LogParams { tail_lines: Some(30), ..LogParams::default() };
            let log =
                self.api::<Pod>().logs(&pod.name_any(), &parameters).await.unwrap_or_else(|error| error.to_string());
            let _ = writeln!(text, "--- log of {}\n{log}", pod.name_any());
        }
        text
    }

    /// Removes the namespace, so that its pods do not slow down the tests that follow.
    pub async fn finish(self) {
        let api: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(self.client.clone());
        api.delete(&self.namespace, &DeleteParams::background()).await.unwrap();
    }
}

/// The file, or all files of the folder and of those in it.
pub fn files(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    std::fs::read_dir(path).unwrap().flat_map(|entry| files(&entry.unwrap().path())).collect()
}

/// Copies a directory with all that is in it.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Bytes that cannot be packed.
pub fn noise(size: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let next = |_| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    (0..size).map(next).collect()
}

/// An address for a program that a test starts. Nobody listens there for now, and no other test is given it.
pub fn free_address() -> SocketAddr {
    let [port] = testbed::ports::free_ports().unwrap();
    (Ipv4Addr::LOCALHOST, port).into()
}

/// A program of this machine, in the PATH or where administrators have theirs.
pub fn installed(program: &str) -> Option<PathBuf> {
    let directories = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&directories).chain(["/usr/sbin".into(), "/usr/bin".into()]);
    places.map(|directory| directory.join(program)).find(|path| path.is_file())
}

/// A component of the test bed.
pub fn program(component: Component) -> PathBuf {
    let binaries = ensure(&[component], &|_| {}).expect("a component that can be built");
    binaries.get(component).expect("the component that was asked for").to_path_buf()
}

/// Whether the status speaks of the present spec.
pub fn observed(object: &CoderUpgrade) -> bool {
    object.status.as_ref().map(|status| status.observed_generation) == object.metadata.generation
}

/// Whether a condition has that status.
pub fn is(object: &CoderUpgrade, condition: &str, status: &str) -> bool {
    reason(object, condition).is_some_and(|(found, _)| found == status)
}

/// Status and reason of a condition.
pub fn reason(object: &CoderUpgrade, condition: &str) -> Option<(String, String)> {
    let conditions = &object.status.as_ref()?.conditions;
    conditions.iter().find(|c| c.type_ == condition).map(|c| (c.status.clone(), c.reason.clone()))
}

fn uuid() -> String {
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_nanos();
    format!("{:012x}", (nanos ^ (u128::from(std::process::id()) << 20)) & 0xffff_ffff_ffff)
}
