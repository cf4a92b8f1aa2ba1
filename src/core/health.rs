//! What Coder v2 tells an owner about itself: running builds, and its own health.

use serde::Deserialize;
use serde_json::Value;

use super::redact::head;

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
    #[must_use]
    pub fn builds(&self) -> u64 {
        self.workspaces.pending.saturating_add(self.workspaces.building)
    }
}

/// What `/api/v2/debug/health` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// What is wrong, a part of Coder each; empty unless the whole is an error.
    pub errors: Vec<String>,
    /// Codes of the warnings.
    pub warnings: Vec<String>,
}

impl Health {
    /// Reads the report; none if it is no such report.
    #[must_use]
    pub fn read(report: &Value) -> Option<Self> {
        let severity = report["severity"].as_str()?;
        let parts = || report.as_object().into_iter().flatten().filter(|(_, part)| part["severity"].is_string());
        let mut warnings: Vec<String> = parts().flat_map(|(_, part)| codes(part)).collect();
        warnings.sort();
        warnings.dedup();
        warnings.truncate(PARTS);
        let mut errors: Vec<String> = Vec::new();
        if severity == "error" {
            let wrong = parts().filter(|(_, part)| part["severity"] == "error");
            errors.extend(wrong.take(PARTS).map(|(name, part)| head(&describe(name, part), LONGEST)));
            if errors.is_empty() {
                errors.push("it does not say which part".into());
            }
        }
        Some(Self { errors, warnings })
    }
}

/// A part of Coder with its error, which begins with a code, and the codes of its warnings.
fn describe(name: &str, part: &Value) -> String {
    let error = part["error"].as_str().and_then(|text| text.lines().next()).map(str::to_owned);
    let words: Vec<String> = error.into_iter().chain(codes(part)).collect();
    format!("{} {}", name.replace('_', " "), words.join(", ")).trim_end().to_owned()
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
        assert_eq!(health.errors, ["database EDB01: ping database: timeout"]);
        assert_eq!(health.warnings, ["EWP01"]);
        assert_eq!(Health::read(&report("warning")).unwrap().errors, [] as [String; 0]);
        assert_eq!(Health::read(&json!({"message": "no"})), None);
        assert_eq!(Health::read(&json!({"severity": "error"})).unwrap().errors, ["it does not say which part"]);
    }
}
