//! The chart of the plan: from a repository, a registry, or an archive in the cluster.

use std::path::{self, PathBuf};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use kube::Api;
use sha2::{Digest, Sha256};

use super::release::Release;
use crate::api::{ChartArchive, CoderUpgradeSpec, FailureClass, Finding, ProductLine, label};
use crate::core::allowed::{Address, Repositories, official};
use crate::core::helm::chart::ChartMetadata;
use crate::core::helm::version;
use crate::core::plan::path::{Path, UpgradePath};
use crate::core::report::Problem;
use crate::core::text::bounded;
use crate::core::text::digest::hex;
use crate::runner::coder::token::credential;
use crate::runner::context::{Context, request};
use crate::runner::error::Error;
use crate::runner::helm::repository::{Repository, metadata};
use crate::runner::helm::source::{Credentials, PackageSource};
use crate::runner::io;

/// Types of Secrets that are there to be sent to a server.
const CREDENTIAL_TYPES: [&str; 2] = ["kubernetes.io/basic-auth", "kubernetes.io/dockerconfigjson"];
/// Value of the label of other Secrets that may be sent to a chart repository.
const REPOSITORY: &str = "repository";

/// The chart of which the rules of paths speak; the others of Coder keep no data.
const SERVER: &str = "coder";

/// The chart of the plan, and where it leads.
pub struct Fetched {
    /// The packaged chart.
    pub archive: PathBuf,
    /// Its Chart.yaml.
    pub chart: ChartMetadata,
    /// Versions that follow, up to the wanted one; none if this is it.
    pub ahead: Vec<String>,
    /// What is to be known of the path.
    pub findings: Vec<Finding>,
    /// The package of the installed version, if that brings charts along of which helm's record has nothing.
    pub before: Option<PathBuf>,
}

/// Fetches the chart of the first hop on the way to the wanted version into the work directory.
pub async fn fetch(
    ctx: &Context,
    spec: &CoderUpgradeSpec,
    installed: &Release,
    allowed: &Repositories,
) -> Result<Fetched, Error> {
    allowed.judge(spec, Some(installed.line()))?;
    let directory = ctx.work_dir.join("chart");
    io::create_dir(&directory).await?;
    let wrapped = installed.wrapped().is_some();
    let route = |to: &str| {
        let from = installed.version().filter(|_| wrapped || spec.chart.name == SERVER);
        let (from, to) = from.zip(version::parse(to))?;
        Some(UpgradePath { from, to, policy: spec.upgrade_path, strategy: spec.strategy })
    };
    if let Some(archive) = &spec.chart.archive {
        let path = directory.join("chart.tgz");
        io::write_private(&path, &read_archive(ctx, archive).await?).await?;
        let chart = metadata(&ctx.helm, &path).await.map_err(|error| of_archive(error.into_problem()))?;
        chart.check(&spec.chart.name, spec.version.as_deref())?;
        // Only now: of another Secret than that of a chart, not even the digest is told.
        check_digest(spec, &io::read(&path).await?)?;
        let findings = route(chart.coder_version()).map(|route| route.in_one_hop().findings).unwrap_or_default();
        let before = Some(path.clone()).filter(|_| installed.is_version(&chart.version));
        return Ok(Fetched { archive: path, chart, ahead: Vec::new(), findings, before });
    }
    if wrapped && spec.version.is_none() {
        let message =
            "the installed chart brings Coder along and has versions of its own: which one is wanted must be said";
        return Err(Problem::new(FailureClass::SpecInvalid, message).field("spec.version").into());
    }
    let source = source(ctx, spec, installed.line()).await?;
    let repository = Repository::open(&ctx.helm, &source, allowed).await?;
    let wanted = repository.find(spec.version.as_deref(), installed.line()).await?;
    let mut path = Path::default();
    // What Coder is in it, its package tells.
    if let Some(route) = route(&wanted).filter(|_| !wrapped) {
        route.check()?;
        let stops = route.stops();
        path = route.path(&repository.available(stops.iter().map(|stop| stop.range.as_str())).await?);
    }
    let mut hops: Vec<String> = path.hops.iter().map(ToString::to_string).collect();
    let ahead = if hops.is_empty() { Vec::new() } else { hops.split_off(1) };
    let hop = hops.pop().unwrap_or_else(|| wanted.clone());
    if spec.chart.digest.is_some() && version::plain(&hop) != version::plain(&wanted) {
        let message = format!(
            "spec.chart.digest is that of {wanted}, but the path leads over {hop} first: set spec.version to {hop} and \
             spec.chart.digest to that of its package"
        );
        return Err(Problem::new(FailureClass::SpecInvalid, message).field("spec.chart.digest").into());
    }
    let archive = repository.pull(&hop, &directory).await?;
    check_digest(spec, &io::read(&archive).await?)?;
    let chart = metadata(&ctx.helm, &archive).await?;
    chart.check(&spec.chart.name, Some(&hop))?;
    let findings = match route(chart.coder_version()).filter(|_| wrapped) {
        Some(route) => route.in_one_hop().findings,
        None => path.findings,
    };
    let before = match installed.packaged() {
        Some(_) if installed.is_version(&chart.version) => Some(archive.clone()),
        Some(version) => pull_before(&repository, version, &ctx.work_dir.join("chart-before")).await,
        None => None,
    };
    Ok(Fetched { archive, chart, ahead, findings, before })
}

