//! A company's network: repositories are reached by way of a proxy alone, which wants a password and reads what goes through it,
//! with certificates of the company's own authority.

use crate::common::{World, proxy::ForwardProxy};
use base64::{Engine, engine::general_purpose::STANDARD};
use coder_upgrade_operator::api::{CoderUpgrade, FailureClass};
use serde_json::json;
use testbed::{Cluster, ClusterOptions, charts::ServerIdentity, cluster::OPERATOR_NAMESPACE};

const VERSION: &str = "2.31.7";
/// Nobody but the proxy knows it.
const HOST: &str = "charts.example.invalid";
const PASSWORD: &str = "planted-password";

/// The operator with `--runner-ca-file` and `--runner-proxy-secret`, as its administrator deploys it.
async fn deployed(authority: &ServerIdentity) -> &'static Cluster {
    let options =
        ClusterOptions { owner_pid: Some(std::process::id()), load_operator: true, ..ClusterOptions::default() };
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::up(options).await.unwrap()));
    let bundle = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "company-ca"},
        "data": {"ca.pem": authority.ca_pem},
    });
    let operator = |arguments: &[&str]| {
        let arguments: Vec<String> =
            arguments.iter().chain(&["--namespace", OPERATOR_NAMESPACE]).map(|word| (*word).to_owned()).collect();
        async move { cluster.kubectl(&arguments.iter().map(String::as_str).collect::<Vec<_>>()).await.unwrap() }
    };
    let apply = ["apply", "--namespace", OPERATOR_NAMESPACE, "-f", "-"];
    cluster.kubectl_with_input(&apply, &bundle.to_string()).await.unwrap();
    let flags = ["controller", "--runner-ca-file", "/etc/company/ca.pem", "--runner-proxy-secret", "way-out"];
    let patch = json!({"spec": {"template": {"spec": {
        "containers": [{
            "name": "controller", "args": flags, "volumeMounts": [{"name": "company-ca", "mountPath": "/etc/company"}],
        }],
        "volumes": [{"name": "company-ca", "configMap": {"name": "company-ca"}}],
    }}}});
    operator(&["patch", "deployment/coder-upgrade-operator", "--patch", &patch.to_string()]).await;
    operator(&["rollout", "status", "deployment/coder-upgrade-operator", "--timeout=60s"]).await;
    cluster
}

/// A namespace with Coder, and the Secret with the way out of it.
async fn world(cluster: &'static Cluster, name: &str, proxy: &ForwardProxy) -> (World, String) {
    let world = World::on(cluster, name).await;
    world.database().await;
    let repository = world.repositories().v2.clone();
    world.install("coder", &repository, "2.30.0", "coder-v2-values.yaml", &[]).await;
    let url = format!("http://me:{PASSWORD}@{}", proxy.address);
    world.create_secret("way-out", json!({"HTTPS_PROXY": url})).await;
    let (_, path) = repository.split_once("://").unwrap().1.split_once('/').unwrap();
    (world, format!("https://{HOST}/{path}"))
}

async fn declare(world: &World, repository: &str) {
    world.declare("coder", json!({"version": VERSION, "chart": {"repository": repository}})).await;
}

#[tokio::test]
async fn a_proxy_that_intercepts_tls_is_told_to_the_operator_alone() {
    let company = ServerIdentity::of(&[HOST]).unwrap();
    let cluster = deployed(&company).await;
    let repository = cluster.repositories().unwrap().v2.clone();
    let lies = repository.split('/').nth(2).unwrap().to_owned();
    let host = format!("{HOST}:443");
    let wanted = format!("Basic {}", STANDARD.encode(format!("me:{PASSWORD}")));
    let proxy = ForwardProxy::intercepting(&[(&host, &lies)], Some(&wanted), &company).await;

    let (world, through) = world(cluster, "company", &proxy).await;
    declare(&world, &through).await;
    let status = world.ready("coder").await.status.unwrap();
    assert_eq!(status.current.unwrap().version, VERSION);
    let asked = proxy.asked();
    assert!(asked.contains(&format!("CONNECT {host} HTTP/1.1")), "{asked:?}");
    assert!(asked.iter().any(|line| line.starts_with("GET /") && line.contains("index.yaml")), "read by it: {asked:?}");
    assert!(asked.iter().any(|line| line.contains(&format!("coder-{VERSION}.tgz"))), "{asked:?}");
    let kept = world.kubectl(&["get", "cu,jobs,pods,events,configmaps", "-o", "yaml"]).await;
    assert!(kept.contains("RUNNER_EXTRA_CA") && kept.contains("RUNNER_HTTPS_PROXY"), "{kept}");
    assert!(!kept.contains(PASSWORD) && !world.dump().await.contains(PASSWORD), "nobody is told the password");

    // A proxy of somebody else, whose authority nobody knows.
    let other =
        ForwardProxy::intercepting(&[(&host, &lies)], Some(&wanted), &ServerIdentity::of(&[HOST]).unwrap()).await;
    let (world, through) = self::world(cluster, "company-other", &other).await;
    declare(&world, &through).await;
    let refused = |object: &CoderUpgrade| object.status.as_ref().is_some_and(|status| status.failure.is_some());
    let failure = world.until("coder", "refused", refused).await.status.unwrap().failure.unwrap();
    assert_eq!(failure.class, FailureClass::RepositoryUnreachable, "{failure:?}");
    assert!(failure.message.contains("certificate") && !failure.message.contains(PASSWORD), "{failure:?}");
    assert!(failure.next_step.contains("--runner-ca-file"), "{failure:?}");
    cluster.down().await.unwrap();
}
