//! Coder's own answers: who are you, and are you well?

pub mod http;
pub mod token;

use std::net::IpAddr;
use std::time::Duration;

use hyper::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::coder::http::{HttpRequest, Reply};
use crate::core::helm::version::comparable;
use crate::core::rollout::endpoint;
use crate::core::rollout::endpoint::{Endpoint, Port, host_of};
use crate::core::rollout::health::{Health, Stats};
use crate::core::rollout::inventory::{Answer, NoAnswer, Silence};
use crate::core::rollout::workload::PodFacts;
use crate::core::text::bounded;
use crate::core::text::display::printable;
use crate::core::text::redact::head;

/// The parts of `/api/v2/buildinfo` and `/api/private/version` that are looked at. Old servers say less.
#[derive(Deserialize)]
struct Version {
    version: String,
    #[serde(default)]
    deployment_id: Option<String>,
}

/// How long Coder may look at its health: it asks its database, relays and proxies.
const HEALTH_PATIENCE: Duration = Duration::from_secs(45);
/// How long it may count its builds.
const STATS_PATIENCE: Duration = Duration::from_secs(10);

/// Longest version and longest id of a deployment, in bytes.
const WORD: usize = 256;

/// Coder v2 puts its version into this header of whatever it answers itself, and of nothing that it redirects.
const VERSION_HEADER: &str = "x-coder-build-version";

/// The setting with which Coder redirects all that does not come by its public name.
const REDIRECTS: &str = "CODER_REDIRECT_TO_ACCESS_URL";

/// Why a question that takes a token was not answered. Each is the end of a sentence that begins with the pod.
pub enum Unanswered {
    /// The token does not count.
    Refused(String),
    /// The server is too old for the question, or answers it only under its public name.
    Unknown(String),
    /// Nobody answers, or with something else.
    Silent(String),
}

/// How many workspace builds are pending or running.
pub async fn builds(pod: &PodFacts, endpoint: &Endpoint, token: &str) -> Result<u64, Unanswered> {
    let path = "/api/v2/deployment/stats";
    let question = HttpRequest { token: Some(token), patience: STATS_PATIENCE, ..HttpRequest::of(path) };
    let stats: Stats = answer(pod, endpoint, question).await?;
    Ok(stats.builds())
}

/// What Coder says about its health, read again.
pub async fn health(pod: &PodFacts, endpoint: &Endpoint, token: &str) -> Result<Health, Unanswered> {
    let path = "/api/v2/debug/health?force=true";
    let question = HttpRequest { token: Some(token), patience: HEALTH_PATIENCE, ..HttpRequest::of(path) };
    let report = answer(pod, endpoint, question).await?;
    Health::read(&report).ok_or_else(|| Unanswered::Silent(format!("answers {path} with something that is no report")))
}

async fn answer<T: DeserializeOwned>(
    pod: &PodFacts,
    endpoint: &Endpoint,
    question: HttpRequest<'_>,
) -> Result<T, Unanswered> {
    let address = address(pod).map_err(Unanswered::Silent)?;
    let mut asked = Err("has no port that could be asked".to_owned());
    for port in &endpoint.ports {
        asked = as_itself(address, *port, endpoint, question).await;
        if asked.as_ref().is_ok_and(|reply| !reply.status.is_redirection()) {
            break;
        }
    }
    let Reply { status, body, .. } = asked.map_err(Unanswered::Silent)?;
    let path = question.path;
    match status {
        StatusCode::OK => bounded::json(&body)
            .map_err(|e| Unanswered::Silent(format!("answers {path} with something else than was asked: {e}"))),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Err(refusal(&body, &format!("answers {path} with {status}")))
        }
        StatusCode::NOT_FOUND => Err(Unanswered::Unknown(format!("does not know {path}"))),
        _ if status.is_redirection() => Err(Unanswered::Unknown(format!("redirects {path} ({REDIRECTS})"))),
        _ => Err(Unanswered::Silent(format!("answers {path} with {status}"))),
    }
}

/// The words of a refusal, as far as they tell whose fault it is.
#[derive(Default, Deserialize)]
#[serde(default)]
struct RefusalBody {
    message: String,
    detail: String,
}

/// What a 401 or 403 means. Coder says in JSON why it refuses a token; with its database away it answers 401 to everybody, and
/// names an internal error. Anything else comes from a proxy or a mesh before it.
fn refusal(body: &[u8], how: &str) -> Unanswered {
    let RefusalBody { message, detail } = bounded::json(body).unwrap_or_default();
    if message.is_empty() {
        return Unanswered::Silent(format!("{how}, which is not Coder's own answer"));
    }
    if [message, detail].iter().any(|text| text.to_ascii_lowercase().contains("internal error")) {
        return Unanswered::Silent(format!("{how} because of an internal error, such as a database that is away"));
    }
    Unanswered::Refused(how.to_owned())
}

fn address(pod: &PodFacts) -> Result<IpAddr, String> {
    match &pod.ip {
        Some(ip) => ip.parse().map_err(|_| format!("has the address {ip}, which cannot be asked")),
        None => Err("has no address yet".into()),
    }
}

/// Asks a port of a pod. A server that answers only under its public name is asked again by that name, at the same address:
/// nobody is asked elsewhere.
async fn as_itself(
    address: IpAddr,
    port: Port,
    endpoint: &Endpoint,
    question: HttpRequest<'_>,
) -> Result<Reply, String> {
    let host = endpoint.host.as_deref().filter(|_| port.tls);
    let reply = http::ask(address, port, HttpRequest { host, ..question }).await?;
    let named = reply.header("location").filter(|_| reply.status.is_redirection()).and_then(host_of);
    let Some((tls, name)) = named.filter(|(_, name)| host != Some(*name)) else { return Ok(reply) };
    if tls != port.tls {
        return Ok(reply);
    }
    // What answers worse by that name has still answered.
    http::ask(address, port, HttpRequest { host: Some(name), ..question }).await.or(Ok(reply))
}

