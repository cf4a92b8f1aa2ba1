//! The command `setup`: gives the runner its rights in a namespace.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use kube::Api;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use serde_json::Value;

use super::error::PluginError;
use super::session::{Session, SessionArgs, print};
use crate::access::Access;
use crate::core::helm::manifest;
use crate::core::rights::{ACCOUNT, RightsGroup, RoleNames, base, yaml};

/// Name under which the objects are applied: that of kubectl, with which they are applied otherwise.
const FIELD_MANAGER: &str = "kubectl";

/// What `setup` is told.
#[derive(Clone, Debug, Args)]
pub struct SetupArgs {
    /// Namespace of the release
    #[arg(short, long, value_parser = NonEmptyStringValueParser::new())]
    namespace: String,

    /// Further namespaces in which the chart of Coder v2 makes Roles (coder.serviceAccount.workspaceNamespaces)
    #[arg(long, value_name = "NAMESPACE", value_delimiter = ',')]
    workspace_namespaces: Vec<String>,

    /// Cluster and user.
    #[command(flatten)]
    access: Access,
}

/// Applies the `ServiceAccount` and the Roles, and says what they grant.
pub async fn run(args: &SetupArgs, program: &'static str) -> Result<u8, PluginError> {
    let SetupArgs { namespace, workspace_namespaces, access } = args;
    let place = SessionArgs { namespace: Some(namespace.clone()), access: access.clone() };
    let session = Session::open(&place, program).await?;
    let grants = base(workspace_namespaces);
    let names = RoleNames { namespace: Some(namespace.clone()), account: ACCOUNT.into(), upgrade: None };
    let objects = manifest::objects(&yaml(&grants, &names)).map_err(|error| PluginError::Print(error.to_string()))?;
    for object in &objects {
        let told = apply(&session, object).await?;
        print(&format!("{told} applied\n"))?;
    }
    print(&format!("\nGranted to ServiceAccount/{ACCOUNT} in namespace {namespace}:\n{}", reasons(&grants.home)))?;
    for (other, parts) in &grants.elsewhere {
        print(&format!("In namespace {other}:\n{}", reasons(parts)))?;
    }
    print(&format!("In the whole cluster:\n{}", reasons(&grants.cluster)))?;
    print(&format!("\nEach right by itself: {program} rights -n {namespace}\n"))?;
    Ok(0)
}

fn reasons(parts: &[RightsGroup]) -> String {
    parts.iter().fold(String::new(), |text, part| text + "  - " + &part.why + "\n")
}

/// Applies an object as `kubectl apply --server-side` does. Returns what it is called.
async fn apply(session: &Session, object: &Value) -> Result<String, PluginError> {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let (api_version, kind) = (text(&object["apiVersion"]), text(&object["kind"]));
    let (group, version) = api_version.split_once('/').unwrap_or(("", &api_version));
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(group, version, &kind));
    let name = text(&object["metadata"]["name"]);
    let (api, told): (Api<DynamicObject>, String) = match object["metadata"]["namespace"].as_str() {
        Some(namespace) => (
            Api::namespaced_with(session.client.clone(), namespace, &resource),
            format!("{kind}/{name} in namespace {namespace}"),
        ),
        None => (Api::all_with(session.client.clone(), &resource), format!("{kind}/{name}")),
    };
    let parameters = PatchParams::apply(FIELD_MANAGER);
    session.ask(&format!("apply {told}"), api.patch(&name, &parameters, &Patch::Apply(object))).await?;
    Ok(told)
}
