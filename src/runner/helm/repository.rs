//! Fetching a chart from a repository (http, https) or, with helm, from a registry (oci).

use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use semver::Version;
use serde_json::{Value, json};

use super::download::{Downloads, INDEX};
use super::index::ChartIndex;
use super::source::{Credentials, PackageSource};
use super::{Excess, Helm, HelmFailure, outside};
use crate::api::{FailureClass, ProductLine};
use crate::core::allowed::{Address, Repositories};
use crate::core::helm::archive::coder_within;
use crate::core::helm::chart::ChartMetadata;
use crate::core::helm::{failures, version};
use crate::core::report::Problem;
use crate::core::text::bounded;
use crate::runner::error::Error;
use crate::runner::io;

/// Greatest size of an index, in bytes.
const INDEX_LIMIT: usize = 32 << 20;
/// Greatest size of a packaged chart, in bytes: helm's record, which has it, must fit into a Secret of 1 MiB in the end.
const PACKAGE_LIMIT: usize = 8 << 20;
/// Greatest size of what is in it, in bytes. Coder's own charts take less than a megabyte.
const UNPACKED: usize = 32 << 20;
/// How long helm may take to ask a registry for a version or a chart, from the first byte to the last.
const FETCH_TIME: Duration = Duration::from_secs(90);

/// A repository, or a registry that helm was told of.
pub struct Repository<'a> {
    helm: Helm,
    source: &'a PackageSource,
    ca_file: Option<PathBuf>,
    /// What its index lists, and how it is fetched; a registry has no index, and is asked for each version.
    listed: Option<(Downloads, ChartIndex)>,
}

impl<'a> Repository<'a> {
    /// Reads its index, or tells helm of the registry. What the index leads to must be allowed as well.
    pub async fn open(helm: &Helm, source: &'a PackageSource, allowed: &Repositories) -> Result<Self, Error> {
        if !source.address.is_registry() {
            let downloads = Downloads::new(source, allowed, helm.outbound())?;
            let index = downloads.get(INDEX, INDEX_LIMIT).await?;
            let index = ChartIndex::read(&index, &source.chart).map_err(|problem| {
                let message = format!("{}: {}", source.address, problem.message);
                Error::from(Problem { message, ..*problem })
            })?;
            return Ok(Self { helm: helm.outside(), source, ca_file: None, listed: Some((downloads, index)) });
        }
        let ca_file = match &source.ca {
            Some(pem) => {
                let file = helm.home().join("repository-ca.crt");
                io::write_private(&file, pem).await?;
                Some(file)
            }
            None => None,
        };
        if let Some(credentials) = &source.credentials {
            let config = registry_config(&source.address, credentials)?;
            io::write_private(&helm.registry_config(), &config).await?;
        }
        Ok(Self { helm: helm.outside(), source, ca_file, listed: None })
    }

    /// The wanted version, or the newest stable one of the product line. A registry is not asked whether it has the wanted
    /// one: [`Self::pull`] tells.
    pub async fn find(&self, wanted: Option<&str>, line: ProductLine) -> Result<String, Error> {
        match (&self.listed, wanted) {
            (Some((_, index)), _) => Ok(choose(self.source, &index.versions, wanted, line)?.to_owned()),
            (None, Some(wanted)) => Ok(version::plain(wanted).to_owned()),
            (None, None) => Ok(self.newest(version::stable_range(line)).await??),
        }
    }

