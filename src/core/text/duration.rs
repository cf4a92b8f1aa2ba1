//! Lengths of time, as people write and read them.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// A length of time as Go writes it.
pub fn duration(text: &str) -> Result<Duration, String> {
    let parsed: kube::core::Duration = text.parse().map_err(|e| format!("{e}; write it as 90s, 10m or 1h30m"))?;
    Ok(parsed.into())
}

/// A length of time without what is zero at its end: 45s, 30m, 1h30m.
pub fn span(length: Duration) -> String {
    let seconds = length.as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, 0) => format!("{minutes}m"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, 0, 0) => format!("{hours}h"),
        (hours, minutes, 0) => format!("{hours}h{minutes}m"),
        (hours, minutes, seconds) => format!("{hours}h{minutes}m{seconds}s"),
    }
}

/// The time that has passed: 2m10s.
pub fn elapsed(since: Timestamp, now: Timestamp) -> String {
    let seconds = now.duration_since(since).max(SignedDuration::ZERO).as_secs();
    match (seconds / 3600, seconds / 60 % 60, seconds % 60) {
        (0, 0, seconds) => format!("{seconds}s"),
        (0, minutes, seconds) => format!("{minutes}m{seconds}s"),
        (hours, minutes, _) => format!("{hours}h{minutes}m"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_setting_is_written_as_in_the_spec() {
        for text in ["45s", "30m", "2m10s", "1h", "1h30m", "24h", "1h0m1s"] {
            assert_eq!(span(duration(text).unwrap()), text);
        }
    }

    #[test]
    fn times_are_written_as_people_do() {
        let spans = [(9, "9s"), (130, "2m10s"), (3700, "1h1m"), (-5, "0s")];
        for (seconds, text) in spans {
            let now = Timestamp::from_second(10_000 + seconds).unwrap();
            assert_eq!(elapsed(Timestamp::from_second(10_000).unwrap(), now), text);
        }
    }
}
