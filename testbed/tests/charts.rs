//! The chart repositories, as helm sees them.
#![allow(clippy::unwrap_used)] // a test may; clippy does not take its helper functions for one

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Command;

use testbed::charts::{ChartRepositories, OciOptions, OciRegistry, Row, ServerConfig, charts_dir, package, serve};
use testbed::components::{self, Component};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Repositories that are served until this is dropped, and a helm with directories of its own.
struct Fixture {
    helm: PathBuf,
    repositories: ChartRepositories,
    directory: tempfile::TempDir,
    _stop: DropGuard,
}

impl Fixture {
    async fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (shutdown, helm) = (CancellationToken::new(), program(Component::Helm));
        let config = ServerConfig {
            helm: helm.clone(),
            cache: Path::new(env!("CARGO_TARGET_TMPDIR")).join("charts"),
            extra: directory.path().join("extra"),
            listen: std::net::Ipv4Addr::LOCALHOST,
        };
        let repositories = serve(config, shutdown.clone()).await.unwrap();
        Self { helm, repositories, directory, _stop: shutdown.drop_guard() }
    }

    /// Runs helm and returns what it printed, standard error included.
    fn helm(&self, arguments: &[&str]) -> Result<String, String> {
        let home = self.directory.path().join("home");
        let mut command = Command::new(&self.helm);
        command.args(arguments).current_dir(&self.directory);
        for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
            command.env(variable, home.join(variable));
        }
        let output = command.output().unwrap();
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if output.status.success() { Ok(text) } else { Err(text) }
    }

    /// `helm show chart` of the newest stable version in a repository, or of the one given.
    fn show(&self, repository: &str, more: &[&str]) -> Result<String, String> {
        self.helm(&[&["show", "chart", "coder", "--repo", repository], more].concat())
    }

    fn ca_file(&self) -> String {
        let file = self.directory.path().join("ca.pem");
        std::fs::write(&file, &self.repositories.ca_pem).unwrap();
        file.to_string_lossy().into_owned()
    }
}

fn program(component: Component) -> PathBuf {
    let binaries = components::ensure(&[component], &|_| {}).unwrap();
    binaries.get(component).unwrap().to_owned()
}

