//! A post-renderer of helm: kustomize, as kubectl has it. helm 3 takes a program, helm 4 a plugin.

use std::fs::{Permissions, create_dir_all, set_permissions, write};
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::World;
use super::steps::HelmMajor;

const NAME: &str = "kustomized";

pub struct PostRenderer {
    helm: HelmMajor,
    dir: TempDir,
}

impl PostRenderer {
    /// One that does with all objects what the kustomization says.
    pub fn new(world: &World, helm: HelmMajor, mut kustomization: Value) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let plugin = dir.path().join(NAME);
        create_dir_all(&plugin).unwrap();
        kustomization["resources"] = json!(["all.yaml"]);
        write(plugin.join("kustomization.yaml"), kustomization.to_string()).unwrap();
        let kubectl = world.cluster.kubectl_command();
        let kubectl = kubectl.as_std().get_program().to_str().unwrap();
        let plugin_dir = plugin.display();
        let program = format!("#!/bin/sh\ncat > {plugin_dir}/all.yaml\nexec {kubectl} kustomize {plugin_dir}\n");
        write(plugin.join("run"), program).unwrap();
        set_permissions(plugin.join("run"), Permissions::from_mode(0o755)).unwrap();
        let about = json!({
            "apiVersion": "v1", "name": NAME, "version": "1.0.0", "type": "postrenderer/v1", "runtime": "subprocess",
            "runtimeConfig": {"platformCommand": [{"command": "${HELM_PLUGIN_DIR}/run"}]},
        });
        write(plugin.join("plugin.yaml"), about.to_string()).unwrap();
        Self { helm, dir }
    }

    /// Runs helm with it, as an administrator.
    pub async fn helm(&self, world: &World, arguments: &[&str]) {
        let (mut helm, renderer) = match self.helm {
            HelmMajor::Three => {
                let program = self.dir.path().join(NAME).join("run");
                (world.cluster.helm3_command().await.unwrap(), program.to_str().unwrap().to_owned())
            }
            HelmMajor::Four => {
                let mut helm = world.cluster.helm_command();
                helm.env("HELM_PLUGINS", self.dir.path());
                (helm, NAME.to_owned())
            }
        };
        helm.args(arguments).args(["--namespace", &world.namespace, "--post-renderer", &renderer]);
        let done = helm.output().await.unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}
