//! What commands say while they work: plain lines on stderr, so that stdout holds only the result.

use testbed::components::Progress;

/// Prints what happens to components. That the cache is being looked at is told only if it takes work.
pub fn component(event: &Progress<'_>) {
    if !matches!(event, Progress::Checking { .. }) {
        eprintln!("{event}");
    }
}
