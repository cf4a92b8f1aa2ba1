//! The finished attempts of an upgrade.

use crate::api::HistoryEntry;
use crate::core::text::duration::elapsed;
use crate::core::text::layout::table;

/// The attempts as a table, the newest first.
#[must_use]
pub fn history(entries: &[HistoryEntry]) -> String {
    let head = ["ATTEMPT", "FROM", "TO", "REVISION", "OUTCOME", "STARTED", "TOOK", "MESSAGE"].map(str::to_owned);
    let or_none = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
    let row = |entry: &HistoryEntry| {
        [
            entry.attempt.to_string(),
            or_none(entry.from.clone()),
            or_none(entry.to.clone()),
            or_none(entry.revision.map(|revision| revision.to_string())),
            entry.outcome.to_string(),
            entry.started.0.to_string(),
            elapsed(entry.started.0, entry.finished.0),
            entry.message.clone(),
        ]
    };
    let rows: Vec<_> = std::iter::once(head).chain(entries.iter().map(row)).collect();
    table(&rows).join("\n") + "\n"
}
