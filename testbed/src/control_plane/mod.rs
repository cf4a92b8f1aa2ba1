//! etcd, kube-apiserver, kube-controller-manager and kube-scheduler as child processes. Only the API server listens elsewhere than
//! on loopback, for a real node.
//!
//! Files: one for each program with its settings, [`launch`] to start a program and wait until it serves, [`identity`]
//! for the users of the API.

mod api_server;
mod controllers;
mod etcd;
pub mod identity;
pub mod launch;

use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use identity::{Identities, User};
use kube::Client;
use launch::{LaunchError, Program, Running};

use crate::components::{Binaries, Component};
use crate::pki::{Pki, PkiError};

/// Where the parts of a cluster reach each other.
#[derive(Debug, Clone)]
pub struct Network {
    /// Where the API server listens.
    pub api_server: Ipv4Addr,
    /// The node's address.
    pub node: Ipv4Addr,
    /// Addresses of Services.
    pub services: String,
    /// The address of the Service `kubernetes`: the first one of them.
    pub kubernetes_service: Ipv4Addr,
}

impl Network {
    /// Everything on loopback. Nothing routes the addresses of Services.
    #[must_use]
    pub fn loopback() -> Self {
        Self {
            api_server: Ipv4Addr::LOCALHOST,
            node: Ipv4Addr::LOCALHOST,
            services: "10.96.0.0/16".to_owned(),
            kubernetes_service: Ipv4Addr::new(10, 96, 0, 1),
        }
    }
}

/// What a control plane is made of.
#[derive(Debug)]
pub struct Settings<'a> {
    /// The cluster's directory; everything is written below it.
    pub dir: &'a Path,
    /// The programs.
    pub binaries: &'a Binaries,
    /// The node that will register.
    pub node_name: &'a str,
    /// Where they reach each other.
    pub network: Network,
    /// Write every API request (metadata only) to `logs/audit.log`.
    pub audit_log: bool,
}

/// An API server that serves, and its store.
#[derive(Debug)]
pub struct ControlPlane {
    /// Where the API server listens: `https://127.0.0.1:PORT` with the process node.
    pub api_url: String,
    /// Keys and certificates.
    pub pki: Pki,
    /// Who may talk to it, with their kubeconfigs.
    pub identities: Identities,
}

/// Why there is no control plane.
#[derive(Debug, thiserror::Error)]
pub enum ControlPlaneError {
    /// Keys or certificates could not be made.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// A program did not start, or did not become ready.
    #[error(transparent)]
    Launch(#[from] LaunchError),
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system gave no port or no random number.
    #[error("cannot get {what} from the system: {source}")]
    System {
        /// What was asked for.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// The client of our own kubeconfig could not be made.
    #[error("cannot make a client for {api_url}: {source}")]
    Client {
        /// The API server.
        api_url: String,
        /// The reason.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A program is missing among those given.
    #[error("{0} is needed and was not given")]
    Missing(Component),
}

impl ControlPlane {
    /// Starts etcd and the API server and returns when it is ready, with both processes in this order. `starting` hears
    /// the name of each before it is started.
    ///
    /// # Errors
    /// See [`ControlPlaneError`]; a program that fails is named, with the end of its log.
    pub async fn start(
        settings: &Settings<'_>,
        starting: impl Fn(Component),
    ) -> Result<(Self, [Running; 2]), ControlPlaneError> {
        for dir in ["logs", "etcd", "volume-plugins", "identities"].map(|name| settings.dir.join(name)) {
            std::fs::create_dir_all(&dir).map_err(|source| ControlPlaneError::Write { path: dir, source })?;
        }
        let pki = Pki::create(&settings.dir.join("pki"), settings.node_name, &settings.network)?;
        let identities = Identities::create(settings.dir, settings.node_name)?;

        starting(Component::Etcd);
        let (etcd_url, etcd) = etcd::start(settings).await?;
        starting(Component::KubeApiserver);
        let (api_url, api_server) = api_server::start(settings, &pki, &identities, &etcd_url).await?;
        for user in User::ALL {
            identities.write_kubeconfig(user, &api_url, &pki.authority)?;
        }
        Ok((Self { api_url, pki, identities }, [etcd, api_server]))
    }

    /// Starts kube-controller-manager and kube-scheduler, in this order. They run when this returns, but may not work yet.
    ///
    /// # Errors
    /// When one cannot be started.
    pub async fn start_controllers(&self, settings: &Settings<'_>) -> Result<[Running; 2], ControlPlaneError> {
        let controllers = controllers::start_controller_manager(settings, &self.pki, &self.identities).await?;
        Ok([controllers, controllers::start_scheduler(settings, &self.identities).await?])
    }

    /// A client with the rights of `user`.
    ///
    /// # Errors
    /// When the kubeconfig is refused, which would be a bug here.
    pub async fn client(&self, user: User) -> Result<Client, ControlPlaneError> {
        self.identities.client(user, &self.api_url, &self.pki.authority).await
    }
}

impl Settings<'_> {
    fn program(&self, component: Component, arguments: Vec<String>) -> Result<Program<'_>, ControlPlaneError> {
        Ok(Program {
            name: component.name(),
            version: Some(component.version()),
            path: self.binaries.get(component).ok_or(ControlPlaneError::Missing(component))?,
            arguments: arguments.into_iter().map(Into::into).collect(),
            path_variable: None,
            log: log_file(self.dir, component.name()),
        })
    }
}

/// Where the component `name` of the cluster in `dir` writes its log.
pub fn log_file(dir: &Path, name: &str) -> PathBuf {
    dir.join("logs").join(format!("{name}.log"))
}
