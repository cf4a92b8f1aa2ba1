//! Where a person works at a terminal: the cluster of the kubeconfig, and the one `CoderUpgrade` that is meant.

use std::path::Path;
use std::sync::Arc;

use kube::ResourceExt;
use tokio_util::sync::CancellationToken;

use super::error::PreviewError;
use super::source;
use crate::access::Access;
use crate::api::{CoderUpgrade, annotation};
use crate::core::gates::request::digest;
use crate::runner::context::{self, Context};
use crate::runner::helm::Helm;
use crate::runner::report::Reporter;
use crate::runner::secrets::Secrets;

/// Which `CoderUpgrade` is meant.
pub struct Wanted<'a> {
    /// Its name: in the cluster, or in the file.
    pub name: Option<&'a str>,
    /// The file that holds it.
    pub file: Option<&'a Path>,
    /// Its namespace.
    pub namespace: Option<&'a str>,
    /// Which cluster is meant.
    pub access: &'a Access,
}

/// The surroundings of a step that runs here, and what it is about.
pub struct Desk {
    /// The surroundings.
    pub ctx: Context,
    /// The declaration.
    pub upgrade: CoderUpgrade,
    /// Digest of what it asks for.
    pub request: String,
}

/// Finds the declaration, and prepares for a step that works in `directory`.
pub async fn set(wanted: &Wanted<'_>, directory: &Path, secrets: &Secrets, quiet: bool) -> Result<Desk, PreviewError> {
    let object = wanted.file.map(|file| source::read(file, wanted.name)).transpose()?;
    let client = context::client(wanted.access).await?;
    let named = object.as_ref().and_then(|object| object["metadata"]["namespace"].as_str());
    if let (Some(named), Some(asked)) = (named, wanted.namespace)
        && named != asked
    {
        let file = wanted.file.map(|file| file.display().to_string()).unwrap_or_default();
        let what = format!("says metadata.namespace: {named}, but --namespace says {asked}");
        return Err(PreviewError::Content { file, what });
    }
    let namespace = named.or(wanted.namespace).unwrap_or(client.default_namespace()).to_owned();
    let mut upgrade = match &object {
        Some(object) => {
            let (upgrade, note) = source::declared(&client, &namespace, object).await?;
            if let Some(note) = note {
                secrets.say(&format!("note: {note}"));
            }
            upgrade
        }
        None => source::installed(&client, &namespace, wanted.name.unwrap_or_default()).await?,
    };
    upgrade.metadata.namespace.get_or_insert_with(|| namespace.clone());
    let request = digest(&upgrade.spec, upgrade.annotations().get(annotation::REQUESTED_AT).map(String::as_str));
    upgrade.spec.version = upgrade.spec.version.take().or_else(|| found_before(&upgrade, &request));
    let ctx = Context {
        client,
        namespace,
        upgrade: upgrade.name_any(),
        uid: upgrade.uid().unwrap_or_default(),
        job: String::new(),
        work_dir: directory.to_owned(),
        helm: Helm::detect(directory).await?,
        secrets: secrets.clone(),
        reporter: Reporter::to_terminal(secrets.clone(), quiet),
        stop: CancellationToken::new(),
        served: Arc::default(),
    };
    Ok(Desk { ctx, upgrade, request })
}

/// The newest version, if the operator has looked it up for this very spec: it does so once.
fn found_before(upgrade: &CoderUpgrade, request: &str) -> Option<String> {
    let status = upgrade.status.as_ref()?;
    let target = status.target.as_ref().filter(|_| status.request == request);
    target.map(|target| target.version.clone())
}
