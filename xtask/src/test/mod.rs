//! `cargo xtask test`: everything that must hold, in one run.
//!
//! - `plan`: which steps a run consists of, from the filter;
//! - `binaries`: the test programs that cargo builds, and which tests are in them;
//! - `command`: one command with its output in a log, a sign of life on the terminal and its tests counted;
//! - `cluster`: the cluster that tests run against;
//! - `servers`: real servers of Coder, if there are any;
//! - `summary`: the table at the end.

mod binaries;
mod cluster;
mod command;
mod plan;
mod servers;
mod summary;

use std::io::ErrorKind;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use binaries::Suite;
use cluster::TestCluster;
use command::{Invocation, Outcome};
use plan::{Plan, Selection};
use servers::Servers;
use summary::{Row, Summary};
use tempfile::TempDir;
use testbed::cluster::{NodeChoice, OPERATOR_VARIABLE};
use testbed::components::{CLUSTER, Component, ensure};
use tokio::time::sleep;

use crate::{Result, build, interrupt, progress, workspace};

/// How long the end of clusters that killed test programs had started is waited for.
const REMOVAL: Duration = Duration::from_secs(30);

/// Check everything: format, lints, documentation, generated files, the book, the files of a release, unit tests, and the tests
/// that need a cluster.
///
/// The last line of the output is `N passed, N failed`; the exit code is 0 only if nothing failed.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Run a part: a step (fmt, generated, book, release, clippy, docs, unit), the integration tests of a folder or a file (plan, checks,
    /// `plan::checks`), or all tests whose name contains this.
    filter: Option<String>,
    /// How many integration tests run at a time. They share one cluster, and mostly wait for it.
    #[arg(long, default_value = "4")]
    test_threads: NonZeroUsize,
    /// What runs the pods of the cluster that the tests share. Stories that ask for faults of the process node need that one.
    #[arg(long, value_enum, default_value_t)]
    node: NodeChoice,
    /// Run the release build of the operator in the cluster, as its image has it: static if this machine can build that. It
    /// takes minutes more.
    #[arg(long)]
    release: bool,
    #[command(flatten)]
    servers: servers::ServerArgs,
}

