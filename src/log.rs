//! The log. Every event of it is cleaned here, whoever wrote it: the operator, helm, or a library.
//!
//! What comes from the subscriber is JSON, in which each text stands by itself: it is cleaned before it is written in the form
//! that was asked for. In a finished line a secret may be spelt otherwise, with escapes.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{EnvFilter, FilterExt, filter_fn};
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::{Layer, layer::SubscriberExt, util::SubscriberInitExt};

use crate::cli::Command;
use crate::core::text::log_format::LogFormat;
use crate::runner::secrets::Secrets;

/// Longest text in bytes that is remembered because a secret goes on in the next line.
const MEMORY: usize = 16 * 1024;

/// Begins to log to standard error, without the secrets that are known by then. A panic is logged, too.
pub fn start(command: &Command, secrets: Secrets) {
    // A command at a terminal says by itself where it stands.
    let level = match command {
        // What it could not do is told once, in a sentence.
        Command::Plugin(_) => "error,kube_client=off,kube_runtime=off",
        _ if command.is_for_people() => "warn,kube_runtime=warn",
        _ => "info,kube_runtime=warn,kube_lease_manager=warn",
    };
    let events = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(level));
    // The spans say which object an event is about. That of a pass is kube's, whose events are of no interest.
    let spans = filter_fn(|metadata| metadata.is_span() && *metadata.level() <= LevelFilter::INFO)
        .with_max_level_hint(LevelFilter::INFO);
    // The log of a runner is read by people who do not know the modules, and is about one step from end to end.
    let bare = command.is_for_people() || matches!(command, Command::Runner(_));
    let writer = Clean { secrets, before: Arc::default(), format: command.log_format(), bare };
    let log = tracing_subscriber::fmt::layer().json().with_current_span(false).with_writer(writer);
    tracing_subscriber::registry().with(log.with_filter(events.or(spans))).init();
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
}

/// An event as the subscriber writes it.
#[derive(Deserialize, Serialize)]
struct LogLine {
    timestamp: String,
    level: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    spans: Vec<Fields>,
    target: String,
    fields: Fields,
}

type Fields = Map<String, Value>;

/// Standard error behind the secrets. Clones share what they remember.
#[derive(Clone)]
struct Clean {
    secrets: Secrets,
    /// The messages before, if they end in the middle of a secret.
    before: Arc<Mutex<String>>,
    format: LogFormat,
    /// Lines for people have neither modules nor spans.
    bare: bool,
}

impl Clean {
    /// An event as it is written.
    fn line(&self, event: &[u8]) -> String {
        let Ok(mut event) = serde_json::from_slice::<LogLine>(event) else {
            return self.secrets.clean(&String::from_utf8_lossy(event));
        };
        self.clean(&mut event.fields);
        event.spans.iter_mut().for_each(|span| self.clean(span));
        let line = match self.format {
            LogFormat::Json => serde_json::to_string(&event).unwrap_or_default(),
            LogFormat::Text => self.text(event),
        };
        line + "\n"
    }

    fn clean(&self, fields: &mut Fields) {
        for (name, value) in fields {
            let text = spoken(value);
            let cleaned = if name == "message" { self.message(&text) } else { self.secrets.clean(&text) };
            if cleaned != text {
                *value = cleaned.into();
            }
        }
    }

    /// A message without its secrets. What helm says is a line of helm's: a secret may go on in the next one.
    fn message(&self, message: &str) -> String {
        let at = if message.starts_with("helm: ") { "helm: ".len() } else { 0 };
        let (head, words) = message.split_at(at);
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        let cleaned = self.secrets.clean_after(&before, &format!("{words}\n"));
        if !cleaned.open || before.len() + words.len() > MEMORY {
            before.clear();
        }
        if cleaned.open {
            before.push_str(words);
            before.push('\n');
        }
        format!("{head}{}", cleaned.text.trim_end_matches('\n'))
    }

