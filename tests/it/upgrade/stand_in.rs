//! The stand-in beside a real server: it says and answers nothing that the server does not, with `cargo xtask test stand_in
//! --coder-binaries DIR`. Both run as programs of the test, on loopback, each with a database of its own.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::common::free_address;
use crate::common::servers::{Kind, RealDatabase, first_user, programs};
use regex::Regex;
use reqwest::{Client, Response, redirect::Policy};
use rstest::rstest;
use semver::Version;
use serde_json::Value;
use tempfile::TempDir;
use testbed::secret::token;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::task::JoinSet;

/// Longer than a start on an empty database takes.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program that runs, and what it has said on each stream.
struct Program {
    child: Child,
    out: Arc<Mutex<Vec<String>>>,
    err: Arc<Mutex<Vec<String>>>,
    /// Those end when all that it said is read.
    readers: JoinSet<()>,
    scheme: &'static str,
    port: u16,
    place: Arc<Place>,
    _home: TempDir,
}

/// A database, for as long as somebody works on it.
struct Place {
    kind: Kind,
    url: String,
    _database: Option<(Child, TempDir)>,
}

impl Place {
    async fn with_a_database(kind: Kind) -> Self {
        if kind == Kind::Real {
            let name = format!("stand-in-{}", token().unwrap());
            let url = RealDatabase::create(&name, Ipv4Addr::LOCALHOST).await.direct_url();
            return Self { kind, url, _database: None };
        }
        let (port, directory) = (free_address().port(), tempfile::tempdir().unwrap());
        let mut command = Command::new(stand_in());
        command.arg("database").env("PGDATA", directory.path()).env("PGPORT", port.to_string());
        let database = command.kill_on_drop(true).spawn().unwrap();
        let began = Instant::now();
        // A server that comes before its database says that it tries again.
        while TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert!(began.elapsed() < PATIENCE, "the database does not listen");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Self { kind, url: database_url(port), _database: Some((database, directory)) }
    }

    fn without_a_database(kind: Kind) -> Self {
        Self { kind, url: database_url(free_address().port()), _database: None }
    }
}

fn database_url(port: u16) -> String {
    format!("postgres://coder:secret@127.0.0.1:{port}/coder?sslmode=disable")
}

fn stand_in() -> PathBuf {
    Path::new(env!("CARGO_BIN_EXE_coder-upgrade-operator")).with_file_name("coder-sim")
}

impl Program {
    /// Starts the newest version on an empty database, or where nothing listens.
    async fn start(kind: Kind, database: bool, more: &[(&str, &str)]) -> Self {
        let place = if database { Place::with_a_database(kind).await } else { Place::without_a_database(kind) };
        Self::on(&Arc::new(place), programs().ends().1, more)
    }

    /// Starts a version. With TLS it speaks nothing else.
    fn on(place: &Arc<Place>, version: &Version, more: &[(&str, &str)]) -> Self {
        let mut command = match place.kind {
            Kind::Real => Command::new(programs().program(version)),
            Kind::StandIn => Command::new(stand_in()),
        };
        let (port, home) = (free_address().port(), tempfile::tempdir().unwrap());
        let address = format!("127.0.0.1:{port}");
        command.arg("server").env_clear().env("HOME", home.path()).env("POD_IP", "127.0.0.1");
        command.env("CODER_SIM_VERSION", version.to_string()).env("CODER_HTTP_ADDRESS", &address);
        command.env("CODER_PG_CONNECTION_URL", &place.url).env("CODER_ACCESS_URL", "https://coder.example.com");
        command.env("CODER_TELEMETRY_ENABLE", "false").env("CODER_UPDATE_CHECK", "false");
        command.env("CODER_DERP_SERVER_STUN_ADDRESSES", "disable").env("CODER_PROVISIONER_DAEMONS", "0");
        let tls = more.iter().any(|(name, _)| *name == "CODER_TLS_ENABLE");
        if tls {
            command.env("CODER_ADDRESS", &address);
        }
        command.envs(more.iter().copied()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().unwrap();
        let mut readers = JoinSet::new();
        let out = listen(child.stdout.take().unwrap(), &mut readers);
        let err = listen(child.stderr.take().unwrap(), &mut readers);
        let scheme = if tls { "https" } else { "http" };
        Self { child, out, err, readers, scheme, port, place: place.clone(), _home: home }
    }

    /// The session token of an owner.
    async fn token(&self) -> String {
        match self.place.kind {
            Kind::StandIn => testbed::sim::owner::TOKEN.to_owned(),
            Kind::Real => first_user(&self.url("")).await,
        }
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
        format!("{}://127.0.0.1:{}{path}", self.scheme, self.port)
    }

    /// Ends it as a kubelet does.
    async fn stop(&mut self) -> ExitStatus {
        let pid = rustix::process::Pid::from_raw(self.child.id().unwrap().cast_signed()).unwrap();
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.end().await
    }

    async fn end(&mut self) -> ExitStatus {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await.unwrap().unwrap();
        while self.readers.join_next().await.is_some() {}
        status
    }

    /// What it said, without what differs from run to run.
    fn said(&self) -> [Vec<String>; 2] {
        [&self.out, &self.err]
            .map(|lines| lines.lock().unwrap().iter().filter_map(|line| plain(line, self.port)).collect())
    }
}

fn http() -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .no_proxy()
        .tls_danger_accept_invalid_certs(true)
        .redirect(Policy::none())
        .timeout(Duration::from_secs(5))
        .build()
        .unwrap()
}

