//! A release of which helm has no record where it looks: is it a first install, or does Coder run already?

mod live;

use serde_json::{Map, Value};

use crate::api::{CheckName, CoderUpgrade, CoderUpgradeStatus, Finding};
use crate::core::helm::ownership::{Owner, RELEASE_NAME};

pub use live::{LiveWorkload, Relation, manifest, relation, running, serves};

/// Most names that a message lists.
const TOLD: usize = 20;

/// What there is of a release beside helm's records in Secrets.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Traces {
    /// helm has a record of it in a Secret.
    pub recorded: bool,
    /// Workloads, and pods of their own, that belong to it or run Coder. Only looked for if nothing is installed by helm's
    /// records.
    pub live: Vec<LiveWorkload>,
    /// Objects that run what the chart runs and belong to other releases of the namespace, each with the release.
    pub others: Vec<(String, String)>,
    /// Its records in `ConfigMaps`.
    pub config_maps: Option<ConfigMapRecords>,
    /// Secret with the last plan for it, which still has its values.
    pub plan_secret: Option<String>,
}

/// helm's records of the release in `ConfigMaps`, where helm looks with `HELM_DRIVER=configmap`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigMapRecords {
    /// Name of the newest.
    pub name: String,
    /// Its revision.
    pub revision: i32,
    /// Its status.
    pub status: String,
    /// It was written later than the newest record in a Secret.
    pub newer: bool,
}

/// Refuses to take a release for a first install that is there already: the values that it was given are not known, and
/// Coder would become, or come back as, another one.
pub fn check(upgrade: &CoderUpgrade, traces: &Traces) -> Vec<Finding> {
    if let Some(records) = &traces.config_maps {
        return vec![elsewhere(upgrade, records, traces.recorded)];
    }
    if !traces.live.is_empty() {
        return vec![runs(upgrade, traces)];
    }
    let vanished = if traces.recorded { None } else { vanished(upgrade, traces) };
    vanished.into_iter().chain(traces.others.first().map(|other| beside(upgrade, other))).collect()
}

/// Another release has a Coder here. Perhaps that one is meant.
fn beside(upgrade: &CoderUpgrade, (object, other): &(String, String)) -> Finding {
    let release = &upgrade.spec.release;
    let message = format!(
        "helm has no record of release {release}, but {object} runs and belongs to release {other} of this namespace: a second Coder \
         would be installed beside it"
    );
    let next = format!(
        "If this CoderUpgrade is meant for release {other}, delete it, which changes nothing, and create one with spec.release: \
         {other}."
    );
    Finding::warning(CheckName::ReleaseRecords, message, next).about(object).at("spec.release")
}

/// What is to be done to give all values.
fn values(traces: &Traces) -> String {
    match &traces.plan_secret {
        Some(secret) => {
            format!(
                "give all values in spec.values or spec.valuesFrom (Secret/{secret}, key values.json, has those of the last plan)"
            )
        }
        None => "give all values in spec.values or spec.valuesFrom".to_owned(),
    }
}

/// Records that this helm does not see. To adopt what runs would begin a second history beside them.
fn elsewhere(upgrade: &CoderUpgrade, records: &ConfigMapRecords, recorded: bool) -> Finding {
    let release = &upgrade.spec.release;
    let ConfigMapRecords { name, revision, status, newer } = records;
    let what = format!("ConfigMap/{name} is helm's record of revision {revision} ({status}) of release {release}");
    let finding = |finding: fn(CheckName, String, String) -> Finding, message: String, next: String| {
        finding(CheckName::ReleaseRecords, message, next).about(format!("ConfigMap/{name}"))
    };
    if recorded && !newer {
        let message = format!(
            "{what}, older than its record in a Secret: whoever runs helm with HELM_DRIVER=configmap continues from it"
        );
        let next = format!(
            "Delete the old records if nobody runs helm with HELM_DRIVER=configmap any more: kubectl delete configmaps -l \
             owner=helm,name={release}."
        );
        return finding(Finding::warning, message, next);
    }
    let message = format!(
        "{what}, written by helm with HELM_DRIVER=configmap. helm works with records in Secrets here, and would begin a second \
         history of the release beside that one"
    );
    let next = "Move the records into Secrets with the command in docs/adoption.md, which needs kubectl alone, and run helm \
                without HELM_DRIVER from then on.";
    finding(Finding::refusal, message, next.to_owned())
}

