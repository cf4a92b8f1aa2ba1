//! The controller as a process: what keeps it from its work ends it with an error that says what to do.

use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crate::common::{World, free_address};
use tokio::net::TcpListener;
use tokio::process::{Child, Command};
use tokio::time::timeout;

/// A controller of this namespace, as a process that ends with the test.
fn controller(world: &World, port: u16, kubeconfig: &Path) -> Child {
    Command::new(env!("CARGO_BIN_EXE_coder-upgrade-operator"))
        .args(["controller", "--runner-image", "none", "--lease-namespace", &world.namespace])
        .args(["--watch-namespace", &world.namespace])
        .args(["--listen-address", "127.0.0.1", "--listen-port", &port.to_string()])
        .env("KUBECONFIG", kubeconfig)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap()
}

#[tokio::test]
async fn a_port_in_use_ends_the_controller_with_an_error_that_names_it() {
    let world = World::new("port-in-use").await;
    let other = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let taken = other.local_addr().unwrap();
    let kubeconfig = world.cluster.dir().join("kubeconfig");
    let controller = controller(&world, taken.port(), &kubeconfig);
    let ended = timeout(Duration::from_secs(30), controller.wait_with_output()).await.expect("the end of the process");
    let ended = ended.unwrap();
    let log = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{log}");
    assert!(log.contains(&taken.to_string()) && log.contains("--listen-port"), "{log}");
    world.finish().await;
}

#[tokio::test]
async fn what_is_missing_is_listed_by_readyz_until_it_is_there() {
    let world = World::new("not-ready").await;
    let namespace = ["--namespace", &world.namespace];
    let grant = async |name: &str, verbs: &str, resources: &str| {
        let (verbs, resources) = (format!("--verb={verbs}"), format!("--resource={resources}"));
        world.cluster.kubectl(&[&["create", "role", name, &verbs, &resources], &namespace[..]].concat()).await.unwrap();
        let (role, user) = (format!("--role={name}"), format!("--serviceaccount={}:limited", world.namespace));
        world
            .cluster
            .kubectl(&[&["create", "rolebinding", name, &role, &user], &namespace[..]].concat())
            .await
            .unwrap();
    };
    grant("leases", "get,create,patch,update", "leases.coordination.k8s.io").await;
    let admin = std::fs::read_to_string(world.cluster.dir().join("kubeconfig")).unwrap();
    let mut config: serde_json::Value = serde_saphyr::from_str(&admin).unwrap();
    config["users"][0]["user"]["as"] = format!("system:serviceaccount:{}:limited", world.namespace).into();
    let dir = tempfile::tempdir().unwrap();
    let kubeconfig = dir.path().join("kubeconfig");
    std::fs::write(&kubeconfig, config.to_string()).unwrap();

    let port = free_address().port();
    let _controller = controller(&world, port, &kubeconfig);
    let readyz = async || {
        let answer = reqwest::get(format!("http://127.0.0.1:{port}/readyz")).await.ok()?;
        Some((answer.status().as_u16(), answer.text().await.ok()?))
    };
    let missing = world
        .eventually("what is missing", async || {
            readyz().await.filter(|(status, text)| *status == 503 && text.matches(" is forbidden: ").count() == 2)
        })
        .await
        .1;
    let lines: Vec<&str> = missing.lines().collect();
    assert!(lines.len() == 3 && lines[0].starts_with("CoderUpgrades are not listed"), "{missing}");
    assert!(lines[1].starts_with("Jobs are not listed") && lines[1].contains("jobs.batch is forbidden"), "{missing}");
    assert!(lines[2].starts_with("pods are not listed") && lines[2].contains("pods is forbidden"), "{missing}");

    grant("lists", "get,list,watch", "coderupgrades.coderupgrade.dev,jobs.batch,pods").await;
    let ready = world.eventually("ready", async || readyz().await.filter(|(status, _)| *status == 200)).await;
    assert_eq!(ready.1, "ok");
    world.finish().await;
}
