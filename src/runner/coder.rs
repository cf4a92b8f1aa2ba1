//! Coder's own answers: who are you, and are you well?

use std::net::IpAddr;
use std::time::Duration;

use hyper::StatusCode;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::http::{self, Question};
use crate::core::bounded;
use crate::core::endpoint::{self, Endpoint};
use crate::core::health::{Health, Stats};
use crate::core::plan::Answer;
use crate::core::redact::head;
use crate::core::text::printable;
use crate::core::verify::comparable;
use crate::core::workload::PodFacts;

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

/// Why a question that takes a token was not answered. Each is the end of a sentence that begins with the pod.
pub enum Unanswered {
    /// The token does not count.
    Refused(String),
    /// The server is too old for the question.
    Unknown(String),
    /// Nobody answers, or with something else.
    Silent(String),
}

/// How many workspace builds are pending or running.
pub async fn builds(pod: &PodFacts, endpoint: Endpoint, token: &str) -> Result<u64, Unanswered> {
    let question = Question { path: "/api/v2/deployment/stats", token: Some(token), patience: STATS_PATIENCE };
    let stats: Stats = answer(pod, endpoint, question).await?;
    Ok(stats.builds())
}

/// What Coder says about its health, looked at anew.
pub async fn health(pod: &PodFacts, endpoint: Endpoint, token: &str) -> Result<Health, Unanswered> {
    let path = "/api/v2/debug/health?force=true";
    let report = answer(pod, endpoint, Question { path, token: Some(token), patience: HEALTH_PATIENCE }).await?;
    Health::read(&report).ok_or_else(|| Unanswered::Silent(format!("answers {path} with something that is no report")))
}

async fn answer<T: DeserializeOwned>(
    pod: &PodFacts,
    endpoint: Endpoint,
    question: Question<'_>,
) -> Result<T, Unanswered> {
    let address = address(pod).map_err(Unanswered::Silent)?;
    let asked = http::ask(address, endpoint.port, endpoint.tls, question).await;
    let (status, body) = asked.map_err(Unanswered::Silent)?;
    let path = question.path;
    match status {
        StatusCode::OK => bounded::json(&body)
            .map_err(|e| Unanswered::Silent(format!("answers {path} with something else than was asked: {e}"))),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Err(Unanswered::Refused(format!("answers {path} with {status}")))
        }
        StatusCode::NOT_FOUND => Err(Unanswered::Unknown(format!("does not know {path}"))),
        _ => Err(Unanswered::Silent(format!("answers {path} with {status}"))),
    }
}

fn address(pod: &PodFacts) -> Result<IpAddr, String> {
    match &pod.ip {
        Some(ip) => ip.parse().map_err(|_| format!("has the address {ip}, which cannot be asked")),
        None => Err("has no address yet".into()),
    }
}

/// Asks a pod. The error is the end of a sentence that begins with the pod.
pub async fn ask(pod: &PodFacts, endpoint: Endpoint) -> Result<Answer, String> {
    let address = address(pod)?;
    let version = match endpoint.question {
        endpoint::Question::BuildInfo => {
            healthy(address, endpoint, &["/healthz"]).await?;
            version(address, endpoint, "/api/v2/buildinfo").await?
        }
        endpoint::Question::ClassicVersion => {
            healthy(address, endpoint, &["/cem-healthz", "/healthz"]).await?;
            version(address, endpoint, "/api/private/version").await?
        }
        endpoint::Question::Health => {
            healthy(address, endpoint, &["/healthz"]).await?;
            Version { version: String::new(), deployment_id: None }
        }
    };
    Ok(Answer {
        pod: pod.name.clone(),
        version: word(comparable(&version.version)),
        deployment_id: version.deployment_id.filter(|id| !id.is_empty()).map(|id| word(&id)),
    })
}

/// What a pod says of itself, which goes on into plans and to people.
fn word(said: &str) -> String {
    head(&printable(said), WORD)
}

/// The first of the paths that exists must answer 200.
async fn healthy(address: IpAddr, endpoint: Endpoint, paths: &[&str]) -> Result<(), String> {
    let mut wrong = String::new();
    for path in paths {
        match http::get(address, endpoint.port, endpoint.tls, path).await? {
            (StatusCode::OK, _) => return Ok(()),
            (StatusCode::NOT_FOUND, _) => wrong = format!("does not know {path}"),
            (status, _) => return Err(format!("answers {path} with {status}")),
        }
    }
    Err(wrong)
}

async fn version(address: IpAddr, endpoint: Endpoint, path: &str) -> Result<Version, String> {
    let (status, body) = http::get(address, endpoint.port, endpoint.tls, path).await?;
    if status != StatusCode::OK {
        return Err(format!("answers {path} with {status}"));
    }
    bounded::json(&body).map_err(|e| format!("answers {path} with something that tells no version: {e}"))
}