    /// The versions that a path may stop at: all, or the newest of each range where there is no list.
    pub async fn available(&self, ranges: impl IntoIterator<Item = &str>) -> Result<Vec<Version>, Error> {
        if let Some((_, index)) = &self.listed {
            return Ok(index.versions.iter().filter_map(|text| version::parse(text)).collect());
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
        let PackageSource { address, chart, .. } = self.source;
        if let Some((downloads, index)) = &self.listed {
            let version = version::exact(&index.versions, version).unwrap_or(version);
            tracing::info!("fetching {chart} {version} from {address}");
            let url = index.url(version).unwrap_or_default();
            let file = directory.join("chart.tgz");
            io::write_private(&file, &downloads.get(url, PACKAGE_LIMIT).await?).await?;
            return Ok(file);
        }
        // A registry knows tags, not versions: both spellings are tried.
        let spelled = [version::plain(version).to_owned(), format!("v{}", version::plain(version))];
        let mut refusal = None;
        for version in spelled {
            tracing::info!("fetching {chart} {version} from {address}");
            let mut pull = arguments(["pull", &self.reference(), "--version", &version, "--destination"]);
            pull.push(directory.display().to_string());
            pull.extend(self.registry_arguments());
            let Err(failure) = self.ask(&pull).await? else { return archive_of(self.source, directory) };
            let problem = self.refused(Some(&version), &failure);
            let other_spelling = problem.class == FailureClass::VersionNotFound;
            refusal.get_or_insert(problem);
            if !other_spelling {
                break;
            }
        }
        refusal.map_or_else(|| archive_of(self.source, directory), |problem| Err(problem.into()))
    }

    /// Runs a helm command that asks the registry.
    async fn ask(&self, arguments: &[String]) -> Result<Result<Vec<u8>, HelmFailure>, Error> {
        let answer = self.helm.capture_within(FETCH_TIME, arguments, None).await;
        answer.map_err(|error| match error {
            Error::HelmExcess(excess) => beyond(self.source, excess).into(),
            other => other,
        })
    }

    /// The newest version of a range in a registry, as its chart names it.
    async fn newest(&self, range: &str) -> Result<Result<String, Box<Problem>>, Error> {
        let mut show = arguments(["show", "chart", &self.reference(), "--version", range]);
        show.extend(self.registry_arguments());
        let wanted = Some(range).filter(|range| *range != version::stable_range(ProductLine::V1));
        let wanted = wanted.filter(|range| *range != version::stable_range(ProductLine::V2));
        match self.ask(&show).await? {
            Ok(shown) => Ok(Ok(read_metadata(&shown)?.version)),
            Err(failure) => Ok(Err(self.refused(wanted, &failure).boxed())),
        }
    }

    /// What helm said about the registry, and by way of which proxy.
    fn refused(&self, wanted: Option<&str>, failure: &HelmFailure) -> Problem {
        let problem = refused(self.source, wanted, failure);
        let way = outside::by_way_of(self.helm.outbound(), &self.source.address);
        match problem.class {
            FailureClass::RepositoryUnreachable => Problem { message: format!("{}{way}", problem.message), ..problem },
            _ => problem,
        }
    }

    /// The chart, as helm finds it.
    fn reference(&self) -> String {
        format!("{}/{}", self.source.address, self.source.chart)
    }

    /// What helm must be told of a registry each time.
    fn registry_arguments(&self) -> Vec<String> {
        let plain = self.source.plain_http.then(|| "--plain-http".to_owned());
        let authority = self.ca_file.iter().flat_map(|file| ["--ca-file".to_owned(), file.display().to_string()]);
        authority.chain(plain).collect()
    }
}

/// A registry that gives more, or takes longer, than any that has Coder's charts.
fn beyond(source: &PackageSource, excess: Excess) -> Problem {
    let PackageSource { address, chart, .. } = source;
    let class = match excess {
        Excess::Time(_) => FailureClass::RepositoryUnreachable,
        Excess::Output(_) | Excess::Memory | Excess::File => FailureClass::TooLarge,
    };
    let message = format!("{chart} could not be fetched from {address}: {excess} for what the registry answers");
    Problem::new(class, message).field("spec.chart.repository")
}

/// The archive that helm has put into a directory.
fn archive_of(source: &PackageSource, directory: &Path) -> Result<PathBuf, Error> {
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

fn choose<'a>(
    source: &PackageSource,
    versions: &'a [String],
    wanted: Option<&str>,
    line: ProductLine,
) -> Result<&'a str, Box<Problem>> {
    let PackageSource { address, chart, .. } = source;
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

/// Docker's file of credentials, with those of this registry alone: a registry may ask for those of another one, and
/// `credsStore` and `credHelpers` name programs. It is written, and not made by `helm registry login`, because a login asks
/// the registry for more than a pull needs.
fn registry_config(address: &Address, credentials: &Credentials) -> Result<Vec<u8>, Box<Problem>> {
    let host = address.authority();
    let auth = match credentials {
        Credentials::Docker(config) => {
            let config: Value = serde_json::from_slice(config).unwrap_or_default();
            let own = config["auths"].as_object().into_iter().flatten().find(|(key, _)| is_of(key, &host));
            own.map(|(_, auth)| auth.clone()).ok_or_else(|| {
                let message = format!("the .dockerconfigjson of the Secret has no credentials for {host}");
                Problem::new(FailureClass::RepositoryUnauthorized, message)
                    .field("spec.chart.credentialsSecretRef")
                    .boxed()
            })?
        }
        Credentials::Basic { username, password } => {
            json!({"auth": STANDARD.encode(format!("{username}:{password}"))})
        }
    };
    let key = if host == DOCKER_HUB { DOCKER_HUB_KEY } else { &host };
    Ok(json!({"auths": {key: auth}}).to_string().into_bytes())
}

/// The registry of Docker Hub, and its name in Docker's file of credentials.
const DOCKER_HUB: &str = "registry-1.docker.io";
const DOCKER_HUB_KEY: &str = "https://index.docker.io/v1/";

/// Whether a key of Docker's file of credentials is that of the registry: keys may have a scheme and a path.
fn is_of(key: &str, host: &str) -> bool {
    let key = key.trim_start_matches("https://").trim_start_matches("http://");
    let name = key.split('/').next().unwrap_or_default();
    let hub = [DOCKER_HUB, "index.docker.io", "docker.io"];
    name.eq_ignore_ascii_case(host) || (hub.contains(&host) && hub.contains(&name))
}

/// What helm said about a repository, as a problem that says what was asked, where, and which field is to be corrected.
fn refused(source: &PackageSource, wanted: Option<&str>, failure: &HelmFailure) -> Problem {
    let class = match failures::worst(&failure.text).class {
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
        FailureClass::RepositoryUnauthorized => "spec.chart.credentialsSecretRef",
        _ if failure.text.contains("x509:") => "spec.chart.caSecretRef",
        _ => "spec.chart.repository",
    };
    let PackageSource { address, chart, .. } = source;
    let version = wanted.unwrap_or("newest stable version");
    Problem::new(class, format!("{chart} ({version}) could not be fetched from {address}: {}", failure.text))
        .field(field)
}

/// Reads the Chart.yaml of a packaged chart.
pub async fn metadata(helm: &Helm, archive: &Path) -> Result<ChartMetadata, Error> {
    let invalid = |message: String| Problem::new(FailureClass::ChartInvalid, message).field("spec.chart");
    let unpacked = unpacked(archive).await?;
    let archive = archive.display().to_string();
    let shown = helm.capture_within(FETCH_TIME, ["show", "chart", &archive], None).await;
    let shown = shown.map_err(|error| match error {
        Error::HelmExcess(excess) => invalid(format!("the chart archive cannot be read: {excess} for it")).into(),
        other => other,
    })?;
    let shown = shown.map_err(|failure| {
        invalid(format!("the chart archive cannot be read: {}", failure.text.replace(&archive, "the archive")))
    })?;
    Ok(read_metadata(&shown)?.packed_with(coder_within(&unpacked)))
}

/// The archive, unpacked, if helm may look at it: helm unpacks it as often as it is asked something about it.
async fn unpacked(archive: &Path) -> Result<Vec<u8>, Error> {
    let refused = |class, message: String| Error::from(Problem::new(class, message).field("spec.chart"));
    let packed = io::read_up_to(archive, PACKAGE_LIMIT).await?.ok_or_else(|| {
        let limit = bounded::size(PACKAGE_LIMIT);
        refused(
            FailureClass::TooLarge,
            format!("the chart archive takes more than {limit}, and must fit into a Secret"),
        )
    })?;
    match bounded::gunzip(&packed, UNPACKED) {
        Err(why) if why.is_excess() => Err(refused(FailureClass::ChartInvalid, format!("the chart archive {why}"))),
        // helm says better what else is wrong with it.
        other => Ok(other.unwrap_or_default()),
    }
}

fn read_metadata(shown: &[u8]) -> Result<ChartMetadata, Error> {
    let text = String::from_utf8_lossy(shown);
    bounded::yaml(&text).map_err(|e| {
        let message = format!("the Chart.yaml of the chart {e}");
        Problem::new(FailureClass::ChartInvalid, message).field("spec.chart").into()
    })
}

fn arguments<const N: usize>(arguments: [&str; N]) -> Vec<String> {
    arguments.map(Into::into).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(address: &str) -> PackageSource {
        PackageSource {
            address: Address::parse(address).unwrap(),
            chart: "coder".into(),
            credentials: None,
            archives: None,
            ca: None,
            plain_http: false,
        }
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
            (FailureClass::RepositoryUnauthorized, "spec.chart.credentialsSecretRef".into())
        );
        assert_eq!(
            field(
                "Get \"https://r\": tls: failed to verify certificate: x509: certificate signed by unknown authority"
            ),
            (FailureClass::RepositoryUnreachable, "spec.chart.caSecretRef".into())
        );
        assert_eq!(
            field("dial tcp 10.0.0.1:443: connect: connection refused"),
            (FailureClass::RepositoryUnreachable, "spec.chart.repository".into())
        );
    }

