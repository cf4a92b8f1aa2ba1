//! The hooks of a chart: objects that helm makes before and after its work, and deletes by rules of its own.

use serde::{Deserialize, Serialize};

use crate::core::object::ObjectRef;

/// A hook of a chart.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Hook {
    /// The object that helm makes.
    pub object: ObjectRef,
    /// When helm makes it, for example pre-upgrade.
    #[serde(default)]
    pub events: Vec<String>,
    /// The images that its pods run.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub images: Vec<String>,
    /// The names of the containers of its pods.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub containers: Vec<String>,
}

/// What helm does with a release.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HelmAction {
    /// It installs or upgrades it, or rolls it back after that has failed.
    Change,
    /// It uninstalls it.
    Uninstall,
}

impl Hook {
    /// Whether helm may make it, and delete what has its name before, during this work.
    pub fn runs_in(&self, work: HelmAction) -> bool {
        let parts: &[&str] = match work {
            HelmAction::Change => &["install", "upgrade", "rollback"],
            HelmAction::Uninstall => &["delete"],
        };
        self.events.iter().any(|event| parts.iter().any(|part| event.contains(part)))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(&["pre-upgrade", "pre-install"], true, false)]
    #[case(&["post-delete"], false, true)]
    #[case(&["test"], false, false)]
    #[case(&["post-rollback"], true, false)]
    fn events_say_when_a_hook_runs(#[case] events: &[&str], #[case] change: bool, #[case] uninstall: bool) {
        let object =
            ObjectRef { api_version: "batch/v1".into(), kind: "Job".into(), namespace: None, name: "a".into() };
        let events = events.iter().map(|event| (*event).to_owned()).collect();
        let hook = Hook { object, events, images: vec![], containers: vec![] };
        assert_eq!((hook.runs_in(HelmAction::Change), hook.runs_in(HelmAction::Uninstall)), (change, uninstall));
    }
}
