//! The users of the API server: one token and one kubeconfig each.

use std::fmt::Write;
use std::io;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::json;

use super::ControlPlaneError;
use crate::{private_file, secret};

/// Who talks to the API server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// The person who started the cluster, and its tests; may do everything.
    Admin,
    /// The test bed itself (load balancer stand-in), told apart from the admin in audit logs; may do everything.
    TestBed,
    /// kube-controller-manager.
    ControllerManager,
    /// kube-scheduler.
    Scheduler,
    /// The node, with a kubelet's rights.
    Node,
    /// kube-proxy, on a real node.
    KubeProxy,
}

impl User {
    /// All users.
    pub const ALL: [Self; 6] =
        [Self::Admin, Self::TestBed, Self::ControllerManager, Self::Scheduler, Self::Node, Self::KubeProxy];

    /// User name and group; the built-in roles are bound to these.
    fn name_and_group(self, node_name: &str) -> (String, &'static str) {
        match self {
            Self::Admin => ("admin".to_owned(), "system:masters"),
            Self::TestBed => ("testbed".to_owned(), "system:masters"),
            Self::ControllerManager => ("system:kube-controller-manager".to_owned(), ""),
            Self::Scheduler => ("system:kube-scheduler".to_owned(), ""),
            Self::Node => (format!("system:node:{node_name}"), "system:nodes"),
            Self::KubeProxy => ("system:kube-proxy".to_owned(), ""),
        }
    }

    /// Where its kubeconfig lies below the cluster's directory.
    fn file(self) -> &'static str {
        match self {
            Self::Admin => "kubeconfig",
            Self::TestBed => "identities/testbed.kubeconfig",
            Self::ControllerManager => "identities/kube-controller-manager.kubeconfig",
            Self::Scheduler => "identities/kube-scheduler.kubeconfig",
            Self::Node => "identities/node.kubeconfig",
            Self::KubeProxy => "identities/kube-proxy.kubeconfig",
        }
    }
}

/// The tokens of all users of one cluster.
#[derive(Debug)]
pub struct Identities {
    dir: PathBuf,
    tokens: Vec<(User, String)>,
}

impl Identities {
    /// Makes a token for each user and writes the API server's token file.
    pub(super) fn create(dir: &Path, node_name: &str) -> Result<Self, ControlPlaneError> {
        let mut tokens = Vec::new();
        let mut lines = String::new();
        for user in User::ALL {
            let token =
                secret::token().map_err(|source| ControlPlaneError::System { what: "a random number", source })?;
            let (name, group) = user.name_and_group(node_name);
            // Writing to a String cannot fail.
            _ = writeln!(lines, "{token},{name},{name},\"{group}\"");
            tokens.push((user, token));
        }
        let identities = Self { dir: dir.to_owned(), tokens };
        write_private(&identities.token_file(), &lines)?;
        Ok(identities)
    }

    /// What `--token-auth-file` of the API server reads.
    pub(super) fn token_file(&self) -> PathBuf {
        self.dir.join("identities/tokens.csv")
    }

    /// The kubeconfig of a user.
    pub fn kubeconfig_file(&self, user: User) -> PathBuf {
        self.dir.join(user.file())
    }

    /// The kubeconfig of a user, complete in itself (it names no other files).
    fn kubeconfig(&self, user: User, api_url: &str, authority: &str) -> serde_json::Value {
        let token = self.tokens.iter().find(|(of, _)| *of == user).map(|(_, token)| token.as_str());
        json!({
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "testbed", "cluster": {
                "server": api_url,
                "certificate-authority-data": STANDARD.encode(authority),
            }}],
            "users": [{"name": "testbed", "user": {"token": token}}],
            "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": "testbed"}}],
            "current-context": "testbed",
        })
    }

    /// A client with the rights of `user`.
    pub(super) async fn client(&self, user: User, api_url: &str, authority: &str) -> Result<Client, ControlPlaneError> {
        let made = async {
            let kubeconfig: Kubeconfig = serde_json::from_value(self.kubeconfig(user, api_url, authority))?;
            let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(Client::try_from(config)?)
        };
        made.await.map_err(|source| ControlPlaneError::Client { api_url: api_url.to_owned(), source })
    }

    pub(super) fn write_kubeconfig(&self, user: User, api_url: &str, authority: &str) -> Result<(), ControlPlaneError> {
        let path = self.kubeconfig_file(user);
        let text = serde_saphyr::to_string(&self.kubeconfig(user, api_url, authority))
            .map_err(|error| ControlPlaneError::Write { path: path.clone(), source: io::Error::other(error) })?;
        write_private(&path, &text)
    }
}

fn write_private(path: &Path, text: &str) -> Result<(), ControlPlaneError> {
    private_file::write(path, text).map_err(|source| ControlPlaneError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_user_has_a_token_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("identities")).unwrap();
        let identities = Identities::create(dir.path(), "node-1").unwrap();
        let lines = std::fs::read_to_string(identities.token_file()).unwrap();
        let tokens: std::collections::BTreeSet<_> = lines.lines().map(|line| line.split(',').next()).collect();
        assert_eq!(tokens.len(), User::ALL.len());
        assert!(lines.contains(",system:node:node-1,system:node:node-1,\"system:nodes\"\n"), "{lines}");
    }

    #[test]
    fn kube_reads_the_kubeconfig() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("identities")).unwrap();
        let identities = Identities::create(dir.path(), "node-1").unwrap();
        identities.write_kubeconfig(User::Admin, "https://127.0.0.1:6443", "PEM").unwrap();
        let read = kube::config::Kubeconfig::read_from(dir.path().join("kubeconfig")).unwrap();
        assert_eq!(read.current_context.as_deref(), Some("testbed"));
        assert_eq!(read.clusters[0].cluster.as_ref().unwrap().server.as_deref(), Some("https://127.0.0.1:6443"));
        assert!(read.auth_infos[0].auth_info.as_ref().unwrap().token.is_some());
    }
}
