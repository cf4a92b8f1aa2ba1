//! What Coder v2 tells an owner about itself: running builds, and its own health.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::core::text::redact::head;

/// Most parts of Coder, and most codes, that are told of.
const PARTS: usize = 20;
/// Longest description of one, in bytes.
const LONGEST: usize = 512;

/// The part of `/api/v2/deployment/stats` that is looked at.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
pub struct Stats {
    workspaces: Workspaces,
}

#[derive(Clone, Copy, Debug, Deserialize, PartialEq, Eq)]
struct Workspaces {
    pending: u64,
    building: u64,
}

impl Stats {
    /// Workspace builds that wait for a provisioner or run.
    pub fn builds(&self) -> u64 {
        self.workspaces.pending.saturating_add(self.workspaces.building)
    }
}

/// A part of Coder that is not well.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Fault {
    /// The part, such as `access_url`.
    pub part: String,
    /// Codes of its error and its warnings.
    pub codes: BTreeSet<String>,
    /// Part, error and codes, for people.
    pub text: String,
}

impl Fault {
    /// Whether it was there before, with the same codes or more of them.
    pub fn is_among(&self, before: &[Self]) -> bool {
        before.iter().any(|known| known.part == self.part && self.codes.is_subset(&known.codes))
    }
}

/// What `/api/v2/debug/health` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// What is wrong, a part of Coder each; empty unless the whole is an error.
    pub errors: Vec<Fault>,
    /// Codes of the warnings.
    pub warnings: Vec<String>,
}

impl Health {
    /// Reads the report; none if it is no such report.
    pub fn read(report: &Value) -> Option<Self> {
        let severity = report["severity"].as_str()?;
        let parts = || report.as_object().into_iter().flatten().filter(|(_, part)| part["severity"].is_string());
        let mut warnings: Vec<String> = parts().flat_map(|(_, part)| codes(part)).collect();
        warnings.sort();
        warnings.dedup();
        warnings.truncate(PARTS);
        let mut errors: Vec<Fault> = Vec::new();
        if severity == "error" {
            let wrong = parts().filter(|(_, part)| part["severity"] == "error");
            errors.extend(wrong.take(PARTS).map(|(name, part)| fault(name, part)));
            if errors.is_empty() {
                errors.push(Fault { text: "it does not say which part".into(), ..Fault::default() });
            }
        }
        Some(Self { errors, warnings })
    }
}

fn fault(name: &str, part: &Value) -> Fault {
    let error = part["error"].as_str().and_then(|text| text.lines().next()).unwrap_or_default();
    let first = error.split_once(':').map(|(code, _)| code).filter(|code| is_code(code));
    let codes: BTreeSet<String> = codes(part).chain(first.map(ToOwned::to_owned)).take(PARTS).collect();
    let missing = codes.iter().map(String::as_str).filter(|code| Some(*code) != first);
    let words: Vec<&str> = Some(error).filter(|error| !error.is_empty()).into_iter().chain(missing).collect();
    let text = format!("{} {}", name.replace('_', " "), words.join(", "));
    Fault { part: head(name, LONGEST), text: head(text.trim_end(), LONGEST), codes }
}

/// Whether a word with which an error begins is Coder's code of it: `EACS03`.
fn is_code(word: &str) -> bool {
    let letters = word.trim_end_matches(|c: char| c.is_ascii_digit());
    letters.len() < word.len() && letters.starts_with('E') && letters.chars().all(|c| c.is_ascii_uppercase())
}

fn codes(part: &Value) -> impl Iterator<Item = String> {
    let warnings = part["warnings"].as_array().into_iter().flatten();
    warnings.filter_map(|warning| warning["code"].as_str().map(|code| head(code, LONGEST)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn builds_are_those_that_wait_and_those_that_run() {
        let stats = json!({"workspaces": {"pending": 1, "building": 2, "running": 40, "failed": 3}});
        assert_eq!(serde_json::from_value::<Stats>(stats).unwrap().builds(), 3);
        assert!(serde_json::from_value::<Stats>(json!({"message": "no"})).is_err());
        let most = json!({"workspaces": {"pending": u64::MAX, "building": u64::MAX}});
        assert_eq!(serde_json::from_value::<Stats>(most).unwrap().builds(), u64::MAX);
    }

    #[test]
    fn errors_name_the_part_and_its_codes() {
        let report = |severity: &str| {
            json!({
                "severity": severity, "healthy": severity != "error", "coder_version": "v2.31.7",
                "database": {"severity": severity, "error": "EDB01: ping database: timeout\nmore", "warnings": []},
                "workspace_proxy": {"severity": "warning", "error": null, "warnings": [{"code": "EWP01", "message": ""}]},
                "derp": {"severity": "ok", "warnings": null},
            })
        };
        let health = Health::read(&report("error")).unwrap();
        assert_eq!(texts(&health), ["database EDB01: ping database: timeout"]);
        assert_eq!(health.warnings, ["EWP01"]);
        assert_eq!(Health::read(&report("warning")).unwrap().errors, []);
        assert_eq!(Health::read(&json!({"message": "no"})), None);
        assert_eq!(texts(&Health::read(&json!({"severity": "error"})).unwrap()), ["it does not say which part"]);
    }

    fn texts(health: &Health) -> Vec<&str> {
        health.errors.iter().map(|fault| fault.text.as_str()).collect()
    }

    /// As Coder 2.31.7 says it without provisioners, and with an access URL that its pod does not reach.
    #[test]
    fn what_was_wrong_before_is_known_again() {
        let report = |access: &str| {
            json!({
                "severity": "error",
                "provisioner_daemons": {"severity": "error", "warnings": [{"code": "EPD01", "message": "No active provisioner daemons found"}]},
                "access_url": {"severity": "error", "error": access, "warnings": []},
                "derp": {"severity": "error", "warnings": []},
            })
        };
        let before = Health::read(&report("EACS03: get healthz endpoint: dial tcp 10.0.0.1:443: i/o timeout")).unwrap();
        assert_eq!(texts(&before)[1..], ["derp", "provisioner daemons EPD01"]);
        let now = |access: &str| Health::read(&report(access)).unwrap().errors;
        let new = |now: Vec<Fault>| {
            now.into_iter().filter(|f| !f.is_among(&before.errors)).map(|f| f.text).collect::<Vec<_>>()
        };
        assert_eq!(
            new(now("EACS03: get healthz endpoint: dial tcp 10.0.0.2:443: connection refused")),
            [] as [String; 0]
        );
        assert_eq!(new(now("EACS04: not ok")), ["access url EACS04: not ok"]);
        let database =
            json!({"severity": "error", "database": {"severity": "error", "error": "EDB01: no", "warnings": []}});
        assert_eq!(new(Health::read(&database).unwrap().errors), ["database EDB01: no"]);
    }
}
