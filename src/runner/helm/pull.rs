//! Fetching a chart with helm, from a repository (http, https) or a registry (oci).

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::json;

use super::{Helm, HelmFailure};
use crate::api::{FailureClass, ProductLine};
use crate::core::guard::ChartMetadata;
use crate::core::report::Problem;
use crate::core::{classify, version};
use crate::runner::error::Error;
use crate::runner::io;

/// Name of the repository in helm's configuration, which holds no other.
const REPOSITORY: &str = "chart";

/// Where a chart comes from.
pub struct Source {
    /// Address: http://, https:// or oci://.
    pub address: String,
    /// Name of the chart.
    pub chart: String,
    /// What the repository asks for.
    pub credentials: Option<Credentials>,
    /// Certificates in PEM that the repository's is checked against.
    pub ca: Option<Vec<u8>>,
    /// Speak to a registry without TLS.
    pub plain_http: bool,
}

/// Credentials of a repository.
pub enum Credentials {
    /// User and password.
    Basic {
        /// The user.
        username: String,
        /// The password or token.
        password: String,
    },
    /// A `.dockerconfigjson`, for registries.
    Docker(Vec<u8>),
}

/// Fetches the wanted version, or the newest stable one of the product line, into `directory` (which must be empty).
pub async fn pull(
    helm: &Helm,
    source: &Source,
    wanted: Option<&str>,
    line: ProductLine,
    directory: &Path,
) -> Result<PathBuf, Error> {
    let ca_file = match &source.ca {
        Some(pem) => {
            let file = helm.home().join("repository-ca.crt");
            io::write_private(&file, pem).await?;
            Some(file)
        }
        None => None,
    };
    if source.address.starts_with("oci://") {
        pull_oci(helm, source, wanted, line, directory, ca_file.as_deref()).await?;
    } else {
        pull_http(helm, source, wanted, line, directory, ca_file.as_deref()).await?;
    }
    let archive = archive_in(directory).map_err(|e| Error::io("look into", directory, e))?;
    archive.ok_or_else(|| {
        Problem::new(FailureClass::ChartInvalid, format!("{} gave no chart archive", source.address))
            .field("spec.chart.repository")
            .into()
    })
}

fn archive_in(directory: &Path) -> std::io::Result<Option<PathBuf>> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "tgz") {
            return Ok(Some(path));
        }
    }
    Ok(None)
}

async fn pull_http(
    helm: &Helm,
    source: &Source,
    wanted: Option<&str>,
    line: ProductLine,
    directory: &Path,
    ca_file: Option<&Path>,
) -> Result<(), Error> {
    let mut add = arguments(["repo", "add", REPOSITORY, &source.address, "--force-update"]);
    let mut password = None;
    match &source.credentials {
        // helm sends them to the repository's own host only, unless told otherwise.
        Some(Credentials::Basic { username, password: secret }) => {
            add.extend(arguments(["--username", username, "--password-stdin"]));
            password = Some(secret.as_str());
        }
        Some(Credentials::Docker(_)) => {
            return Err(Problem::new(
                FailureClass::RepositoryUnauthorized,
                format!("{} is no oci:// registry; its Secret needs the keys username and password", source.address),
            )
            .field("spec.chart.credentialsSecret")
            .into());
        }
        None => {}
    }
    add.extend(ca_arguments(ca_file));
    helm.capture(&add, password).await?.map_err(|f| refused(source, wanted, &f))?;

    let chart = format!("{REPOSITORY}/{}", source.chart);
    let search = ["search", "repo", &chart, "--versions", "--devel", "--output", "json"];
    let found = helm.capture(search, None).await?.map_err(|f| refused(source, wanted, &f))?;
    let found: Vec<Found> = serde_json::from_slice(&found)
        .map_err(|source| Error::Json { what: "the versions that helm found", source })?;
    let versions: Vec<String> = found.into_iter().filter(|row| row.name == chart).map(|row| row.version).collect();
    let version = choose(source, &versions, wanted, line)?;
    tracing::info!("fetching {} {version} from {}", source.chart, source.address);

    let mut pull = arguments(["pull", &chart, "--version", version, "--destination"]);
    pull.push(directory.display().to_string());
    helm.capture(&pull, None).await?.map_err(|f| refused(source, Some(version), &f))?;
    Ok(())
}

