//! Steps of the runner as processes of their own, with the rights of the runner's ServiceAccount and either helm: what a
//! Job would do, without a controller that decides.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeMap,
    os::unix::fs::{PermissionsExt, symlink},
    path::PathBuf,
    process::Stdio,
};

use coder_upgrade_operator::{
    api::BackupRecord,
    core::report::{Outcome, PlanReport, Problem, Report, Uninstalled, Upgraded},
};
use k8s_openapi::api::{batch::v1::Job, core::v1::Secret};
use kube::{ResourceExt, api::PostParams};
use serde_json::{Value, json};
use tempfile::TempDir;
use testbed::{
    charts::{ChartRepositories, charts_dir},
    cluster::ClusterError,
    components::Component,
};
use tokio::process::Command;

use super::{
    World,
    memory::{Peak, watched},
    program,
};

/// The helm that administrator and runner use.
#[derive(Clone, Copy, Debug)]
pub enum HelmMajor {
    Three,
    Four,
}

pub struct Steps {
    pub world: World,
    repository: String,
    helm: HelmMajor,
    dir: TempDir,
    count: Cell<usize>,
    /// What all steps have said.
    pub log: RefCell<String>,
    /// Where charts may come from.
    pub allowed: RefCell<String>,
    /// Variables that the runner gets, as the controller's flags would have it.
    variables: RefCell<BTreeMap<String, String>>,
    /// What the last step took of memory.
    pub peak: Cell<Peak>,
}

impl Steps {
    /// A world in which Coder is installed by that helm, from a chart of the catalogue.
    pub async fn with(
        name: &str,
        helm: HelmMajor,
        repository: fn(&ChartRepositories) -> &String,
        version: &str,
        settings: &[&str],
    ) -> Self {
        let steps = Self::empty(name, helm, repository).await;
        let classic = version.starts_with("1.");
        if !classic {
            steps.world.database().await;
        }
        let values = charts_dir().join(if classic { "coder-v1-values.yaml" } else { "coder-v2-values.yaml" });
        let mut arguments = vec!["install", "coder", "coder", "--repo", &steps.repository, "--version", version];
        arguments.extend(["--values", values.to_str().unwrap(), "--wait", "--timeout", "3m"]);
        // Half of the time that helm takes is that of reading the descriptions of the API.
        arguments.push("--disable-openapi-validation");
        arguments.extend(settings.iter().flat_map(|setting| ["--set", setting]));
        steps.helm(&arguments).await;
        steps
    }

    /// A world in which nothing is installed.
    pub async fn empty(name: &str, helm: HelmMajor, repository: fn(&ChartRepositories) -> &String) -> Self {
        let world = World::new(&format!("{name}-{helm:?}").to_lowercase()).await;
        let repository = repository(world.repositories()).clone();
        let dir = tempfile::tempdir().unwrap();
        let steps = Self {
            world,
            repository,
            helm,
            dir,
            count: Cell::default(),
            log: RefCell::default(),
            allowed: RefCell::new("*".into()),
            variables: RefCell::default(),
            peak: Cell::default(),
        };
        steps.prepare().await;
        steps
    }

    /// A helm in a PATH, and a kubeconfig with the runner's token.
    async fn prepare(&self) {
        std::fs::create_dir_all(self.path("plan")).unwrap();
        self.run_with(self.helm).await;
        let token = self.world.kubectl(&["create", "token", "coder-upgrade-runner"]).await;
        let config = std::fs::read_to_string(self.world.cluster.dir().join("kubeconfig")).unwrap();
        let mut config: Value = serde_saphyr::from_str(&config).unwrap();
        config["users"][0]["user"] = json!({"token": token.trim()});
        std::fs::write(self.path("kubeconfig"), config.to_string()).unwrap();
    }

    /// From now on the runner has that helm; the administrator keeps theirs.
    pub async fn run_with(&self, helm: HelmMajor) {
        let component = match helm {
            HelmMajor::Three => Component::Helm3,
            HelmMajor::Four => Component::Helm,
        };
        let helm = tokio::task::spawn_blocking(move || program(component)).await.unwrap();
        let directory = self.path("bin");
        if directory.exists() {
            std::fs::remove_dir_all(&directory).unwrap();
        }
        std::fs::create_dir(&directory).unwrap();
        symlink(helm, directory.join("helm")).unwrap();
    }

