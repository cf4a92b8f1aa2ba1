//! How long Coder will be interrupted, and why.

use serde_json::Value;

use super::touched::Touched;
use super::{ChangeKind, Sides};
use crate::api::{Interruption, InterruptionLength, Remedy, Strategy};

/// Reasons that are told; the others are counted.
const TOLD: usize = 3;

/// What one object adds to the interruption.
type ObjectInterruption = (InterruptionLength, String);

/// The longest interruption that any object brings, with the reasons for it.
pub fn expected(sides: &Sides<'_>, touched: &[Touched<'_>]) -> Interruption {
    if sides.from.is_none() && touched.iter().all(|touched| touched.before.is_none()) {
        return told(InterruptionLength::None, "nothing is installed yet");
    }
    if sides.rehearsal.repairs.iter().any(|repair| repair.remedy == Remedy::Reinstall) {
        return told(InterruptionLength::Minutes, "the release is uninstalled and installed again");
    }
    if sides.strategy == Strategy::Recreate {
        let reason =
            "Coder is scaled to zero before helm runs, and starts again with the new version (strategy Recreate)";
        return told(InterruptionLength::Minutes, reason);
    }
    let overlap = if overlaps(sides, touched) { OVERLAP } else { "" };
    let effects: Vec<ObjectInterruption> = touched.iter().filter_map(effect).chain(renamed(touched)).collect();
    let Some(length) = effects.iter().map(|(length, _)| *length).max() else {
        return told(InterruptionLength::None, "no pod is restarted, and no address changes");
    };
    let reasons: Vec<&str> =
        effects.iter().filter(|(other, _)| *other == length).map(|(_, reason)| reason.as_str()).collect();
    let more = reasons.len().saturating_sub(TOLD);
    let more = if more == 0 { String::new() } else { format!("; and {more} more") };
    told(length, &format!("{}{more}{overlap}", reasons[..reasons.len().min(TOLD)].join("; ")))
}

/// What the old servers do once the new one has migrated their database.
const OVERLAP: &str = "; until they end, the old pods of Coder may answer requests of people who are signed in with 401 or 500, \
                       because the new version has changed the database below them (spec.strategy Recreate avoids that)";

/// Whether servers of two versions of Coder v2 work on one database for a while. Which tables the new one changes is not known
/// before.
fn overlaps(sides: &Sides<'_>, touched: &[Touched<'_>]) -> bool {
    let is_server = |touched: &Touched<'_>| {
        let spec = touched.after.map_or(&Value::Null, |object| &object["spec"]);
        let mut containers = spec["template"]["spec"]["containers"].as_array().into_iter().flatten();
        let rolls = spec["strategy"]["type"] != "Recreate" && replicas(touched) > 0;
        touched.object.kind == "Deployment" && rolls && containers.any(|container| container["name"] == "coder")
    };
    let changes = sides.from.is_some_and(|from| from != sides.version) && !sides.version.starts_with("1.");
    changes && touched.iter().any(|touched| is_server(touched) && restarts(touched))
}

fn told(length: InterruptionLength, reason: &str) -> Interruption {
    let mut chars = reason.chars();
    let reason = chars.next().map(|first| format!("{}{}.", first.to_uppercase(), chars.as_str()));
    Interruption { length, reason: reason.unwrap_or_default() }
}

fn effect(touched: &Touched<'_>) -> Option<ObjectInterruption> {
    let Touched { object, kind, .. } = touched;
    match (object.kind.as_str(), kind) {
        ("Deployment", ChangeKind::Replaced) => {
            let reason = format!("{object} is recreated; its old pods serve until the new ones are ready");
            Some((InterruptionLength::None, reason))
        }
        ("Deployment", ChangeKind::Changed) => restarts(touched).then(|| deployment(touched)),
        ("StatefulSet", ChangeKind::Changed | ChangeKind::Replaced) => restarts(touched).then(|| stateful_set(touched)),
        ("DaemonSet", ChangeKind::Changed | ChangeKind::Replaced) => restarts(touched).then(|| {
            if touched.after.is_some_and(|object| object["spec"]["updateStrategy"]["type"] == "OnDelete") {
                return (InterruptionLength::None, format!("{object} starts no pod by itself"));
            }
            (InterruptionLength::Seconds, format!("{object} ends its pod on each node before it starts a new one"))
        }),
        ("Service" | "Ingress", ChangeKind::Replaced | ChangeKind::Removed) => Some(exposed(touched)),
        _ => None,
    }
}

/// Whether the pod template becomes another one.
fn restarts(touched: &Touched<'_>) -> bool {
    let template = |side: Option<&Value>| {
        let mut template = side.map(|object| object["spec"]["template"].clone()).unwrap_or_default();
        if let Some(metadata) = template.get_mut("metadata").and_then(Value::as_object_mut) {
            metadata.remove("creationTimestamp");
        }
        template
    };
    template(touched.before) != template(touched.after)
}

