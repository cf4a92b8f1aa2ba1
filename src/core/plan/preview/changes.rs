//! The lines that tell what changes.

use serde_json::Value;

use crate::core::plan::difference::{ChangeKind, Difference, FieldChange, ImageChange, ObjectChange, ValueChange};

/// Fields of one object that are told; the others are counted. JSON and YAML have all.
const TOLD: usize = 40;

/// Labels that change with each version of a chart.
const CHART_LABELS: [&str; 2] = [r"metadata.labels.helm\.sh/chart", r"metadata.labels.app\.kubernetes\.io/version"];

/// Objects with their fields. Those of which only the chart's own labels change share a line.
pub fn objects(difference: &Difference) -> Vec<String> {
    let (labels, others): (Vec<_>, Vec<_>) = difference.objects.iter().partition(|change| only_labels(change));
    let mut lines: Vec<String> = others.into_iter().flat_map(object).collect();
    if !labels.is_empty() {
        let names: Vec<String> = labels.iter().map(|change| change.object.to_string()).collect();
        lines.push(format!("~ only the labels of the chart's version: {}", names.join(", ")));
    }
    lines
}

fn only_labels(change: &ObjectChange) -> bool {
    change.kind == ChangeKind::Changed && change.fields.iter().all(|field| CHART_LABELS.contains(&field.path.as_str()))
}

fn object(change: &ObjectChange) -> Vec<String> {
    let note = if change.kind == ChangeKind::Replaced { " is recreated" } else { "" };
    let mut lines = vec![format!("{} {}{note}", sign(change.kind), change.object)];
    lines.extend(change.fields.iter().take(TOLD).map(|change| format!("    {}", field(change))));
    let more = change.fields.len().saturating_sub(TOLD);
    if more > 0 {
        lines.push(format!("    and {more} more fields"));
    }
    lines
}

fn sign(kind: ChangeKind) -> char {
    match kind {
        ChangeKind::Added => '+',
        ChangeKind::Changed => '~',
        ChangeKind::Removed => '-',
        ChangeKind::Replaced => '!',
    }
}

fn field(change: &FieldChange) -> String {
    let path = &change.path;
    match (&change.before, &change.after) {
        (None, None) => format!("{path} (not shown)"),
        (None, Some(after)) => format!("{path}: {} (new)", short(after)),
        (Some(before), None) => format!("{path}: {} (goes)", short(before)),
        (Some(before), Some(after)) => format!("{path}: {} -> {}", short(before), short(after)),
    }
}

/// A text as it is, unless that could be taken for something else.
fn short(value: &Value) -> String {
    match value {
        Value::String(text) if !text.is_empty() && !text.contains(char::is_whitespace) => text.clone(),
        other => other.to_string(),
    }
}

/// Values, a line each.
pub fn values(difference: &Difference) -> Vec<String> {
    difference.values.iter().map(value).collect()
}

fn value(change: &ValueChange) -> String {
    let (sign, path) = (sign(change.kind), &change.path);
    match &change.shown {
        Some((Some(before), Some(after))) => format!("{sign} {path}: {} -> {}", short(before), short(after)),
        Some((Some(value), None) | (None, Some(value))) => format!("{sign} {path}: {}", short(value)),
        Some((None, None)) | None => format!("{sign} {path} (not shown)"),
    }
}

/// Images, a line each.
pub fn images(difference: &Difference) -> Vec<String> {
    let image = |change: &ImageChange| {
        let side = |image: &Option<String>| image.clone().unwrap_or_else(|| "none".into());
        let (before, after) = (side(&change.before), side(&change.after));
        format!("{} {}: {before} -> {after}", change.object, change.container)
    };
    difference.images.iter().map(image).collect()
}
