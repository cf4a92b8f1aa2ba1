//! The installed chart, rendered once more with the installed values: where its manifest has something else, helm was run with a
//! post-renderer.
//!
//! helm's record holds the chart without the charts in it, which are taken from the package of that version, if the repository has
//! it still. A chart that cannot be rendered any more tells nothing.

use std::collections::BTreeSet;
use std::path::{Component, Path, PathBuf};
use std::time::Duration;

use serde_json::{Map, Value};

use super::release::Release;
use crate::core::helm::archive::files;
use crate::core::helm::documents::Documents;
use crate::core::plan::checks::patched;
use crate::core::plan::difference::{Rendered, unsteady};
use crate::core::text::bounded;
use crate::runner::context::Context;
use crate::runner::error::Error;
use crate::runner::helm::HelmFailure;
use crate::runner::helm::record::Record;
use crate::runner::helm::upgrade::{Rendering, render_past};
use crate::runner::io;

/// How long helm may take to render without a cluster.
const TIME: Duration = Duration::from_secs(60);
/// Greatest size of a chart when it is unpacked, in bytes.
const UNPACKED: usize = 32 << 20;
/// A version of Kubernetes that is not the one of the cluster: what depends on the version is then rendered in two ways.
const OTHER_KUBERNETES: &str = "v1.20.0";

/// What the installed chart gives, if that differs from the manifest that helm has stored; `package` is the packaged chart of the
/// installed version.
pub async fn look(
    ctx: &Context,
    release: &str,
    installed: &Release,
    package: Option<&Path>,
    old: &Documents,
    (new, new_values): (&Documents, &Map<String, Value>),
) -> Option<Rendered> {
    let record = installed.record()?;
    ctx.reporter.progress("comparing the installed release with its chart");
    let sides = ((old, &record.values()), (new, new_values));
    match render(ctx, release, record, package, old, |rendered| !patched(rendered, sides.0, sides.1).is_empty()).await {
        Ok(rendered) => rendered,
        Err(why) => {
            tracing::info!("the installed chart cannot be rendered again: {}", why.into_problem().message);
            None
        }
    }
}

async fn render(
    ctx: &Context,
    release: &str,
    record: &Record,
    package: Option<&Path>,
    old: &Documents,
    differs: impl Fn(&Rendered) -> bool,
) -> Result<Option<Rendered>, Error> {
    let directory = ctx.work_dir.join("installed");
    io::create_dir(&directory).await?;
    let Some(unsteady) = unpack(record, package, old, &directory.join("chart")).await? else { return Ok(None) };
    let (chart, values) = (directory.join("chart"), directory.join("values.json"));
    let config = Value::Object(record.values()).to_string();
    io::write_private(&values, config.as_bytes()).await?;

    let mut arguments = vec!["template".to_owned(), release.to_owned(), chart.display().to_string()];
    arguments.extend(["--namespace", &ctx.namespace, "--no-hooks", "--kube-version", OTHER_KUBERNETES].map(Into::into));
    arguments.extend(["--values".to_owned(), values.display().to_string()]);
    let printed = ctx.helm.capture_within(TIME, &arguments, None).await?.map_err(Error::helm)?;
    let one = Documents::parse(&String::from_utf8_lossy(&printed), &ctx.namespace)?;
    let name = record.chart_part("metadata")["name"].as_str().unwrap_or_default().to_owned();
    let unsteady = unsteady || self::unsteady(&config);
    let rendered = Rendered { chart: name, other: one.clone(), one, unsteady };
    if !differs(&rendered) {
        return Ok(None);
    }
    let files = [values];
    let rendering = Rendering {
        release,
        namespace: &ctx.namespace,
        chart: &chart,
        values: &files,
        as_install: false,
        take_ownership: false,
    };
    let (again, _) = render_past(&ctx.helm, rendering).await?.map_err(|failure: HelmFailure| Error::helm(failure))?;
    let other = Documents::parse(again.manifest(), &ctx.namespace)?;
    Ok(Some(Rendered { other, ..rendered }))
}

/// Writes the chart of a record into a directory, with the charts in it from the package. Tells whether one of its files is
/// [`unsteady`]; none if the charts in it are not known.
async fn unpack(
    record: &Record,
    package: Option<&Path>,
    old: &Documents,
    directory: &Path,
) -> Result<Option<bool>, Error> {
    let mut all = record.chart_files();
    let mut about = record.chart_part("metadata").clone();
    let named = about["dependencies"].as_array().is_some_and(|dependencies| !dependencies.is_empty());
    let within = |template: &str| template.contains("/charts/");
    if named || old.objects().any(|(name, _)| old.template(&name).is_some_and(within)) {
        let Some(package) = package else { return Ok(None) };
        let tar = bounded::gunzip(&io::read(package).await?, UNPACKED).unwrap_or_default();
        let packed: Vec<(String, Vec<u8>)> = files(&tar)
            .filter_map(|(name, content)| Some((name.split_once('/')?.1.to_owned(), content.to_vec())))
            .collect();
        let templates = |files: &[(String, Vec<u8>)]| -> BTreeSet<(String, Vec<u8>)> {
            files.iter().filter(|(name, _)| name.starts_with("templates/")).cloned().collect()
        };
        if templates(&packed) != templates(&all) {
            return Ok(None);
        }
        all.extend(packed.into_iter().filter(|(name, _)| name.starts_with("charts/")));
    }
    if let Value::Object(about) = &mut about {
        about.remove("kubeVersion");
    }
    all.push(("Chart.yaml".into(), about.to_string().into_bytes()));
    all.push(("values.yaml".into(), record.chart_part("values").to_string().into_bytes()));
    let mut found = false;
    for (name, content) in all.iter().filter(|(name, _)| name != "templates/NOTES.txt") {
        let Some(path) = below(directory, name) else { continue };
        found |= unsteady(&String::from_utf8_lossy(content));
        let parent = path.parent().unwrap_or(directory);
        tokio::fs::create_dir_all(parent).await.map_err(|error| Error::io("create", parent, error))?;
        io::write_private(&path, content).await?;
    }
    Ok(Some(found))
}

/// A file of that name below the directory; none if it would lie elsewhere.
fn below(directory: &Path, name: &str) -> Option<PathBuf> {
    let plain = Path::new(name).components().all(|part| matches!(part, Component::Normal(_)));
    (plain && !name.is_empty()).then(|| directory.join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_file_is_written_elsewhere() {
        let directory = Path::new("/work/chart");
        assert_eq!(below(directory, "templates/a.yaml"), Some("/work/chart/templates/a.yaml".into()));
        for name in ["", "../a", "/etc/a", "templates/../../a"] {
            assert_eq!(below(directory, name), None, "{name}");
        }
    }
}