fn replicas(touched: &Touched<'_>) -> i64 {
    let count = |side: Option<&Value>| side.and_then(|object| object["spec"]["replicas"].as_i64());
    count(touched.before).or_else(|| count(touched.after)).unwrap_or(1)
}

fn deployment(touched: &Touched<'_>) -> ObjectInterruption {
    let (object, replicas) = (&touched.object, replicas(touched));
    if replicas == 0 {
        return (InterruptionLength::None, format!("{object} has no pods"));
    }
    let pods = if replicas == 1 { "its only pod".to_owned() } else { format!("all {replicas} pods") };
    let strategy = touched.after.map_or(&Value::Null, |object| &object["spec"]["strategy"]);
    if strategy["type"] == "Recreate" {
        return (
            InterruptionLength::Minutes,
            format!("{object} ends {pods} before it starts new ones (its strategy is Recreate)"),
        );
    }
    if unavailable(&strategy["rollingUpdate"]["maxUnavailable"], replicas) >= replicas {
        let reason = format!("{object} may end {pods} before new ones are ready (its maxUnavailable)");
        return (InterruptionLength::Minutes, reason);
    }
    if replicas == 1 {
        let reason =
            format!("{object} has one pod, which ends when the new one is ready: connections drop and are made again");
        return (InterruptionLength::Seconds, reason);
    }
    (InterruptionLength::None, format!("{object} replaces its {replicas} pods one after the other"))
}

/// How many pods of a Deployment may be away, as its controller counts: a share is rounded down; a quarter by default.
fn unavailable(limit: &Value, replicas: i64) -> i64 {
    match limit {
        Value::Number(number) => number.as_i64().unwrap_or(0),
        Value::String(text) => text.trim_end_matches('%').parse::<i64>().map_or(0, |share| replicas * share / 100),
        _ => replicas / 4,
    }
}

fn stateful_set(touched: &Touched<'_>) -> ObjectInterruption {
    let Touched { object, before, after, .. } = touched;
    let strategy = after.map_or(&Value::Null, |object| &object["spec"]["updateStrategy"]["type"]);
    let partition =
        after.map_or(&Value::Null, |object| &object["spec"]["updateStrategy"]["rollingUpdate"]["partition"]);
    let (replicas, held_back) = (replicas(touched), partition.as_i64().unwrap_or(0));
    if replicas <= held_back || strategy == "OnDelete" {
        return (InterruptionLength::None, format!("{object} starts no pod by itself"));
    }
    let claims = after.or(*before).and_then(|object| object["spec"]["volumeClaimTemplates"].as_array());
    let what = if claims.is_some_and(|claims| !claims.is_empty()) { ", which holds the data," } else { "" };
    if replicas == 1 {
        let reason = format!("{object}{what} ends its only pod before it starts a new one");
        return (InterruptionLength::Minutes, reason);
    }
    if held_back > 0 {
        let updated = replicas - held_back;
        let reason = format!("{object}{what} restarts {updated} of its {replicas} pods (its partition is {held_back})");
        return (InterruptionLength::Seconds, reason);
    }
    (InterruptionLength::Seconds, format!("{object}{what} restarts its {replicas} pods one after the other"))
}

/// A Service or an Ingress that goes, or is recreated.
fn exposed(touched: &Touched<'_>) -> ObjectInterruption {
    let Touched { object, kind, before, .. } = touched;
    let public = object.kind == "Ingress" || before.is_some_and(|service| service["spec"]["type"] == "LoadBalancer");
    match (public, kind) {
        (true, ChangeKind::Removed) => (InterruptionLength::Minutes, format!("{object} goes, and its address with it")),
        (true, _) => {
            let reason = format!("{object} is recreated and may get another address, which DNS must then follow");
            (InterruptionLength::Minutes, reason)
        }
        (false, ChangeKind::Removed) => (InterruptionLength::Seconds, format!("{object} goes")),
        (false, _) => (InterruptionLength::Seconds, format!("{object} is recreated: it is unreachable for a moment")),
    }
}

/// Deployments that go while others come: helm does not wait for the new ones before it deletes the old.
fn renamed(touched: &[Touched<'_>]) -> Option<ObjectInterruption> {
    let of = |kind: ChangeKind| {
        let found = touched.iter().filter(|touched| touched.kind == kind && touched.object.kind == "Deployment");
        found.map(|touched| touched.object.to_string()).collect::<Vec<_>>()
    };
    let (gone, new) = (of(ChangeKind::Removed), of(ChangeKind::Added));
    if gone.is_empty() || new.is_empty() {
        return None;
    }
    let reason = format!("{} goes while {} is only starting", gone.join(", "), new.join(", "));
    Some((InterruptionLength::Minutes, reason))
}
