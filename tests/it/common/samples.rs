//! Declarations that the API must accept or refuse, each with the words that the refusal must contain.

use serde_json::{Value, json};

/// One declaration, or one edit of a stored one.
pub struct Sample {
    /// What it shows.
    pub name: &'static str,
    /// The stored spec, for an edit.
    pub old: Option<Value>,
    /// The spec.
    pub spec: Value,
    /// Words that the refusal contains; none if it is accepted.
    pub refused: Option<&'static str>,
}

fn accepted(name: &'static str, spec: Value) -> Sample {
    Sample { name, old: None, spec, refused: None }
}

fn refused(name: &'static str, spec: Value, words: &'static str) -> Sample {
    Sample { name, old: None, spec, refused: Some(words) }
}

/// For each rule at least one declaration that it lets through and one that it refuses.
#[allow(clippy::too_many_lines)] // a table
pub fn samples() -> Vec<Sample> {
    let edit = |name, old, spec, refused| Sample { name, old: Some(old), spec, refused };
    vec![
        accepted("nothing but the defaults", json!({})),
        accepted("an exact version", json!({"version": "2.31.7"})),
        accepted("a leading v and a prerelease", json!({"version": "v2.33.0-rc.1"})),
        refused("the word latest", json!({"version": "latest"}), "spec.version must be one exact chart version"),
        refused("a range", json!({"version": "^2.31.0"}), "spec.version must be one exact chart version"),
        refused("half a version", json!({"version": "2.31"}), "spec.version must be one exact chart version"),
        edit("another version", json!({"version": "2.31.6"}), json!({"version": "2.31.7"}), None),
        edit("the same release", json!({"release": "coder"}), json!({}), None),
        edit(
            "another release",
            json!({"release": "coder"}),
            json!({"release": "other"}),
            Some("spec.release cannot be changed"),
        ),
        accepted("a repository", json!({"chart": {"repository": "https://charts.example.com/coder"}})),
        accepted("a registry", json!({"chart": {"repository": "oci://registry.example.com/charts"}})),
        refused(
            "a bare host",
            json!({"chart": {"repository": "charts.example.com"}}),
            "chart.repository must begin with",
        ),
        refused("a file", json!({"chart": {"repository": "file:///charts"}}), "chart.repository must begin with"),
        accepted("an archive", json!({"chart": {"archive": {"secretKeyRef": {"name": "chart", "key": "coder.tgz"}}}})),
        refused(
            "an archive and a repository",
            json!({"chart": {"repository": "https://x.example", "archive": {"secretKeyRef": {"name": "a", "key": "b"}}}}),
            "chart.archive replaces the repository",
        ),
        refused(
            "an archive from nowhere",
            json!({"chart": {"archive": {}}}),
            "exactly one of secretKeyRef and configMapKeyRef",
        ),
        refused(
            "an archive from two places",
            json!({"chart": {"archive": {"secretKeyRef": {"name": "a", "key": "b"}, "configMapKeyRef": {"name": "a", "key": "b"}}}}),
            "exactly one of secretKeyRef and configMapKeyRef",
        ),
        accepted(
            "credentials for a repository",
            json!({"chart": {"repository": "https://x.example", "credentialsSecretRef": {"name": "login"}, "caSecretRef": {"name": "ca"}}}),
        ),
        refused(
            "credentials for nothing",
            json!({"chart": {"credentialsSecretRef": {"name": "login"}}}),
            "chart.credentialsSecretRef needs chart.repository",
        ),
        accepted(
            "credentials for packages elsewhere",
            json!({"chart": {"repository": "https://x.example", "archiveCredentials": {"address": "https://files.example", "secretRef": {"name": "login"}}}}),
        ),
        refused(
            "credentials for packages of a registry",
            json!({"chart": {"repository": "oci://x.example", "archiveCredentials": {"address": "https://files.example", "secretRef": {"name": "login"}}}}),
            "chart.archiveCredentials needs a chart.repository with an index",
        ),
        refused(
            "credentials for packages that would go unencrypted",
            json!({"chart": {"repository": "https://x.example", "archiveCredentials": {"address": "http://files.example", "secretRef": {"name": "login"}}}}),
            "chart.archiveCredentials would be sent to an http:// address",
        ),
        refused(
            "a password in the address of packages",
            json!({"chart": {"repository": "https://x.example", "archiveCredentials": {"address": "https://a:b@files.example", "secretRef": {"name": "login"}}}}),
            "chart.archiveCredentials.address must be an address",
        ),
        accepted("defaults to drop", json!({"dropDefaults": ["coder.replicaCount", r"a.b\.c"]})),
        accepted(
            "a registry without TLS",
            json!({"chart": {"repository": "oci://registry:5000/charts", "plainHTTP": true}}),
        ),
        refused(
            "plainHTTP for an https repository",
            json!({"chart": {"repository": "https://x.example", "plainHTTP": true}}),
            "chart.plainHTTP is for oci:// registries",
        ),
        accepted(
            "credentials that go unencrypted on purpose",
            json!({"chart": {"repository": "http://x.example", "credentialsSecretRef": {"name": "login"}, "plainHTTP": true}}),
        ),
        refused(
            "credentials that would go unencrypted",
            json!({"chart": {"repository": "http://x.example", "credentialsSecretRef": {"name": "login"}}}),
            "without encryption: use https://, or set chart.plainHTTP",
        ),
        refused(
            "a password in the address",
            json!({"chart": {"repository": "https://user:word@x.example"}}),
            "must be an address alone",
        ),
        accepted("a digest", json!({"chart": {"digest": format!("sha256:{}", "0a".repeat(32))}})),
        accepted("durations", json!({"helm": {"timeout": "1h30m"}, "verify": {"timeout": "90s", "soak": "0s"}})),
        refused("a timeout that is too short", json!({"helm": {"timeout": "1s"}}), "helm.timeout must be between"),
        refused("no time to verify", json!({"verify": {"timeout": "0s"}}), "verify.timeout must be between"),
        refused("a negative soak", json!({"verify": {"soak": "-1s"}}), "verify.soak must be between"),
        accepted("to take over what runs", json!({"adopt": true, "values": {"coder": {}}})),
        accepted("a window over midnight", json!({"window": {"start": "22:00", "end": "04:00"}})),
        refused(
            "a window without a length",
            json!({"window": {"start": "22:00", "end": "22:00"}}),
            "window.start and window.end must differ",
        ),
        accepted("a backup by a CronJob", json!({"backup": {"cronJob": "dump", "maxAge": "6h"}})),
        refused("a backup of nothing", json!({"backup": {}}), "backup needs exactly one of"),
        refused(
            "a backup that may not take any time",
            json!({"backup": {"cronJob": "dump", "timeout": "0s"}}),
            "backup.timeout must be between",
        ),
        refused(
            "a backup of no age",
            json!({"backup": {"cronJob": "dump", "maxAge": "0s"}}),
            "backup.maxAge must be longer than 0s",
        ),
        accepted("no wait for builds", json!({"quiesce": {"timeout": "0s"}})),
        refused(
            "a negative wait for builds",
            json!({"quiesce": {"timeout": "-1s"}}),
            "quiesce.timeout must be between",
        ),
    ]
}

