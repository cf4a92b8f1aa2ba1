//! Coder has no way back: the wanted version is compared with the installed one, and with what runs.

use semver::Version;

use super::Facts;
use super::pods::templates;
use crate::api::{CheckName, FailureClass, Finding};
use crate::core::helm::version;
use crate::core::helm::version::comparable;
use crate::core::object::KindName;
use crate::core::rollout::image::Image;
use crate::core::rollout::workload::SERVERS;

/// [`CheckName::Downgrade`]
pub fn check(facts: &Facts) -> Vec<Finding> {
    let Some(target) = version::parse(facts.chart.coder_version()) else { return Vec::new() };
    if let Some(started) = started(facts, &target) {
        return vec![started];
    }
    if facts.installed.as_ref().is_some_and(|installed| installed.line != facts.line()) {
        return Vec::new(); // There is no older and newer between the product lines.
    }
    let refusal = |reason: String| {
        let message = format!("{} is older: {reason}", facts.chart.coder_version());
        Finding::refusal(CheckName::Downgrade, message, FailureClass::Downgrade.next_step()).at("spec.version")
    };
    let installed = facts.installed_version();
    if let Some(installed) = installed.filter(|text| version::parse(text).is_some_and(|installed| target < installed)) {
        return vec![refusal(format!("{installed} is installed"))];
    }
    let Some(app) = version::parse(comparable(facts.chart.app_version())) else { return Vec::new() };
    let mut running = running(facts);
    if facts.newest.is_none() {
        running.extend(found(facts));
    }
    // Between the product lines there is no newer; the check of the lines tells.
    let newer = |running: &Version| *running > app && version::product_line(running) == facts.line();
    let newer = running.into_iter().find(|(_, running)| newer(running));
    let refusal = |(object, running)| refusal(format!("{object} runs Coder {running} already")).about(object);
    newer.map(refusal).into_iter().collect()
}

/// The refusal of a version below the highest one of which a pod may have started, whether or not anything runs now.
fn started(facts: &Facts, target: &Version) -> Option<Finding> {
    let highest = facts.highest_started.as_ref()?;
    let parsed = version::parse(highest).filter(|highest| version::product_line(highest) == facts.line())?;
    (*target < parsed).then(|| {
        let message = format!(
            "{} is older: a pod of {highest} may have started and migrated the database",
            facts.chart.coder_version()
        );
        let next = format!(
            "Choose {highest} or a newer version. If the database has not been migrated, or was restored from a backup since, \
             add Downgrade to spec.overrides."
        );
        Finding::refusal(CheckName::Downgrade, message, next).at("spec.version")
    })
}

/// The version that each server answers; of one that does not answer, the tag of its image.
fn running(facts: &Facts) -> Vec<(KindName, Version)> {
    let pod = |name: &str| KindName::new("Pod", name);
    let answered = facts.answers.iter().filter_map(|a| Some((pod(&a.pod), version::parse(&a.version)?)));
    let silent = facts.pods.iter().filter(|pod| facts.answers.iter().all(|answer| answer.pod != pod.name));
    let tagged = silent.filter_map(|pod| {
        let (_, image) = pod.images.iter().find(|(container, _)| SERVERS.contains(&container.as_str()))?;
        Some((KindName::new("Pod", &pod.name), Image::of(image).version()?))
    });
    answered.chain(tagged).collect()
}

/// The version that the image of each server names, by its workload: helm has no record of it, and it may have no pods.
fn found(facts: &Facts) -> Vec<(KindName, Version)> {
    let servers = templates(&facts.old).filter_map(|template| Some((template.server()?, template)));
    let tagged = servers
        .filter_map(|(server, template)| Some((template.object, Image::of(server["image"].as_str()?).version()?)));
    tagged.collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::core::plan::checks::sample;

    #[rstest]
    #[case::newer("2.30.0", "2.31.7", None, None, None)]
    #[case::same("2.31.7", "2.31.7", Some("2.31.7"), None, None)]
    #[case::older("2.31.7", "2.31.6", None, None, Some("2.31.6 is older: 2.31.7 is installed"))]
    #[case::runs_newer("2.31.6", "2.31.7", Some("2.32.0"), None, Some("Pod/coder-1 runs Coder 2.32.0 already"))]
    #[case::the_answer_counts("2.31.6", "2.31.7", Some("2.31.6"), Some("x/coder:v2.32.0"), None)]
    #[case::silent("2.31.6", "2.31.7", None, Some("x/coder:v2.32.0"), Some("runs Coder 2.32.0 already"))]
    #[case::other_line("2.31.6", "1.44.3", None, None, None)]
    #[case::no_version("0.14.3", "2.31.7", Some("devel"), Some("x/coder:latest"), None)]
    fn what_runs_is_never_newer(
        #[case] from: &str,
        #[case] to: &str,
        #[case] answer: Option<&str>,
        #[case] image: Option<&str>,
        #[case] expected: Option<&str>,
    ) {
        let found = check(&sample::running(from, to, answer, image));
        sample::finds(&found, expected);
    }

    #[rstest]
    #[case::below("2.30.0", "2.31.6", Some("2.31.7"), Some("a pod of 2.31.7 may have started"))]
    #[case::the_installed_one("2.30.0", "2.30.0", Some("2.31.7"), Some("a pod of 2.31.7 may have started"))]
    #[case::the_same("2.30.0", "2.31.7", Some("2.31.7"), None)]
    #[case::newer("2.30.0", "2.32.0", Some("2.31.7"), None)]
    #[case::other_line("1.43.0", "1.44.3", Some("2.31.7"), None)]
    fn what_may_have_started_is_never_newer_though_nothing_runs(
        #[case] from: &str,
        #[case] to: &str,
        #[case] highest: Option<&str>,
        #[case] expected: Option<&str>,
    ) {
        let mut facts = sample::facts(from, to);
        facts.highest_started = highest.map(Into::into);
        sample::finds(&check(&facts), expected);
        facts.installed = None;
        sample::finds(&check(&facts), expected);
    }

    #[rstest]
    #[case::newer("v2.31.7", "2.30.0", Some("Deployment/coder runs Coder 2.31.7 already"))]
    #[case::older("v2.30.0", "2.31.7", None)]
    #[case::unknown("latest", "2.30.0", None)]
    fn what_runs_without_records_is_compared_though_it_has_no_pods(
        #[case] tag: &str,
        #[case] to: &str,
        #[case] expected: Option<&str>,
    ) {
        let mut facts = sample::facts("2.30.0", to);
        (facts.installed, facts.newest) = (None, None);
        let server = json!({"name": "coder", "image": format!("ghcr.io/coder/coder:{tag}")});
        facts.old = sample::documents(&[sample::deployment("coder", &server)]);
        sample::finds(&check(&facts), expected);
    }
}
