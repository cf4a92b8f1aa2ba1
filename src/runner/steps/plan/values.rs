//! The values of the upgrade as files for helm, in the order in which they win.
//!
//! helm itself parses and merges them: its YAML (1.1, with its own ideas of numbers and booleans) is not Rust's.

use std::path::PathBuf;

use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use serde_json::{Map, Value};

use crate::api::{CoderUpgradeSpec, FailureClass, ReferenceKind, ValuesRef};
use crate::core::helm::values;
use crate::core::report::Problem;
use crate::core::text::bounded;
use crate::runner::context::{Context, request};
use crate::runner::error::Error;
use crate::runner::helm::HelmFailure;
use crate::runner::io;

/// A file of values, and where it comes from.
pub struct ValuesFile {
    /// The file.
    pub path: PathBuf,
    /// Field of the spec that it comes from.
    pub field: String,
    /// Where its content lies, for messages.
    pub origin: String,
    /// The object that holds it, as Kind/name.
    pub object: Option<String>,
}

/// Writes kept, referenced and inline values to files.
pub async fn write(
    ctx: &Context,
    spec: &CoderUpgradeSpec,
    kept: Option<&Map<String, Value>>,
) -> Result<Vec<ValuesFile>, Error> {
    values::within_limits(spec)?;
    let directory = ctx.work_dir.join("values");
    io::create_dir(&directory).await?;
    let mut files = Vec::new();
    if let Some(kept) = kept.filter(|_| spec.keep_values) {
        let mut kept = kept.clone();
        values::drop_paths(&mut kept, spec.drop_values.iter().map(String::as_str));
        let path = directory.join("0-kept.json");
        io::write_private(&path, Value::Object(kept).to_string().as_bytes()).await?;
        let origin = "the values of the installed release".to_owned();
        files.push(ValuesFile { path, field: "spec.keepValues".into(), origin, object: None });
    }
    if !spec.drop_defaults.is_empty() {
        let nulls = values::nulls(spec.drop_defaults.iter().map(String::as_str));
        let path = directory.join("0-nulls.json");
        io::write_private(&path, Value::Object(nulls).to_string().as_bytes()).await?;
        let field = "spec.dropDefaults";
        files.push(ValuesFile { path, field: field.into(), origin: field.into(), object: None });
    }
    for (index, reference) in spec.values_from.iter().enumerate() {
        let Some(text) = read(ctx, index, reference).await? else { continue };
        hide(ctx, &text);
        let path = directory.join(format!("1-{index:02}.yaml"));
        io::write_private(&path, &text).await?;
        files.push(ValuesFile {
            path,
            field: field(index),
            origin: format!("{}/{} key {}", reference.kind, reference.name, reference.key),
            object: Some(format!("{}/{}", reference.kind, reference.name)),
        });
    }
    if let Some(inline) = &spec.values {
        let inline = Value::Object(inline.clone());
        ctx.secrets.hide_values(&inline);
        let path = directory.join("2-inline.json");
        io::write_private(&path, inline.to_string().as_bytes()).await?;
        files.push(ValuesFile { path, field: "spec.values".into(), origin: "spec.values".into(), object: None });
    }
    Ok(files)
}

/// Writes numbers of replicas that are kept to a file.
pub async fn replicas(ctx: &Context, values: Map<String, Value>) -> Result<ValuesFile, Error> {
    let path = ctx.work_dir.join("values").join("3-replicas.json");
    io::write_private(&path, Value::Object(values).to_string().as_bytes()).await?;
    let origin = "the numbers of replicas that are kept".to_owned();
    Ok(ValuesFile { path, field: "spec.values".into(), origin, object: None })
}

fn field(index: usize) -> String {
    format!("spec.valuesFrom[{index}]")
}

