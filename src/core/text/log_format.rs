//! How the lines of the log are written.

use serde_json::Value;

/// The form of the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, strum::Display)]
#[strum(serialize_all = "lowercase")]
pub enum LogFormat {
    /// Lines for people
    #[default]
    Text,
    /// A JSON object on each line
    Json,
}

/// A log as people read it: of each line that is an event in JSON, its message.
pub fn readable(log: &str) -> String {
    let message = |line: &str| {
        let event: Value = serde_json::from_str(line).ok()?;
        Some(event["fields"]["message"].as_str()?.to_owned())
    };
    log.lines().map(|line| message(line).unwrap_or_else(|| line.to_owned())).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_an_event_in_json_the_message_is_read() {
        let log = "cut\": 1}\n{\"level\":\"ERROR\",\"fields\":{\"message\":\"User \\\"x\\\" cannot\"}}\nError: plain";
        assert_eq!(readable(log), "cut\": 1}\nUser \"x\" cannot\nError: plain");
    }
}