/// The package of the installed version, if the repository has it still.
async fn pull_before(repository: &Repository<'_>, version: &str, directory: &path::Path) -> Option<PathBuf> {
    let pulled = async {
        io::create_dir(directory).await?;
        repository.pull(version, directory).await
    };
    match pulled.await {
        Ok(package) => Some(package),
        Err(error) => {
            tracing::info!("the chart of the installed version could not be fetched: {}", error.into_problem().message);
            None
        }
    }
}

/// Whether the package is the one that the spec names.
fn check_digest(spec: &CoderUpgradeSpec, package: &[u8]) -> Result<(), Box<Problem>> {
    let found = format!("sha256:{}", hex(&Sha256::digest(package)));
    match &spec.chart.digest {
        Some(wanted) if *wanted != found => {
            let message =
                format!("the chart that was fetched has the digest {found}, but spec.chart.digest is {wanted}");
            Err(Problem::new(FailureClass::DigestMismatch, message).field("spec.chart.digest").boxed())
        }
        _ => Ok(()),
    }
}

async fn source(ctx: &Context, spec: &CoderUpgradeSpec, line: ProductLine) -> Result<PackageSource, Error> {
    let credentials = match &spec.chart.credentials_secret_ref {
        Some(secret) => Some(read_credentials(ctx, &secret.name, "spec.chart.credentialsSecretRef").await?),
        None => None,
    };
    let archives = match &spec.chart.archive_credentials {
        Some(archives) => {
            let field = "spec.chart.archiveCredentials";
            let address = Address::parse(&archives.address).map_err(|why| {
                Problem::new(FailureClass::SpecInvalid, format!("{field}.address {why}")).field(field)
            })?;
            Some((address, read_credentials(ctx, &archives.secret_ref.name, field).await?))
        }
        None => None,
    };
    let ca = match &spec.chart.ca_secret_ref {
        Some(secret) => Some(read_key(ctx, &secret.name, "ca.crt", "spec.chart.caSecretRef").await?.0),
        None => None,
    };
    let address = Address::parse(spec.chart.repository.as_deref().unwrap_or(official(line))).map_err(|why| {
        let field = "spec.chart.repository";
        Problem::new(FailureClass::SpecInvalid, format!("{field} {why}")).field(field)
    })?;
    let (chart, plain_http) = (spec.chart.name.clone(), spec.chart.plain_http);
    Ok(PackageSource { address, chart, credentials, archives, ca, plain_http })
}

/// The problem of an archive from the cluster: no repository is to blame.
fn of_archive(problem: Problem) -> Error {
    let field = problem.field.filter(|field| field != "spec.chart").unwrap_or_else(|| "spec.chart.archive".to_owned());
    Problem { field: Some(field), ..problem }.into()
}

