//! The last words of a container.

use std::fs;

use k8s_openapi::api::core::v1::Container;

use super::launch::Launch;
use super::process::Process;
use crate::node::logs;

/// The most that a kubelet takes from the termination file, in bytes.
const MAX_MESSAGE: usize = 4096;
/// The most that a kubelet takes from the log, in bytes and lines.
const MAX_FROM_LOG: (usize, usize) = (2048, 80);

/// What the container wrote to its termination file, or with `FallbackToLogsOnError`, after a failure, the end of its log.
pub(super) fn read(container: &Container, launch: &Launch, process: &Process, code: i32) -> Option<String> {
    // A container may have removed the file; then it has nothing to say.
    let said = fs::read(&launch.termination_file).unwrap_or_default();
    let said = last_bytes(&String::from_utf8_lossy(&said), MAX_MESSAGE).to_owned();
    if !said.is_empty() {
        return Some(said);
    }
    let fall_back = container.termination_message_policy.as_deref() == Some("FallbackToLogsOnError") && code != 0;
    if !fall_back {
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
