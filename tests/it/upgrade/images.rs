//! Images as people name them, by a digest alone, and images that a node does not get.

use crate::common::World;
use crate::common::steps::{HelmMajor, Steps};
use coder_upgrade_operator::api::{CheckName, CoderUpgrade, FailureClass, Phase, Severity};
use serde_json::{Value, json};
use testbed::{node::digest_of, supervisor::state::NodeKind};

const FROM: &str = "2.30.0";
const TO: &str = "2.31.7";

/// The value that names the image of a version by its digest. The charts put a colon between repository and tag, so people
/// write the digest's algorithm into the one and its digits into the other.
fn digits(version: &str) -> String {
    digest_of(&format!("v{version}")).trim_start_matches("sha256:").to_owned()
}

fn by_digest(version: &str) -> Value {
    json!({"coder": {"image": {"tag": digits(version)}}})
}

async fn installed_by_digest(name: &str) -> Steps {
    let tag = format!("coder.image.tag={}", digits(FROM));
    let settings = ["coder.image.repo=ghcr.io/coder/coder@sha256", tag.as_str()];
    Steps::with(name, HelmMajor::Four, |r| &r.v2, FROM, &settings).await
}

#[tokio::test]
async fn an_image_that_is_named_by_its_digest_alone_is_upgraded_to_another_digest() {
    let steps = installed_by_digest("digest").await;
    let planned = steps.plan(json!({"version": TO, "values": by_digest(TO)})).await;
    let pin = planned.findings.iter().find(|finding| finding.check == CheckName::ImagePin).unwrap();
    assert_eq!((pin.severity, pin.field.as_deref()), (Severity::Warning, Some("coder.image.tag")), "{pin:?}");
    let verified = steps.upgrade().await.verified;
    assert!(verified.starts_with("1 pod answers 2.31.7, same deployment"), "{verified}");
    steps.world.finish().await;
}

/// The digest is kept with the other values: the chart would be upgraded, and its Coder would be the one that runs already.
#[tokio::test]
async fn a_digest_that_stays_is_an_image_that_stays() {
    let steps = installed_by_digest("digest-kept").await;
    let problem = steps.refused(json!({"version": TO})).await;
    assert_eq!(problem.class, FailureClass::CheckRefused, "{problem:?}");
    let pin = &problem.findings[0];
    assert_eq!((pin.check, pin.severity), (CheckName::ImagePin, Severity::Refusal), "{pin:?}");
    assert_eq!(pin.field.as_deref(), Some("coder.image.tag"));
    assert!(pin.message.contains("the image that runs now"), "{}", pin.message);
    let planned = steps.plan(json!({"version": TO, "dropValues": ["coder.image"]})).await;
    assert!(planned.findings.iter().all(|finding| finding.check != CheckName::ImagePin), "{:?}", planned.findings);
    assert!(steps.upgrade().await.verified.starts_with("1 pod answers 2.31.7, same deployment"));
    steps.world.finish().await;
}

/// What a person reads in the column MESSAGE.
fn first_line(text: &str) -> &str {
    text.lines().next().unwrap_or_default()
}

#[tokio::test]
async fn an_image_that_is_not_pulled_is_the_first_thing_that_is_said() {
    let world = World::with_v2("pull", FROM, &[]).await;
    let spec = json!({
        "version": "2.31.17", "chart": {"repository": world.repositories().faults}, "helm": {"timeout": "20s"},
        "retry": {"limit": 0},
    });
    world.declare("coder", spec).await;
    // Of the registry as the stand-in has it, or of containerd without a way to the registry.
    let words = match world.cluster.node().kind {
        NodeKind::Process => "manifest unknown",
        NodeKind::Real => "failed to resolve reference",
    };
    let begins = |text: &str| {
        let line = first_line(text);
        let rest = line.strip_prefix("Pod/coder-").and_then(|rest| rest.split_once([' ', ':']));
        rest.is_some_and(|(_, rest)| rest.trim_start().starts_with("image of container coder cannot be pulled"))
            && line.contains(words)
    };
    let told = |object: &CoderUpgrade| {
        object.status.as_ref().is_some_and(|s| s.phase == Phase::Upgrading && s.message.contains("cannot be pulled"))
    };
    let status = world.until("coder", "one that says what is not pulled", told).await.status.unwrap();
    assert!(begins(&status.message), "while helm waits: {}", status.message);
    let failure = world.stalled("coder").await.status.unwrap().failure.unwrap();
    assert!(begins(&failure.message), "in the failure: {}", failure.message);
    world.finish().await;
}
