//! `cargo xtask cluster …`: a throw-away Kubernetes cluster on this machine.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use testbed::cluster::{ClusterError, NodeChoice};
use testbed::supervisor::options::ReleaseDelay;
use testbed::supervisor::state::{ClusterState, ComponentState, Phase};
use testbed::{Cluster, ClusterOptions};
use tokio::process::Command as Process;

use crate::{Result, build, workspace};

/// Start, look at and stop a throw-away Kubernetes cluster on this machine.
///
/// etcd, API server, controller-manager and scheduler are real. It needs no root and no containers: pods are local processes,
/// unless `--node real` asks for kubelet and containerd. Several clusters run side by side, each in a directory of its own.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Build what is missing, start a cluster, and return when it is ready.
    Up(Up),
    /// Show what runs.
    Status(Which),
    /// Stop the cluster. Its logs stay.
    Down(Which),
    /// Show the log of a component (supervisor, etcd, kube-apiserver …).
    Logs(Logs),
}

#[derive(Debug, clap::Args)]
struct Which {
    /// Directory of the cluster; `target/cluster` of this workspace if not given.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

impl Which {
    fn dir(self) -> PathBuf {
        self.dir.unwrap_or_else(|| workspace::target().join("cluster"))
    }

    /// What to add to another command for the same cluster.
    fn flag(&self) -> String {
        self.dir.as_ref().map(|dir| format!(" --dir {}", dir.display())).unwrap_or_default()
    }
}

#[derive(Debug, clap::Args)]
struct Up {
    #[command(flatten)]
    which: Which,
    /// YAML file with rows to add before the default image table (pattern, command, readiness, faults).
    #[arg(long, value_name = "FILE")]
    images: Option<PathBuf>,
    /// A directory with real servers of Coder v2, programs named coder-VERSION, to be images of real.example.com/coder/coder.
    #[arg(long, value_name = "DIR")]
    coder_binaries: Option<PathBuf>,
    /// How long the load balancer stand-in takes to release an address: a duration such as `5s`, or `never`.
    #[arg(long, value_name = "DELAY", default_value = "0s", value_parser = ReleaseDelay::parse)]
    lb_release_delay: ReleaseDelay,
    /// Also load the operator: CRD, rights and controller.
    #[arg(long)]
    load_operator: bool,
    /// Run the release build of the operator, as its image has it: static if this machine can build that. It takes minutes.
    #[arg(long)]
    release: bool,
    /// What runs the pods.
    #[arg(long, value_enum, default_value_t)]
    node: NodeChoice,
    /// Write every API request to DIR/logs/audit.log (metadata only).
    #[arg(long)]
    audit_log: bool,
}

#[derive(Debug, clap::Args)]
struct Logs {
    #[command(flatten)]
    which: Which,
    /// The component; without it, the components that have a log are listed.
    component: Option<String>,
    /// Go on as the log grows, until interrupted.
    #[arg(short, long)]
    follow: bool,
}

/// Does it.
pub async fn run(Args { command }: Args) -> Result<()> {
    match command {
        Command::Up(args) => up(args).await,
        Command::Status(which) => status(&which.dir()),
        Command::Down(which) => down(&which.dir()).await,
        Command::Logs(args) => logs(args).await,
    }
}

async fn up(args: Up) -> Result<()> {
    let Up { which, images, coder_binaries, lb_release_delay, load_operator, release, node, audit_log } = args;
    let (flag, dir) = (which.flag(), which.dir());
    if let Ok(cluster) = Cluster::attach(&dir) {
        println!("a cluster runs in {} already, with the options that it was started with", dir.display());
        if load_operator {
            println!("loading the operator");
            cluster.load_operator().await?;
        }
        how_to_use(&cluster, &flag);
        return Ok(());
    }
    build::workspace_programs().await?;
    let operator = if release { Some(build::release_operator().await?) } else { None };
    let started = Instant::now();
    let options = ClusterOptions {
        dir: Some(dir),
        images: images.map(std::path::absolute).transpose()?,
        coder_binaries: coder_binaries.map(std::path::absolute).transpose()?,
        operator,
        lb_release_delay,
        node,
        audit_log,
        load_operator,
        progress: Arc::new(|line| eprintln!("{line}")),
        ..ClusterOptions::default()
    };
    let cluster = match Cluster::up(options).await {
        // Somebody else was faster.
        Err(ClusterError::AlreadyRunning(dir)) => Cluster::attach(dir)?,
        cluster => cluster?,
    };
    println!("ready after {:.1} s", started.elapsed().as_secs_f32());
    how_to_use(&cluster, &flag);
    Ok(())
}

fn how_to_use(cluster: &Cluster, flag: &str) {
    println!("  use it:   export KUBECONFIG={}", cluster.kubeconfig().display());
    println!("            $(cargo xtask bin kubectl) get nodes");
    println!("  stop it:  cargo xtask cluster down{flag}");
}

fn status(dir: &Path) -> Result<()> {
    let state = ClusterState::read(dir)?.ok_or_else(|| ClusterError::NotRunning(dir.to_owned()))?;
    let alive = state.is_alive();
    let phase = match (alive, state.phase) {
        (true, Phase::Starting) => "starting",
        (true, Phase::Running) => "running",
        (true, Phase::Stopped) => "stopping",
        (false, Phase::Stopped) => "stopped",
        (false, _) => "dead: its supervisor was killed",
    };
    println!("{}: {phase}", dir.display());
    if !alive {
        return Err(ClusterError::NotRunning(dir.to_owned()).into());
    }
    println!("  started     {}", state.started_at);
    println!("  API server  {}", state.api_url.as_deref().unwrap_or("not yet"));
    println!("  kubeconfig  {}", std::path::absolute(dir.join("kubeconfig"))?.display());
    println!("  node        {} ({:?}, pods in {})", state.node.name, state.node.kind, state.node.pod_addresses);
    if let Some(repositories) = &state.repositories {
        println!("  charts      {} {}", repositories.v2, repositories.v1);
    }
    println!("  supervisor  process {}", state.supervisor.pid);
    let broken = print_components(&state.components);
    if broken == 0 { Ok(()) } else { Err(format!("{broken} of its components ended unexpectedly").into()) }
}

/// Prints one line for each and returns how many do not run.
fn print_components(components: &BTreeMap<String, ComponentState>) -> usize {
    let width = components.keys().map(String::len).max().unwrap_or_default();
    let mut broken = 0;
    for (name, component) in components {
        let place =
            component.process.map_or("in the supervisor".to_owned(), |process| format!("process {}", process.pid));
        let version = component.version.as_deref().unwrap_or_default();
        let how = component.ended.as_ref().map(|how| format!("ENDED: {how}"));
        broken += usize::from(how.is_some());
        println!("    {name:width$}  {version:8}  {}", how.unwrap_or(place));
    }
    broken
}

async fn down(dir: &Path) -> Result<()> {
    if Cluster::down_in(dir).await? {
        println!("stopped; its logs are in {}", dir.join("logs").display());
    } else {
        println!("no cluster runs in {}", dir.display());
    }
    Ok(())
}

async fn logs(Logs { which, component, follow }: Logs) -> Result<()> {
    let logs = which.dir().join("logs");
    let Some(component) = component else {
        return list_logs(&logs);
    };
    let path = logs.join(format!("{component}.log"));
    if !path.is_file() {
        return Err(format!(
            "{component} has no log in {}; `cargo xtask cluster logs` lists those there are",
            logs.display()
        )
        .into());
    }
    if !follow {
        std::io::copy(&mut std::fs::File::open(path)?, &mut std::io::stdout())?;
        return Ok(());
    }
    let status = Process::new("tail").args(["--lines=+1", "--follow=name"]).arg(path).status().await?;
    if status.success() { Ok(()) } else { Err(format!("tail: {status}").into()) }
}

fn list_logs(logs: &Path) -> Result<()> {
    let entries = match std::fs::read_dir(logs) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return Err(format!("there are no logs in {}", logs.display()).into());
        }
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        names.push(PathBuf::from(entry?.file_name()).with_extension("").display().to_string());
    }
    names.sort();
    println!("{}", names.join("\n"));
    Ok(())
}
