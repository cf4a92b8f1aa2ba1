//! Charts that bring Coder along as a dependency: helm counts with their versions, and all that is about Coder with Coder's.

use std::path::Path;

use crate::common::post_renderer::PostRenderer;
use crate::common::steps::{HelmMajor, Steps};
use crate::common::{copy, program};
use coder_upgrade_operator::api::{CheckName, FailureClass, Finding, ProductLine, Severity};
use rstest::rstest;
use serde_json::{Value, json};
use testbed::{
    charts::{Repository, charts_dir},
    components::Component,
};

/// How a chart brings Coder along.
#[derive(Clone, Copy)]
struct Wrapper {
    name: &'static str,
    /// Another name of the dependency.
    alias: Option<&'static str>,
    /// Whether Chart.yaml names the dependency; a directory in charts/ is enough for helm.
    named: bool,
}

const PLAIN: Wrapper = Wrapper { name: "platform-coder", alias: None, named: true };

impl Wrapper {
    /// Makes a chart at this version, with Coder at that one in it.
    fn write(self, directory: &Path, version: &str, coder: &str) {
        let inner = directory.join("charts/coder");
        copy(&charts_dir().join("coder-v2"), &inner);
        let about = std::fs::read_to_string(inner.join("Chart.yaml")).unwrap().replace("0.0.0", coder);
        std::fs::write(inner.join("Chart.yaml"), about).unwrap();
        let mut dependency = json!({"name": "coder", "version": coder});
        if let Some(alias) = self.alias {
            dependency["alias"] = alias.into();
        }
        let mut about =
            json!({"apiVersion": "v2", "name": self.name, "version": version, "appVersion": "of-the-platform"});
        if self.named {
            about["dependencies"] = json!([dependency]);
        }
        std::fs::write(directory.join("Chart.yaml"), about.to_string()).unwrap();
        std::fs::create_dir_all(directory.join("templates")).unwrap();
        std::fs::write(directory.join("values.yaml"), "{}").unwrap();
    }

    async fn publish(self, repository: &Repository, version: &str, coder: &str) {
        let helm = tokio::task::spawn_blocking(|| program(Component::Helm)).await.unwrap();
        let directory = tempfile::tempdir().unwrap();
        let chart = directory.path().join(self.name);
        self.write(&chart, version, coder);
        repository.publish_directory(&helm, &chart, &format!("{}-{version}.tgz", self.name)).await.unwrap();
    }

    fn under(self) -> &'static str {
        self.alias.unwrap_or("coder")
    }

    /// The values that tell Coder its database, with further ones of Coder's chart.
    fn values(self, more: &Value) -> Value {
        let url = json!({"name": "CODER_PG_CONNECTION_URL",
            "valueFrom": {"secretKeyRef": {"name": "coder-db-url", "key": "url"}}});
        let mut coder = json!({"env": [url]});
        coder.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        json!({self.under(): {"coder": coder}})
    }
}

struct World {
    steps: Steps,
    repository: Repository,
    wrapper: Wrapper,
}

impl World {
    /// A world whose repository offers these versions, each with the Coder in it, and in which the first is installed.
    async fn new(name: &str, wrapper: Wrapper, versions: &[(&str, &str)], more: &Value) -> Self {
        let steps = Steps::empty(name, HelmMajor::Four, |r| &r.v2).await;
        steps.world.database().await;
        let repository = steps.world.repositories().extra(&steps.world.namespace);
        for (version, coder) in versions {
            wrapper.publish(&repository, version, coder).await;
        }
        let settings: Vec<String> =
            wrapper.values(more).as_object().unwrap().iter().map(|(key, value)| format!("{key}={value}")).collect();
        let mut arguments =
            vec!["install", "coder", wrapper.name, "--repo", repository.url(), "--version", versions[0].0];
        arguments.extend(["--wait", "--timeout", "2m"]);
        arguments.extend(settings.iter().flat_map(|setting| ["--set-json", setting.as_str()]));
        steps.helm(&arguments).await;
        Self { steps, repository, wrapper }
    }