/// Declarations that the types cannot even hold: the schema refuses them, by itself or by the rule for a field that has another
/// name now. Only the API server can tell.
pub fn malformed() -> Vec<Sample> {
    vec![
        refused("a field that does not exist", json!({"verison": "2.31.7"}), ".spec.verison: field not declared"),
        refused("values that are no map", json!({"values": ["a"]}), "spec.values"),
        refused("a release in capitals", json!({"release": "Coder"}), "spec.release"),
        refused(
            "a kind that holds no values",
            json!({"valuesFrom": [{"kind": "Pod", "name": "x"}]}),
            "spec.valuesFrom[0].kind",
        ),
        refused("an override of no check", json!({"overrides": ["Everything"]}), "spec.overrides[0]"),
        refused("an old name of dependsOn", json!({"after": ["other"]}), "spec.after is called spec.dependsOn now"),
        refused("an old name of upgradePath", json!({"path": "Direct"}), "spec.path is called spec.upgradePath now"),
        refused(
            "an old name of credentialsSecretRef",
            json!({"chart": {"repository": "https://x.example", "credentialsSecret": "login"}}),
            "spec.chart.credentialsSecret is called spec.chart.credentialsSecretRef.name now",
        ),
        refused(
            "an old name of caSecretRef",
            json!({"chart": {"repository": "https://x.example", "caSecret": "ca"}}),
            "spec.chart.caSecret is called spec.chart.caSecretRef.name now",
        ),
        refused(
            "an old name of secretRef",
            json!({"chart": {"repository": "https://x.example", "archiveCredentials": {
                "address": "https://files.example", "secret": "login", "secretRef": {"name": "login"}}}}),
            "spec.chart.archiveCredentials.secret is called spec.chart.archiveCredentials.secretRef.name now",
        ),
        refused(
            "an old name of tokenSecretKeyRef",
            json!({"verify": {"tokenSecret": {"name": "owner", "key": "token"}}}),
            "spec.verify.tokenSecret is called spec.verify.tokenSecretKeyRef now",
        ),
        refused("an old name of RollingUpdate", json!({"strategy": "Rolling"}), "spec.strategy"),
        refused("a history of nothing", json!({"historyLimit": 0}), "spec.historyLimit"),
        refused("a negative limit", json!({"retry": {"limit": -1}}), "spec.retry.limit"),
        refused("a digest that is none", json!({"chart": {"digest": "sha256:0a"}}), "spec.chart.digest"),
        refused("a version that is a number", json!({"version": 2.31}), "spec.version"),
    ]
}