/// Lines as they come, with their control characters.
fn listen(stream: impl AsyncRead + Unpin + Send + 'static, readers: &mut JoinSet<()>) -> Arc<Mutex<Vec<String>>> {
    let lines = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&lines);
    readers.spawn(async move {
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

#[rstest]
#[ignore = "asks for real servers: cargo xtask test stand_in --coder-binaries DIR"]
#[case::plain(&[])]
#[ignore = "asks for real servers: cargo xtask test stand_in --coder-binaries DIR"]
#[case::tls_alone(&[("CODER_TLS_ENABLE", "true")])]
#[tokio::test]
async fn a_start_and_an_end_are_told_in_the_same_words(#[case] more: &[(&str, &str)]) {
    let mut said = Vec::new();
    for kind in [Kind::Real, Kind::StandIn] {
        let mut program = Program::start(kind, true, more).await.answers().await;
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
    let (redirects, tls) = (("CODER_REDIRECT_TO_ACCESS_URL", "true"), ("CODER_TLS_ENABLE", "true"));
    for more in [&[][..], &[redirects], &[tls], &[tls, redirects]] {
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
            for name in [None, Some("coder.example.com")] {
                let ask = async |program: &Program| {
                    let question = http().get(program.url(path));
                    let question = name.map_or(question.try_clone().unwrap(), |name| question.header("host", name));
                    shape(question.send().await.unwrap()).await
                };
                let (expected, found) = (ask(&server).await, ask(&stand_in).await);
                assert_eq!(found, expected, "{path} of {name:?} with {more:?}");
            }
        }
    }
}

/// An old server on the database that a new one has migrated: it goes on, and what it needs of the tables is not there.
#[tokio::test]
#[ignore = "asks for real servers: cargo xtask test stand_in --coder-binaries DIR"]
async fn an_old_server_on_a_schema_that_a_new_one_has_migrated_answers_alike() {
    let mut answered = Vec::new();
    for kind in [Kind::Real, Kind::StandIn] {
        let place = Arc::new(Place::with_a_database(kind).await);
        let servers = programs();
        let (from, to) = servers.ends();
        let old = Program::on(&place, from, &[]).answers().await;
        let token = old.token().await;
        let _new = Program::on(&place, to, &[]).answers().await;
        let mut answers = Vec::new();
        for path in
            ["/healthz", "/api/v2/buildinfo", "/api/v2/workspaces", "/api/v2/templates", "/api/v2/deployment/stats"]
        {
            let asked = http().get(old.url(path)).header("coder-session-token", &token).send().await.unwrap();
            answers.push((path, shape(asked).await));
        }
        answered.push(answers);
    }
    let [server, stand_in] = &answered[..] else { unreachable!() };
    assert_eq!(stand_in, server);
}
