//! The guide's story: Coder Classic is uninstalled and installed again, and a slow address is waited for.

use coder_upgrade_operator::api::{Approvable, CoderUpgradeStatus, Phase, StepName};

use super::scene::{Coder, NAME, Scene, expect, print, say};
use crate::Result;

/// The claim of the chart's database.
const CLAIM: &str = "timescale-data-timescale-0";
/// What the load balancers of the cluster are slow at.
const SLOW: [(&str, &str); 2] = [("service/ingress-nginx", "12s"), ("ingress/web-ingress", "7s")];

/// Shows what gives Coder its addresses.
const ADDRESSES: [&str; 5] = ["get", "service/ingress-nginx", "ingress/web-ingress", "-o", ADDRESS_COLUMNS];
const ADDRESS_COLUMNS: &str =
    "custom-columns=KIND:.kind,NAME:.metadata.name,UID:.metadata.uid,ADDRESS:.status.loadBalancer.ingress[0].ip";
/// What is declared: failures are to be reported only, and the new volume is to be larger, which no `StatefulSet` accepts.
const SPEC: &str = "\
version: 1.16.2
recovery: Stop
keepAddresses: false
values:
  timescale:
    resources:
      requests:
        storage: 128Mi
";

/// Plays the story.
pub async fn play(scene: &Scene<'_>) -> Result<()> {
    let repository = &scene.cluster.repositories()?.v1;
    let values = "coder-v1-values.yaml";
    scene.install(&Coder { version: "1.16.1", repository, values, settings: &[], database: false }).await?;
    for (object, delay) in SLOW {
        scene.kubectl(&["annotate", object, &format!("testbed.coderupgrade.dev/release-delay={delay}")]).await?;
    }
    let claims = scene.claims().await?;
    let deployment = scene.cluster.database(NAME, CLAIM).await?.deployment_id;
    say(&format!("The database on claim {CLAIM} is that of deployment {deployment}."));
    scene.show(&ADDRESSES).await?;
    scene.load_operator().await?;

    scene.heading(
        "1.16.2 is declared, with a larger volume, which no StatefulSet accepts; failures are to be reported only",
    );
    scene.declare(&format!("{SPEC}chart:\n  repository: {repository}")).await?;
    scene.heading("What happens (seconds since kubectl apply)");
    let status = scene.follow(Phase::AwaitingApproval, None).await?;
    scene.heading("The operator says what could be done, and waits for a person");
    let plan = offered(&status)?;

    scene.heading("The person chooses the guide's way: uninstall, wait, install");
    let approval = format!("coderupgrade.dev/approve={plan}/{}", Approvable::Reinstall);
    scene.show(&["annotate", "cu", NAME, &approval]).await?;
    scene.heading("What happens (seconds since the approval)");
    let status = scene.follow(Phase::Succeeded, Some(&status)).await?;

    scene.heading("The addresses: others than before, as keepAddresses is false");
    scene.show(&ADDRESSES).await?;
    scene.show_object().await?;
    scene.same_claims(&claims).await?;
    let now = scene.cluster.database(NAME, CLAIM).await?.deployment_id;
    say(&format!("The database is that of deployment {now}."));
    expect(now == deployment, "the database should be the same")?;
    for step in [StepName::Uninstall, StepName::Drain, StepName::Install] {
        expect(status.steps.iter().any(|done| done.name == step), &format!("there should have been a step {step}"))?;
    }
    expect(status.address_changes.len() == SLOW.len(), "both addresses should have changed")?;
    expect(status.address_changes.iter().all(|change| !change.hosts.is_empty()), "hosts should be named")
}

/// Shows what waits for approval, and returns the id of the plan.
fn offered(status: &CoderUpgradeStatus) -> Result<&str> {
    let approval = status.approval.as_ref().ok_or("there should be something to approve")?;
    say(&format!("status.approval.value:        {}", approval.value));
    say(&format!("status.approval.action:       {}", approval.action));
    say(&format!("status.approval.interruption: {}", approval.interruption));
    if let Some(failure) = &status.failure {
        print(&format!("status.failure.nextStep:      {}", failure.next_step));
    }
    Ok(status.plan.as_ref().ok_or("there should be a plan")?.id.as_str())
}