/// Asks a pod who it is.
pub async fn ask(pod: &PodFacts, endpoint: &Endpoint) -> Result<Answer, NoAnswer> {
    let no = |silence, why| NoAnswer { pod: pod.name.clone(), why, silence };
    let address = address(pod).map_err(|why| no(Silence::Unreachable, why))?;
    let mut best = Err((Silence::Wrong, "has no port that could be asked".to_owned()));
    for port in &endpoint.ports {
        let asked = ask_port(address, *port, endpoint).await;
        let complete = asked.as_ref().is_ok_and(|answer| answer.withheld.is_none());
        // What the likeliest port says counts, unless another one tells more.
        if complete || (asked.is_ok() && best.is_err()) || port == &endpoint.ports[0] {
            best = asked;
        }
        if complete {
            break;
        }
    }
    match best {
        Ok(answer) => Ok(Answer { pod: pod.name.clone(), ..answer }),
        Err((silence, why)) => Err(no(silence, why)),
    }
}

/// Why a port gives no answer, with the end of a sentence that begins with the pod.
type Mute = (Silence, String);

async fn ask_port(address: IpAddr, port: Port, endpoint: &Endpoint) -> Result<Answer, Mute> {
    let get = async |path: &'static str| {
        let asked = as_itself(address, port, endpoint, HttpRequest::of(path)).await;
        asked.map_err(|why| (Silence::Unreachable, why))
    };
    let (healthy, path) = match endpoint.question {
        endpoint::Question::BuildInfo => (healthy(&get, &["/healthz"]).await?, "/api/v2/buildinfo"),
        endpoint::Question::ClassicVersion => {
            (healthy(&get, &["/cem-healthz", "/healthz"]).await?, "/api/private/version")
        }
        endpoint::Question::Health => {
            healthy(&get, &["/healthz"]).await?;
            return Ok(known("", None, None, port));
        }
    };
    let told = healthy.header(VERSION_HEADER).map(ToOwned::to_owned);
    let why = match get(path).await {
        Ok(reply) if reply.status == StatusCode::OK => match bounded::json::<Version>(&reply.body) {
            Ok(version) => return Ok(known(&version.version, version.deployment_id, None, port)),
            Err(e) => (Silence::Wrong, format!("answers {path} with something that tells no version: {e}")),
        },
        Ok(reply) => no_success(&reply, path),
        Err(mute) => mute,
    };
    let Some(version) = told else { return Err(why) };
    let because = match &why {
        (Silence::TurnedAway, _) => REDIRECTS.to_owned(),
        (_, why) => format!("it {why}"),
    };
    Ok(known(&version, None, Some(format!("does not tell its deployment ({because})")), port))
}

fn known(version: &str, deployment_id: Option<String>, withheld: Option<String>, port: Port) -> Answer {
    let unverified = || "was asked over TLS without a check of its certificate".to_owned();
    Answer {
        pod: String::new(),
        version: word(comparable(version)),
        deployment_id: deployment_id.filter(|id| !id.is_empty()).map(|id| word(&id)),
        remarks: port.tls.then(unverified).into_iter().collect(),
        withheld,
    }
}

/// What a pod says of itself, which goes on into plans and to people.
fn word(said: &str) -> String {
    head(&printable(said), WORD)
}

/// The first of the paths that exists must answer 200.
async fn healthy(
    get: &impl AsyncFn(&'static str) -> Result<Reply, Mute>,
    paths: &[&'static str],
) -> Result<Reply, Mute> {
    let mut wrong = (Silence::Wrong, String::new());
    for path in paths {
        let reply = get(path).await?;
        match reply.status {
            StatusCode::OK => return Ok(reply),
            StatusCode::NOT_FOUND => wrong.1 = format!("does not know {path}"),
            _ => return Err(no_success(&reply, path)),
        }
    }
    Err(wrong)
}

/// An answer that is none to the question. Coder itself asks nobody for a token there: a proxy or a mesh before it does.
fn no_success(reply: &Reply, path: &str) -> Mute {
    let status = reply.status;
    let turned_away = status.is_redirection()
        || matches!(
            status,
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::PROXY_AUTHENTICATION_REQUIRED
        );
    let silence = if turned_away { Silence::TurnedAway } else { Silence::Wrong };
    (silence, format!("answers {path} with {status}"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// As Coder 2.31.7 says it, without and with its database.
    #[rstest]
    #[case(r#"{"message":"An internal error occurred. Please try again or contact the system administrator.",
        "detail":"Internal error fetching API key by id. fetch object: dial tcp 127.0.0.1:55432: connect: connection refused"}"#, false)]
    #[case(
        r#"{"message":"You are signed out or your session has expired. Please sign in again to continue.",
        "detail":"Cookie \"coder_session_token\" or query parameter must be provided."}"#,
        true
    )]
    #[case("RBAC: access denied", false)]
    #[case("", false)]
    fn only_coder_refuses_a_token(#[case] body: &str, #[case] refused: bool) {
        let refusal = refusal(body.as_bytes(), "answers /x with 401 Unauthorized");
        assert_eq!(matches!(refusal, Unanswered::Refused(_)), refused);
    }
}
