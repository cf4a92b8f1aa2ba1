//! Repositories that only a proxy reaches, certificates of a company's own authority, and packages on a host of their own.

use crate::common::{
    World, program,
    proxy::ForwardProxy,
    recorder::{Answer, Recorder},
    steps::{HelmMajor, Steps},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use coder_upgrade_operator::api::FailureClass;
use kube::ResourceExt;
use serde_json::{Value, json};
use testbed::{
    Cluster, ClusterOptions,
    charts::{OciOptions, OciRegistry, Row},
    cluster::OPERATOR_NAMESPACE,
    components::Component,
};

const VERSION: &str = "2.31.7";
/// Nobody but a proxy of a test knows it.
const HOST: &str = "charts.example.invalid";
const PASSWORD: &str = "planted-password";

/// Host and port of an address on loopback.
fn lies(url: &str) -> String {
    url.split('/').nth(2).unwrap().to_owned()
}

fn spec(repository: &str) -> Value {
    json!({"version": VERSION, "chart": {"repository": repository}})
}

async fn steps(name: &str) -> Steps {
    Steps::with(name, HelmMajor::Four, |repositories| &repositories.v2, "2.30.0", &[]).await
}

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// The situation of a cluster behind a proxy: the variable stands on the operator's Deployment.
#[tokio::test]
async fn the_proxy_of_the_operator_is_that_of_its_runners() {
    let options =
        ClusterOptions { owner_pid: Some(std::process::id()), load_operator: true, ..ClusterOptions::default() };
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::up(options).await.unwrap()));
    let repository = cluster.repositories().unwrap().v2.clone();
    let proxy = ForwardProxy::start(&[(HOST, &lies(&repository))], None).await;
    let set = async |variable: &str| {
        cluster
            .kubectl(&["set", "env", "deployment/coder-upgrade-operator", variable, "--namespace", OPERATOR_NAMESPACE])
            .await
            .unwrap();
        let status = [
            "rollout",
            "status",
            "deployment/coder-upgrade-operator",
            "--timeout=60s",
            "--namespace",
            OPERATOR_NAMESPACE,
        ];
        cluster.kubectl(&status).await.unwrap();
    };
    set(&format!("HTTP_PROXY=http://{}", proxy.address)).await;
    let world = World::on(cluster, "proxied").await;
    world.database().await;
    world.install("coder", &repository, "2.30.0", "coder-v2-values.yaml", &[]).await;
    let through = repository.replace(&lies(&repository), HOST);
    world.declare("coder", spec(&through)).await;
    let status = world.ready("coder").await.status.unwrap();
    assert_eq!(status.current.unwrap().version, VERSION);
    let asked = proxy.asked();
    assert!(
        !asked.is_empty() && asked.iter().all(|line| line.starts_with(&format!("GET http://{HOST}/"))),
        "{asked:?}"
    );
    for job in world.jobs().await {
        let container = &job.spec.as_ref().unwrap().template.spec.as_ref().unwrap().containers[0];
        let names: Vec<&str> = container.env.iter().flatten().map(|variable| variable.name.as_str()).collect();
        assert!(
            names.contains(&"RUNNER_HTTP_PROXY") && !names.contains(&"HTTP_PROXY"),
            "{}: {names:?}",
            job.name_any()
        );
    }
    cluster.down().await.unwrap();
}

#[tokio::test]
async fn a_proxy_with_a_password_is_asked_with_it_and_nobody_is_told() {
    let steps = steps("proxy-password").await;
    let repository = steps.world.repositories().v2.clone();
    let wanted = basic("me", PASSWORD);
    let proxy = ForwardProxy::start(&[(HOST, &lies(&repository))], Some(&wanted)).await;
    let through = repository.replace(&lies(&repository), HOST);

    // Without it: who refuses, and where it is said.
    steps.set("RUNNER_HTTP_PROXY", &format!("http://{}", proxy.address));
    let problem = steps.refused(spec(&through)).await;
    assert_eq!(problem.class, FailureClass::RepositoryUnreachable);
    for words in [&format!("(through the proxy http://{})", proxy.address), "407", "--runner-proxy-secret"] {
        assert!(problem.message.contains(words), "{words}: {}", problem.message);
    }

    steps.set("RUNNER_HTTP_PROXY", &format!("http://me:{PASSWORD}@{}", proxy.address));
    assert_eq!(steps.plan(spec(&through)).await.plan.to, VERSION);
    // A host that the proxy does not know.
    let problem = steps.refused(spec("http://nowhere.example.invalid/v2")).await;
    assert!(problem.message.contains(&format!("(through the proxy http://{})", proxy.address)), "{}", problem.message);
    assert!(!steps.log.borrow().contains(PASSWORD) && !problem.message.contains(PASSWORD));
}