/// Runs the steps and prints the summary. Failed steps are part of the summary and no error of this function.
pub async fn run(args: Args) -> Result<ExitCode> {
    let logs = workspace::target().join("xtask-test");
    std::fs::create_dir_all(&logs)?;
    let selection = Selection::of(args.filter.as_deref());
    let temporary = tempfile::Builder::new().prefix("coder-upgrade-test-").tempdir()?;
    let summary = Summary::default();
    let servers = Servers::start(&args.servers).await?;
    let (threads, node, release) = (args.test_threads, args.node, args.release);
    let mut session = Session {
        logs,
        threads,
        node,
        release,
        begun: vec![],
        operator: None,
        summary,
        temporary,
        servers,
        cluster: None,
    };
    let ran = tokio::select! {
        ran = session.steps(&selection) => Some(ran),
        asked = interrupt::asked() => asked.map(|()| None)?,
    };
    let interrupted = ran.is_none();
    session.clean_up(interrupted).await?;
    ran.transpose()?;
    print!("{}", session.summary);
    if interrupted {
        println!("interrupted: the steps above are those that had ended");
        // Not by returning: a build of a component that is under way would be waited for.
        std::process::exit(interrupt::EXIT_CODE);
    }
    Ok(if session.summary.failed() == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// One run: what it has found so far.
struct Session {
    logs: PathBuf,
    threads: NonZeroUsize,
    node: NodeChoice,
    release: bool,
    /// The steps that were begun.
    begun: Vec<String>,
    /// The release build of the operator.
    operator: Option<PathBuf>,
    summary: Summary,
    /// Where test programs make temporary files: one that was killed cannot remove its own.
    temporary: TempDir,
    servers: Option<Servers>,
    /// The cluster that runs for the tests.
    cluster: Option<TestCluster>,
}

impl Session {
    /// Everything that is selected.
    async fn steps(&mut self, selection: &Selection) -> Result<()> {
        self.checks(selection).await?;
        if selection.needs_binaries() {
            self.tests(selection).await?;
        }
        Ok(())
    }

    /// Stops what still runs, and removes what test programs have left.
    async fn clean_up(&mut self, interrupted: bool) -> Result<()> {
        if let Some(cluster) = self.cluster.take() {
            cluster.stop(&self.logs, interrupted || self.summary.failed() > 0).await?;
        }
        // A cluster of a killed test program ends by itself a moment later, and writes until then.
        let directory = self.temporary.path();
        let began = Instant::now();
        while let Err(error) = std::fs::remove_dir_all(directory) {
            if error.kind() == ErrorKind::NotFound {
                break;
            }
            if began.elapsed() > REMOVAL {
                return Err(format!("cannot remove {}: {error}", directory.display()).into());
            }
            sleep(Duration::from_millis(200)).await;
        }
        Ok(())
    }

    /// The steps that need no test program. Each counts as one test.
    async fn checks(&mut self, selection: &Selection) -> Result<()> {
        for (name, invocation) in plan::checks(selection)? {
            self.step(name, &[invocation], Counting::AsOne).await?;
        }
        Ok(())
    }

    /// Builds the test programs and runs those that are selected.
    async fn tests(&mut self, selection: &Selection) -> Result<()> {
        let started = Instant::now();
        println!("==> build");
        let built = binaries::build(selection, &self.logs.join("build.log")).await?;
        self.summary.add(Row::setup("build", built.is_some(), started.elapsed()));
        let Some(suites) = built else {
            self.summary.explain(command::explain(&self.logs.join("build.log")));
            return Ok(());
        };
        let plan = Plan::new(selection, suites)?;
        if !plan.unit.is_empty() || plan.doc_tests {
            let mut invocations: Vec<_> = plan.unit.iter().map(|suite| self.invocation(suite, None)).collect();
            if plan.doc_tests {
                invocations.push(Invocation::cargo(&["test", "--workspace", "--doc"]));
            }
            self.step("unit", &invocations, Counting::Tests).await?;
        }
        if plan.integration.is_empty() {
            return Ok(());
        }
        self.integration(&plan).await
    }

    /// Runs the integration tests; those that need it against one cluster.
    async fn integration(&mut self, plan: &Plan) -> Result<()> {
        if !self.components().await? {
            return Ok(());
        }
        if self.release {
            self.operator = Some(build::release_operator().await?);
        }
        let (offline, online): (Vec<_>, Vec<_>) =
            plan.integration.iter().cloned().partition(|suite| !cluster::is_needed(suite));
        self.suites(&offline).await?;
        if online.is_empty() {
            return Ok(());
        }
        let started = Instant::now();
        println!("==> test bed");
        let servers = self.servers.as_ref().map(Servers::directory);
        match TestCluster::start(self.node, servers, self.operator.clone()).await {
            Ok(cluster) => self.cluster = Some(cluster),
            Err(error) => {
                println!("    {error}");
                self.summary.add(Row::setup("test bed", false, started.elapsed()));
                return Ok(());
            }
        }
        self.summary.add(Row::setup("test bed", true, started.elapsed()));
        self.suites(&online).await?;
        if plan.is_everything { self.rights() } else { Ok(()) }
    }

    /// Compares what controller and runner may do with what they did in all stories.
    fn rights(&mut self) -> Result<()> {
        let Some(cluster) = &self.cluster else { return Ok(()) };
        println!("==> rights");
        let started = Instant::now();
        let findings = cluster.audit()?;
        self.summary.add(Row::check("rights", findings.is_empty(), started.elapsed()));
        self.summary.explain(findings.into_iter().map(|finding| ("rights".to_owned(), finding)).collect());
        Ok(())
    }

    /// Builds what is missing of Kubernetes, helm and the registry; says whether it is all there now.
    async fn components(&mut self) -> Result<bool> {
        println!("==> components");
        let started = Instant::now();
        let wanted: Vec<_> = CLUSTER.into_iter().chain([Component::Helm3, Component::Registry]).collect();
        let built = tokio::task::spawn_blocking(move || ensure(&wanted, &|event| progress::component(&event))).await?;
        if let Err(error) = &built {
            println!("    {error}");
        }
        self.summary.add(Row::setup("components", built.is_ok(), started.elapsed()));
        Ok(built.is_ok())
    }

    /// A test program, with a place for its temporary files.
    fn invocation(&self, suite: &Suite, threads: Option<NonZeroUsize>) -> Invocation {
        let invocation = suite.invocation(threads).env("TMPDIR", self.temporary.path());
        match &self.operator {
            Some(operator) => invocation.env(OPERATOR_VARIABLE, operator),
            None => invocation,
        }
    }

    /// Runs integration tests. Those of one program run together: no thread idles at the end of each module.
    async fn suites(&mut self, suites: &[Suite]) -> Result<()> {
        for suites in suites.chunk_by(Suite::shares_program_with) {
            let Some(joined) = Suite::joined(suites) else { continue };
            let mut invocation = self.invocation(&joined, Some(self.threads));
            if let Some(cluster) = self.cluster.as_ref().filter(|cluster| cluster.serves(&joined)) {
                let (name, directory) = cluster.variable();
                invocation = invocation.env(name, directory);
            }
            let invocation = servers::invocation(self.servers.as_ref(), suites, invocation);
            self.step(&joined.name, &[invocation], Counting::Suites(suites)).await?;
        }
        Ok(())
    }

    /// Runs commands as one step; those after a failed one are run, too.
    async fn step(&mut self, name: &str, invocations: &[Invocation], counting: Counting<'_>) -> Result<()> {
        println!("==> {name}");
        let (started, log) = (Instant::now(), self.logs.join(log_name(name, &self.begun)));
        self.begun.push(name.to_owned());
        let mut total = Outcome::default();
        let mut writer = std::fs::File::create(&log)?;
        for invocation in invocations {
            total.add(&command::run(name, invocation, &mut writer).await?);
        }
        if !total.success {
            self.summary.explain(command::explain(&log));
        }
        self.summary.leave_out(total.left_out.clone());
        match counting {
            Counting::AsOne => self.summary.add(Row::check(name, total.success, started.elapsed())),
            Counting::Suites(suites) if suites.len() > 1 => {
                // A failed test counts in the row of its module.
                let ended = total.success || total.failed > 0;
                self.summary.add(Row::setup(name, ended, started.elapsed()));
                for suite in suites {
                    self.summary.add(Row::part(&suite.name, &total.of(&suite.tests()?)));
                }
            }
            Counting::Tests | Counting::Suites(_) => self.summary.add(Row::tests(name, &total, started.elapsed())),
        }
        Ok(())
    }
}

/// What a step adds to the number of tests.
#[derive(Clone, Copy)]
enum Counting<'a> {
    /// One, passed or failed.
    AsOne,
    /// What its test programs say.
    Tests,
    /// What the test program says of the tests of each of these.
    Suites(&'a [Suite]),
}

/// The file with a step's output. A second step of that name has a log of its own: the first may have failed.
fn log_name(step: &str, begun: &[String]) -> String {
    let name = step.replace("::", "-");
    match begun.iter().filter(|earlier| *earlier == step).count() {
        0 => format!("{name}.log"),
        earlier => format!("{name}-{}.log", earlier + 1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_has_a_log_of_its_own() {
        assert_eq!(log_name("plan::checks", &[]), "plan-checks.log");
        assert_eq!(log_name("it", &["unit".to_owned(), "it".to_owned()]), "it-2.log");
    }
}
