//! The cluster and the namespace that a command is about.

use std::future::Future;
use std::io::Write;
use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;
use tokio::time::timeout;

use super::error::PluginError;
use crate::access::Access;
use crate::api::CoderUpgrade;

/// How long a request may take.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take until a connection is there. People wait at their terminal meanwhile.
const CONNECT: Duration = Duration::from_secs(5);
/// Name under which fields are set.
const FIELD_MANAGER: &str = "kubectl-coder-upgrade";

/// Which cluster and which namespace are meant.
#[derive(Clone, Debug, Args)]
pub struct SessionArgs {
    /// Namespace; by default that of your kubeconfig
    #[arg(short, long, value_parser = NonEmptyStringValueParser::new())]
    pub namespace: Option<String>,

    /// Cluster and user.
    #[command(flatten)]
    pub access: Access,
}

/// A cluster with the rights of its user, and a namespace of it.
#[derive(Clone)]
pub struct Session {
    /// The client.
    pub client: Client,
    /// The namespace.
    pub namespace: String,
    /// Address of the API server.
    pub server: String,
    /// How this program is called.
    pub program: &'static str,
}

impl Session {
    /// Reads the kubeconfig. Nothing is asked yet.
    pub async fn open(args: &SessionArgs, program: &'static str) -> Result<Self, PluginError> {
        let mut config = args.access.config().await?;
        config.connect_timeout = Some(CONNECT);
        let namespace = args.namespace.clone().unwrap_or_else(|| config.default_namespace.clone());
        let server = config.cluster_url.to_string().trim_end_matches('/').to_owned();
        let client = Client::try_from(config).map_err(|error| PluginError::of("use the kubeconfig", &server, error))?;
        Ok(Self { client, namespace, server, program })
    }

    /// An API of the namespace.
    pub fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Waits for an answer, but not for ever. `doing` completes "cannot …".
    pub async fn ask<T>(&self, doing: &str, answer: impl Future<Output = kube::Result<T>>) -> Result<T, PluginError> {
        match timeout(PATIENCE, answer).await {
            Ok(answer) => answer.map_err(|error| PluginError::of(doing, &self.server, error)),
            Err(_) => {
                Err(PluginError::Silent { doing: doing.to_owned(), server: self.server.clone(), limit: PATIENCE })
            }
        }
    }

    /// The object of that name.
    pub async fn upgrade(&self, name: &str) -> Result<CoderUpgrade, PluginError> {
        let doing = format!("read CoderUpgrade/{name} in namespace {}", self.namespace);
        let found = self.ask(&doing, async {
            match self.api::<CoderUpgrade>().get(name).await {
                Err(kube::Error::Api(status))
                    if status.code == 404 && status.details.as_ref().is_some_and(|details| details.name == name) =>
                {
                    Ok(None)
                }
                other => other.map(Some),
            }
        });
        found.await?.ok_or_else(|| self.absent(&format!("CoderUpgrade {name}")))
    }

    /// All objects of the namespace, or of the cluster.
    pub async fn upgrades(&self, everywhere: bool) -> Result<Vec<CoderUpgrade>, PluginError> {
        let (api, place) = if everywhere {
            (Api::all(self.client.clone()), "all namespaces".to_owned())
        } else {
            (self.api::<CoderUpgrade>(), format!("namespace {}", self.namespace))
        };
        let doing = format!("list the CoderUpgrades of {place}");
        let mut found = self.ask(&doing, api.list(&ListParams::default())).await?.items;
        if found.is_empty() {
            return Err(if everywhere {
                PluginError::Absent(
                    "there is no CoderUpgrade in the cluster\n  next: apply one, as deploy/samples show".into(),
                )
            } else {
                self.absent("CoderUpgrade")
            });
        }
        found.sort_by_key(|upgrade| (upgrade.namespace(), upgrade.name_any()));
        Ok(found)
    }

    fn absent(&self, what: &str) -> PluginError {
        let Self { namespace, program, .. } = self;
        PluginError::Absent(format!(
            "there is no {what} in namespace {namespace}\n  next: give the name and the namespace (-n) of one that exists; `{program} \
             status -A` lists them"
        ))
    }

    /// Changes fields of the object. Fields that the cluster does not know are refused, not dropped.
    pub async fn patch(&self, name: &str, doing: &str, patch: &Value) -> Result<CoderUpgrade, PluginError> {
        let doing = format!("{doing} of CoderUpgrade/{name} in namespace {}", self.namespace);
        let parameters = PatchParams { field_manager: Some(FIELD_MANAGER.into()), ..PatchParams::default() };
        let (api, parameters) = (self.api::<CoderUpgrade>(), parameters.validation_strict());
        match self.ask(&doing, api.patch(name, &parameters, &Patch::Merge(patch))).await {
            // The object and not the kind is missing: the answer does not tell which.
            Err(PluginError::Refused { text, .. }) if text.contains("not found") => {
                Err(self.absent(&format!("CoderUpgrade {name}")))
            }
            other => other,
        }
    }
}

/// Writes to standard output.
pub fn print(text: &str) -> Result<(), PluginError> {
    let mut out = std::io::stdout();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .map_err(|source| PluginError::Terminal { doing: "write to standard output", source })
}
