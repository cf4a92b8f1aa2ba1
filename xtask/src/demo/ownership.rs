//! Objects of the new chart exist already and belong to nobody; they are adopted.

use coder_upgrade_operator::api::{Phase, Remedy, StepName};

use super::scene::{Coder, Scene, expect};
use crate::Result;

/// What somebody made for a workspace provider, long before the chart had objects of these names.
const MADE_BY_HAND: [&[&str]; 3] = [
    &["create", "serviceaccount", "coder"],
    &["create", "role", "coder", "--verb=get,list,create,delete", "--resource=pods"],
    &["create", "rolebinding", "coder", "--role=coder", "--serviceaccount=coder:coder"],
];
/// Their UIDs, and the Helm release that they belong to.
const UIDS: [&str; 6] = [
    "get",
    "serviceaccount/coder",
    "role/coder",
    "rolebinding/coder",
    "-o",
    r"custom-columns=KIND:.kind,UID:.metadata.uid,RELEASE:.metadata.annotations.meta\.helm\.sh/release-name",
];

/// Plays the story.
pub async fn play(scene: &Scene<'_>) -> Result<()> {
    let repository = &scene.cluster.repositories()?.v1;
    let values = "coder-v1-values.yaml";
    scene.install(&Coder { version: "1.15.2", repository, values, settings: &[], database: false }).await?;
    let claims = scene.claims().await?;
    scene.heading("Somebody has made a ServiceAccount `coder` with kubectl, for a workspace provider");
    for command in MADE_BY_HAND {
        scene.show(command).await?;
    }
    let before = scene.kubectl(&UIDS).await?;
    scene.load_operator().await?;

    scene.heading("The wanted version is declared: 1.16.1. Its chart has a ServiceAccount of that name");
    scene.declare(&format!("version: 1.16.1\nchart:\n  repository: {repository}")).await?;
    scene.heading("What happens (seconds since kubectl apply)");
    let status = scene.follow(Phase::Succeeded, None).await?;

    scene.heading("The objects are the same ones and belong to the release now");
    scene.show(&UIDS).await?;
    scene.show_object().await?;
    scene.same_claims(&claims).await?;
    let adopted = status.repairs.iter().filter(|repair| repair.remedy == Remedy::Adopt).count();
    expect(adopted == MADE_BY_HAND.len(), "each of the three objects should have been adopted")?;
    expect(!status.steps.iter().any(|step| step.name == StepName::Uninstall), "nothing should have been uninstalled")?;
    let after = scene.kubectl(&UIDS).await?;
    expect(uids(&before) == uids(&after), "the objects should be the same ones")
}

/// The column with the UIDs.
fn uids(table: &str) -> Vec<&str> {
    table.lines().filter_map(|line| line.split_whitespace().nth(1)).collect()
}
