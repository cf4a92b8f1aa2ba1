//! What coder-sim is told by its arguments and environment.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use semver::Version;
use tokio_util::sync::CancellationToken;

/// Environment variables by name.
pub type Variables = BTreeMap<String, String>;

/// The part of Coder that is played.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// `PostgreSQL`.
    Database,
    /// coderd of Coder v2.
    CoderV2,
    /// `migrate up` of Coder Classic.
    Migrate,
    /// A service of Coder Classic.
    Classic(Service),
    /// Nothing in particular: runs until it is stopped.
    Idle,
}

/// The services of Coder Classic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Service {
    /// `cemanager`, later called `coderd`: the API, with the database.
    Api,
    /// The proxy to workspaces.
    EnvProxy,
    /// The web interface.
    Dashboard,
}

/// Arguments and environment, understood. The variables heeded beside those below are named where they are used.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `CODER_SIM_VERSION`: the version that is played.
    pub version: Version,
    /// What is played.
    pub part: Part,
    /// `POD_IP` with the port of `CODER_ADDRESS`, `CODER_HTTP_ADDRESS` or `PORT`, or the usual one of the part.
    pub listen: SocketAddr,
    /// Whether it answers there: not if `CODER_ADDRESS` and `CODER_TLS_ENABLE` are set. An empty `CODER_HTTP_ADDRESS` does not
    /// close it, because Coder takes an empty variable for one that is not set.
    pub answers_http: bool,
    /// `POD_IP` with the port of `CODER_ADDRESS` or `CODER_TLS_ADDRESS`, if `CODER_TLS_ENABLE` says yes.
    pub listen_tls: Option<SocketAddr>,
    /// Everything, for the variables that only one part heeds.
    pub variables: Variables,
    /// Cancelled once the server has started: coderd of v2 heeds SIGTERM from then on.
    pub started: CancellationToken,
}

impl Settings {
    /// Understands arguments and environment.
    ///
    /// # Errors
    /// A sentence about the variable that cannot be used.
    pub fn new(arguments: &[String], variables: Variables) -> Result<Self, String> {
        let version = version(&variables);
        let played = part(arguments, version.as_ref().map_or(0, |version| version.major));
        // The tag of a database's image is none of Coder's versions.
        let version = if matches!(played, Part::Database | Part::Idle) { Version::new(0, 0, 0) } else { version? };
        let address = variables.get("POD_IP").filter(|address| !address.is_empty());
        let address = match address {
            None => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Some(address) => address.parse().map_err(|_| format!("POD_IP={address} is no address"))?,
        };
        let listen = SocketAddr::new(address, port(played, &variables)?);
        let mut settings = Self {
            version,
            part: played,
            listen,
            answers_http: true,
            listen_tls: None,
            variables,
            started: CancellationToken::new(),
        };
        if settings.is_on("CODER_TLS_ENABLE") {
            let alone = settings.get("CODER_ADDRESS").map(|text| ("CODER_ADDRESS", text));
            let beside = ("CODER_TLS_ADDRESS", settings.get("CODER_TLS_ADDRESS").unwrap_or("127.0.0.1:3443"));
            let (name, text) = alone.unwrap_or(beside);
            let (listen_tls, answers_http) = (SocketAddr::new(address, port_of(name, text)?), alone.is_none());
            (settings.listen_tls, settings.answers_http) = (Some(listen_tls), answers_http);
        }
        Ok(settings)
    }

    /// A variable, if it is set and not empty.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&str> {
        self.variables.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Whether a variable says yes.
    #[must_use]
    pub fn is_on(&self, name: &str) -> bool {
        self.get(name).is_some_and(|value| matches!(value, "1" | "t" | "true" | "TRUE" | "yes"))
    }

    /// Where a database of this container keeps its data: `PGDATA`, or the first mounted claim, or the home directory.
    #[must_use]
    pub fn data_dir(&self) -> PathBuf {
        let directory = ["PGDATA", "POD_CLAIM_DIR", "HOME"].into_iter().find_map(|name| self.get(name));
        PathBuf::from(directory.unwrap_or("."))
    }
}

fn version(variables: &Variables) -> Result<Version, String> {
    let text = variables.get("CODER_SIM_VERSION").map_or("0.0.0", String::as_str);
    Version::parse(text.trim_start_matches('v')).map_err(|error| {
        format!("CODER_SIM_VERSION={text} is no version ({error}); it comes from the image's tag, such as v2.31.7")
    })
}

