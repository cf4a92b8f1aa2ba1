//! One command of a test run.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use testbed::process::{Signal, signal_group, spawn};
use tokio::process::Command;
use tokio::sync::mpsc;
use tokio::time::{MissedTickBehavior, interval};

use crate::{cargo, workspace};

/// How often a silent command gives a sign of life.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);
/// With this begins what a test says that has nothing to show on this node (`tests/it/common/node.rs`).
const LEFT_OUT: &str = "left out on the ";
/// How many lines of a failed step's log are shown.
const TAIL: usize = 60;

/// What to run.
#[derive(Debug, Clone)]
pub struct Invocation {
    program: OsString,
    arguments: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    directory: PathBuf,
}

impl Invocation {
    /// A program in the root of the workspace.
    pub fn program(program: impl Into<OsString>, arguments: &[&str]) -> Self {
        Self {
            program: program.into(),
            arguments: arguments.iter().map(OsString::from).collect(),
            environment: Vec::new(),
            directory: workspace::root(),
        }
    }

    /// The cargo that runs us.
    pub fn cargo(arguments: &[&str]) -> Self {
        Self::program(cargo::path(), arguments)
    }

    /// With one more argument.
    pub fn argument(mut self, argument: &str) -> Self {
        self.arguments.push(argument.into());
        self
    }

    /// With an environment variable.
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.environment.push((name.into(), value.as_ref().to_owned()));
        self
    }

    /// In another directory.
    pub fn current_dir(mut self, directory: &Path) -> Self {
        directory.clone_into(&mut self.directory);
        self
    }

    /// As it is started, with nothing to read.
    pub fn command(&self) -> Command {
        let mut command = cargo::program(&self.program);
        command.args(&self.arguments).current_dir(&self.directory).stdin(std::process::Stdio::null());
        command.envs(self.environment.iter().map(|(name, value)| (name, value))).kill_on_drop(true);
        command
    }
}

/// How commands ended, and the tests in them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// Every one of them ended with exit code 0.
    pub success: bool,
    /// Tests that passed.
    pub passed: usize,
    /// Tests that failed.
    pub failed: usize,
    /// The names of those that passed and of those that failed, as far as they were read.
    pub results: Vec<(String, bool)>,
    /// The names of those that showed nothing on this node, each with node and reason. The test program lets them pass.
    pub left_out: Vec<(String, String)>,
}

impl Default for Outcome {
    fn default() -> Self {
        Self { success: true, passed: 0, failed: 0, results: Vec::new(), left_out: Vec::new() }
    }
}

impl Outcome {
    /// Adds what another command did.
    pub fn add(&mut self, other: &Self) {
        self.success &= other.success;
        self.passed += other.passed;
        self.failed += other.failed;
        self.results.extend_from_slice(&other.results);
        self.left_out.extend_from_slice(&other.left_out);
    }

    /// What it says of the tests with these names. Those that a program did not come to before it broke off have failed.
    pub fn of(&self, names: &[String]) -> Self {
        let results: Vec<_> = self.results.iter().filter(|(name, _)| names.contains(name)).cloned().collect();
        let passed = results.iter().filter(|(_, passed)| *passed).count();
        let broken_off = !self.success && self.passed + self.failed == 0;
        let failed = if broken_off { names.len() } else { results.len() } - passed;
        let left_out = self.left_out.iter().filter(|(name, _)| names.contains(name)).cloned().collect();
        Self { success: failed == 0, passed, failed, results, left_out }
    }

    /// Counts a line of a test program such as `test result: ok. 7 passed; 0 failed; 0 ignored; …`, and keeps one such as
    /// `test plan::checks::a_pin ... ok`, or one such as `left out on the real node: plan::checks::a_pin: WHY`.
    fn count(&mut self, line: &str) {
        if let Some((name, result)) = line.strip_prefix("test ").and_then(|line| line.split_once(" ... ")) {
            let passed = [("ok", true), ("FAILED", false)].into_iter().find(|(word, _)| result == *word);
            self.results.extend(passed.map(|(_, passed)| (name.to_owned(), passed)));
        }
        let left_out = line.find(LEFT_OUT).and_then(|at| line[at + LEFT_OUT.len()..].split_once(": "));
        if let Some((node, (name, why))) = left_out.and_then(|(node, rest)| Some((node, rest.split_once(": ")?))) {
            self.left_out.push((name.to_owned(), format!("not on the {node}: {why}")));
        }
        let Some(result) = line.strip_prefix("test result: ") else { return };
        let number = |what: &str| {
            let counted = result.split(['.', ';']).find_map(|part| part.trim().strip_suffix(what));
            counted.and_then(|number| number.trim().parse::<usize>().ok()).unwrap_or_default()
        };
        self.passed += number("passed");
        self.failed += number("failed");
    }
}

/// The processes of a command, in a group of their own; dropping it kills those that are left.
struct Group(Option<u32>);

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(Err(error)) = self.0.map(|leader| signal_group(leader, Signal::KILL)) {
            eprintln!("processes of a step were not ended: {error}");
        }
    }
}

