//! A declared version becomes a verified upgrade.

use coder_upgrade_operator::api::Phase;

use super::Line;
use super::scene::{Coder, Scene, say};
use crate::Result;

/// Plays the story.
pub async fn play(scene: &Scene<'_>, line: Line) -> Result<()> {
    let repositories = scene.cluster.repositories()?;
    let (before, after, values, repository) = match line {
        Line::V2 => ("2.30.0", "2.31.7", "coder-v2-values.yaml", &repositories.v2),
        Line::V1 => ("1.16.1", "1.16.2", "coder-v1-values.yaml", &repositories.v1),
    };
    let database = line == Line::V2;
    scene.install(&Coder { version: before, repository, values, settings: &[], database }).await?;
    let claims = scene.claims().await?;
    scene.show(&["get", "deployments,statefulsets,services", "--no-headers"]).await?;
    scene.load_operator().await?;

    scene.heading(&format!("The wanted version is declared: {after}"));
    scene.declare(&format!("version: {after}\nchart:\n  repository: {repository}")).await?;
    scene.heading("What happens (seconds since kubectl apply)");
    say("One Job makes a plan and changes nothing; a second runs helm from that plan, and then asks every pod.");
    scene.follow(Phase::Succeeded, None).await?;

    scene.show_object().await?;
    scene.same_claims(&claims).await?;
    try_next(after);
    Ok(())
}

fn try_next(version: &str) {
    println!("\nTry next, with --keep:");
    println!("  kubectl -n coder describe cu coder                              the events and the whole status");
    println!("  kubectl -n coder get jobs,secrets                               the runner's Jobs and the saved plan");
    println!(
        "  kubectl -n coder patch cu coder --type merge -p '{{\"spec\":{{\"version\":\"{}.99\"}}}}'",
        &version[..4]
    );
    println!(
        "                                                                  a version that does not exist: what it says"
    );
    println!("  cargo xtask demo --list                                         the other stories");
}