fn part(arguments: &[String], major: u64) -> Part {
    let names: Vec<&str> = arguments.iter().filter_map(|argument| Path::new(argument).file_name()?.to_str()).collect();
    let has = |name: &str| names.contains(&name);
    match names.first() {
        Some(&"database") => return Part::Database,
        Some(&"pause") => return Part::Idle,
        _ => {}
    }
    if major != 1 {
        return if has("server") { Part::CoderV2 } else { Part::Idle };
    }
    if has("migrate") {
        Part::Migrate
    } else if has("envproxy") {
        Part::Classic(Service::EnvProxy)
    } else if has("dashboard") {
        Part::Classic(Service::Dashboard)
    } else {
        Part::Classic(Service::Api)
    }
}

/// The asked-for port; the asked-for address is ignored, because it is that of the pod in any case.
fn port(played: Part, variables: &Variables) -> Result<u16, String> {
    let (names, default): (&[&str], u16) = match played {
        Part::Database => (&["PGPORT"], 5432),
        Part::Classic(Service::Dashboard) => (&["PORT"], 3000),
        _ => (&["CODER_ADDRESS", "CODER_HTTP_ADDRESS", "PORT"], 8080),
    };
    let set = names.iter().find_map(|name| Some((name, variables.get(*name).filter(|value| !value.is_empty())?)));
    let Some((variable, value)) = set else { return Ok(default) };
    port_of(variable, value)
}

fn port_of(variable: &str, value: &str) -> Result<u16, String> {
    let port = value.rsplit(':').next().unwrap_or(value);
    port.parse().map_err(|_| format!("{variable}={value} has no port; it looks like 0.0.0.0:8080"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(command: &str, variables: &[(&str, &str)]) -> Result<Settings, String> {
        let words: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        Settings::new(&words, variables.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect())
    }

    #[test]
    fn parts() {
        for (command, version, expected) in [
            ("/opt/coder server", "2.31.7", Part::CoderV2),
            ("server", "0.14.3", Part::CoderV2),
            ("/opt/coder provisionerd start", "2.31.7", Part::Idle),
            ("cemanager migrate up", "1.16.1", Part::Migrate),
            ("/coder/cemanager run", "1.16.1", Part::Classic(Service::Api)),
            ("coderd run", "1.30.0", Part::Classic(Service::Api)),
            ("envproxy run", "1.16.1", Part::Classic(Service::EnvProxy)),
            ("dashboard", "1.16.1", Part::Classic(Service::Dashboard)),
            ("", "1.16.1", Part::Classic(Service::Api)),
            ("database postgres -c x", "16", Part::Database),
            ("pause", "2.31.7", Part::Idle),
        ] {
            assert_eq!(settings(command, &[("CODER_SIM_VERSION", version)]).unwrap().part, expected, "{command}");
        }
    }

    #[test]
    fn the_pods_address_with_the_asked_for_port() {
        for (command, variables, expected) in [
            ("server", vec![("CODER_HTTP_ADDRESS", "0.0.0.0:9000")], "127.5.0.10:9000"),
            ("server", vec![("CODER_HTTP_ADDRESS", ":9000")], "127.5.0.10:9000"),
            ("server", vec![("PORT", "9000")], "127.5.0.10:9000"),
            ("server", vec![], "127.5.0.10:8080"),
            ("database", vec![], "127.5.0.10:5432"),
        ] {
            let variables: Vec<_> = variables.into_iter().chain([("POD_IP", "127.5.0.10")]).collect();
            assert_eq!(settings(command, &variables).unwrap().listen, expected.parse().unwrap());
        }
        let error = settings("server", &[("CODER_HTTP_ADDRESS", "nowhere")]).unwrap_err();
        assert!(error.contains("CODER_HTTP_ADDRESS=nowhere"), "{error}");
    }

    #[test]
    fn one_address_for_all_is_that_of_tls_alone() {
        let tls = |variables: &[(&str, &str)]| {
            let variables: Vec<_> = variables.iter().copied().chain([("CODER_TLS_ENABLE", "true")]).collect();
            let settings = settings("server", &variables).unwrap();
            (settings.answers_http, settings.listen_tls.map(|address| address.port()))
        };
        assert_eq!(
            tls(&[("CODER_ADDRESS", "0.0.0.0:8443"), ("CODER_HTTP_ADDRESS", "0.0.0.0:8080")]),
            (false, Some(8443))
        );
        assert_eq!(tls(&[("CODER_TLS_ADDRESS", "0.0.0.0:8443"), ("CODER_HTTP_ADDRESS", "")]), (true, Some(8443)));
    }

    #[test]
    fn a_tag_that_is_no_version_is_explained() {
        assert!(settings("server", &[("CODER_SIM_VERSION", "latest")]).unwrap_err().contains("image's tag"));
    }
}
