//! The log. Every line of it is cleaned here, whoever wrote it: the operator, helm, or a library.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

use crate::cli::Command;
use crate::runner::secrets::Secrets;

/// Longest text in bytes that is remembered because a secret goes on in the next line.
const MEMORY: usize = 16 * 1024;

/// What stands before the words of a line.
const LEVELS: [&str; 5] = ["ERROR ", " WARN ", " INFO ", "DEBUG ", "TRACE "];

/// Begins to log to standard error, without the secrets that are known by then. A panic is logged, too.
pub fn start(command: &Command, secrets: Secrets) {
    // A plan at a terminal says by itself where it stands.
    let level = if matches!(command, Command::Plan(_) | Command::Rights(_)) { "warn" } else { "info" };
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new(format!("{level},kube_runtime=warn,kube_lease_manager=warn")));
    // The log of a runner is read by people who do not know the modules.
    let target = !matches!(command, Command::Runner(_) | Command::Plan(_) | Command::Rights(_));
    let writer = Clean { secrets, before: Arc::default() };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).with_ansi(false);
    log.with_target(target).init();
    std::panic::set_hook(Box::new(|panic| tracing::error!("{panic}")));
}

/// Standard error behind the secrets. Clones share what they remember.
#[derive(Clone)]
struct Clean {
    secrets: Secrets,
    /// The lines before, if they end in the middle of a secret.
    before: Arc<Mutex<String>>,
}

impl Clean {
    /// A line as it is written.
    fn line(&self, line: &str) -> String {
        let (head, words) = split(line);
        let mut before = self.before.lock().unwrap_or_else(PoisonError::into_inner);
        let cleaned = self.secrets.clean_after(&before, words);
        if !cleaned.open || before.len() + words.len() > MEMORY {
            before.clear();
        }
        if cleaned.open {
            before.push_str(words);
        }
        let end = if words.ends_with('\n') && !cleaned.text.ends_with('\n') { "\n" } else { "" };
        format!("{head}{}{end}", cleaned.text)
    }
}

/// Time and level of a line, and its words. What helm says is a line of helm's.
fn split(line: &str) -> (&str, &str) {
    let level = LEVELS.iter().filter_map(|level| Some(line.find(level)? + level.len())).min();
    let at = level.filter(|at| *at < 48).unwrap_or_default();
    let at = if line[at..].starts_with("helm: ") { at + "helm: ".len() } else { at };
    line.split_at(at)
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
        io::stderr().write_all(self.line(&String::from_utf8_lossy(event)).as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_keep_their_time_and_lose_their_secrets() {
        let secrets = Secrets::default();
        secrets.hide(["hunter2-planted".to_owned(), "2026-11-28T".to_owned()]);
        let log = Clean { secrets, before: Arc::default() };
        let line = |text: &str| log.line(&format!("2026-11-28T10:00:00.000001Z  INFO {text}\n"));
        assert_eq!(line("helm: a hunter2-planted b"), "2026-11-28T10:00:00.000001Z  INFO helm: a [redacted] b\n");
        assert_eq!(line("nothing"), "2026-11-28T10:00:00.000001Z  INFO nothing\n");
        for (text, shown) in [
            ("helm: -----BEGIN RSA PRIVATE KEY-----", "helm: [redacted]"),
            ("helm: c2hvcnQ=", "helm: [redacted]"),
            ("helm: -----END RSA PRIVATE KEY-----", "helm: [redacted]"),
            ("helm: the next line", "helm: the next line"),
        ] {
            assert_eq!(line(text), format!("2026-11-28T10:00:00.000001Z  INFO {shown}\n"));
        }
    }
}
