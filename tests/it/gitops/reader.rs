//! The program that reads objects as GitOps tools do (`testbed/components/gitops-status`).

use std::process::Stdio;

use serde_json::Value;
use testbed::components::Component;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use crate::common::program;

/// What kstatus says of each object: `status` and `message`.
pub async fn kstatus(objects: &[Value]) -> Vec<Value> {
    read(&["kstatus"], objects).await
}

/// What a script of Argo CD returns for each object.
pub async fn lua(script: &str, objects: &[Value]) -> Vec<Value> {
    read(&["lua", script], objects).await
}

async fn read(arguments: &[&str], objects: &[Value]) -> Vec<Value> {
    let reader = tokio::task::spawn_blocking(|| program(Component::GitopsStatus)).await.unwrap();
    let mut child = Command::new(reader)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let lines = objects.iter().fold(String::new(), |lines, object| lines + &object.to_string() + "\n");
    let mut input = child.stdin.take().unwrap();
    // It answers while it is written to.
    let writing = tokio::spawn(async move { input.write_all(lines.as_bytes()).await });
    let output = child.wait_with_output().await.unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    writing.await.unwrap().unwrap();
    let answers = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<Value> = answers.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), objects.len(), "an answer for each object: {said}");
    answers
}
