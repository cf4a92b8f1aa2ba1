//! Coder has no way back: the wanted version is compared with the installed one, and with what runs.

use semver::Version;

use super::Facts;
use super::image::Image;
use super::pods::SERVERS;
use crate::api::{CheckName, FailureClass, Finding};
use crate::core::verify::comparable;
use crate::core::version;

/// [`CheckName::Downgrade`]
pub fn check(facts: &Facts) -> Vec<Finding> {
    let (Some(installed), Some(target)) = (&facts.installed, version::parse(&facts.chart.version)) else {
        return Vec::new();
    };
    if installed.line != facts.line() {
        return Vec::new(); // There is no older and newer between the product lines.
    }
    let refusal = |reason: String| {
        let message = format!("{} is older: {reason}", facts.chart.version);
        Finding::refusal(CheckName::Downgrade, message, FailureClass::Downgrade.next_step()).at("spec.version")
    };
    if version::parse(&installed.version).is_some_and(|installed| target < installed) {
        return vec![refusal(format!("{} is installed", installed.version))];
    }
    let Some(app) = version::parse(comparable(facts.chart.app_version())) else { return Vec::new() };
    let newer = running(facts).into_iter().find(|(_, running)| *running > app);
    let refusal =
        |(pod, running)| refusal(format!("Pod/{pod} runs Coder {running} already")).about(format!("Pod/{pod}"));
    newer.map(refusal).into_iter().collect()
}

/// The version that each server answers; of one that does not answer, the tag of its image.
fn running(facts: &Facts) -> Vec<(String, Version)> {
    let answered = facts.answers.iter().filter_map(|a| Some((a.pod.clone(), version::parse(&a.version)?)));
    let silent = facts.pods.iter().filter(|pod| facts.answers.iter().all(|answer| answer.pod != pod.name));
    let tagged = silent.filter_map(|pod| {
        let (_, image) = pod.images.iter().find(|(container, _)| SERVERS.contains(&container.as_str()))?;
        Some((pod.name.clone(), Image::of(image).version()?))
    });
    answered.chain(tagged).collect()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::core::checks::sample;

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
}