async fn read_archive(ctx: &Context, archive: &ChartArchive) -> Result<Vec<u8>, Error> {
    if let Some(reference) = &archive.secret_key_ref {
        return Ok(read_key(ctx, &reference.name, &reference.key, "spec.chart.archive.secretKeyRef").await?.0);
    }
    let Some(reference) = &archive.config_map_key_ref else {
        let message = "spec.chart.archive names neither a Secret nor a ConfigMap";
        return Err(Problem::new(FailureClass::ChartInvalid, message).field("spec.chart.archive").into());
    };
    let object = format!("ConfigMap/{}", reference.name);
    let maps: Api<ConfigMap> = ctx.api();
    let found = request(&format!("read {object}"), || maps.get_opt(&reference.name)).await?;
    let exists = found.is_some();
    let bytes = found.and_then(|map| map.binary_data?.remove(&reference.key));
    bytes.map(|bytes| bytes.0).ok_or_else(|| {
        let key = format!("{} in binaryData", reference.key);
        missing(&object, &key, exists, "spec.chart.archive.configMapKeyRef")
    })
}

async fn read_credentials(ctx: &Context, name: &str, field: &str) -> Result<Credentials, Error> {
    let object = format!("Secret/{name}");
    let secrets: Api<Secret> = ctx.api();
    let found = request(&format!("read {object}"), || secrets.get_opt(name)).await?;
    let exists = found.is_some();
    if let Some(secret) = found.as_ref().filter(|secret| !is_for_repositories(secret)) {
        let type_ = secret.type_.as_deref().unwrap_or("Opaque");
        let message = format!(
            "{object} is not sent to a chart repository: its type is {type_}. Give it the type kubernetes.io/basic-auth or \
             kubernetes.io/dockerconfigjson, or the label {}: {REPOSITORY}",
            label::CREDENTIALS
        );
        return Err(Problem::new(FailureClass::RepositoryUnauthorized, message).object(object).field(field).into());
    }
    let mut data = found.and_then(|secret| secret.data).unwrap_or_default();
    if let Some(config) = data.remove(".dockerconfigjson") {
        hide_docker_config(ctx, &config.0);
        return Ok(Credentials::Docker(config.0));
    }
    let mut text = |key: &str| {
        let bytes = data.remove(key).ok_or_else(|| missing(&object, key, exists, field))?;
        let text = credential(&bytes.0);
        text.map_err(|why| {
            let message = format!("{object} key {key} {why}");
            Error::from(Problem::new(FailureClass::SpecInvalid, message).object(&object).field(field))
        })
    };
    let (username, password) = (text("username")?, text("password")?);
    ctx.secrets.hide([password.clone()]);
    Ok(Credentials::Basic { username, password })
}

/// Whether somebody who may write the Secret has said what it is for: whoever may write a `CoderUpgrade` alone shall not have
/// the credentials of another application sent anywhere.
fn is_for_repositories(secret: &Secret) -> bool {
    let labels = secret.metadata.labels.as_ref();
    let labelled = labels.and_then(|labels| labels.get(label::CREDENTIALS)).is_some_and(|value| value == REPOSITORY);
    labelled || secret.type_.as_deref().is_some_and(|type_| CREDENTIAL_TYPES.contains(&type_))
}

fn hide_docker_config(ctx: &Context, config: &[u8]) {
    if let Ok(config) = bounded::json::<serde_json::Value>(config) {
        let secrets = config["auths"].as_object().into_iter().flat_map(|auths| auths.values());
        let secrets = secrets.flat_map(|auth| ["auth", "password", "identitytoken"].map(|key| auth[key].as_str()));
        ctx.secrets.hide(secrets.flatten().map(Into::into));
    }
}

async fn read_key(ctx: &Context, name: &str, key: &str, field: &str) -> Result<ByteString, Error> {
    let object = format!("Secret/{name}");
    let secrets: Api<Secret> = ctx.api();
    let found = request(&format!("read {object}"), || secrets.get_opt(name)).await?;
    let exists = found.is_some();
    found.and_then(|secret| secret.data?.remove(key)).ok_or_else(|| missing(&object, key, exists, field))
}

fn missing(object: &str, key: &str, exists: bool, field: &str) -> Error {
    let what = if exists { format!("has no key {key}") } else { format!("does not exist (wanted for its key {key})") };
    Problem::new(FailureClass::ReferenceMissing, format!("{object} {what}")).object(object).field(field).into()
}
