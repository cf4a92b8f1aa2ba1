//! The product line stays the same: by the chart, by what the servers answer, by the images that run.

use super::Facts;
use super::pods::templates;
use crate::api::{CheckName, FailureClass, Finding, ProductLine};
use crate::core::helm::version;
use crate::core::rollout::image::Image;
use crate::core::rollout::workload::SERVERS;

/// [`CheckName::ProductLine`]
pub fn check(facts: &Facts) -> Vec<Finding> {
    let line = facts.line();
    let chart = &facts.chart;
    let refusal = |found: &str| {
        let message = format!(
            "{found}, but chart {} belongs to {}; both charts are called {}",
            chart.version,
            product(line),
            chart.name
        );
        Finding::refusal(CheckName::ProductLine, message, FailureClass::ProductLineChanged.next_step())
            .at("spec.version")
    };
    if let Some(installed) = facts.installed.as_ref().filter(|installed| installed.line != line) {
        return vec![refusal(&format!("{} {} is installed", product(installed.line), installed.version))];
    }
    let runs = if facts.newest.is_none() { found(facts, &refusal) } else { running(facts, &refusal) };
    runs.into_iter().collect()
}

/// The refusal of what runs, by its pods. One is enough to tell: its neighbours say the same.
fn running(facts: &Facts, refusal: &dyn Fn(&str) -> Finding) -> Option<Finding> {
    let line = facts.line();
    let answered = facts.answers.iter().find_map(|answer| {
        let running = version::product_line(&version::parse(&answer.version)?);
        let found = format!("Pod/{} answers that it is {} {}", answer.pod, product(running), answer.version);
        (running != line).then(|| refusal(&found).about(format!("Pod/{}", answer.pod)))
    });
    let runs = || {
        facts.pods.iter().find_map(|pod| {
            let (container, image) = pod.images.iter().find(|(container, image)| {
                SERVERS.contains(&container.as_str()) && line_of(image).is_some_and(|running| running != line)
            })?;
            let found =
                format!("Pod/{} runs {image} in its container {container}, an image of the other line", pod.name);
            Some(refusal(&found).about(format!("Pod/{}", pod.name)))
        })
    };
    answered.or_else(runs)
}

/// The same where helm has no record of what runs: then its workloads tell, too, as there may be no pod of them. In a mirror
/// the name of the container tells, as far as it does.
fn found(facts: &Facts, refusal: &dyn Fn(&str) -> Finding) -> Option<Finding> {
    let line = facts.line();
    running(facts, refusal).or_else(|| {
        templates(&facts.old).find_map(|template| {
            let server = template.server()?;
            let (container, image) = (server["name"].as_str()?, server["image"].as_str().unwrap_or_default());
            let named = (container != "coder").then_some(ProductLine::V1);
            let runs = line_of(image).or(named).filter(|runs| *runs != line)?;
            let found = format!("{} runs {} ({image} in its container {container})", template.object, product(runs));
            Some(refusal(&found).about(&template.object))
        })
    })
}

/// The product line of a server's image, as far as its name tells: a mirror may call it anything.
pub fn line_of(image: &str) -> Option<ProductLine> {
    let repository = Image::of(image).repository;
    let mut parts = repository.rsplit('/');
    match (parts.next()?, parts.next()) {
        ("coder-service", _) | (_, Some("coderenvs")) => Some(ProductLine::V1),
        ("coder", Some("coder")) => Some(ProductLine::V2),
        _ => None,
    }
}

fn product(line: ProductLine) -> &'static str {
    match line {
        ProductLine::V1 => "Coder Classic (v1)",
        ProductLine::V2 => "Coder v2",
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;
    use crate::core::plan::checks::sample;

    #[rstest]
    #[case::same("2.30.0", "2.31.7", None, None, None)]
    #[case::v2_began_with_0("0.14.3", "2.31.7", Some("not a version"), None, None)]
    #[case::chart("1.44.3", "2.31.7", None, None, Some("Coder Classic (v1) 1.44.3 is installed"))]
    #[case::the_other_way("2.31.7", "1.44.3", None, None, Some("Coder v2 2.31.7 is installed"))]
    #[case::answer("2.30.0", "2.31.7", Some("1.44.3"), None, Some("Pod/coder-1 answers"))]
    #[case::image("2.30.0", "2.31.7", None, Some("docker.io/coderenvs/coder-service:1.44.3"), Some("Pod/coder-1 runs"))]
    #[case::image_of_v2("1.43.0", "1.44.3", None, Some("ghcr.io/coder/coder:v2.31.7"), Some("Pod/coder-1 runs"))]
    #[case::mirror("2.30.0", "2.31.7", None, Some("registry:5000/mirror/coder:v2.30.0"), None)]
    fn the_lines_are_not_mixed_up(
        #[case] from: &str,
        #[case] to: &str,
        #[case] answer: Option<&str>,
        #[case] image: Option<&str>,
        #[case] expected: Option<&str>,
    ) {
        let found = check(&sample::running(from, to, answer, image));
        sample::finds(&found, expected);
        assert!(found.iter().all(|finding| finding.message.contains("both charts are called coder")));
    }

    #[rstest]
    #[case::classic(
        "cemanager",
        "docker.io/coderenvs/coder-service:1.20.0",
        "2.31.7",
        Some("Deployment/x runs Coder Classic")
    )]
    #[case::mirror("coderd", "registry:5000/a@sha256:b", "2.31.7", Some("Deployment/x runs Coder Classic"))]
    #[case::v2("coder", "ghcr.io/coder/coder:v2.30.0", "1.44.3", Some("Deployment/x runs Coder v2"))]
    #[case::same("coder", "ghcr.io/coder/coder:v2.30.0", "2.31.7", None)]
    fn what_runs_without_records_tells_its_line(
        #[case] container: &str,
        #[case] image: &str,
        #[case] to: &str,
        #[case] expected: Option<&str>,
    ) {
        let mut facts = sample::facts("2.30.0", to);
        (facts.installed, facts.newest) = (None, None);
        facts.old = sample::documents(&[sample::deployment("x", &json!({"name": container, "image": image}))]);
        sample::finds(&check(&facts), expected);
    }
}
