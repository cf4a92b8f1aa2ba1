//! What counts as a secret, and what does not.

use rstest::rstest;
use serde_json::json;

use super::*;

#[test]
fn everything_counts_but_what_names_something_public() {
    let values = json!({
        "coder": {
            "env": [
                {"name": "CODER_PG_CONNECTION_URL", "value": "postgres://coder:hunter2@db/coder"},
                {"name": "CODER_ACCESS_URL", "value": "https://coder.example.com"},
                {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "owner-token", "key": "session_token"}}},
                {"name": "SOME_TOKEN", "value": "coder.example.com"},
            ],
            "image": {"repo": "ghcr.io/coder/coder", "tag": "v2.31.7"},
            "volumes": [{"secret": {"secretName": "certificates"}}],
            "list": ["topsecret", "abc", null, 7, "1234567"],
            "host": "https://user:password@proxy",
            "annotations": {"helm.sh/hook": "pre-upgrade,pre-install", "example.com/ready": "true"},
            "service": {"type": "LoadBalancer", "port": 808_080},
        },
        "tls": {"key": "MIIBVQIBADAN", "name": "-----BEGIN KEY-----\nMIIBVQ\n"},
    });
    assert_eq!(
        secrets(&values),
        [
            "postgres://coder:hunter2@db/coder",
            "coder.example.com",
            "https://user:password@proxy",
            "topsecret",
            "1234567",
            "1234567",
            "1.234567e+06",
            "1.234567",
            "1234567",
            "1234567",
            "MIIBVQIBADAN",
            "-----BEGIN KEY-----\nMIIBVQ\n"
        ]
    );
}

#[rstest]
#[case("note", "8473625198", false)]
#[case("note", "12e45678", false)]
#[case("note", "infinity", false)]
#[case("note", "swordfish-planted", false)]
#[case("note", "red fox jumps over", false)]
#[case("note", "hunter2", false)]
#[case("note", "pre-upgrade", true)]
#[case("note", "before-hook-creation,hook-succeeded", true)]
#[case("note", "ReadWriteOnce", true)]
#[case("note", "v2.31.7", true)]
#[case("note", "2.33.0-rc.1", true)]
#[case("note", "1024Mi", true)]
#[case("note", "24h0m0s", true)]
#[case("note", "*.coder.example.com", true)]
#[case("note", "10.96.12.0/24", true)]
#[case("note", "https://coder.example.com:8443/", true)]
#[case("note", "https://hooks.example.com/services/T0/B1", false)]
#[case("note", "/etc/coder/tls.crt", true)]
#[case("note", "1234567890Mi", false)]
#[case("note", "eyJhbGciOi.eyJzdWIi.abc", false)]
#[case("apiToken", "coder.example.com", false)]
#[case("apiToken", "v2.31.7", false)]
#[case("name", "coder-db-url", true)]
#[case("name", "two words", false)]
#[case("tag", "v2.31.7@sha256:abcdef", true)]
#[case("host", "user@host-secret", false)]
#[case("key", "planted-key", false)]
fn a_text_is_public_by_its_key_or_by_its_form(#[case] key: &str, #[case] text: &str, #[case] public: bool) {
    assert_eq!(is_public(key, text), public, "{key}: {text}");
}

#[test]
fn numbers_count_in_every_way_in_which_they_are_printed() {
    assert_eq!(
        secrets(&json!({"pin": 8_473_625_198_u64, "replicas": 3, "runAsUser": 1_000_650_000})),
        ["8473625198", "8.473625198e+09", "8.473625198", "8473625198", "8473625198"]
    );
    assert!(secrets(&json!({"license": 120_000})).contains(&"1.2e+05".to_owned()));
}
