//! Flux' source-controller and kustomize-controller for one namespace, and a registry that they take what is committed from.

use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;

use coder_upgrade_operator::core::text::digest::hex;
use flate2::{Compression, write::GzEncoder};
use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use tempfile::TempDir;
use testbed::charts::{OciOptions, OciRegistry};
use testbed::components::{Binaries, Component, ensure, is_built, sources};
use testbed::process::{log_to, spawn};
use tokio::process::Child;

use crate::common::{World, free_address, node::leave_out};

const REPOSITORY: &str = "fleet";
const TAG: &str = "latest";

/// Ends what it has started.
pub struct Flux {
    registry: OciRegistry,
    http: reqwest::Client,
    files: TempDir,
    _controllers: [Child; 2],
}

impl Flux {
    /// What it is started with; nothing, and that is said, where nobody has built it: that takes ten minutes on two cores.
    pub async fn programs() -> Option<Binaries> {
        let controllers = [Component::SourceController, Component::KustomizeController];
        if !controllers.iter().all(|controller| is_built(*controller).unwrap()) {
            let build = "build them once: cargo xtask bin source-controller && cargo xtask bin kustomize-controller";
            leave_out("machine without Flux' controllers", build);
            return None;
        }
        let wanted = [&[Component::Registry], &controllers[..]].concat();
        Some(tokio::task::spawn_blocking(move || ensure(&wanted, &|_| {})).await.unwrap().unwrap())
    }

    /// Starts all of it. The controllers look at the namespace of the world alone.
    pub async fn start(world: &World, programs: Binaries) -> Self {
        let files = tempfile::tempdir().unwrap();
        let program = |component| programs.get(component).unwrap();
        let (directory, options) = (files.path().join("registry"), OciOptions::default());
        let registry = OciRegistry::start(program(Component::Registry), &directory, Ipv4Addr::LOCALHOST, options);
        let registry = registry.await.unwrap();
        for component in [Component::SourceController, Component::KustomizeController] {
            let crds = sources(component).unwrap().join("config/crd/bases");
            world.kubectl(&["apply", "--server-side", "-f", crds.to_str().unwrap()]).await;
        }
        let storage = free_address();
        let kept = files.path().join("storage");
        std::fs::create_dir(&kept).unwrap();
        let store = [
            format!("--storage-path={}", kept.display()),
            format!("--storage-addr={storage}"),
            format!("--storage-adv-addr={storage}"),
        ];
        let controllers = [
            start(world, &files, program(Component::SourceController), &store).await,
            start(world, &files, program(Component::KustomizeController), &[]).await,
        ];
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { registry, http, files, _controllers: controllers }
    }

    /// Where the source is, as an `OCIRepository` has it.
    pub fn source(&self) -> Value {
        json!({"url": format!("oci://{}/{REPOSITORY}", self.address()), "insecure": true, "ref": {"tag": TAG}, "interval": "1s"})
    }

    fn address(&self) -> &str {
        self.registry.url.trim_start_matches("oci://").split('/').next().unwrap()
    }

    /// Has the source hold these files, and no others; returns their digest.
    pub async fn commit(&self, files: &[(&str, String)]) -> String {
        let mut archive = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::default()));
        for (name, text) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(text.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, name, text.as_bytes()).unwrap();
        }
        let layer = archive.into_inner().unwrap().finish().unwrap();
        let part = |kind: &str, content: &[u8]| json!({"mediaType": format!("application/vnd.cncf.flux.{kind}"), "digest": digest(content), "size": content.len()});
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": part("config.v1+json", b"{}"),
            "layers": [part("content.v1.tar+gzip", &layer)],
        });
        for content in [b"{}".to_vec(), layer] {
            self.blob(content).await;
        }
        let manifest = manifest.to_string();
        let put = self.http.put(format!("http://{}/v2/{REPOSITORY}/manifests/{TAG}", self.address()));
        let put = put.header("content-type", "application/vnd.oci.image.manifest.v1+json").body(manifest.clone());
        put.send().await.unwrap().error_for_status().unwrap();
        digest(manifest.as_bytes())
    }

    async fn blob(&self, content: Vec<u8>) {
        let uploads = format!("http://{}/v2/{REPOSITORY}/blobs/uploads/", self.address());
        let begun = self.http.post(uploads).send().await.unwrap().error_for_status().unwrap();
        let place = begun.headers()["location"].to_str().unwrap();
        let put = self.http.put(format!("{place}&digest={}", digest(&content))).body(content);
        put.send().await.unwrap().error_for_status().unwrap();
    }

    /// What the controllers have said, for a failure.
    pub fn logs(&self) -> String {
        let log = |name| std::fs::read_to_string(self.files.path().join(name)).unwrap_or_default();
        ["source-controller.log", "kustomize-controller.log"].map(log).concat()
    }
}

/// As the administrator of the cluster; nothing of it is reached from elsewhere.
async fn start(world: &World, files: &TempDir, program: &Path, more: &[String]) -> Child {
    let mut command = Command::new(program);
    command.args(["--watch-all-namespaces=false", "--log-encoding=console"]);
    command.args(["--metrics-addr=127.0.0.1:0", "--health-addr=127.0.0.1:0"]).args(more);
    command.env("KUBECONFIG", world.cluster.kubeconfig()).env("RUNTIME_NAMESPACE", &world.namespace);
    command.env("TMPDIR", files.path());
    let name = program.file_name().unwrap().to_str().unwrap();
    log_to(&mut command, &files.path().join(format!("{name}.log"))).unwrap();
    spawn(command).await.unwrap()
}

fn digest(content: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(content)))
}