/// A row of `helm search repo -o json`.
#[derive(Deserialize)]
struct Found {
    name: String,
    version: String,
}

fn choose<'a>(
    source: &Source,
    versions: &'a [String],
    wanted: Option<&str>,
    line: ProductLine,
) -> Result<&'a str, Box<Problem>> {
    let Source { address, chart, .. } = source;
    if versions.is_empty() {
        return Err(Problem::new(FailureClass::ChartInvalid, format!("{address} has no chart called {chart}"))
            .field("spec.chart.name")
            .boxed());
    }
    let (found, asked) = match wanted {
        Some(wanted) => (version::exact(versions, wanted), format!("version {wanted}")),
        None => (version::newest_stable(versions, line), format!("stable version of the line {line}")),
    };
    found.ok_or_else(|| {
        let near = version::nearest(versions, wanted.unwrap_or_default(), 5).join(", ");
        Problem::new(
            FailureClass::VersionNotFound,
            format!("{address} has no {asked} of the chart {chart}; it has {near}"),
        )
        .field("spec.version")
        .boxed()
    })
}

async fn pull_oci(
    helm: &Helm,
    source: &Source,
    wanted: Option<&str>,
    line: ProductLine,
    directory: &Path,
    ca_file: Option<&Path>,
) -> Result<(), Error> {
    if let Some(credentials) = &source.credentials {
        io::write_private(&helm.registry_config(), &registry_config(&source.address, credentials)).await?;
    }
    // A registry knows tags, not versions: both spellings are tried.
    let candidates = match wanted {
        Some(wanted) => vec![version::plain(wanted).to_owned(), format!("v{}", version::plain(wanted))],
        None => vec![version::stable_range(line).to_owned()],
    };
    let reference = format!("{}/{}", source.address.trim_end_matches('/'), source.chart);
    let mut refusal = None;
    for version in candidates {
        tracing::info!("fetching {reference} {version}");
        let mut pull = arguments(["pull", &reference, "--version", &version, "--destination"]);
        pull.push(directory.display().to_string());
        pull.extend(ca_arguments(ca_file));
        if source.plain_http {
            pull.push("--plain-http".into());
        }
        let Err(failure) = helm.capture(&pull, None).await? else { return Ok(()) };
        let problem = refused(source, wanted, &failure);
        let other_spelling = problem.class == FailureClass::VersionNotFound;
        refusal.get_or_insert(problem);
        if !other_spelling {
            break;
        }
    }
    refusal.map_or(Ok(()), |problem| Err(problem.into()))
}

/// Docker's file of credentials. It is written, and not made by `helm registry login`, because a login asks the registry
/// for more than a pull needs.
fn registry_config(address: &str, credentials: &Credentials) -> Vec<u8> {
    match credentials {
        Credentials::Docker(config) => config.clone(),
        Credentials::Basic { username, password } => {
            let host = address.trim_start_matches("oci://").split('/').next().unwrap_or_default();
            let auth = STANDARD.encode(format!("{username}:{password}"));
            json!({"auths": {host: {"auth": auth}}}).to_string().into_bytes()
        }
    }
}

