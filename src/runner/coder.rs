//! Coder's own answers: who are you, and are you well?

use std::net::IpAddr;

use hyper::StatusCode;
use serde::Deserialize;

use super::http;
use crate::core::endpoint::{Endpoint, Question};
use crate::core::plan::Answer;
use crate::core::verify::comparable;
use crate::core::workload::PodFacts;

/// The parts of `/api/v2/buildinfo` and `/api/private/version` that are looked at. Old servers say less.
#[derive(Deserialize)]
struct Version {
    version: String,
    #[serde(default)]
    deployment_id: Option<String>,
}

/// Asks a pod. The error is the end of a sentence that begins with the pod.
pub async fn ask(pod: &PodFacts, endpoint: Endpoint) -> Result<Answer, String> {
    let address: IpAddr = match &pod.ip {
        Some(ip) => ip.parse().map_err(|_| format!("has the address {ip}, which cannot be asked"))?,
        None => return Err("has no address yet".into()),
    };
    let version = match endpoint.question {
        Question::BuildInfo => {
            healthy(address, endpoint, &["/healthz"]).await?;
            version(address, endpoint, "/api/v2/buildinfo").await?
        }
        Question::ClassicVersion => {
            healthy(address, endpoint, &["/cem-healthz", "/healthz"]).await?;
            version(address, endpoint, "/api/private/version").await?
        }
        Question::Health => {
            healthy(address, endpoint, &["/healthz"]).await?;
            Version { version: String::new(), deployment_id: None }
        }
    };
    Ok(Answer {
        pod: pod.name.clone(),
        version: comparable(&version.version).to_owned(),
        deployment_id: version.deployment_id.filter(|id| !id.is_empty()),
    })
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
    serde_json::from_slice(&body).map_err(|e| format!("answers {path} with something that tells no version: {e}"))
}