    /// From now on the runner and its helm reach the API server at this address.
    pub fn reach_api_server_at(&self, url: &str) {
        let config = std::fs::read_to_string(self.path("kubeconfig")).unwrap();
        let mut config: Value = serde_json::from_str(&config).unwrap();
        config["clusters"][0]["cluster"] = json!({"server": url});
        std::fs::write(self.path("kubeconfig"), config.to_string()).unwrap();
    }

    /// From now on a shell does this before each helm of the runner: something goes wrong with a file.
    pub fn before_helm(&self, commands: &str) {
        let helm = self.path("bin").join("helm");
        let real = std::fs::read_link(&helm).unwrap();
        std::fs::remove_file(&helm).unwrap();
        std::fs::write(&helm, format!("#!/bin/sh\n{commands}\nexec {} \"$@\"\n", real.display())).unwrap();
        std::fs::set_permissions(&helm, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// From now on the runner gets this variable.
    pub fn set(&self, variable: &str, value: &str) {
        self.variables.borrow_mut().insert(variable.to_owned(), value.to_owned());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// helm as the administrator.
    pub async fn helm(&self, arguments: &[&str]) -> String {
        self.try_helm(arguments).await.expect("helm")
    }

    /// An upgrade by hand that helm is refused for.
    pub async fn upgrade_by_hand_fails(&self, version: &str, settings: &[&str]) {
        let mut arguments = vec!["upgrade", "coder", "coder", "--repo", &self.repository, "--version", version];
        arguments.extend(["--reset-then-reuse-values", "--timeout", "60s"]);
        arguments.extend(settings);
        assert!(self.try_helm(&arguments).await.is_err());
    }

    async fn try_helm(&self, arguments: &[&str]) -> Result<String, ClusterError> {
        let arguments: Vec<_> = arguments.iter().copied().chain(["--namespace", &self.world.namespace]).collect();
        match self.helm {
            HelmMajor::Four => Ok(self.world.cluster.helm(&arguments).await?),
            HelmMajor::Three => self.world.cluster.helm3(&arguments).await,
        }
    }

    /// Plans an upgrade, and mounts the plan. The declaration is suspended, so that no controller acts on it.
    pub async fn plan(&self, spec: Value) -> PlanReport {
        let planned = match self.try_to_plan(spec).await {
            Outcome::Planned(planned) => *planned,
            other => panic!("no plan: {other:?}"),
        };
        let secret = self.world.api::<Secret>().get(&planned.plan.secret_name).await.unwrap();
        for (key, content) in secret.data.unwrap() {
            std::fs::write(self.path("plan").join(key), content.0).unwrap();
        }
        planned
    }

    /// Plans an upgrade that must be refused.
    pub async fn refused(&self, spec: Value) -> Problem {
        match self.try_to_plan(spec).await {
            Outcome::Failed(problem) => problem,
            other => panic!("it should have been refused: {other:?}"),
        }
    }

    async fn try_to_plan(&self, mut spec: Value) -> Outcome {
        spec["suspend"] = true.into();
        if spec["chart"].is_null() {
            spec["chart"] = json!({"repository": self.repository});
        }
        let generation = self.world.declare("coder", spec).await.metadata.generation.unwrap().to_string();
        let allowed = self.allowed.borrow().clone();
        self.run("plan", &["--generation", &generation, "--allowed-repositories", &allowed]).await
    }

    /// Performs a step after the plan.
    pub async fn step(&self, step: &str, more: &[&str]) -> Outcome {
        let plan = self.path("plan");
        let mut arguments = vec!["--plan-dir", plan.to_str().unwrap()];
        if step != "backup" && !more.contains(&"--helm-timeout") {
            arguments.extend(["--helm-timeout", "60s"]);
        }
        if !matches!(step, "uninstall" | "backup") {
            arguments.extend(["--soak", "1s"]);
        }
        arguments.extend(more);
        self.run(step, &arguments).await
    }

    pub async fn uninstall(&self, more: &[&str]) -> Uninstalled {
        match self.step("uninstall", more).await {
            Outcome::Uninstalled(uninstalled) => uninstalled,
            other => panic!("not uninstalled: {other:?}\n{}", self.world.dump().await),
        }
    }

    pub async fn backup(&self, more: &[&str]) -> BackupRecord {
        match self.step("backup", more).await {
            Outcome::BackedUp(record) => record,
            other => panic!("not backed up: {other:?}\n{}", self.world.dump().await),
        }
    }

    pub async fn upgrade(&self) -> Upgraded {
        match self.step("upgrade", &[]).await {
            Outcome::Upgraded(upgraded) => upgraded,
            other => panic!("not upgraded: {other:?}\n{}", self.world.dump().await),
        }
    }

    pub async fn install(&self, more: &[&str]) -> Upgraded {
        match self.step("install", more).await {
            Outcome::Upgraded(upgraded) => upgraded,
            other => panic!("not installed: {other:?}\n{}", self.world.dump().await),
        }
    }

    pub async fn restore(&self, more: &[&str]) -> Upgraded {
        match self.step("restore", more).await {
            Outcome::Restored(restored) => restored,
            other => panic!("not restored: {other:?}\n{}", self.world.dump().await),
        }
    }

    /// Performs a step that must fail.
    pub async fn fails(&self, step: &str, more: &[&str]) -> Problem {
        match self.step(step, more).await {
            Outcome::Failed(problem) => problem,
            other => panic!("{step} should have failed: {other:?}"),
        }
    }

    async fn run(&self, step: &str, more: &[&str]) -> Outcome {
        self.count.set(self.count.get() + 1);
        let name = format!("step-{}-{step}", self.count.get());
        let job = json!({"metadata": {"name": name}, "spec": {"suspend": true, "template": {"spec": {
            "restartPolicy": "Never", "containers": [{"name": "runner", "image": "none"}]}}}});
        let job: Job = serde_json::from_value(job).unwrap();
        self.world.api::<Job>().create(&PostParams::default(), &job).await.unwrap();
        let uid = self.world.get("coder").await.uid().unwrap();
        let work = self.path(&name);
        std::fs::create_dir_all(&work).unwrap();
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap_or_default());
        let child = Command::new(env!("CARGO_BIN_EXE_coder-upgrade-operator"))
            .args(["runner", step, "--upgrade", "coder", "--uid", &uid, "--job", &name])
            .args(["--namespace", &self.world.namespace, "--work-dir", work.to_str().unwrap()])
            .args(more)
            .env("RUNNER_VERIFY_TIMEOUT", "60s")
            .env("PATH", path)
            .env("KUBECONFIG", self.path("kubeconfig"))
            .envs(&*self.variables.borrow())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let (output, peak) = watched(child).await;
        self.peak.set(peak);
        let log = String::from_utf8_lossy(&output.stdout) + String::from_utf8_lossy(&output.stderr);
        println!("--- {name}\n{log}");
        self.log.borrow_mut().push_str(&log);
        let job = self.world.api::<Job>().get(&name).await.unwrap();
        let report = job.annotations().get("coderupgrade.dev/report").expect("a report");
        serde_json::from_str::<Report>(report).unwrap().outcome.expect("an outcome")
    }

    /// An upgrade by hand, with all values.
    pub async fn upgrade_by_hand(&self, version: &str, more: &[&str]) {
        let arguments =
            ["upgrade", "coder", "coder", "--repo", &self.repository, "--version", version, "--reuse-values"];
        self.helm(&arguments.into_iter().chain(more.iter().copied()).collect::<Vec<_>>()).await;
    }

    /// UID of an object.
    pub async fn uid(&self, object: &str) -> String {
        self.world.kubectl(&["get", object, "-o", "jsonpath={.metadata.uid}", "--ignore-not-found"]).await
    }

    /// UID, addresses and data of these objects.
    pub async fn identities(&self, objects: &[&str]) -> Vec<String> {
        let fields = "jsonpath={.metadata.uid} {.status.loadBalancer} {.data}";
        let mut found = Vec::new();
        for object in objects {
            found.push(self.world.kubectl(&["get", object, "-o", fields]).await);
        }
        found
    }

    /// Puts a finalizer on an object, as a slow controller would.
    pub async fn hold(&self, object: &str, finalizer: &str) {
        let patch = format!(r#"[{{"op": "add", "path": "/metadata/finalizers", "value": ["{finalizer}"]}}]"#);
        self.world.kubectl(&["patch", object, "--type", "json", "--patch", &patch]).await;
    }

    /// Takes all finalizers from an object.
    pub async fn release(&self, object: &str) {
        let patch = r#"[{"op": "remove", "path": "/metadata/finalizers"}]"#;
        self.world.kubectl(&["patch", object, "--type", "json", "--patch", patch]).await;
    }

    /// Waits until an object is gone.
    pub async fn gone(&self, object: &str) {
        self.world
            .eventually(&format!("end of {object}"), || async { self.uid(object).await.is_empty().then_some(()) })
            .await;
    }
}
