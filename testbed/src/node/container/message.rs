//! The last words of a container.

use std::fs;

use k8s_openapi::api::core::v1::Container;

use super::process::Process;
use crate::node::logs;

/// The most that a kubelet takes from the log, in bytes and lines.
const MAX_FROM_LOG: (usize, usize) = (2048, 80);

/// With `FallbackToLogsOnError`, after a failure, the end of the container's log. The node has no termination file.
pub(super) fn read(container: &Container, process: &Process, code: i32) -> Option<String> {
    if container.termination_message_policy.as_deref() != Some("FallbackToLogsOnError") || code == 0 {
        return None;
    }
    let log = fs::read(&process.log).unwrap_or_default();
    let lines = logs::Selection { tail: Some(MAX_FROM_LOG.1), ..logs::Selection::default() }.apply(&log);
    let text = String::from_utf8_lossy(&lines).into_owned();
    Some(last_bytes(&text, MAX_FROM_LOG.0).to_owned()).filter(|text| !text.is_empty())
}

/// The end of `text`, at most `limit` bytes, cut between characters.
fn last_bytes(text: &str, limit: usize) -> &str {
    let from = text.len().saturating_sub(limit);
    let from = (from..=text.len()).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    &text[from..]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_is_cut_between_characters() {
        assert_eq!(last_bytes("abc", 10), "abc");
        assert_eq!(last_bytes("abc", 2), "bc");
        assert_eq!(last_bytes("aäb", 2), "b");
    }
}
