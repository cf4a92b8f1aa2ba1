//! A release without records: is it a first install, or one that somebody took away?

use crate::api::{CheckName, CoderUpgrade, CoderUpgradeStatus, Finding};

/// What is left of a release of which helm has no record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traces {
    /// Workloads that say that they belong to it, as Kind/name.
    pub workloads: Vec<String>,
    /// Secret with the last plan for it, which still has its values.
    pub plan_secret: Option<String>,
}

/// Refuses to take a release for a first install that was there before: the values that it was given are gone with its
/// records, and Coder would come back as another one.
#[must_use]
pub fn check(upgrade: &CoderUpgrade, traces: &Traces) -> Option<Finding> {
    let (name, release) = (CheckName::ReleaseRecords, &upgrade.spec.release);
    let values = match &traces.plan_secret {
        Some(secret) => {
            format!(
                "give all values in spec.values or spec.valuesFrom (Secret/{secret}, key values.json, has those of the last plan)"
            )
        }
        None => "give all values in spec.values or spec.valuesFrom".to_owned(),
    };
    if let Some(object) = traces.workloads.first() {
        let message = format!(
            "helm has no record of release {release} in this namespace, but {} it by the annotation \
             meta.helm.sh/release-name: its records were deleted or are kept elsewhere (HELM_DRIVER), and an install would \
             overwrite what runs with the values of the spec alone",
            match traces.workloads.len() {
                1 => format!("{object} belongs to"),
                all => format!("{object} and {} more belong to", all - 1),
            },
        );
        let next = format!(
            "Restore the Secrets of type helm.sh/release.v1 from a backup, so that the values are known. To install over what \
             runs on purpose, {values} and add {name} to spec.overrides."
        );
        return Some(Finding::refusal(name, message, next).about(object));
    }
    let known = upgrade.status.as_ref().and_then(known).filter(|_| upgrade.spec.keep_values)?;
    let message = format!(
        "release {release}, which was at {known}, was uninstalled from outside together with helm's records, and with them the \
         values that are to be kept"
    );
    let next = format!(
        "Find out who removed the release. To have it back, restore the Secrets of type helm.sh/release.v1 from a backup and run \
         helm rollback, or {values} and set the annotation coderupgrade.dev/requested-at to a new value. To install with the \
         values of the spec alone, add {name} to spec.overrides."
    );
    Some(Finding::refusal(name, message, next).at("spec.keepValues"))
}

/// The release that this object has seen installed.
fn known(status: &CoderUpgradeStatus) -> Option<String> {
    let current = status.current.as_ref()?;
    // A first install that never succeeded has no values but those of the spec.
    let first = current.revision == 1 && current.status != "deployed";
    let installed = !first || status.removed || !status.changed_outside.is_empty();
    installed.then(|| format!("version {} (revision {})", current.version, current.revision))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::{CoderUpgradeSpec, Installed, ProductLine};

    fn seen(revision: i32, status: &str) -> CoderUpgrade {
        let current = Installed {
            version: "2.30.0".into(),
            app_version: None,
            revision,
            status: status.into(),
            line: ProductLine::V2,
        };
        let mut upgrade = CoderUpgrade::new("coder", CoderUpgradeSpec::default());
        upgrade.status = Some(CoderUpgradeStatus { current: Some(current), ..CoderUpgradeStatus::default() });
        upgrade
    }

    fn refused(upgrade: &CoderUpgrade, traces: &Traces) -> bool {
        check(upgrade, traces).is_some()
    }

    #[test]
    fn a_release_that_was_seen_is_no_first_install() {
        let none = Traces::default();
        assert!(!refused(&CoderUpgrade::new("coder", CoderUpgradeSpec::default()), &none), "nothing was ever seen");
        assert!(!refused(&seen(1, "failed"), &none), "a first install that failed");
        assert!(refused(&seen(1, "deployed"), &none) && refused(&seen(2, "failed"), &none));
        let mut all_given = seen(1, "deployed");
        all_given.spec.keep_values = false;
        assert!(!refused(&all_given, &none), "no values are kept on purpose");
        let secret = Traces { plan_secret: Some("coder-plan-1".into()), ..Traces::default() };
        assert!(
            check(&seen(1, "deployed"), &secret).unwrap().next_step.contains("Secret/coder-plan-1, key values.json")
        );
    }

    #[test]
    fn what_runs_without_a_record_is_not_overwritten() {
        let mut upgrade = CoderUpgrade::new("coder", CoderUpgradeSpec::default());
        upgrade.spec.keep_values = false;
        let traces = Traces { workloads: vec!["Deployment/coder".into(), "StatefulSet/x".into()], plan_secret: None };
        let finding = check(&upgrade, &traces).unwrap();
        assert_eq!(finding.object.as_deref(), Some("Deployment/coder"));
        assert!(finding.message.contains("Deployment/coder and 1 more belong to it"), "{}", finding.message);
    }
}
