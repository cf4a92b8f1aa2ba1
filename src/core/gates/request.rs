//! What is asked for, as a digest: a changed digest means a new attempt, an equal one means that nothing is to be done.

use serde_json::Value;

use crate::api::CoderUpgradeSpec;
use crate::core::text::digest::short_hash;

/// Fields that say how to work, not what to reach: changing them alone plans nothing.
const PROCEDURAL_FIELDS: [&str; 11] = [
    "suspend",
    "historyLimit",
    "job",
    "retry",
    "recovery",
    "keepAddresses",
    "approval",
    "window",
    "dependsOn",
    "backup",
    "overrides",
];

/// SHA-256 over the spec without the fields that only say how the work is done, and over the request annotation, the first 16 hex digits.
pub fn digest(spec: &CoderUpgradeSpec, requested_at: Option<&str>) -> String {
    let mut spec = serde_json::to_value(spec).unwrap_or(Value::Null);
    if let Value::Object(fields) = &mut spec {
        fields.retain(|name, _| !PROCEDURAL_FIELDS.contains(&name.as_str()));
    }
    short_hash(&[&spec.to_string(), requested_at.unwrap_or_default()], 16)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(version: &str) -> CoderUpgradeSpec {
        CoderUpgradeSpec { version: Some(version.into()), ..Default::default() }
    }

    #[test]
    fn the_version_and_the_request_count() {
        let first = digest(&spec("2.31.7"), None);
        assert_ne!(first, digest(&spec("2.31.8"), None));
        assert_ne!(first, digest(&spec("2.31.7"), Some("now")));
        assert_eq!(first, digest(&spec("2.31.7"), None));
    }

    #[test]
    fn the_manner_does_not_count() {
        let suspended = CoderUpgradeSpec { suspend: true, history_limit: 3, ..spec("2.31.7") };
        assert_eq!(digest(&spec("2.31.7"), None), digest(&suspended, None));
    }
}
