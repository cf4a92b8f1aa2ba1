//! `cargo xtask demo`: the main jobs, before your eyes.
//!
//! One file per story, each a row of scenes on a cluster of its own; `scene` holds what they share, `timeline` tells what
//! the operator does meanwhile.

mod immutable;
mod ownership;
mod reinstall;
mod scene;
mod timeline;
mod upgrade;

use std::{sync::Arc, time::Instant};

use clap::{Args as ClapArgs, ValueEnum};
use scene::Scene;
use testbed::cluster::NodeChoice;
use testbed::{Cluster, ClusterOptions};

use crate::{Result, build, interrupt, workspace};

/// Upgrade Coder on a throw-away cluster and watch how it goes
///
/// Starts a real Kubernetes control plane on loopback, installs Coder at an old version with helm as an administrator
/// would have done, loads the operator, declares a newer version with kubectl, and shows the timeline until the story has
/// ended. Fails unless it ends as it should. Nothing is left running, unless you say --keep.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// The story
    #[arg(long, value_enum, default_value_t)]
    scenario: Scenario,

    /// Name the stories, and do nothing else
    #[arg(long)]
    list: bool,

    /// Which Coder the story `upgrade` is about: v2, or Coder Classic (v1)
    #[arg(long, value_enum)]
    line: Option<Line>,

    /// What runs the pods
    #[arg(long, value_enum, default_value_t)]
    node: NodeChoice,

    /// Leave the cluster running and say how to use it
    #[arg(long)]
    keep: bool,
}

/// What is shown.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Scenario {
    /// A declared version becomes a verified upgrade
    #[default]
    Upgrade,
    /// A Deployment refuses its new selector; it alone is replaced, without a moment of outage
    Immutable,
    /// Objects of the new chart exist already and belong to nobody; they are adopted
    Ownership,
    /// Coder Classic is uninstalled and installed again, after a person's approval; a slow address is waited for
    Reinstall,
}

/// Product line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Line {
    /// Coder v2 with a database of its own
    V2,
    /// Coder Classic with the chart's database
    V1,
}

/// Runs a story. Fails unless it ends as it should.
pub async fn run(args: Args) -> Result<()> {
    if args.list {
        list();
        return Ok(());
    }
    if args.line.is_some() && args.scenario != Scenario::Upgrade {
        return Err("--line is for the scenario `upgrade`; the other stories have their own Coder".into());
    }
    let begin = Instant::now();
    println!("Coder upgrade operator: a demonstration on a throw-away cluster\n");
    build::workspace_programs().await?;
    let directory = workspace::target().join("demo");
    let cluster = Cluster::up(ClusterOptions {
        dir: args.keep.then(|| directory.clone()),
        node: args.node,
        owner_pid: (!args.keep).then(std::process::id),
        progress: Arc::new(|line| eprintln!("  {line}")),
        ..ClusterOptions::default()
    })
    .await?;
    let scene = Scene::new(&cluster, begin);
    // Whatever happens in between, the cluster goes (and if this process dies, it goes by itself).
    let shown = tokio::select! {
        shown = play(&args, &scene) => shown,
        asked = interrupt::asked() => asked.map_err(Into::into).and(Err("interrupted".into())),
    };
    if args.keep {
        let kubeconfig = cluster.kubeconfig();
        println!("\nThe cluster runs on. Use it:  export KUBECONFIG={}", kubeconfig.display());
        println!("Stop it:                      cargo xtask cluster down --dir {}", directory.display());
    } else {
        cluster.down().await?;
        println!("\nThe cluster is gone; nothing is left running. ({:.0} s in all)", begin.elapsed().as_secs_f32());
    }
    shown
}

async fn play(args: &Args, scene: &Scene<'_>) -> Result<()> {
    match args.scenario {
        Scenario::Upgrade => upgrade::play(scene, args.line.unwrap_or(Line::V2)).await,
        Scenario::Immutable => immutable::play(scene).await,
        Scenario::Ownership => ownership::play(scene).await,
        Scenario::Reinstall => reinstall::play(scene).await,
    }
}

fn list() {
    for scenario in Scenario::value_variants() {
        let Some(value) = scenario.to_possible_value() else { continue };
        let about = value.get_help().map(ToString::to_string).unwrap_or_default();
        println!("{:<12}{about}", value.get_name());
    }
}
