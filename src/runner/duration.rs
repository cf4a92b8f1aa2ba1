//! Lengths of time on the command line.

use std::time::Duration;

/// A length of time as Go writes it.
pub fn duration(text: &str) -> Result<Duration, String> {
    let parsed: kube::core::Duration = text.parse().map_err(|e| format!("{e}; write it as 90s, 10m or 1h30m"))?;
    Ok(parsed.into())
}
