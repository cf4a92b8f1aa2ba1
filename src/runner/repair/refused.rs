//! An object that helm was refused to change.

use kube::{Api, api::DynamicObject};
use serde_json::Value;

/// An object that is to be replaced.
pub struct RefusedObject<'a> {
    /// Kind/name.
    pub object: &'a str,
    /// Where it is.
    pub api: Api<DynamicObject>,
    /// As it is.
    pub live: Value,
    /// Its UID.
    pub uid: String,
    /// As the chart renders it.
    pub new: Value,
}

impl RefusedObject<'_> {
    /// Name of the object.
    pub fn name(&self) -> &str {
        self.object.rsplit('/').next().unwrap_or_default()
    }
}