    fn spec(&self, version: &str, more: &Value) -> Value {
        let chart = json!({"repository": self.repository.url(), "name": self.wrapper.name});
        let mut spec = json!({"version": version, "chart": chart});
        spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        spec
    }
}

#[rstest]
#[case::called_coder_with_a_major_beyond(Wrapper { name: "coder", ..PLAIN }, "3.0.0", "3.0.1")]
#[case::called_coder_with_the_major_of_classic(Wrapper { name: "coder", ..PLAIN }, "1.3.0", "1.4.0")]
#[case::with_a_name_of_its_own(PLAIN, "1.3.0", "1.4.0")]
#[case::with_a_name_and_a_later_major(PLAIN, "5.0.0", "6.0.0")]
#[case::under_another_name(Wrapper { alias: Some("ide"), ..PLAIN }, "0.1.0", "0.2.0")]
#[case::that_nobody_names(Wrapper { named: false, ..PLAIN }, "2.0.0", "2.1.0")]
#[tokio::test]
async fn a_chart_that_brings_coder_along_is_upgraded_and_verified(
    #[case] wrapper: Wrapper,
    #[case] from: &str,
    #[case] to: &str,
) {
    let world = World::new("wrapped", wrapper, &[(from, "2.30.0"), (to, "2.31.7")], &json!({})).await;
    let planned = world.steps.plan(world.spec(to, &json!({}))).await;
    assert!(planned.findings.iter().all(|finding| finding.severity == Severity::Warning), "{:?}", planned.findings);
    let current = planned.current.clone().unwrap();
    if wrapper.named {
        assert_eq!((current.version.as_str(), current.line), (from, ProductLine::V2));
        assert_eq!(current.app_version.as_deref(), Some("2.30.0"));
    }
    let upgraded = world.steps.upgrade().await;
    assert!(upgraded.verified.starts_with("1 pod answers 2.31.7, same deployment"), "{}", upgraded.verified);
    assert_eq!(upgraded.current.version, to);
    // And once more, where nothing is to be done.
    world.steps.plan(world.spec(to, &json!({}))).await;
    world.steps.world.finish().await;
}

#[tokio::test]
async fn checks_look_at_the_coder_within() {
    let versions = [("1.3.0", "2.31.6"), ("1.4.0", "2.31.7"), ("1.5.0", "2.30.0")];
    let world = World::new("wrapped-checks", PLAIN, &versions, &json!({})).await;
    let pin = json!({"values": {"coder": {"coder": {"image": {"tag": "v2.31.6"}}}}});
    let problem = world.steps.refused(world.spec("1.4.0", &pin)).await;
    let pinned = problem.findings.iter().find(|finding| finding.check == CheckName::ImagePin).unwrap();
    assert_eq!(pinned.field.as_deref(), Some("coder.coder.image.tag"));
    assert!(pinned.next_step.contains("remove coder.coder.image.tag from spec.values"), "{pinned:?}");
    // A newer chart with an older Coder in it.
    let problem = world.steps.refused(world.spec("1.5.0", &json!({}))).await;
    assert_eq!(problem.class, FailureClass::Downgrade, "{problem:?}");
    assert!(problem.message.contains("2.30.0 is older: 2.31.6 is installed"), "{}", problem.message);
    // Which version is wanted must be said.
    let mut newest = world.spec("1.4.0", &json!({}));
    newest.as_object_mut().unwrap().remove("version");
    let problem = world.steps.refused(newest).await;
    assert_eq!((problem.class, problem.field.as_deref()), (FailureClass::SpecInvalid, Some("spec.version")));
    // Coder's own chart takes its values elsewhere.
    let own = json!({"version": "2.31.7", "chart": {"repository": world.steps.world.repositories().v2}});
    let problem = world.steps.refused(own).await;
    assert_eq!((problem.class, problem.field.as_deref()), (FailureClass::ChartInvalid, Some("spec.chart.name")));
    assert_eq!(world.steps.world.release().await, (1, "deployed".into()), "nothing was changed");
    world.steps.world.finish().await;
}