    /// An event as a line for people.
    fn text(&self, event: LogLine) -> String {
        let LogLine { timestamp, level, spans, target, mut fields } = event;
        let message = fields.remove("message").as_ref().map(spoken).unwrap_or_default();
        let place = if self.bare {
            String::new()
        } else {
            format!("{}{target}: ", spans.iter().map(named).collect::<String>())
        };
        let words: Vec<String> = [message].into_iter().chain(listed(&fields)).collect();
        format!("{timestamp} {level:>5} {place}{}", words.join(" "))
    }
}

/// A span before what happened in it: `reconciling object{object.ref=…}: `.
fn named(span: &Fields) -> String {
    let name = span.get("name").map(spoken).unwrap_or_default();
    let fields: Vec<String> = listed(span).filter(|field| !field.starts_with("name=")).collect();
    format!("{name}{{{}}}: ", fields.join(" "))
}

fn listed(fields: &Fields) -> impl Iterator<Item = String> {
    fields.iter().map(|(name, value)| format!("{name}={}", spoken(value)))
}

fn spoken(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

impl<'a> MakeWriter<'a> for Clean {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

impl Write for Clean {
    /// The subscriber writes whole events.
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        io::stderr().write_all(self.line(event).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    const QUOTED: &str = "hunter\"2\"\nplanted";

    fn log(format: LogFormat) -> Clean {
        let secrets = Secrets::default();
        secrets.hide(["hunter2-planted".to_owned(), QUOTED.to_owned(), "2026-11-28T".to_owned()]);
        Clean { secrets, before: Arc::default(), format, bare: false }
    }

    fn event(fields: &Value) -> Vec<u8> {
        let span = json!({"name": "step", "job": "a hunter2-planted"});
        let event = json!({"timestamp": "2026-11-28T10:00:00Z", "level": "INFO", "fields": fields, "target": "a::b",
            "spans": [span]});
        event.to_string().into_bytes()
    }

    #[test]
    fn lines_keep_their_time_and_lose_their_secrets() {
        let log = log(LogFormat::Text);
        let line = |text: &str| log.line(&event(&json!({"message": text, "error": "b hunter2-planted"})));
        let head = "2026-11-28T10:00:00Z  INFO step{job=a [redacted]}: a::b: ";
        assert_eq!(line("helm: a hunter2-planted b"), format!("{head}helm: a [redacted] b error=b [redacted]\n"));
        for (text, shown) in [
            ("helm: -----BEGIN RSA PRIVATE KEY-----", "helm: [redacted]"),
            ("helm: c2hvcnQ=", "helm: [redacted]"),
            ("helm: -----END RSA PRIVATE KEY-----", "helm: [redacted]"),
            ("helm: the next line", "helm: the next line"),
        ] {
            assert_eq!(line(text), format!("{head}{shown} error=b [redacted]\n"));
        }
    }

    #[test]
    fn people_read_a_runners_log_without_modules_and_spans() {
        let log = Clean { bare: true, ..log(LogFormat::Text) };
        assert_eq!(
            log.line(&event(&json!({"message": "planned", "n": 1}))),
            "2026-11-28T10:00:00Z  INFO planned n=1\n"
        );
    }

    #[rstest]
    #[case::in_the_message(json!({"message": format!("a {QUOTED} b")}))]
    #[case::in_a_field(json!({"message": "a", "error": format!("a {QUOTED} b")}))]
    fn in_json_a_secret_is_found_however_it_is_escaped(#[case] fields: Value) {
        for format in [LogFormat::Json, LogFormat::Text] {
            let line = log(format).line(&event(&fields));
            assert!(line.contains("a [redacted] b") && !line.contains("hunter"), "{line}");
        }
        let line = log(LogFormat::Json).line(&event(&fields));
        let read: Value = serde_json::from_str(&line).unwrap();
        assert_eq!((&read["level"], &read["timestamp"]), (&json!("INFO"), &json!("2026-11-28T10:00:00Z")));
        assert_eq!(read["spans"][0], json!({"name": "step", "job": "a [redacted]"}));
    }
}