fn contains(text: Result<String, String>, part: &str) {
    let (Ok(text) | Err(text)) = text;
    assert!(text.contains(part), "{part:?} is not in: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_repository_offers_what_it_should() {
    let fixture = Fixture::new().await;
    let repositories = &fixture.repositories;
    contains(fixture.show(&repositories.v2, &[]), "\nversion: 2.32.0");
    contains(fixture.show(&repositories.v2, &["--devel"]), "\nversion: 2.33.0-rc.1");
    contains(fixture.show(&repositories.v1, &[]), "\nversion: 1.21.0");
    contains(fixture.show(&repositories.mixed, &[]), "\nversion: 2.32.0");
    contains(fixture.show(&repositories.mixed, &["--version", "1.16.2"]), "appVersion: 1.16.2");
    contains(fixture.show(&repositories.down, &[]), "503");
    contains(fixture.show(&repositories.v2, &["--version", "2.99.0"]), "2.99.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_private_repository_asks_for_its_password() {
    let fixture = Fixture::new().await;
    let ChartRepositories { private_v2, private_tls_v2, user, password, .. } = &fixture.repositories;
    let credentials = ["--username", user, "--password", password];
    contains(fixture.show(private_v2, &[]), "401");
    contains(fixture.show(private_v2, &["--username", user, "--password", "wrong"]), "401");
    contains(fixture.show(private_v2, &credentials), "version: 2.32.0");
    let ca_file = fixture.ca_file();
    let secured = [&credentials[..], &["--ca-file", &ca_file]].concat();
    contains(fixture.show(private_tls_v2, &secured), "version: 2.32.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn https_needs_the_certificate_authority() {
    let fixture = Fixture::new().await;
    let repository = &fixture.repositories.tls_v2;
    contains(fixture.show(repository, &[]), "certificate signed by unknown authority");
    contains(fixture.show(repository, &["--ca-file", &fixture.ca_file()]), "version: 2.32.0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_published_later_is_found() {
    let fixture = Fixture::new().await;
    let extra = fixture.repositories.extra("my-test");
    for version in ["2.31.6", "2.31.7"] {
        extra.publish(&fixture.helm, &Row::new("coder-v2", version)).await.unwrap();
        contains(fixture.show(extra.url(), &[]), &format!("\nversion: {version}"));
    }
    contains(fixture.show(extra.url(), &["--version", "2.31.6"]), "version: 2.31.6");
}

#[tokio::test(flavor = "multi_thread")]
async fn overlays_change_the_chart_they_lie_on() {
    let fixture = Fixture::new().await;
    let render = |version, more: &[&str]| {
        let repository = fixture.repositories.faults.as_str();
        fixture.helm(&[&["template", "coder", "coder", "--repo", repository, "--version", version], more].concat())
    };
    contains(render("2.31.8", &[]), "CODER_SIM_CRASH");
    contains(render("2.31.9", &[]), "coder.telemetry.contact is required");
    contains(render("2.31.9", &["--set", "coder.telemetry.contact=a@example.com"]), "ghcr.io/coder/coder:v2.31.9");
    contains(render("2.31.10", &[]), "minReadySeconds: 60");
    contains(render("2.31.11", &[]), "app.kubernetes.io/component: server");
    let removed = render("2.31.12", &[]).unwrap();
    assert!(!removed.contains("app.kubernetes.io/instance: "), "{removed}");
    contains(render("2.31.19", &["--set", "testbed.nodePort=30123"]), "nodePort: 30123");
    contains(render("2.31.20", &[]), "port: 80080");
    contains(render("1.16.2", &["--is-upgrade"]), "name: web-ingress");
}

#[tokio::test(flavor = "multi_thread")]
async fn charts_are_packaged_once_until_a_source_changes() {
    let directory = tempfile::tempdir().unwrap();
    let (charts, cache) = (directory.path().join("charts"), directory.path().join("cache"));
    copy(&charts_dir().join("coder-v2"), &charts.join("coder-v2"));
    std::fs::write(charts.join("repository.yaml"), "v2: [{chart: coder-v2, version: 2.0.0}]").unwrap();
    let helm = program(Component::Helm);
    let (first, second) = tokio::join!(package(&helm, &charts, &cache), package(&helm, &charts, &cache));
    let first = first.unwrap();
    assert_eq!(first, second.unwrap());
    let modified = || first.join("v2/index.yaml").metadata().unwrap().modified().unwrap();
    let before = modified();
    assert_eq!(first, package(&helm, &charts, &cache).await.unwrap());
    assert_eq!(before, modified());
    std::fs::write(charts.join("repository.yaml"), "v2: [{chart: coder-v2, version: 2.0.1}]").unwrap();
    let changed = package(&helm, &charts, &cache).await.unwrap();
    assert_ne!(first, changed);
    assert!(changed.join("v2/coder-2.0.1.tgz").is_file());
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let (source, target) = entry.map(|entry| (entry.path(), to.join(entry.file_name()))).unwrap();
        if source.is_dir() {
            copy(&source, &target);
        } else {
            std::fs::copy(source, target).unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn registries_take_charts_with_and_without_tls_and_credentials() {
    let fixture = Fixture::new().await;
    let registry = program(Component::Registry);
    for (tls, credentials) in [(false, false), (false, true), (true, true)] {
        let directory = fixture.directory.path().join(format!("registry-{tls}-{credentials}"));
        let registry = OciRegistry::start(&registry, &directory, Ipv4Addr::LOCALHOST, OciOptions { tls, credentials })
            .await
            .unwrap();
        registry.push(&fixture.helm, &Row::new("coder-v2", "2.31.7")).await.unwrap();

        let chart = format!("{}/coder", registry.url);
        let ca_file = directory.join("ca.pem").to_string_lossy().into_owned();
        let mut arguments = vec!["show", "chart", chart.as_str()];
        arguments.extend(if tls { vec!["--ca-file", &ca_file] } else { vec!["--plain-http"] });
        if let Some((user, password)) = &registry.credentials {
            contains(fixture.helm(&arguments), "basic credential not found");
            arguments.extend(["--username", user, "--password", password]);
        }
        contains(fixture.helm(&arguments), "appVersion: 2.31.7");
    }
}
