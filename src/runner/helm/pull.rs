//! Fetching a chart with helm, from a repository (http, https) or a registry (oci).

use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use semver::Version;
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

/// A repository or registry that helm was told of.
pub struct Repository<'a> {
    helm: &'a Helm,
    source: &'a Source,
    ca_file: Option<PathBuf>,
    /// What its index lists; a registry has no index, and is asked for each version.
    index: Option<Vec<String>>,
}

impl<'a> Repository<'a> {
    /// Tells helm of it, and reads its index.
    pub async fn open(helm: &'a Helm, source: &'a Source) -> Result<Self, Error> {
        let ca_file = match &source.ca {
            Some(pem) => {
                let file = helm.home().join("repository-ca.crt");
                io::write_private(&file, pem).await?;
                Some(file)
            }
            None => None,
        };
        let mut opened = Self { helm, source, ca_file, index: None };
        if source.address.starts_with("oci://") {
            if let Some(credentials) = &source.credentials {
                let config = registry_config(&source.address, credentials);
                io::write_private(&helm.registry_config(), &config).await?;
            }
        } else {
            opened.index = Some(opened.read_index().await?);
        }
        Ok(opened)
    }

    /// The wanted version, or the newest stable one of the product line. A registry is not asked whether it has the wanted
    /// one: [`Self::pull`] tells.
    pub async fn find(&self, wanted: Option<&str>, line: ProductLine) -> Result<String, Error> {
        match (&self.index, wanted) {
            (Some(index), _) => Ok(choose(self.source, index, wanted, line)?.to_owned()),
            (None, Some(wanted)) => Ok(version::plain(wanted).to_owned()),
            (None, None) => Ok(self.newest(version::stable_range(line)).await??),
        }
    }

    /// The versions that a path may stop at: all, or the newest of each range where there is no list.
    pub async fn available(&self, ranges: impl IntoIterator<Item = &str>) -> Result<Vec<Version>, Error> {
        if let Some(index) = &self.index {
            return Ok(index.iter().filter_map(|text| version::parse(text)).collect());
        }
        let mut found = Vec::new();
        for range in ranges {
            match self.newest(range).await? {
                Ok(version) => found.extend(version::parse(&version)),
                Err(problem) if problem.class == FailureClass::VersionNotFound => {}
                Err(problem) => return Err(problem.into()),
            }
        }
        Ok(found)
    }

    /// Fetches a version into `directory`, which must be empty.
    pub async fn pull(&self, version: &str, directory: &Path) -> Result<PathBuf, Error> {
        // A registry knows tags, not versions: both spellings are tried.
        let spelled = match &self.index {
            Some(index) => vec![version::exact(index, version).unwrap_or(version).to_owned()],
            None => vec![version::plain(version).to_owned(), format!("v{}", version::plain(version))],
        };
        let mut refusal = None;
        for version in spelled {
            tracing::info!("fetching {} {version} from {}", self.source.chart, self.source.address);
            let mut pull = arguments(["pull", &self.reference(), "--version", &version, "--destination"]);
            pull.push(directory.display().to_string());
            pull.extend(self.registry_arguments());
            let Err(failure) = self.helm.capture(&pull, None).await? else { return archive_of(self.source, directory) };
            let problem = refused(self.source, Some(&version), &failure);
            let other_spelling = problem.class == FailureClass::VersionNotFound;
            refusal.get_or_insert(problem);
            if !other_spelling {
                break;
            }
        }
        refusal.map_or_else(|| archive_of(self.source, directory), |problem| Err(problem.into()))
    }

    /// The newest version of a range in a registry, as its chart names it.
    async fn newest(&self, range: &str) -> Result<Result<String, Box<Problem>>, Error> {
        let mut show = arguments(["show", "chart", &self.reference(), "--version", range]);
        show.extend(self.registry_arguments());
        let wanted = Some(range).filter(|range| *range != version::stable_range(ProductLine::V1));
        let wanted = wanted.filter(|range| *range != version::stable_range(ProductLine::V2));
        match self.helm.capture(&show, None).await? {
            Ok(shown) => Ok(Ok(read_metadata(&shown)?.version)),
            Err(failure) => Ok(Err(refused(self.source, wanted, &failure).boxed())),
        }
    }

    /// The chart, as helm finds it.
    fn reference(&self) -> String {
        let Source { address, chart, .. } = self.source;
        match &self.index {
            Some(_) => format!("{REPOSITORY}/{chart}"),
            None => format!("{}/{chart}", address.trim_end_matches('/')),
        }
    }

    /// What helm must be told of a registry each time.
    fn registry_arguments(&self) -> Vec<String> {
        if self.index.is_some() {
            return Vec::new();
        }
        let plain = self.source.plain_http.then(|| "--plain-http".to_owned());
        ca_arguments(self.ca_file.as_deref()).into_iter().chain(plain).collect()
    }

    async fn read_index(&self) -> Result<Vec<String>, Error> {
        let Self { helm, source, .. } = self;
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
                    format!(
                        "{} is no oci:// registry; its Secret needs the keys username and password",
                        source.address
                    ),
                )
                .field("spec.chart.credentialsSecret")
                .into());
            }
            None => {}
        }
        add.extend(ca_arguments(self.ca_file.as_deref()));
        helm.capture(&add, password).await?.map_err(|f| refused(source, None, &f))?;

        let chart = format!("{REPOSITORY}/{}", source.chart);
        let search = ["search", "repo", &chart, "--versions", "--devel", "--output", "json"];
        let found = helm.capture(search, None).await?.map_err(|f| refused(source, None, &f))?;
        let found: Vec<Found> = serde_json::from_slice(&found)
            .map_err(|source| Error::Json { what: "the versions that helm found", source })?;
        Ok(found.into_iter().filter(|row| row.name == chart).map(|row| row.version).collect())
    }
}

/// The archive that helm has put into a directory.
fn archive_of(source: &Source, directory: &Path) -> Result<PathBuf, Error> {
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
    read_metadata(&shown)
}

fn read_metadata(shown: &[u8]) -> Result<ChartMetadata, Error> {
    let text = String::from_utf8_lossy(shown);
    serde_saphyr::from_str(&text).map_err(|e| {
        let message = format!("the Chart.yaml of the chart cannot be read: {e}");
        Problem::new(FailureClass::ChartInvalid, message).field("spec.chart").into()
    })
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