/// Runs a command. Everything it prints goes to `log`, the results of single tests to the terminal as well. When it has
/// ended, or when the returned future is dropped, what it has started is killed.
pub async fn run(step: &str, invocation: &Invocation, log: &mut File) -> io::Result<Outcome> {
    let started = Instant::now();
    let (reader, writer) = io::pipe()?;
    let mut command = invocation.command();
    command.stdout(writer.try_clone()?).stderr(writer);
    // The command, and with it our copy of the writing end, is dropped there: otherwise the lines would never end.
    let mut child = spawn(command.into_std()).await?;
    let mut group = Some(Group(child.id()));

    let (sender, mut lines) = mpsc::channel(64);
    let reading = tokio::task::spawn_blocking(move || -> io::Result<()> {
        for line in BufReader::new(reader).split(b'\n') {
            if sender.blocking_send(String::from_utf8_lossy(&line?).into_owned()).is_err() {
                break;
            }
        }
        Ok(())
    });
    let mut outcome = Outcome::default();
    let mut status = None;
    let mut alive = interval(SIGN_OF_LIFE);
    alive.set_missed_tick_behavior(MissedTickBehavior::Delay);
    alive.tick().await;
    loop {
        tokio::select! {
            line = lines.recv() => {
                let Some(line) = line else { break };
                writeln!(log, "{line}")?;
                outcome.count(&line);
                if is_result(&line) {
                    println!("    {line}");
                    alive.reset();
                }
            }
            ended = child.wait(), if status.is_none() => {
                status = Some(ended?);
                // What is left would keep the writing end open.
                drop(group.take());
            }
            _ = alive.tick() => println!("    {step}: {} s", started.elapsed().as_secs()),
        }
    }
    reading.await.map_err(io::Error::other)??;
    let status = match status {
        Some(status) => status,
        None => child.wait().await?,
    };
    outcome.success = status.success();
    Ok(outcome)
}

/// Whether a line says how a single test ended.
fn is_result(line: &str) -> bool {
    line.starts_with("test ") && !line.starts_with("test result: ") && line.contains(" ... ")
}

/// Prints the end of what each failed test has printed, or else of the log of the failed step, and where the rest is.
/// Returns the name of each failed test with the words that it ended with.
pub fn explain(log: &Path) -> Vec<(String, String)> {
    let text = std::fs::read_to_string(log).unwrap_or_else(|error| error.to_string());
    for line in excerpts(&text) {
        println!("    | {line}");
    }
    println!("    the whole log: {}", log.display());
    causes(&text)
}

/// The test whose output begins with this line.
fn begun(line: &str) -> Option<&str> {
    line.strip_prefix("---- ")?.strip_suffix(" stdout ----")
}

/// What each failed test panicked with: the place and the first line of the message.
fn causes(text: &str) -> Vec<(String, String)> {
    let mut causes: Vec<(String, String)> = Vec::new();
    let mut lines = text.lines();
    while let Some(line) = lines.next() {
        if let Some(name) = begun(line) {
            causes.push((name.to_owned(), String::new()));
        } else if let Some((_, cause)) = causes.last_mut()
            && cause.is_empty()
            && let Some((_, place)) = line.split_once(" panicked at ")
        {
            *cause = format!("{place} {}", lines.next().unwrap_or_default());
        }
    }
    causes
}

fn excerpts(text: &str) -> Vec<&str> {
    let lines: Vec<_> = text.lines().collect();
    let tail = |lines: &[_]| lines[lines.len().saturating_sub(TAIL)..].to_vec();
    let Some(first) = lines.iter().position(|line| begun(line).is_some()) else { return tail(&lines) };
    // Behind the outputs stand the names of the failed tests and the sum.
    let end = lines.iter().rposition(|line| *line == "failures:").filter(|end| *end > first).unwrap_or(lines.len());
    let outputs = lines[first..end].chunk_by(|_, next| begun(next).is_none());
    outputs.flat_map(|output| [output[0]].into_iter().chain(tail(&output[1..]))).chain(tail(&lines[end..])).collect()
}

#[cfg(test)]
mod tests {
    use testbed::process::Identity;

    use super::*;

    #[test]
    fn results_of_test_programs_are_added_up() {
        let mut outcome = Outcome::default();
        outcome.count("test result: ok. 7 passed; 0 failed; 1 ignored; 0 measured; 0 filtered out; finished in 1.46s");
        outcome.count("test result: FAILED. 6 passed; 2 failed; 0 ignored; 0 measured; 0 filtered out");
        outcome.count("test something ... ok");
        assert_eq!((outcome.passed, outcome.failed), (13, 2));
    }

    #[test]
    fn a_program_says_how_the_tests_of_each_module_ended() {
        let names = ["a::one", "a::two", "a::three"].map(str::to_owned);
        let mut outcome = Outcome { success: false, ..Outcome::default() };
        for line in
            ["test a::one ... ok", "test a::two ... FAILED", "test a::four ... ok", "test a::three ... ignored, x"]
        {
            outcome.count(line);
        }
        let broken_off = outcome.of(&names);
        assert_eq!((broken_off.success, broken_off.passed, broken_off.failed), (false, 1, 2));
        outcome.count("test result: FAILED. 2 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out");
        let ended = outcome.of(&names);
        assert_eq!((ended.success, ended.passed, ended.failed), (false, 1, 1));
        assert!(outcome.of(&names[..1]).success);
    }