/// Coder runs, and helm does not know of it.
fn runs(upgrade: &CoderUpgrade, traces: &Traces) -> Finding {
    let (name, release) = (CheckName::ReleaseRecords, &upgrade.spec.release);
    let first = traces.live.iter().find(|live| live.owner == Owner::Release).unwrap_or(&traces.live[0]);
    let object = first.name();
    let more = match traces.live.len() {
        1 => String::new(),
        all => format!(", beside {} more", all - 1),
    };
    let marked = first.owner == Owner::Release;
    let whose = if marked { format!("it by the annotation {RELEASE_NAME}") } else { first.owner.to_string() };
    let what = format!(
        "helm has no record of release {release} in this namespace, but {object} exists{more}; it runs {} and belongs to {whose}",
        first.image()
    );
    if upgrade.spec.adopt {
        let message = format!(
            "{what}. As spec.adopt says, the objects that the chart has by the same kind and name are taken over with {}. helm does not \
             know their present state, so that they cannot be restored if the change fails",
            if traces.recorded && upgrade.spec.keep_values {
                "the values of the release that was uninstalled and those of the spec"
            } else {
                "the values of the spec alone"
            }
        );
        let next = "Compare what would change with what runs (coder-upgrade-operator plan shows it field by field), and make a \
                    backup of the database before.";
        return Finding::warning(name, message, next).about(object);
    }
    let why = if marked {
        "the records were deleted, or are kept elsewhere (HELM_DRIVER, or storageNamespace of Flux)"
    } else {
        "it was applied by something else than helm"
    };
    let message = format!("{what}: {why}, and an install would overwrite what runs with the values of the spec alone");
    let next = format!(
        "If the records were deleted, restore the Secrets of type helm.sh/release.v1 from a backup. If another program manages \
         Coder, leave it to that program and delete this CoderUpgrade, or end its work. To take over what runs on purpose, {} \
         and set spec.adopt to true, as docs/adoption.md explains; or add {name} to spec.overrides.",
        values(traces)
    );
    Finding::refusal(name, message, next).about(object)
}

/// The release was installed once, and nothing of it runs.
fn vanished(upgrade: &CoderUpgrade, traces: &Traces) -> Option<Finding> {
    let (name, release) = (CheckName::ReleaseRecords, &upgrade.spec.release);
    let known = upgrade.status.as_ref().and_then(known).filter(|_| upgrade.spec.keep_values)?;
    let message = format!(
        "release {release}, which was at {known}, was uninstalled from outside together with helm's records, and with them the \
         values that are to be kept"
    );
    let next = format!(
        "Find out who removed the release. To have it back, restore the Secrets of type helm.sh/release.v1 from a backup and run \
         helm rollback, or {} and set the annotation coderupgrade.dev/requested-at to a new value. To install with the \
         values of the spec alone, add {name} to spec.overrides.",
        values(traces)
    );
    Some(Finding::refusal(name, message, next).at("spec.keepValues"))
}

/// The release that this object has seen installed.
fn known(status: &CoderUpgradeStatus) -> Option<String> {
    let current = status.current.as_ref()?;
    // A first install that never succeeded has no values but those of the spec.
    let first = current.revision == 1 && current.status != "deployed";
    let installed = !first || status.removed || !status.drift.is_empty();
    installed.then(|| format!("version {} (revision {})", current.version, current.revision))
}

/// Adds to what is said of a takeover which values the release would get: their paths, never what they are.
pub fn name_values(findings: &mut [Finding], traces: &Traces, values: &Map<String, Value>) {
    if traces.live.is_empty() {
        return;
    }
    for finding in findings.iter_mut().filter(|finding| finding.check == CheckName::ReleaseRecords) {
        finding.message = format!("{}. The values would be: {}", finding.message, paths(values));
    }
}

