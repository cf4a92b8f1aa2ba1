//! `cargo xtask bench`: what an upgrade through the operator costs.
//!
//! - `rollout`: the same upgrade through the operator and with bare helm;
//! - `recovery`: what a recovery costs, beside the guide done by hand;
//! - `planning`: what a plan and its rehearsal cost;
//! - `audit`: requests, from the API server's audit log;
//! - `process`: memory and time of the controller, from the kernel;
//! - `report`: medians and the table.

mod audit;
mod planning;
mod process;
mod recovery;
mod report;
mod rollout;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use audit::AuditLog;
use planning::Plannings;
use process::Controller;
use recovery::Recovery;
use report::{Line, Report, median};
use rollout::{Bench, Scenario, Trial};
use testbed::{Cluster, ClusterOptions};
use tokio::process::Command;

use crate::{Result, build};

/// Measure what an upgrade through the operator costs against bare `helm upgrade --wait` on the same cluster.
///
/// Builds the operator for release, starts a cluster of its own, and prints the table of docs/performance.md. Close other
/// programs meanwhile: everything runs on this machine.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Pairs of instant rollouts: one through the operator, one with helm.
    #[arg(long, default_value = "9")]
    rounds: usize,
    /// Pairs of rollouts that take 60 s.
    #[arg(long, default_value = "3")]
    slow_rounds: usize,
    /// Repairs of a refused Deployment, and pairs of reinstalls: one through the operator, one by hand.
    #[arg(long, default_value = "3")]
    recoveries: usize,
    /// Plans of Coder Classic, each followed by the same upgrade with helm.
    #[arg(long, default_value = "3")]
    plans: usize,
    /// How many idle objects the controller holds when its memory is measured.
    #[arg(long, default_value = "1000")]
    objects: usize,
}

/// A rollout that takes as long as the pods need to start.
const INSTANT: Scenario = Scenario { name: "instant", faults: false, from: "2.31.6", to: "2.31.7" };
/// A rollout whose new pod must be ready for 60 s.
const SLOW: Scenario = Scenario { name: "slow", faults: true, from: "2.31.6", to: "2.31.10" };
/// Objects of a small installation.
const FEW: usize = 10;
/// How long an idle controller is watched for requests.
const IDLE: Duration = Duration::from_secs(60);

/// Runs everything and prints the table.
pub async fn run(args: Args) -> Result<()> {
    build::workspace_programs().await?;
    let binary = build::release_operator().await?;
    let directory = tempfile::Builder::new().prefix("coder-upgrade-bench-").tempdir()?;
    let cluster = Cluster::up(ClusterOptions {
        dir: Some(directory.path().join("cluster")),
        operator: Some(binary.clone()),
        audit_log: true,
        owner_pid: Some(std::process::id()),
        progress: Arc::new(|line| eprintln!("{line}")),
        ..ClusterOptions::default()
    })
    .await?;
    let measured = async {
        let began = Instant::now();
        cluster.load_operator().await?;
        measure(&args, &cluster, &binary, began.elapsed()).await
    };
    let measured = measured.await;
    let stopped = cluster.down().await;
    println!("{}", measured?);
    Ok(stopped?)
}

async fn measure(args: &Args, cluster: &Cluster, binary: &Path, loaded: Duration) -> Result<Report> {
    let audit = AuditLog::of(cluster);
    let controller = Controller::find(cluster, binary)?;
    let bench = Bench::new(cluster, &controller).await?;
    let empty = controller.memory()?;

    let instant = pairs(&bench, &INSTANT, args.rounds).await?;
    let slow = pairs(&bench, &SLOW, args.slow_rounds).await?;

    let plannings = Plannings::measure(cluster, &audit, args.plans).await?;
    let recoveries = recoveries(cluster, &audit, args.recoveries).await?;

    eprintln!("watching the idle controller for {} s", IDLE.as_secs());
    let quiet = audit.controller_requests()?;
    tokio::time::sleep(IDLE).await;
    let idle = audit.controller_requests()? - quiet;

    bench.suspended(0..FEW).await?;
    let few = controller.memory()?;
    eprintln!("{} suspended CoderUpgrades", args.objects);
    bench.suspended(FEW..args.objects).await?;
    let full = controller.memory()?;

    let mut report = Report::new(args.rounds, args.slow_rounds);
    report.rollout("instant rollout", &instant, "≤ 3 s more");
    report.rollout("60 s rollout", &slow, "≤ 1.05 ×");
    let (mut to_job, mut busy) = (Vec::new(), Vec::new());
    let mut requests = Requests::default();
    for Pair { operator, helm } in &instant {
        busy.push(operator.controller.as_secs_f64() * 1000.0);
        to_job.push(audit.apply_to_job(&operator.namespace)?.as_secs_f64() * 1000.0);
        requests.controller.push(audit.controller_requests_in(&operator.namespace)?);
        requests.runner.push(audit.runner_requests(&operator.namespace)?);
        requests.helm.push(audit.helm_requests(helm.started, helm.started + helm.took)?);
    }
    if let Some(Pair { operator, .. }) = instant.last() {
        let status = status(cluster, binary, &operator.namespace).await?;
        report.add(Line::new("`status` of one upgrade, median", format!("{:.2} s", status.as_secs_f64()), "≤ 0.3 s"));
        let kinds = audit.runner_requests_by_kind(&operator.namespace)?;
        eprintln!("requests of the runner for the last upgrade:");
        for (kind, count) in kinds {
            eprintln!("{count:>4} {kind}");
        }
    }
    let (runner, helm) = (median(&requests.runner), median(&requests.helm));
    plannings.report(&mut report);
    recoveries.report(&mut report);
    let loaded = format!("{:.1} s", loaded.as_secs_f64());
    report.add(Line::new("manifests of the operator applied until it is available", loaded, "≤ 15 s"));
    report.add(Line::new("apply to first Job, median", format!("{:.0} ms", median(&to_job)), "≤ 40 ms"));
    report.add(Line::new("requests of the controller for one upgrade", median(&requests.controller), "≤ 20"));
    report.add(Line::new(
        "requests of the runner for one upgrade (bare helm: upgrade)",
        format!("{runner} ({helm}; {:.1} ×)", runner / helm),
        "≤ 2.5 ×",
    ));
    report.add(Line::new("requests of the idle controller in a minute, leases aside", idle, "0"));
    report.add(Line::new("CPU time of the controller for one upgrade", format!("{:.1} ms", median(&busy)), "≤ 10 ms"));
    report.add(Line::new("memory (RSS) of the controller, no objects", empty, "≤ 10 MiB"));
    report.add(Line::new(format!("memory (RSS) of the controller, {FEW} objects"), few, "≤ 15 MiB"));
    report.add(Line::new(format!("memory (RSS) of the controller, {} objects", args.objects), full, "≤ 20 MiB"));
    report.add(Line::new("binary, stripped", process::size(binary)?, "≤ 15 MiB"));
    Ok(report)
}

