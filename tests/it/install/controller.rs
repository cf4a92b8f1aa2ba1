//! The controller as a process: what keeps it from its work ends it with an error that says what to do.

use std::process::Stdio;
use std::time::Duration;

use crate::common::World;
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio::time::timeout;

#[tokio::test]
async fn a_port_in_use_ends_the_controller_with_an_error_that_names_it() {
    let world = World::new("port-in-use").await;
    let other = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let taken = other.local_addr().unwrap();
    let controller = Command::new(env!("CARGO_BIN_EXE_coder-upgrade-operator"))
        .args(["controller", "--runner-image", "none", "--lease-namespace", &world.namespace])
        .args(["--watch-namespace", &world.namespace])
        .args(["--listen-address", "127.0.0.1", "--listen-port", &taken.port().to_string()])
        .env("KUBECONFIG", world.cluster.dir().join("kubeconfig"))
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let ended = timeout(Duration::from_secs(30), controller.wait_with_output()).await.expect("the end of the process");
    let ended = ended.unwrap();
    let log = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{log}");
    assert!(log.contains(&taken.to_string()) && log.contains("--listen-port"), "{log}");
    world.finish().await;
}