/// The paths of values, two levels deep.
fn paths(values: &Map<String, Value>) -> String {
    let paths = values.iter().flat_map(|(key, value)| match value.as_object().filter(|map| !map.is_empty()) {
        Some(map) => map.keys().map(|below| format!("{key}.{below}")).collect(),
        None => vec![key.clone()],
    });
    let paths: Vec<String> = paths.collect();
    match paths.len().saturating_sub(TOLD) {
        0 if paths.is_empty() => "none".to_owned(),
        0 => paths.join(", "),
        more => format!("{} and {more} more", paths[..TOLD].join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::api::{CoderUpgradeSpec, Installed, ProductLine, Severity};

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
        check(upgrade, traces).iter().any(|finding| finding.severity == Severity::Refusal)
    }

    fn lives(owner: Owner) -> LiveWorkload {
        let container = json!({"name": "coder", "image": "ghcr.io/coder/coder:v2.30.0"});
        let spec = json!({"template": {"spec": {"containers": [container]}}});
        LiveWorkload { object: json!({"kind": "Deployment", "metadata": {"name": "coder"}, "spec": spec}), owner }
    }

    #[test]
    fn a_release_that_was_seen_is_no_first_install() {
        let none = Traces::default();
        assert!(!refused(&CoderUpgrade::new("coder", CoderUpgradeSpec::default()), &none), "nothing was ever seen");
        assert!(!refused(&seen(1, "failed"), &none), "a first install that failed");
        assert!(refused(&seen(1, "deployed"), &none) && refused(&seen(2, "failed"), &none));
        assert!(!refused(&seen(2, "deployed"), &Traces { recorded: true, ..Traces::default() }));
        let mut all_given = seen(1, "deployed");
        all_given.spec.keep_values = false;
        assert!(!refused(&all_given, &none), "no values are kept on purpose");
        let secret = Traces { plan_secret: Some("coder-plan-1".into()), ..Traces::default() };
        let next = &check(&seen(1, "deployed"), &secret)[0].next_step;
        assert!(next.contains("Secret/coder-plan-1, key values.json"), "{next}");
    }

    #[test]
    fn what_runs_without_a_record_is_only_taken_over_on_purpose() {
        let mut upgrade = CoderUpgrade::new("coder", CoderUpgradeSpec::default());
        upgrade.spec.keep_values = false;
        for (owner, whose) in [
            (Owner::Release, "belongs to it by the annotation"),
            (Owner::Nobody, "belongs to no Helm release"),
            (Owner::Tool("pulumi".into()), "belongs to pulumi, as its label"),
        ] {
            let traces = Traces { live: vec![lives(owner.clone()), lives(owner)], ..Traces::default() };
            let finding = &check(&upgrade, &traces)[0];
            assert_eq!((finding.severity, finding.object.as_deref()), (Severity::Refusal, Some("Deployment/coder")));
            for words in ["beside 1 more", "runs ghcr.io/coder/coder:v2.30.0", whose] {
                assert!(finding.message.contains(words), "{words}: {}", finding.message);
            }
            let recorded = Traces { recorded: true, ..traces };
            assert!(refused(&upgrade, &recorded), "a release that was uninstalled may be another one's now");
        }
        upgrade.spec.adopt = true;
        let traces = Traces { live: vec![lives(Owner::Nobody)], ..Traces::default() };
        let mut found = check(&upgrade, &traces);
        name_values(
            &mut found,
            &traces,
            json!({"coder": {"env": ["secret"], "image": {}}, "x": 1}).as_object().unwrap(),
        );
        assert_eq!(found[0].severity, Severity::Warning);
        assert!(found[0].message.ends_with("The values would be: coder.env, coder.image, x"), "{}", found[0].message);
    }

    #[test]
    fn records_in_config_maps_are_never_joined_by_a_second_history() {
        let mut upgrade = CoderUpgrade::new("coder", CoderUpgradeSpec::default());
        upgrade.spec.adopt = true;
        let records = |newer| {
            let name = "sh.helm.release.v1.coder.v3".into();
            Some(ConfigMapRecords { name, revision: 3, status: "deployed".into(), newer })
        };
        let traces = Traces { live: vec![lives(Owner::Release)], config_maps: records(true), ..Traces::default() };
        let found = check(&upgrade, &traces);
        assert_eq!((found.len(), found[0].severity), (1, Severity::Refusal), "{found:?}");
        assert_eq!(found[0].object.as_deref(), Some("ConfigMap/sh.helm.release.v1.coder.v3"));
        assert!(refused(&upgrade, &Traces { recorded: true, config_maps: records(true), ..Traces::default() }));
        let left = Traces { recorded: true, config_maps: records(false), ..Traces::default() };
        assert_eq!(check(&upgrade, &left)[0].severity, Severity::Warning);
        assert!(refused(&upgrade, &Traces { config_maps: records(false), ..Traces::default() }));
    }

    #[test]
    fn a_coder_of_another_release_may_be_the_one_that_is_meant() {
        let upgrade = CoderUpgrade::new("coder", CoderUpgradeSpec::default());
        let others = vec![("Deployment/coder".to_owned(), "dev".to_owned())];
        let found = check(&upgrade, &Traces { others, ..Traces::default() });
        assert_eq!((found.len(), found[0].severity), (1, Severity::Warning));
        assert!(found[0].next_step.contains("spec.release: dev"), "{found:?}");
    }
}