/// How long the plugin takes to show an upgrade, as the median of as many calls as [`FEW`].
async fn status(cluster: &Cluster, binary: &Path, namespace: &str) -> Result<Duration> {
    let mut seconds = Vec::new();
    for _ in 0..FEW {
        let began = Instant::now();
        let mut command = Command::new(binary);
        command.args(["status", "coder", "--namespace", namespace]).env("KUBECONFIG", cluster.kubeconfig());
        let output = command.output().await?;
        seconds.push(began.elapsed().as_secs_f64());
        if !output.status.success() {
            return Err(String::from_utf8_lossy(&output.stderr).into());
        }
    }
    Ok(Duration::from_secs_f64(median(&seconds)))
}

/// Durations of recoveries, in seconds.
#[derive(Default)]
struct Recoveries {
    to_repair: Vec<f64>,
    repair_outage: Vec<f64>,
    operator: Vec<f64>,
    by_hand: Vec<f64>,
}

impl Recoveries {
    fn report(&self, report: &mut Report) {
        if self.operator.is_empty() {
            return;
        }
        let to_repair = format!("{:.2} s", median(&self.to_repair));
        report.add(Line::new("upgrade step's Lease to the first repairing change, median", to_repair, "≤ 2 s"));
        let longest = self.repair_outage.iter().copied().fold(0.0, f64::max);
        report.add(Line::new("outage of a replaced Deployment, the longest", format!("{longest:.2} s"), "0 s"));
        let (operator, by_hand) = (median(&self.operator), median(&self.by_hand));
        let measured = format!("{operator:.2} s against {by_hand:.2} s: {:+.2} s", operator - by_hand);
        report.add(Line::new(
            "outage of a reinstall of Coder Classic: operator against by hand, medians",
            measured,
            "≤ 5 s more",
        ));
    }
}

/// Recoveries, the reinstalls in turns.
async fn recoveries(cluster: &Cluster, audit: &AuditLog, rounds: usize) -> Result<Recoveries> {
    let mut seen = Recoveries::default();
    for round in 1..=rounds {
        let repaired = Recovery::new(cluster, format!("repaired-{round}"));
        seen.repair_outage.push(repaired.immutable().await?.as_secs_f64());
        seen.to_repair.push(audit.lease_to_repair(&repaired.namespace)?.as_secs_f64());
        seen.operator.push(Recovery::new(cluster, format!("reinstalled-{round}")).reinstall().await?.as_secs_f64());
        seen.by_hand.push(Recovery::new(cluster, format!("by-hand-{round}")).by_hand().await?.as_secs_f64());
        eprintln!(
            "recovery {round} of {rounds}: operator {:.2} s, by hand {:.2} s",
            seen.operator[round - 1],
            seen.by_hand[round - 1]
        );
    }
    Ok(seen)
}

/// Requests of each measured upgrade.
#[derive(Default)]
struct Requests {
    controller: Vec<f64>,
    runner: Vec<f64>,
    helm: Vec<f64>,
}

/// The same upgrade, both ways.
struct Pair {
    operator: Trial,
    helm: Trial,
}

/// Interleaved, and each way first as often as the other, so that neither has the quieter machine.
async fn pairs(bench: &Bench<'_>, scenario: &Scenario, rounds: usize) -> Result<Vec<Pair>> {
    let mut pairs = Vec::new();
    for round in 1..=rounds {
        let pair = if round % 2 == 0 {
            let helm = bench.helm(scenario, round).await?;
            Pair { operator: bench.operator(scenario, round).await?, helm }
        } else {
            let operator = bench.operator(scenario, round).await?;
            Pair { operator, helm: bench.helm(scenario, round).await? }
        };
        eprintln!(
            "{} rollout {round} of {rounds}: operator {:.2} s, helm {:.2} s",
            scenario.name,
            pair.operator.took.as_secs_f64(),
            pair.helm.took.as_secs_f64()
        );
        pairs.push(pair);
    }
    Ok(pairs)
}