#[tokio::test]
async fn a_scaled_coder_within_keeps_its_replicas() {
    let world = World::new("wrapped-scaled", PLAIN, &[("1.3.0", "2.30.0"), ("1.4.0", "2.31.7")], &json!({})).await;
    world.steps.world.kubectl(&["scale", "deployment/coder", "--replicas=2"]).await;
    world.steps.world.kubectl(&["rollout", "status", "deployment/coder", "--timeout=90s"]).await;
    let planned = world.steps.plan(world.spec("1.4.0", &json!({}))).await;
    let told = planned.findings.iter().find(|finding| finding.check == CheckName::ReplicaCount).unwrap();
    assert!(told.message.contains("coder.coder.replicaCount"), "{told:?}");
    assert!(world.steps.upgrade().await.verified.starts_with("2 pods answer 2.31.7"));
    world.steps.world.finish().await;
}

#[tokio::test]
async fn what_is_restored_is_still_known_as_a_chart_with_coder_in_it() {
    let versions = [("1.3.0", "2.30.0"), ("1.4.0", "2.31.7")];
    let world = World::new("wrapped-back", PLAIN, &versions, &json!({})).await;
    let denied =
        json!({"values": {"coder": {"coder": {"podAnnotations": {"testbed.coderupgrade.dev/pull-error": "denied"}}}}});
    world.steps.plan(world.spec("1.4.0", &denied)).await;
    let problem = world.steps.fails("upgrade", &["--helm-timeout", "15s"]).await;
    assert_eq!(problem.class, FailureClass::RolloutTimedOut, "{}", problem.message);
    assert!(world.steps.restore(&[]).await.verified.starts_with("1 pod answers 2.30.0"));
    let planned = world.steps.plan(world.spec("1.4.0", &json!({}))).await;
    let current = planned.current.unwrap();
    assert_eq!((current.version.as_str(), current.line), ("1.3.0", ProductLine::V2));
    assert!(world.steps.upgrade().await.verified.starts_with("1 pod answers 2.31.7"));
    world.steps.world.finish().await;
}

/// helm's record has nothing of the charts in a chart.
#[tokio::test]
async fn patches_are_found_in_the_coder_within_while_its_package_is_there() {
    let versions = [("1.3.0", "2.30.0"), ("1.4.0", "2.31.7")];
    let world = World::new("wrapped-patched", PLAIN, &versions, &json!({})).await;
    assert!(post_rendered(&world.steps.plan(world.spec("1.4.0", &json!({}))).await.findings).is_empty());
    let renderer = PostRenderer::new(
        &world.steps.world,
        HelmMajor::Four,
        json!({"labels": [{"pairs": {"team": "platform"}, "includeTemplates": false}]}),
    );
    let upgrade = ["upgrade", "coder", PLAIN.name, "--repo", world.repository.url(), "--version", "1.3.0"];
    renderer.helm(&world.steps.world, &[&upgrade[..], &["--reuse-values", "--wait"]].concat()).await;
    let problem = world.steps.refused(world.spec("1.4.0", &json!({}))).await;
    let found = post_rendered(&problem.findings);
    assert!(found[0].message.contains("Deployment/coder has another metadata.labels.team"), "{found:?}");

    // The repository has only what is new.
    let repository = world.steps.world.repositories().extra(&format!("{}-new", world.steps.world.namespace));
    PLAIN.publish(&repository, "1.4.0", "2.31.7").await;
    let mut spec = world.spec("1.4.0", &json!({}));
    spec["chart"]["repository"] = repository.url().into();
    assert!(post_rendered(&world.steps.plan(spec).await.findings).is_empty());
    world.steps.world.finish().await;
}

fn post_rendered(findings: &[Finding]) -> Vec<&Finding> {
    findings.iter().filter(|finding| finding.check == CheckName::PostRenderer).collect()
}
