//! What the demonstration does, command by command.

use std::time::{Duration, Instant};

use testbed::{Cluster, charts::charts_dir};

use super::{Line, timeline};
use crate::Result;

/// Namespace and name of everything in the demonstration.
const NAME: &str = "coder";

/// What one product line needs.
struct Part {
    before: &'static str,
    after: &'static str,
    values: &'static str,
    repository: String,
    database: bool,
}

fn part(cluster: &Cluster, line: Line) -> Result<Part> {
    let repositories = cluster.repositories()?;
    Ok(match line {
        Line::V2 => Part {
            before: "2.30.0",
            after: "2.31.7",
            values: "coder-v2-values.yaml",
            repository: repositories.v2.clone(),
            database: true,
        },
        Line::V1 => Part {
            before: "1.16.1",
            after: "1.16.2",
            values: "coder-v1-values.yaml",
            repository: repositories.v1.clone(),
            database: false,
        },
    })
}

/// Plays all of it.
pub async fn play(cluster: &Cluster, line: Line, begin: Instant) -> Result<()> {
    let part = part(cluster, line)?;
    heading(begin, &format!("An administrator has installed Coder {} with helm", part.before));
    install(cluster, &part).await?;
    let claims = claims(cluster).await?;
    print(&kubectl(cluster, &["get", "deployments,statefulsets,services", "--no-headers"]).await?);

    heading(begin, "The operator is loaded, with the rights of deploy/ and no others");
    say("$ kubectl apply -k deploy/default && kubectl apply -k deploy/runner");
    cluster.load_operator().await?;
    cluster.allow_runner(NAME).await?;

    heading(begin, &format!("The wanted version is declared: {}", part.after));
    let manifest = manifest(&part);
    say("$ kubectl apply -f - <<EOF");
    print(&manifest);
    say("EOF");
    print(&cluster.kubectl_with_input(&["apply", "--namespace", NAME, "-f", "-"], &manifest).await?);

    heading(begin, "What happens (seconds since kubectl apply)");
    say("One Job makes a plan and changes nothing; a second runs helm from that plan, and then asks every pod.");
    let verified = timeline::follow(cluster.client().await?, NAME, NAME, Duration::from_secs(300)).await?;

    heading(begin, "What the object says");
    say("$ kubectl get cu");
    print(&kubectl(cluster, &["get", "cu"]).await?);
    say("$ kubectl get cu coder -o custom-columns=…conditions…");
    let columns = "custom-columns=CONDITION:.status.conditions[*].type,STATUS:.status.conditions[*].status,REASON:.status.conditions[*].reason";
    print(&transposed(&kubectl(cluster, &["get", "cu", NAME, "-o", columns, "--no-headers"]).await?));
    if !verified {
        print(&kubectl(cluster, &["get", "cu", NAME, "-o", "jsonpath={.status.failure}"]).await?);
        return Err("the upgrade was not verified; see the failure above".into());
    }
    heading(begin, "The data: the same claims, with the same UIDs and volumes, before and after");
    compare(&claims, &self::claims(cluster).await?)?;
    try_next(&part);
    Ok(())
}

async fn install(cluster: &Cluster, part: &Part) -> Result<()> {
    let values = charts_dir().join(part.values);
    cluster.kubectl(&["create", "namespace", NAME]).await?;
    if part.database {
        say("$ kubectl apply -f database.yaml");
        let manifest = charts_dir().join("database.yaml");
        kubectl(cluster, &["apply", "-f", &manifest.to_string_lossy()]).await?;
    }
    say(&format!(
        "$ helm install coder coder --repo {} --version {} --values {} --wait",
        part.repository, part.before, part.values
    ));
    let arguments =
        ["install", NAME, "coder", "--namespace", NAME, "--repo", &part.repository, "--version", part.before];
    let values = values.to_string_lossy();
    cluster.helm(&[&arguments[..], &["--values", &values, "--wait", "--timeout", "3m"]].concat()).await?;
    Ok(())
}

/// Short waits, as in a test: in production the defaults hold.
fn manifest(part: &Part) -> String {
    format!(
        "apiVersion: coderupgrade.dev/v1alpha1\nkind: CoderUpgrade\nmetadata:\n  name: {NAME}\nspec:\n  version: {}\n  chart:\n    \
         repository: {}\n  verify:\n    soak: 3s\n",
        part.after, part.repository
    )
}

async fn kubectl(cluster: &Cluster, arguments: &[&str]) -> Result<String> {
    Ok(cluster.kubectl(&[arguments, &["--namespace", NAME]].concat()).await?)
}

/// Name, UID, volume and phase of each claim, a line each.
async fn claims(cluster: &Cluster) -> Result<String> {
    let columns = "custom-columns=CLAIM:.metadata.name,UID:.metadata.uid,VOLUME:.spec.volumeName,PHASE:.status.phase";
    kubectl(cluster, &["get", "pvc", "-o", columns]).await
}

fn compare(before: &str, after: &str) -> Result<()> {
    print(after);
    if before == after {
        return Ok(());
    }
    print("before the upgrade:");
    print(before);
    Err("the claims are not the same as before".into())
}

/// kubectl prints lists of conditions as one row of comma-separated cells; people read one condition a line.
fn transposed(row: &str) -> String {
    let cells: Vec<Vec<&str>> = row.split_whitespace().map(|cell| cell.split(',').collect()).collect();
    let count = cells.iter().map(Vec::len).max().unwrap_or(0);
    let line = |i: usize| -> Vec<&str> { cells.iter().map(|cell| cell.get(i).copied().unwrap_or_default()).collect() };
    let lines = (0..count).map(line).map(|cells| match cells[..] {
        [condition, status, reason] => format!("{condition:<14}{status:<14}{reason}\n"),
        _ => cells.join(" ") + "\n",
    });
    lines.collect()
}

fn try_next(part: &Part) {
    println!("\nTry next, with --keep:");
    println!("  kubectl -n coder describe cu coder                              the events and the whole status");
    println!("  kubectl -n coder get jobs,secrets                               the runner's Jobs and the saved plan");
    println!(
        "  kubectl -n coder patch cu coder --type merge -p '{{\"spec\":{{\"version\":\"{}.99\"}}}}'",
        &part.after[..4]
    );
    println!(
        "                                                                  a version that does not exist: what it says"
    );
}

fn heading(begin: Instant, text: &str) {
    println!("\n[{:5.1} s] {text}", begin.elapsed().as_secs_f32());
}

fn say(line: &str) {
    println!("    {line}");
}

fn print(text: &str) {
    for line in text.lines() {
        say(line);
    }
}