    #[test]
    fn a_test_that_is_left_out_is_told_with_its_reason() {
        let mut outcome = Outcome::default();
        outcome.count("left out on the real node: a::one::case_1: images are not: pulled");
        outcome.count("test a::one::case_1 ... ok");
        outcome.count("test result: ok. 1 passed; 0 failed");
        let told = ("a::one::case_1".to_owned(), "not on the real node: images are not: pulled".to_owned());
        assert_eq!((outcome.passed, &outcome.left_out), (1, &vec![told.clone()]));
        assert_eq!(outcome.of(std::slice::from_ref(&told.0)).left_out, [told]);
        assert!(outcome.of(&["a::two".to_owned()]).left_out.is_empty());
    }

    #[test]
    fn the_end_of_what_each_failed_test_has_printed_is_shown() {
        let long = "line\n".repeat(2 * TAIL);
        let text = format!(
            "test a ... FAILED\n\nfailures:\n\n---- a stdout ----\n{long}last of a\n---- b stdout ----\nof b\n\nfailures:\n    a\n    b\n"
        );
        let shown = excerpts(&text);
        assert_eq!(shown[0], "---- a stdout ----");
        assert_eq!(shown[TAIL..=TAIL + 2], ["last of a", "---- b stdout ----", "of b"]);
        assert_eq!(shown[shown.len() - 2..], ["    a", "    b"]);
        assert_eq!(excerpts(&long).len(), TAIL);
    }

    #[test]
    fn what_each_failed_test_panicked_with_is_told() {
        let text = "---- a::b stdout ----\n\nthread 'a::b' (7) panicked at tests/a.rs:3:5:\nleft: 1\nright: 2\n\
                    ---- c stdout ----\nError: gone\n";
        let told = [("a::b", "tests/a.rs:3:5: left: 1"), ("c", "")];
        assert_eq!(causes(text), told.map(|(name, cause)| (name.to_owned(), cause.to_owned())));
    }

    #[test]
    fn only_single_results_are_shown() {
        assert!(is_result("test a::b ... ok"));
        assert!(is_result("test a ... FAILED"));
        assert!(!is_result("test result: ok. 7 passed; 0 failed"));
        assert!(!is_result("running 7 tests"));
    }

    #[tokio::test]
    async fn output_of_both_streams_is_logged_and_the_exit_code_counts() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("log");
        let mut log = File::create(&path).unwrap();
        let invocation = Invocation::program("sh", &["-c", "echo out; echo err >&2; exit 3"]);
        let outcome = run("step", &invocation, &mut log).await.unwrap();
        assert_eq!(outcome, Outcome { success: false, ..Outcome::default() });
        assert_eq!(std::fs::read_to_string(path).unwrap(), "out\nerr\n");
    }

    /// A log, and the processes whose numbers a command has written to it.
    struct Logged(tempfile::TempDir);

    impl Logged {
        fn new() -> (Self, File) {
            let logged = Self(tempfile::tempdir().unwrap());
            let file = File::create(logged.0.path().join("log")).unwrap();
            (logged, file)
        }

        fn processes(&self) -> Vec<Option<Identity>> {
            let text = std::fs::read_to_string(self.0.path().join("log")).unwrap();
            text.lines().map(|line| Identity::of(line.parse().unwrap())).collect()
        }

        async fn until(&self, wanted: impl Fn(&[Option<Identity>]) -> bool) {
            while !wanted(&self.processes()) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }

    #[tokio::test]
    async fn an_interrupted_command_takes_along_all_that_it_has_started() {
        let (logged, mut log) = Logged::new();
        let invocation = Invocation::program("sh", &["-c", "sleep 600 & echo $!; echo $$; wait"]);
        tokio::select! {
            outcome = run("step", &invocation, &mut log) => panic!("{outcome:?}"),
            () = logged.until(|processes| processes.len() == 2) => {}
        }
        let ended = logged.until(|processes| processes.iter().all(Option::is_none));
        tokio::time::timeout(Duration::from_secs(20), ended).await.expect("a process goes on");
    }

    #[tokio::test]
    async fn what_a_command_leaves_behind_neither_goes_on_nor_keeps_the_run_waiting() {
        let (logged, mut log) = Logged::new();
        let invocation = Invocation::program("sh", &["-c", "sleep 600 & echo $!"]);
        let ran = tokio::time::timeout(Duration::from_secs(20), run("step", &invocation, &mut log)).await;
        assert!(ran.expect("the run waits for a process that was left").unwrap().success);
        let ended = logged.until(|processes| processes.iter().all(Option::is_none));
        tokio::time::timeout(Duration::from_secs(20), ended).await.expect("a process goes on");
    }
}
