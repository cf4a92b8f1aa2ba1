//! What the supervisor tells whoever started it: lines of JSON on its standard output.

use std::io::{self, Write};

use serde::{Deserialize, Serialize};

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "event")]
pub enum Event {
    /// A part of the cluster is about to be started, or waited for.
    Starting {
        /// The part, for people.
        what: String,
    },
    /// Everything runs; nothing follows.
    Ready,
    /// The cluster could not be started; nothing follows.
    Failed {
        /// Why, with the end of the log that explains it.
        message: String,
    },
}

impl Event {
    /// Tells it. Whoever started us may be gone or may not care: that must not end the cluster.
    pub fn tell(&self) {
        let told = serde_json::to_string(self).map_err(io::Error::from).and_then(|line| {
            let mut out = io::stdout().lock();
            writeln!(out, "{line}").and_then(|()| out.flush())
        });
        if let Err(error) = told {
            tracing::debug!(%error, event = ?self, "nobody listens");
        }
    }
}