/// What helm said about a repository, as a problem that says what was asked, where, and which field is to be corrected.
fn refused(source: &Source, wanted: Option<&str>, failure: &HelmFailure) -> Problem {
    let class = match classify::worst(&failure.text).class {
        Some(
            class @ (FailureClass::VersionNotFound
            | FailureClass::RepositoryUnauthorized
            | FailureClass::ChartInvalid
            | FailureClass::RepositoryUnreachable),
        ) => class,
        // Whatever else goes wrong between helm and a repository, names and certificates included.
        _ => FailureClass::RepositoryUnreachable,
    };
    let field = match class {
        FailureClass::VersionNotFound => "spec.version",
        FailureClass::ChartInvalid => "spec.chart.name",
        FailureClass::RepositoryUnauthorized => "spec.chart.credentialsSecret",
        _ if failure.text.contains("x509:") => "spec.chart.caSecret",
        _ => "spec.chart.repository",
    };
    let Source { address, chart, .. } = source;
    let version = wanted.unwrap_or("newest stable version");
    Problem::new(class, format!("{chart} ({version}) could not be fetched from {address}: {}", failure.text))
        .field(field)
}

/// Reads the Chart.yaml of a packaged chart.
pub async fn metadata(helm: &Helm, archive: &Path) -> Result<ChartMetadata, Error> {
    let invalid = |message: String| Problem::new(FailureClass::ChartInvalid, message).field("spec.chart");
    let archive = archive.display().to_string();
    let shown = helm.capture(["show", "chart", &archive], None).await?;
    let shown = shown.map_err(|failure| {
        invalid(format!("the chart archive cannot be read: {}", failure.text.replace(&archive, "the archive")))
    })?;
    let text = String::from_utf8_lossy(&shown);
    serde_saphyr::from_str(&text)
        .map_err(|e| invalid(format!("the Chart.yaml of the chart cannot be read: {e}")).into())
}

fn arguments<const N: usize>(arguments: [&str; N]) -> Vec<String> {
    arguments.map(Into::into).into()
}

fn ca_arguments(ca_file: Option<&Path>) -> Vec<String> {
    ca_file.map_or_else(Vec::new, |file| vec!["--ca-file".into(), file.display().to_string()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(address: &str) -> Source {
        Source { address: address.into(), chart: "coder".into(), credentials: None, ca: None, plain_http: false }
    }

    #[test]
    fn a_version_that_is_not_there_names_its_neighbours() {
        let versions: Vec<String> = ["2.31.7", "2.31.6", "2.32.0"].map(Into::into).into();
        let problem = choose(&source("https://r"), &versions, Some("2.31.8"), ProductLine::V2).unwrap_err();
        assert_eq!((problem.class, problem.field.as_deref()), (FailureClass::VersionNotFound, Some("spec.version")));
        assert_eq!(
            problem.message,
            "https://r has no version 2.31.8 of the chart coder; it has 2.31.6, 2.31.7, 2.32.0"
        );
        assert_eq!(
            choose(&source("https://r"), &[], None, ProductLine::V2).unwrap_err().class,
            FailureClass::ChartInvalid
        );
        assert_eq!(choose(&source("https://r"), &versions, None, ProductLine::V2).unwrap(), "2.32.0");
    }

    #[test]
    fn each_refusal_names_the_field_to_correct() {
        let field = |text: &str| {
            let problem = refused(&source("https://r"), None, &HelmFailure { text: text.into() });
            (problem.class, problem.field.unwrap())
        };
        assert_eq!(
            field("failed to fetch http://r/index.yaml : 401 Unauthorized"),
            (FailureClass::RepositoryUnauthorized, "spec.chart.credentialsSecret".into())
        );
        assert_eq!(
            field(
                "Get \"https://r\": tls: failed to verify certificate: x509: certificate signed by unknown authority"
            ),
            (FailureClass::RepositoryUnreachable, "spec.chart.caSecret".into())
        );
        assert_eq!(
            field("dial tcp 10.0.0.1:443: connect: connection refused"),
            (FailureClass::RepositoryUnreachable, "spec.chart.repository".into())
        );
    }

    #[test]
    fn registry_credentials_are_for_its_host() {
        let credentials = Credentials::Basic { username: "u".into(), password: "p".into() };
        let config: serde_json::Value =
            serde_json::from_slice(&registry_config("oci://registry:5000/charts", &credentials)).unwrap();
        assert_eq!(config, json!({"auths": {"registry:5000": {"auth": "dTpw"}}}));
    }
}