/// The text is hidden as far as this program can read it as YAML. Text that it cannot read may still be quoted by helm,
/// so its lines are hidden one by one.
fn hide(ctx: &Context, text: &[u8]) {
    let text = String::from_utf8_lossy(text);
    match bounded::yaml::<Value>(&text) {
        Ok(Value::String(text)) => ctx.secrets.hide([text]),
        Ok(values) => ctx.secrets.hide_values(&values),
        Err(_) => ctx.secrets.hide(text.lines().map(str::trim).filter(|line| line.len() > 5).map(Into::into)),
    }
}

/// The text that a reference names; none if it is optional and not there.
async fn read(ctx: &Context, index: usize, reference: &ValuesRef) -> Result<Option<Vec<u8>>, Error> {
    let ValuesRef { kind, name, key, optional } = reference;
    let doing = format!("read {kind}/{name}");
    let (exists, text) = match kind {
        ReferenceKind::Secret => {
            let secrets: Api<Secret> = ctx.api();
            let secret = request(&doing, || secrets.get_opt(name)).await?;
            (secret.is_some(), secret.and_then(|secret| secret.data?.remove(key)).map(|bytes| bytes.0))
        }
        ReferenceKind::ConfigMap => {
            let maps: Api<ConfigMap> = ctx.api();
            let map = request(&doing, || maps.get_opt(name)).await?;
            (map.is_some(), map.and_then(|map| map.data?.remove(key)).map(String::into_bytes))
        }
    };
    match text {
        Some(text) => Ok(Some(text)),
        None if *optional => {
            tracing::info!("{kind}/{name} key {key} does not exist; it is optional");
            Ok(None)
        }
        None => {
            let what =
                if exists { format!("has no key {key}") } else { format!("does not exist (wanted for its key {key})") };
            Err(Problem::new(FailureClass::ReferenceMissing, format!("{kind}/{name} {what}"))
                .object(format!("{kind}/{name}"))
                .field(field(index))
                .into())
        }
    }
}

/// A failure of helm to render, as an error. If a file of values is no YAML map, it says which and not what stands in it:
/// helm quotes the text.
pub fn explain(files: &[ValuesFile], failure: HelmFailure) -> Error {
    let unreadable =
        files.iter().find(|file| failure.text.contains(&format!("failed to parse {}", file.path.display())));
    let Some(file) = unreadable else {
        let problem = Error::helm(failure).into_problem();
        if problem.class == FailureClass::TooLarge {
            let message = format!(
                "helm's own record of the release would not fit into a Secret of 1024 KiB: {}",
                problem.message
            );
            return Problem { field: Some("spec.chart".into()), message, ..problem }.into();
        }
        let field = problem.message.contains("kubeVersion").then(|| "spec.version".to_owned());
        return Problem { field: problem.field.clone().or(field), ..problem }.into();
    };
    let line = failure.text.split("line ").nth(1).and_then(|rest| rest.split(|c: char| !c.is_ascii_digit()).next());
    let at = line.filter(|line| !line.is_empty()).map(|line| format!(" (line {line})")).unwrap_or_default();
    let problem = Problem::new(FailureClass::ValuesInvalid, format!("{} is not a YAML map of values{at}", file.origin))
        .field(&file.field);
    Problem { object: file.object.clone(), ..problem }.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_no_map_is_not_quoted() {
        let files = [ValuesFile {
            path: "/work/values/1-00.yaml".into(),
            field: field(0),
            origin: "Secret/s key values.yaml".into(),
            object: Some("Secret/s".into()),
        }];
        let failure = |text: &str| explain(&files, HelmFailure { text: text.into() }).into_problem();
        let problem = failure(
            "failed to parse /work/values/1-00.yaml: error converting YAML to JSON: yaml: line 3: cannot unmarshal `hunter2`",
        );
        assert_eq!(problem.message, "Secret/s key values.yaml is not a YAML map of values (line 3)");
        assert_eq!(
            (problem.class, problem.field.as_deref()),
            (FailureClass::ValuesInvalid, Some("spec.valuesFrom[0]"))
        );
        assert_eq!(failure("execution error at (a:1:2): no").class, FailureClass::RenderFailed);
    }
}