#[tokio::test]
async fn helm_asks_a_registry_by_way_of_the_proxy_and_the_api_server_without_it() {
    let steps = steps("proxy-registry").await;
    let directory = tempfile::tempdir().unwrap();
    let options = OciOptions { tls: false, credentials: false };
    let registry = OciRegistry::start(&program(Component::Registry), directory.path(), steps.world.machine(), options)
        .await
        .unwrap();
    registry.push(&program(Component::Helm), &Row::new("coder-v2", VERSION)).await.unwrap();
    let host = format!("{HOST}:5000");
    let proxy = ForwardProxy::start(&[(&host, &lies(&registry.url))], None).await;
    for variable in ["RUNNER_HTTP_PROXY", "RUNNER_HTTPS_PROXY"] {
        steps.set(variable, &format!("http://{}", proxy.address));
    }
    let through = registry.url.replace(&lies(&registry.url), &host);
    let chart = json!({"repository": through, "plainHTTP": true});
    assert_eq!(steps.plan(json!({"version": VERSION, "chart": chart})).await.plan.to, VERSION);
    let asked = proxy.asked();
    assert!(!asked.is_empty() && asked.iter().all(|line| line.contains(HOST)), "{asked:?}");

    // The operator's exceptions hold for both.
    steps.set("RUNNER_NO_PROXY", HOST);
    let before = proxy.asked().len();
    let problem = steps.refused(json!({"version": VERSION, "chart": chart})).await;
    assert_eq!(
        (problem.class, proxy.asked().len()),
        (FailureClass::RepositoryUnreachable, before),
        "{}",
        problem.message
    );
}

#[tokio::test]
async fn the_authority_of_a_company_is_trusted_beside_those_of_the_image() {
    let steps = steps("authority").await;
    let repositories = steps.world.repositories().clone();
    let problem = steps.refused(spec(&repositories.tls_v2)).await;
    assert_eq!(problem.class, FailureClass::RepositoryUnreachable);
    assert!(problem.message.contains("certificate"), "{}", problem.message);
    steps.set("RUNNER_EXTRA_CA", &repositories.ca_pem);
    assert_eq!(steps.plan(spec(&repositories.tls_v2)).await.plan.to, VERSION);

    let directory = tempfile::tempdir().unwrap();
    let options = OciOptions { tls: true, credentials: false };
    let registry = OciRegistry::start(&program(Component::Registry), directory.path(), steps.world.machine(), options)
        .await
        .unwrap();
    registry.push(&program(Component::Helm), &Row::new("coder-v2", VERSION)).await.unwrap();
    let problem = steps.refused(spec(&registry.url)).await;
    assert_eq!(problem.class, FailureClass::RepositoryUnreachable);
    steps.set("RUNNER_EXTRA_CA", registry.ca_pem.as_deref().unwrap());
    assert_eq!(steps.plan(spec(&registry.url)).await.plan.to, VERSION);
}

#[tokio::test]
async fn packages_on_a_host_of_their_own_get_the_credentials_that_are_named_for_it() {
    let steps = steps("archives").await;
    let world = &steps.world;
    let directory = tempfile::tempdir().unwrap();
    let destination = directory.path().to_str().unwrap();
    let repository = world.repositories().v2.clone();
    world.helm(&["pull", "coder", "--repo", &repository, "--version", VERSION, "--destination", destination]).await;
    let package = std::fs::read(directory.path().join(format!("coder-{VERSION}.tgz"))).unwrap();

    let machine = world.machine();
    let (index, archives) = (Recorder::start(machine).await, Recorder::start(machine).await);
    index.want(&basic("reader", "p"));
    archives.want(&basic("fetcher", PASSWORD));
    index.index("/index.yaml", VERSION, &format!("{}/files/coder.tgz", archives.url));
    archives.answer("/files/coder.tgz", Answer::Content(package));
    world.create_login("reader", "p").await;
    let login = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "files"}, "type": "kubernetes.io/basic-auth",
        "stringData": {"username": "fetcher", "password": PASSWORD},
    });
    world.apply(&login).await;
    let chart = json!({"repository": index.url, "credentialsSecretRef": {"name": "login"}, "plainHTTP": true});
    let problem = steps.refused(json!({"version": VERSION, "chart": chart})).await;
    let about = (problem.class, problem.field.as_deref());
    assert_eq!(about, (FailureClass::RepositoryUnauthorized, Some("spec.chart.archiveCredentials")));
    for words in [
        &format!("{}/files/coder.tgz", archives.url),
        &format!("spec.chart.credentialsSecretRef is for {} alone", index.url),
        "401",
    ] {
        assert!(
            problem.message.contains(words),
            "a password of one letter hides nothing; {words}: {}",
            problem.message
        );
    }
    assert_eq!(archives.asked(), [("/files/coder.tgz".to_owned(), None)], "they were not sent the others");

    let with = |address: &str| {
        let mut chart = chart.clone();
        chart["archiveCredentials"] = json!({"address": address, "secretRef": {"name": "files"}});
        json!({"version": VERSION, "chart": chart})
    };
    let problem = steps.refused(with(&format!("{}/other", archives.url))).await;
    assert_eq!(problem.class, FailureClass::RepositoryUnauthorized, "{}", problem.message);
    assert_eq!(archives.asked(), [("/files/coder.tgz".to_owned(), None)], "what is not below the address gets none");
    assert_eq!(steps.plan(with(&format!("{}/files", archives.url))).await.plan.to, VERSION);
    assert_eq!(archives.asked(), [("/files/coder.tgz".to_owned(), Some(basic("fetcher", PASSWORD)))]);
    assert!(index.asked().iter().all(|(_, given)| *given == Some(basic("reader", "p"))));

    *steps.allowed.borrow_mut() = index.url.clone();
    let problem = steps.refused(with(&archives.url)).await;
    let about = (problem.class, problem.field.as_deref());
    assert_eq!(about, (FailureClass::NotAllowed, Some("spec.chart.archiveCredentials")), "{}", problem.message);
    assert_eq!(archives.asked(), []);
    assert!(!steps.log.borrow().contains(PASSWORD));
}
