//! Learns the Secrets that only pods know, before anything that these pods say is repeated.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Pod, Secret};
use kube::Api;
use serde_json::Value;

use crate::core::helm::manifest::documents;
use crate::core::helm::references;
use crate::runner::context::{Context, request};

/// Most Secrets that are read for one pod or one release.
const MOST: usize = 200;

/// Hides what the Secrets of a pod hold now, and what its variables hold literally.
pub async fn of_pod(ctx: &Context, name: &str) {
    let pods: Api<Pod> = ctx.api();
    match request(&format!("read Pod/{name}"), || pods.get_opt(name)).await {
        Ok(Some(pod)) => {
            if let Ok(pod) = serde_json::to_value(&pod) {
                read(ctx, hide(ctx, [&pod])).await;
            }
        }
        Ok(None) => {}
        Err(error) => tracing::warn!("{error}"),
    }
}

/// Hides what the objects of a manifest hold, and the Secrets that their pods use.
pub async fn of_manifest(ctx: &Context, manifest: &str) {
    // One that cannot be read is a finding of the plan.
    if let Ok(documents) = documents(manifest) {
        of_objects(ctx, documents.iter().flat_map(|document| &document.objects)).await;
    }
}

/// Hides what objects of a release hold, and the Secrets of this namespace that their pods will use; each is read once.
pub async fn of_objects(ctx: &Context, objects: impl IntoIterator<Item = &Value>) {
    let mut names = hide(ctx, objects);
    names.retain(|name| !ctx.secrets.is_hidden(name));
    read(ctx, names).await;
}

/// Hides what objects hold literally. Returns the names of the Secrets that their pods use.
fn hide<'a>(ctx: &Context, objects: impl IntoIterator<Item = &'a Value>) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for object in objects {
        ctx.secrets.hide(references::literals(object));
        names.extend(references::secrets(object));
    }
    names
}

async fn read(ctx: &Context, names: BTreeSet<String>) {
    let secrets: Api<Secret> = ctx.api();
    for name in names.iter().take(MOST) {
        // One that does not exist yet, or may not be read, is nobody's to repeat.
        match request(&format!("read Secret/{name}"), || secrets.get_opt(name)).await {
            Ok(Some(found)) => {
                let data = found.data.unwrap_or_default();
                ctx.secrets.hide_secret(name, data.iter().flat_map(|(key, value)| references::of_data(key, &value.0)));
            }
            Ok(None) => {}
            Err(error) => tracing::debug!("{error}"),
        }
    }
}
