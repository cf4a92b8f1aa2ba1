//! What Roles and `ClusterRoles` grant to the runner in a namespace.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding, RoleRef, Subject};
use kube::Api;
use kube::api::ListParams;
use serde::Serialize;

use super::super::error::PluginError;
use super::super::session::Session;
use super::or_note;
use crate::core::doctor::{DoctorLine, runner};
use crate::core::rights::{ACCOUNT, Right, granted_by};

/// Whether the runner of the namespace has its rights.
pub async fn look(session: &Session) -> Result<DoctorLine, PluginError> {
    match or_note("runner", read(session).await)? {
        Ok((account, granted)) => Ok(runner(account, &granted, &session.namespace, session.program)),
        Err(note) => Ok(note),
    }
}

async fn read(session: &Session) -> Result<(bool, BTreeSet<Right>), PluginError> {
    let namespace = &session.namespace;
    let doing = format!("read ServiceAccount/{ACCOUNT} in namespace {namespace}");
    let account = session.ask(&doing, session.api::<ServiceAccount>().get_opt(ACCOUNT)).await?;
    let all = ListParams::default();
    let doing = format!("list the RoleBindings of namespace {namespace}");
    let bindings = session.ask(&doing, session.api::<RoleBinding>().list(&all)).await?.items;
    let shared: Api<ClusterRoleBinding> = Api::all(session.client.clone());
    let shared = session.ask("list the ClusterRoleBindings", shared.list(&all)).await?.items;
    let bound = bindings.into_iter().map(|binding| (binding.role_ref, binding.subjects));
    let bound = bound.chain(shared.into_iter().map(|binding| (binding.role_ref, binding.subjects)));
    let mut granted = BTreeSet::new();
    for (role, _) in
        bound.filter(|(_, subjects)| subjects.iter().flatten().any(|subject| is_runner(subject, namespace)))
    {
        granted.extend(of_role(session, &role).await?);
    }
    Ok((account.is_some(), granted))
}

fn is_runner(subject: &Subject, namespace: &str) -> bool {
    subject.kind == "ServiceAccount" && subject.name == ACCOUNT && subject.namespace.as_deref() == Some(namespace)
}

/// What a Role grants; nothing if it does not exist.
async fn of_role(session: &Session, role: &RoleRef) -> Result<BTreeSet<Right>, PluginError> {
    let doing = format!("read {}/{}", role.kind, role.name);
    if role.kind == "ClusterRole" {
        let api: Api<ClusterRole> = Api::all(session.client.clone());
        return Ok(session.ask(&doing, api.get_opt(&role.name)).await?.map(|role| rights(&role)).unwrap_or_default());
    }
    Ok(session
        .ask(&doing, session.api::<Role>().get_opt(&role.name))
        .await?
        .map(|role| rights(&role))
        .unwrap_or_default())
}

fn rights(role: &impl Serialize) -> BTreeSet<Right> {
    serde_json::to_value(role).map(|role| granted_by(&role)).unwrap_or_default()
}
