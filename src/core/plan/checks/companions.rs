//! Companions of Coder v2: a provisioner may be older than its server, never newer.

use k8s_openapi::api::apps::v1::Deployment;
use kube::ResourceExt;
use semver::Version;

use super::{Facts, Foreseen};
use crate::api::{CheckName, Finding, ProductLine};
use crate::core::helm::version;
use crate::core::helm::version::comparable;
use crate::core::rollout::image::Image;

/// Charts of the companions that speak the server's protocol, and label of their Deployments.
const PROVISIONER: &str = "coder-provisioner";
const NAME: &str = "app.kubernetes.io/name";

/// [`CheckName::CompanionSkew`]
pub fn check(facts: &Facts, foreseen: &Foreseen) -> Vec<Finding> {
    let Some(target) = version::parse(comparable(facts.chart.app_version())) else { return Vec::new() };
    if facts.line() != ProductLine::V2 {
        return Vec::new();
    }
    let deployments: Vec<&Deployment> = foreseen.surroundings.deployments.iter().flatten().collect();
    if facts.chart.name == PROVISIONER {
        let servers = deployments.iter().filter(|deployment| is(deployment, "coder"));
        return servers.filter_map(|server| server_behind(server, &target)).collect();
    }
    if !facts.runs_servers() {
        return Vec::new();
    }
    let listed = |deployment: &&&Deployment| {
        is(deployment, PROVISIONER) || facts.spec.companions.contains(&deployment.name_any())
    };
    deployments.iter().filter(listed).filter_map(|companion| companion_behind(companion, &target)).collect()
}

fn is(deployment: &Deployment, name: &str) -> bool {
    deployment.labels().get(NAME).is_some_and(|found| found == name)
}

/// The version of the first image that names one.
fn runs(deployment: &Deployment) -> Option<Version> {
    let pod = deployment.spec.as_ref()?.template.spec.as_ref()?;
    pod.containers.iter().find_map(|container| Image::of(container.image.as_deref()?).version())
}

fn minor(version: &Version) -> (u64, u64) {
    (version.major, version.minor)
}

fn companion_behind(companion: &Deployment, target: &Version) -> Option<Finding> {
    let version = runs(companion).filter(|version| minor(version) != minor(target))?;
    let object = format!("Deployment/{}", companion.name_any());
    if minor(&version) > minor(target) {
        let message =
            format!("{object} runs {version}, which is newer than {target}: a server refuses newer companions");
        let next = format!("Choose a version of Coder that is not older than {version}.");
        return Some(Finding::warning(CheckName::CompanionSkew, message, next).about(object).at("spec.version"));
    }
    let message = format!("{object} runs {version}: it will work with {target}, without what is new there");
    let next = "Upgrade it after Coder, with a CoderUpgrade of its own that names this one in spec.dependsOn.";
    Some(Finding::warning(CheckName::CompanionSkew, message, next).about(object))
}

/// A provisioner that would be newer than its server.
fn server_behind(server: &Deployment, target: &Version) -> Option<Finding> {
    let version = runs(server).filter(|version| minor(version) < minor(target))?;
    let object = format!("Deployment/{}", server.name_any());
    let message =
        format!("{object} runs Coder {version}, which refuses provisioners of {target}: the server goes first");
    let next = "Upgrade Coder first, and name its CoderUpgrade in spec.dependsOn.";
    Some(Finding::refusal(CheckName::CompanionSkew, message, next).about(object).at("spec.dependsOn"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::api::Severity;
    use crate::core::plan::checks::sample;

    fn deployment(name: &str, image: &str) -> Deployment {
        let pod = json!({"containers": [{"name": "x", "image": image}]});
        serde_json::from_value(json!({
            "metadata": {"name": name, "labels": {NAME: name}},
            "spec": {"selector": {}, "template": {"spec": pod}},
        }))
        .unwrap()
    }

    #[rstest]
    #[case::same("coder", "coder-provisioner", "x/coder:v2.31.2", None)]
    #[case::older("coder", "coder-provisioner", "x/coder:v2.29.0", Some(Severity::Warning))]
    #[case::newer("coder", "coder-provisioner", "x/coder:v2.32.0", Some(Severity::Warning))]
    #[case::unknown("coder", "coder-provisioner", "x/coder:latest", None)]
    #[case::server_first("coder-provisioner", "coder", "x/coder:v2.30.0", Some(Severity::Refusal))]
    #[case::server_is_there("coder-provisioner", "coder", "x/coder:v2.32.0", None)]
    fn the_server_goes_first(
        #[case] chart: &str,
        #[case] other: &str,
        #[case] image: &str,
        #[case] expected: Option<Severity>,
    ) {
        let mut facts = sample::facts("2.30.0", "2.31.7");
        facts.chart.name = chart.into();
        let mut foreseen = sample::foreseen();
        foreseen.surroundings.deployments = Some(vec![deployment(other, image)]);
        assert_eq!(check(&facts, &foreseen).first().map(|finding| finding.severity), expected);
    }
}
