//! `cargo xtask demo`: the main job, before your eyes.

mod scene;
mod timeline;

use std::{path::PathBuf, sync::Arc, time::Instant};

use clap::{Args as ClapArgs, ValueEnum};
use testbed::{Cluster, ClusterOptions};

use crate::{Result, build};

/// Upgrade Coder on a throw-away cluster and watch how it goes
///
/// Starts a real Kubernetes control plane on loopback, installs Coder at an old version with helm as an administrator
/// would have done, loads the operator, declares a newer version with kubectl, and shows the timeline until Coder is
/// verified. Nothing is left running, unless you say --keep.
#[derive(Debug, ClapArgs)]
pub struct Args {
    /// Which Coder: v2, or Coder Classic (v1)
    #[arg(long, value_enum, default_value_t = Line::V2)]
    line: Line,

    /// Leave the cluster running and say how to use it
    #[arg(long)]
    keep: bool,
}

/// Product line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Line {
    /// Coder v2 with a database of its own
    V2,
    /// Coder Classic with the chart's database
    V1,
}

/// Runs the demonstration. Fails unless the upgrade was verified.
pub async fn run(args: Args) -> Result<()> {
    let begin = Instant::now();
    println!("Coder upgrade operator: a demonstration on a throw-away cluster\n");
    build::workspace_programs().await?;
    let directory = args.keep.then(|| PathBuf::from("target/demo"));
    let cluster = Cluster::up(ClusterOptions {
        dir: directory,
        owner_pid: (!args.keep).then(std::process::id),
        progress: Arc::new(|line| eprintln!("  {line}")),
        ..ClusterOptions::default()
    })
    .await?;
    // Whatever happens in between, the cluster goes (and if this process dies, it goes by itself).
    let shown = tokio::select! {
        shown = scene::play(&cluster, args.line, begin) => shown,
        _ = tokio::signal::ctrl_c() => Err("interrupted".into()),
    };
    if args.keep {
        let kubeconfig = cluster.kubeconfig();
        println!("\nThe cluster runs on. Use it:  export KUBECONFIG={}", kubeconfig.display());
        println!("Stop it:                      cargo xtask cluster down --dir target/demo");
    } else {
        cluster.down().await?;
        println!("\nThe cluster is gone; nothing is left running. ({:.0} s in all)", begin.elapsed().as_secs_f32());
    }
    shown
}
