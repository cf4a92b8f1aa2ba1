//! Renovate finds the version of each CoderUpgrade, and where newer ones are: `deploy/gitops/renovate.json`.

use std::path::Path;

use regex::{Captures, Regex};
use rstest::rstest;
use serde_json::Value;

/// What Renovate knows of a dependency: data source, package, registry and version.
type Found = (String, String, String, String);

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn config() -> Value {
    serde_json::from_str(&std::fs::read_to_string(root().join("deploy/gitops/renovate.json")).unwrap()).unwrap()
}

/// A template in the words that the file uses: `{{#if A}}…{{else if B}}…{{else}}…{{/if}}` around `{{{A}}}`.
fn filled(template: &str, captures: &Captures<'_>) -> String {
    let group = |name: &str| captures.name(name).map(|found| found.as_str());
    let branches = template.replace("{{#if ", "{{else if ").replace("{{/if}}", "");
    let chosen = branches.split("{{else").find_map(|branch| match branch.strip_prefix(" if ") {
        Some(branch) => branch.split_once("}}").filter(|(name, _)| group(name).is_some()).map(|(_, text)| text),
        None => branch.strip_prefix("}}").or(Some(branch).filter(|text| !text.is_empty())),
    });
    let name = Regex::new(r"\{\{\{(\w+)\}\}\}").unwrap();
    name.replace_all(chosen.unwrap_or_default(), |found: &Captures<'_>| group(&found[1]).unwrap().to_owned())
        .into_owned()
}

fn found(text: &str) -> Vec<Found> {
    let config = config();
    let mut all = Vec::new();
    for manager in config["customManagers"].as_array().unwrap() {
        for pattern in manager["matchStrings"].as_array().unwrap() {
            for captures in Regex::new(pattern.as_str().unwrap()).unwrap().captures_iter(text) {
                let template = |name: &str| filled(manager[name].as_str().unwrap(), &captures);
                let places = ["datasourceTemplate", "packageNameTemplate", "registryUrlTemplate"].map(template);
                let [source, package, registry] = places;
                all.push((source, package, registry, captures["currentValue"].to_owned()));
            }
        }
    }
    all
}

fn of(source: &str, package: &str, registry: &str, version: &str) -> Found {
    (source.into(), package.into(), registry.into(), version.into())
}

#[rstest]
#[case("air-gapped", of("helm", "coder", "https://helm.coder.com/v2", "2.31.7"))]
#[case("change-window", of("helm", "coder", "https://helm.coder.com/v2", "2.39.0"))]
#[case("coder-classic", of("helm", "coder", "https://helm.coder.com", "1.16.1"))]
#[case("coder-v2", of("helm", "coder", "https://helm.coder.com/v2", "2.31.7"))]
#[case("private-registry", of("docker", "registry.example.com/charts/coder", "", "2.31.7"))]
fn the_version_of_each_sample_is_found(#[case] sample: &str, #[case] expected: Found) {
    let sample = root().join("deploy/samples").join(sample).with_extension("yaml");
    assert_eq!(found(&std::fs::read_to_string(&sample).unwrap()), [expected], "{}", sample.display());
}

#[test]
fn no_sample_is_left_out() {
    let samples = std::fs::read_dir(root().join("deploy/samples")).unwrap().count();
    assert_eq!(samples, 5, "a new sample gets a case above");
}

#[test]
fn each_object_of_a_file_has_its_own_repository() {
    let text = indoc::indoc! {r#"
        apiVersion: coderupgrade.dev/v1alpha1
        kind: CoderUpgrade
        metadata: {name: sorted}
        spec:
          chart:
            repository: "https://charts.example.com"
          values:
            coder: {image: {tag: x}}

          version: "2.31.7"
        ---
        kind: CoderUpgrade
        metadata: {name: newest}
        spec: {}
        ---
        kind: CoderUpgrade
        spec:
          version: v2.30.0
        ---
        kind: ConfigMap
        data:
          version: 9.9.9
          repository: https://other.example.com
        ---
        kind: CoderUpgrade
        spec:
          version: 1.44.3
          chart: {repository: https://mirror.example.com, name: coder}
    "#};
    let expected = [
        of("helm", "coder", "https://charts.example.com", "2.31.7"),
        of("helm", "coder", "https://helm.coder.com/v2", "v2.30.0"),
        of("helm", "coder", "https://mirror.example.com", "1.44.3"),
    ];
    assert_eq!(found(text), expected);
}

/// People read what a version changes before they merge it, and never get one of the other product line.
#[test]
fn a_proposal_links_to_the_release_and_stays_in_the_product_line() {
    let config = config();
    let [v2, classic] = [0, 1].map(|rule| &config["packageRules"][rule]);
    assert_eq!(v2["prBodyNotes"][0], "Release notes: https://github.com/coder/coder/releases/tag/v{{{newVersion}}}");
    assert_eq!(classic["prBodyNotes"][0], "Release notes: https://coder.com/docs/v1/changelog/{{{newVersion}}}");
    assert_eq!(classic["allowedVersions"], "<2.0.0");
    for (version, is_classic) in [("1.16.1", true), ("v1.44.3", true), ("2.31.7", false), ("10.1.0", false)] {
        let rule = |rule: &Value| rule["matchCurrentVersion"].as_str().unwrap().trim_matches(['!', '/']).to_owned();
        assert_eq!(rule(v2), rule(classic), "one rule for each line");
        assert_eq!(Regex::new(&rule(classic)).unwrap().is_match(version), is_classic, "{version}");
    }
}
