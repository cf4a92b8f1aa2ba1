//! Tokens of pods: asked for, bound to the pod, and asked for again before they expire.

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{BoundObjectReference, TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{Pod, ServiceAccount, ServiceAccountTokenProjection};
use kube::api::PostParams;
use kube::{Api, Client};

use super::NodeError;
use super::relation::once_known;
use super::sources::Unmet;

/// Life of a token whose volume names none, in seconds.
const DEFAULT_SECONDS: i64 = 3600;

/// A token with the time from which on a new one is asked for.
#[derive(Debug, Clone)]
pub struct HeldToken {
    /// The token itself.
    pub token: String,
    renew_after: Timestamp,
}

impl HeldToken {
    /// The token, until a new one is asked for.
    pub fn good(self) -> Option<String> {
        (Timestamp::now() < self.renew_after).then_some(self.token)
    }
}

/// When a token that was asked for at `now` and ends at `expires` is renewed: after four fifths of its life.
fn renewal(now: Timestamp, expires: Timestamp) -> Timestamp {
    now.saturating_add(now.duration_until(expires) / 5 * 4).unwrap_or(expires)
}

/// A new token for a projected volume of the pod.
pub(super) async fn request(
    client: &Client,
    pod: &Pod,
    source: &ServiceAccountTokenProjection,
) -> Result<HeldToken, Unmet> {
    let now = Timestamp::now();
    let account = pod.spec.as_ref().and_then(|spec| spec.service_account_name.as_deref()).unwrap_or("default");
    let request = TokenRequest {
        spec: TokenRequestSpec {
            audiences: source.audience.clone().filter(|audience| !audience.is_empty()).into_iter().collect(),
            expiration_seconds: Some(source.expiration_seconds.unwrap_or(DEFAULT_SECONDS)),
            bound_object_ref: Some(BoundObjectReference {
                api_version: Some("v1".into()),
                kind: Some("Pod".into()),
                name: pod.metadata.name.clone(),
                uid: pod.metadata.uid.clone(),
            }),
        },
        ..TokenRequest::default()
    };
    let accounts: Api<ServiceAccount> =
        Api::namespaced(client.clone(), pod.metadata.namespace.as_deref().unwrap_or_default());
    let parameters = PostParams::default();
    let answer = once_known(|| accounts.create_token_request(account, &parameters, &request)).await;
    let answer = answer.map_err(NodeError::api("request a token of ServiceAccount", account))?;
    let status = answer.status.ok_or_else(|| Unmet::new("the API server answered a token request without a token"))?;
    Ok(HeldToken { token: status.token, renew_after: renewal(now, status.expiration_timestamp.0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_renewed_before_it_ends() {
        let at = |second| Timestamp::from_second(second).unwrap();
        assert_eq!(renewal(at(0), at(600)), at(480));
    }
}
