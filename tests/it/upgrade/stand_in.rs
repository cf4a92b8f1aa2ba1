//! The stand-in beside a real server: it says and answers nothing that the server does not, with `cargo xtask test stand_in
//! --coder-binaries DIR`. Both run as programs of the test, on loopback, each with a database of its own.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::common::servers::{Kind, RealDatabase, programs};
use regex::Regex;
use reqwest::{Client, Response, redirect::Policy};
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::{Child, Command};

/// Longer than a start on an empty database takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program that runs, and what it has said on each stream.
struct Program {
    child: Child,
    out: Arc<Mutex<Vec<String>>>,
    err: Arc<Mutex<Vec<String>>>,
    port: u16,
    /// Its database, and the directory in which it works.
    _held: (Option<Child>, TempDir),
}

fn stand_in() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_coder-upgrade-operator")).with_file_name("coder-sim")
}

fn free_port() -> u16 {
    TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port()
}

impl Program {
    /// Starts the newest version on an empty database, or where nothing listens.
    async fn start(kind: Kind, database: bool, more: &[(&str, &str)]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let version = programs().ends().1.clone();
        let (mut url, mut held) =
            (format!("postgres://coder:secret@127.0.0.1:{}/coder?sslmode=disable", free_port()), None);
        let mut command = match kind {
            Kind::Real => {
                if database {
                    let name = format!("stand-in-{}", free_port());
                    url = RealDatabase::create(&name).await.direct_url();
                }
                Command::new(programs().program(&version))
            }
            Kind::StandIn => {
                if database {
                    let port = free_port();
                    let mut command = Command::new(stand_in());
                    command.arg("database").env("PGDATA", directory.path()).env("PGPORT", port.to_string());
                    held = Some(command.kill_on_drop(true).spawn().unwrap());
                    url = format!("postgres://coder:secret@127.0.0.1:{port}/coder?sslmode=disable");
                }
                Command::new(stand_in())
            }
        };
        let port = free_port();
        command.arg("server").env_clear().env("HOME", directory.path()).env("POD_IP", "127.0.0.1");
        command.env("CODER_SIM_VERSION", version.to_string()).env("CODER_HTTP_ADDRESS", format!("127.0.0.1:{port}"));
        command.env("CODER_PG_CONNECTION_URL", url).env("CODER_ACCESS_URL", "https://coder.example.com");
        command.env("CODER_TELEMETRY_ENABLE", "false").env("CODER_UPDATE_CHECK", "false");
        command.env("CODER_DERP_SERVER_STUN_ADDRESSES", "disable").env("CODER_PROVISIONER_DAEMONS", "0");
        command.envs(more.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let (out, err) = (listen(child.stdout.take().unwrap()), listen(child.stderr.take().unwrap()));
        Self { child, out, err, port, _held: (held, directory) }
    }

    /// Waits until it answers.
    async fn answers(self) -> Self {
        let began = Instant::now();
        while !http().get(self.url("/healthz")).send().await.is_ok_and(|answer| answer.status().is_success()) {
            assert!(began.elapsed() < PATIENCE, "no answer: {:#?} {:#?}", self.out, self.err);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        self
    }

    fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }

    async fn ask(&self, path: &str) -> Response {
        http().get(self.url(path)).send().await.unwrap()
    }

    /// Ends it as a kubelet does.
    async fn stop(&mut self) -> ExitStatus {
        let pid = rustix::process::Pid::from_raw(self.child.id().unwrap().cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.end().await
    }

    async fn end(&mut self) -> ExitStatus {
        tokio::time::timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap()
    }

    /// What it said, without what differs from run to run.
    fn said(&self) -> [Vec<String>; 2] {
        [&self.out, &self.err]
            .map(|lines| lines.lock().unwrap().iter().filter_map(|line| plain(line, self.port)).collect())
    }
}

fn http() -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy().redirect(Policy::none()).timeout(Duration::from_secs(5)).build().unwrap()
}

/// Lines as they come, with their control characters.
fn listen(stream: impl AsyncRead + Unpin + Send + 'static) -> Arc<Mutex<Vec<String>>> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&lines);
    tokio::spawn(async move {
        let mut read = BufReader::new(stream).split(b'\n');
        while let Ok(Some(line)) = read.next_segment().await {
            heard.lock().unwrap().push(String::from_utf8_lossy(&line).into_owned());
        }
    });
    lines
}

/// A line without times, ports, numbers of tries and fields of the log; none if nothing is left.
fn plain(line: &str, port: u16) -> Option<String> {
    let line = line.replace(&port.to_string(), "PORT");
    let time = Regex::new(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+ ").unwrap();
    let fields = Regex::new(r"  [a-z_]+=.*$").unwrap();
    let numbers = Regex::new(r"127\.0\.0\.1:\d+").unwrap();
    let line = numbers.replace_all(&fields.replace(&time.replace(&line, ""), ""), "127.0.0.1:PORT").into_owned();
    (!line.trim().is_empty()).then_some(line)
}

/// Each line of the stand-in is one of the server's, in the same order.
fn is_part_of(stand_in: &[String], server: &[String]) {
    let mut rest = server.iter();
    for line in stand_in {
        assert!(
            rest.any(|told| told == line),
            "the server does not say, or not here:\n  {line:?}\nIt says:\n{server:#?}"
        );
    }
}

#[tokio::test]
#[ignore = "asks for real servers: cargo xtask test stand_in --coder-binaries DIR"]
async fn a_start_and_an_end_are_told_in_the_same_words() {
    let mut said = Vec::new();
    for kind in [Kind::Real, Kind::StandIn] {
        let mut program = Program::start(kind, true, &[]).await.answers().await;
        // The server says its last words about the start a moment after it answers.
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(program.stop().await.success(), "{kind:?}");
        said.push(program.said());
    }
    let [server, stand_in] = &said[..] else { unreachable!() };
    for stream in 0..2 {
        assert!(!stand_in[stream].is_empty(), "the stand-in says nothing on stream {stream}: {server:#?}");
        is_part_of(&stand_in[stream], &server[stream]);
    }
}

#[tokio::test]
#[ignore = "asks for real servers: cargo xtask test stand_in --coder-binaries DIR"]
async fn a_database_that_is_away_is_waited_for_alike() {
    let (mut said, mut took) = (Vec::new(), Vec::new());
    for kind in [Kind::Real, Kind::StandIn] {
        let began = Instant::now();
        let mut program = Program::start(kind, false, &[]).await;
        assert_eq!(program.end().await.code(), Some(1), "{kind:?}");
        took.push(began.elapsed().as_secs());
        said.push(program.said());
    }
    let [server, stand_in] = &said[..] else { unreachable!() };
    is_part_of(&stand_in[1], &server[1]);
    assert_eq!(stand_in[1].last(), server[1].last());
    assert!(took[0].abs_diff(took[1]) <= 5, "seconds: {took:?}");
}

/// Status, place of a redirect, whether the version stands in a header, and the fields of a JSON body with its message.
async fn shape(answer: Response) -> (u16, Option<String>, bool, Vec<String>, Option<String>) {
    let status = answer.status().as_u16();
    let header = |name: &str| answer.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    let (location, version) = (header("location"), header("x-coder-build-version").is_some());
    let body: Value = answer.json().await.unwrap_or_default();
    let fields = body.as_object().map(|fields| fields.keys().cloned().collect()).unwrap_or_default();
    (status, location, version, fields, body["message"].as_str().map(str::to_owned))
}

#[tokio::test]
#[ignore = "asks for real servers: cargo xtask test stand_in --coder-binaries DIR"]
async fn questions_are_answered_alike() {
    for more in [&[][..], &[("CODER_REDIRECT_TO_ACCESS_URL", "true")]] {
        let server = Program::start(Kind::Real, true, more).await.answers().await;
        let stand_in = Program::start(Kind::StandIn, true, more).await.answers().await;
        for path in [
            "/healthz",
            "/api/v2/buildinfo",
            "/api/v2/deployment/stats",
            "/api/v2/debug/health",
            "/api/v2/nothing-of-this-name",
            "/derp/latency-check",
        ] {
            let (expected, found) = (shape(server.ask(path).await).await, shape(stand_in.ask(path).await).await);
            assert_eq!(found, expected, "{path} with {more:?}");
        }
    }
}
