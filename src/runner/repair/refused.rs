//! An object that helm was refused to change.

use crate::core::object::KindName;
use kube::{Api, api::DynamicObject};
use serde_json::Value;

/// An object that is to be replaced.
pub struct RefusedObject<'a> {
    /// Its kind and name.
    pub object: &'a KindName,
    /// Where it is.
    pub api: Api<DynamicObject>,
    /// As it is.
    pub live: Value,
    /// Its UID.
    pub uid: String,
    /// As the chart renders it.
    pub new: Value,
}