    fn config(address: &str, credentials: &Credentials) -> Value {
        let address = Address::parse(address).unwrap();
        serde_json::from_slice(&registry_config(&address, credentials).unwrap()).unwrap()
    }

    #[test]
    fn registry_credentials_are_for_its_host() {
        let credentials = Credentials::Basic { username: "u".into(), password: "p".into() };
        let registry = "oci://registry:5000/charts";
        assert_eq!(config(registry, &credentials), json!({"auths": {"registry:5000": {"auth": "dTpw"}}}));
    }

    #[test]
    fn of_many_credentials_only_those_of_the_registry_are_given_to_helm() {
        let docker = |value: Value| Credentials::Docker(value.to_string().into_bytes());
        let many = docker(json!({
            "credsStore": "desktop", "credHelpers": {"ghcr.io": "evil"},
            "auths": {"https://GHCR.io/v2/": {"auth": "mine"}, "other.example": {"auth": "theirs"}},
        }));
        assert_eq!(config("oci://ghcr.io/coder/chart", &many), json!({"auths": {"ghcr.io": {"auth": "mine"}}}));
        let none = registry_config(&Address::parse("oci://ghcr.io:5000/x").unwrap(), &many).unwrap_err();
        assert!(none.message.contains("no credentials for ghcr.io:5000"), "{}", none.message);

        let hub = docker(json!({"auths": {"https://index.docker.io/v1/": {"auth": "hub"}}}));
        let auths = json!({"auths": {"https://index.docker.io/v1/": {"auth": "hub"}}});
        assert_eq!(config("oci://registry-1.docker.io/x", &hub), auths);
    }
}
