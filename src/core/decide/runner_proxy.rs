//! What a runner's pod is told of the way to repositories.

use k8s_openapi::api::core::v1::{EnvVar, EnvVarSource, SecretKeySelector};

use crate::core::outbound::{Outbound, variable};

/// The variables. A Secret that is not there, or lacks a key, means no proxy.
pub fn variables(outbound: &Outbound) -> Vec<EnvVar> {
    let literal = |name: &str, value: &Option<String>| {
        value.clone().map(|value| EnvVar { name: name.into(), value: Some(value), ..EnvVar::default() })
    };
    let of_secret = |name: &str, key: &str| {
        outbound.secret.as_ref().map(|secret| {
            let key = SecretKeySelector { name: secret.clone(), key: key.into(), optional: Some(true) };
            let source = EnvVarSource { secret_key_ref: Some(key), ..EnvVarSource::default() };
            EnvVar { name: name.into(), value_from: Some(source), ..EnvVar::default() }
        })
    };
    let proxies = [
        (variable::HTTP, &outbound.http, "HTTP_PROXY"),
        (variable::HTTPS, &outbound.https, "HTTPS_PROXY"),
        (variable::NONE, &outbound.none, "NO_PROXY"),
    ];
    let proxies =
        proxies.into_iter().filter_map(|(name, value, key)| of_secret(name, key).or_else(|| literal(name, value)));
    proxies.chain(literal(variable::AUTHORITIES, &outbound.authorities)).collect()
}
