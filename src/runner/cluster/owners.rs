//! Who owns the `PersistentVolumeClaims` of a namespace, directly or through others. The garbage collector deletes a claim
//! with its owner, whatever kinds are in between.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{PersistentVolumeClaim, Pod};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{ListParams, PartialObjectMeta};
use kube::{Api, ResourceExt};

use super::kinds;
use crate::core::object::ObjectRef;
use crate::runner::context::{Context, request};
use crate::runner::error::Error;

/// Claims are listed in pages of this size: a namespace may hold those of thousands of workspaces.
const PAGE: u32 = 500;
/// Most owners that are looked at for the claims of a namespace. What lies beyond is unknown.
const MOST: usize = 512;

/// A claim that something owns.
#[derive(Clone, Debug, Default)]
pub struct OwnedClaim {
    /// Name of the claim.
    pub name: String,
    /// What owns it, directly and through others.
    ancestors: Vec<Ancestor>,
    /// Why not all of its owners are known, if they are not.
    unknown: Option<String>,
}

#[derive(Clone, Debug)]
struct Ancestor {
    object: ObjectRef,
    /// Index of the ancestor that it owns; none for the claim itself.
    owns: Option<usize>,
}

impl OwnedClaim {
    /// How the claim belongs to an object for which this is true: "belongs to A, which belongs to B". None if it does not, as
    /// far as that is known.
    pub fn belongs_to(&self, wanted: impl Fn(&ObjectRef) -> bool) -> Option<String> {
        let found = self.ancestors.iter().position(|ancestor| wanted(&ancestor.object))?;
        let mut path = vec![found];
        while let Some(next) = path.last().and_then(|at| self.ancestors[*at].owns) {
            path.push(next);
        }
        let names = path.iter().rev().map(|at| self.ancestors[*at].object.to_string());
        Some(format!("belongs to {}", names.collect::<Vec<_>>().join(", which belongs to ")))
    }

    /// Why it is not known whether it belongs to something else as well; none if all its owners are known.
    pub fn unknown(&self) -> Option<&str> {
        self.unknown.as_deref()
    }
}

/// The claims of a namespace that something owns, with all owners. Those of generic ephemeral volumes are not among them:
/// by their nature they go with their pod, and hold nothing that shall outlive it.
pub async fn owned(ctx: &Context, namespace: &str) -> Result<Vec<OwnedClaim>, Error> {
    let mut family = Family { ctx, namespace, known: HashMap::new() };
    let mut found = Vec::new();
    for claim in claims(ctx, namespace).await? {
        if !ephemeral(ctx, namespace, &claim).await? {
            found.push(family.of(&claim).await?);
        }
    }
    Ok(found)
}

/// The claims that have an owner.
async fn claims(ctx: &Context, namespace: &str) -> Result<Vec<PartialObjectMeta<PersistentVolumeClaim>>, Error> {
    let api: Api<PersistentVolumeClaim> = Api::namespaced(ctx.client.clone(), namespace);
    let doing = format!("list the PersistentVolumeClaims of namespace {namespace}");
    let (mut found, mut page) = (Vec::new(), ListParams::default().limit(PAGE));
    loop {
        let list = request(&doing, || api.list_metadata(&page)).await?;
        found.extend(list.items.into_iter().filter(|claim| !claim.owner_references().is_empty()));
        match list.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => page = page.continue_token(&token),
            None => return Ok(found),
        }
    }
}

/// Whether the claim is that of a generic ephemeral volume of the pod that owns it.
async fn ephemeral(
    ctx: &Context,
    namespace: &str,
    claim: &PartialObjectMeta<PersistentVolumeClaim>,
) -> Result<bool, Error> {
    let pods: Api<Pod> = Api::namespaced(ctx.client.clone(), namespace);
    let mut owners = claim.owner_references().iter();
    let Some(owner) = owners.find(|owner| owner.controller == Some(true) && owner.api_version == "v1") else {
        return Ok(false);
    };
    if owner.kind != "Pod" {
        return Ok(false);
    }
    let pod = request(&format!("read Pod/{}", owner.name), || pods.get_opt(&owner.name)).await?;
    let volumes = pod.filter(|pod| pod.uid().as_ref() == Some(&owner.uid)).and_then(|pod| pod.spec?.volumes);
    let mut ephemeral = volumes.iter().flatten().filter(|volume| volume.ephemeral.is_some());
    Ok(ephemeral.any(|volume| format!("{}-{}", owner.name, volume.name) == claim.name_any()))
}

/// What is known of the owners in a namespace.
struct Family<'a> {
    ctx: &'a Context,
    namespace: &'a str,
    known: HashMap<String, Result<Vec<OwnerReference>, String>>,
}

impl Family<'_> {
    /// Follows the owners of a claim upward. Each is looked at once, so a circle ends.
    async fn of(&mut self, claim: &PartialObjectMeta<PersistentVolumeClaim>) -> Result<OwnedClaim, Error> {
        let mut owned = OwnedClaim { name: claim.name_any(), ..OwnedClaim::default() };
        let mut seen = Vec::new();
        let mut left: Vec<_> = claim.owner_references().iter().cloned().map(|owner| (owner, None)).collect();
        while let Some((owner, owns)) = left.pop() {
            if seen.contains(&owner.uid) {
                continue;
            }
            seen.push(owner.uid.clone());
            let object = self.reference(&owner);
            let owners = self.owners(&owner, &object).await?;
            owned.ancestors.push(Ancestor { object, owns });
            let here = Some(owned.ancestors.len() - 1);
            match owners {
                Ok(owners) => left.extend(owners.into_iter().map(|owner| (owner, here))),
                Err(why) => owned.unknown = Some(why),
            }
        }
        Ok(owned)
    }

    fn reference(&self, owner: &OwnerReference) -> ObjectRef {
        ObjectRef {
            api_version: owner.api_version.clone(),
            kind: owner.kind.clone(),
            namespace: Some(self.namespace.to_owned()),
            name: owner.name.clone(),
        }
    }

    /// The owners of an owner, or why they are not known. One that is gone, or was replaced by a namesake, has none.
    async fn owners(
        &mut self,
        owner: &OwnerReference,
        object: &ObjectRef,
    ) -> Result<Result<Vec<OwnerReference>, String>, Error> {
        if let Some(known) = self.known.get(&owner.uid) {
            return Ok(known.clone());
        }
        let found = if self.known.len() >= MOST {
            Err(format!("more than {MOST} objects own PersistentVolumeClaims in namespace {}", self.namespace))
        } else {
            self.read(owner, object).await?
        };
        self.known.insert(owner.uid.clone(), found.clone());
        Ok(found)
    }

    async fn read(
        &mut self,
        owner: &OwnerReference,
        object: &ObjectRef,
    ) -> Result<Result<Vec<OwnerReference>, String>, Error> {
        match kinds::live(self.ctx, object).await {
            Ok(Some(found)) if found.uid().as_ref() == Some(&owner.uid) => Ok(Ok(found.owner_references().to_vec())),
            Ok(_) => Ok(Ok(Vec::new())),
            Err(error) if error.has_code(403) => Ok(Err(error.to_string())),
            Err(error) => Err(error),
        }
    }
}
