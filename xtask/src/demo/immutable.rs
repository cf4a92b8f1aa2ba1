//! A Deployment refuses its new selector; it alone is replaced, without a moment of outage.

use coder_upgrade_operator::api::{Phase, Remedy, StepName};

use super::scene::{Coder, NAME, Scene, expect, say};
use crate::Result;

/// A new pod needs that long, so that an outage would show.
const SLOW_START: &str = r"coder.podAnnotations.testbed\.coderupgrade\.dev/start-delay=3s";

/// Plays the story.
pub async fn play(scene: &Scene<'_>) -> Result<()> {
    let repository = &scene.cluster.repositories()?.faults;
    let values = "coder-v2-values.yaml";
    scene.install(&Coder { version: "2.31.6", repository, values, settings: &[SLOW_START], database: true }).await?;
    let claims = scene.claims().await?;
    scene.show(&["get", "deployment", "coder", "-o", "jsonpath={.spec.selector.matchLabels}"]).await?;
    scene.load_operator().await?;

    scene.heading(
        "The wanted version is declared: 2.31.11. Its selector has one more label, which no Deployment accepts",
    );
    let watch = scene.cluster.watch_service(NAME, "coder").await?;
    scene.declare(&format!("version: 2.31.11\nchart:\n  repository: {repository}")).await?;
    scene.heading("What happens (seconds since kubectl apply); the Service's pods are asked all the time");
    let followed = scene.follow(Phase::Succeeded, None).await;
    let seen = watch.end().await;
    let status = followed?;

    scene.heading("The outage");
    say(&format!("Asked {} times, the Service could not be used for {:.1} s.", seen.rounds, seen.outage.as_secs_f32()));
    scene.show(&["get", "deployment", "coder", "-o", "jsonpath={.spec.selector.matchLabels}"]).await?;
    scene.show_object().await?;
    scene.same_claims(&claims).await?;
    let replaced = |repair: &coder_upgrade_operator::api::Repair| {
        repair.remedy == Remedy::Replace && repair.object == "Deployment/coder"
    };
    expect(status.repairs.iter().any(replaced), "the Deployment should have been replaced")?;
    expect(!status.steps.iter().any(|step| step.name == StepName::Uninstall), "nothing should have been uninstalled")?;
    expect(seen.rounds > 0 && seen.outage.is_zero(), "there should have been no outage")
}
