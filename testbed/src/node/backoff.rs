//! The delays between restarts of a container, and between attempts of anything else.

use std::time::Duration;

/// How long a container must have run for its failures to be forgotten, as a multiple of the longest delay.
const FORGIVEN_AFTER: u32 = 2;

/// No delay is shorter, whatever a configuration says: attempts without a pause occupy a core and the API server.
const SHORTEST: Duration = Duration::from_millis(100);

/// For what needs an object that may not be there yet: volumes, and containers with their environment. A kubelet begins
/// with 500 ms, too (`initialDurationBeforeRetry`), and goes up to 2 min 2 s (`maxDurationBeforeRetry`); here whoever made
/// the missing object does not wait that long.
pub const OBJECTS: BackOff = BackOff { base: Duration::from_millis(500), limit: Duration::from_secs(15) };
/// For what the API server did not accept. A kubelet sends a status again every 10 s.
pub const REQUESTS: BackOff = BackOff { base: Duration::from_millis(500), limit: Duration::from_secs(10) };

/// Doubling delays with a limit. A kubelet begins with 10 s and ends with 300 s; tests begin with less.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackOff {
    /// Delay before the second restart; the first one comes at once.
    pub base: Duration,
    /// No delay is longer.
    pub limit: Duration,
}

impl Default for BackOff {
    fn default() -> Self {
        Self { base: Duration::from_secs(10), limit: Duration::from_secs(300) }
    }
}

impl BackOff {
    /// The delay after `failures` ends in a row: none after the first, then base, 2 × base, 4 × base, …
    #[must_use]
    pub fn delay(self, failures: u32) -> Duration {
        match failures {
            0 | 1 => Duration::ZERO,
            n => self.base.saturating_mul(2_u32.saturating_pow(n - 2)).min(self.limit).max(SHORTEST),
        }
    }

    /// The pause after `failures` attempts in a row that failed: base, 2 × base, 4 × base, …
    #[must_use]
    pub fn pause(self, failures: u32) -> Duration {
        self.delay(failures.saturating_add(1))
    }

    /// Whether a container that ran this long counts as healthy again, so that its next end is a first one.
    #[must_use]
    pub fn forgives(self, ran: Duration) -> bool {
        ran >= self.limit * FORGIVEN_AFTER
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn delays_double_up_to_the_limit() {
        let delays: Vec<u64> = (0..9).map(|n| BackOff::default().delay(n).as_secs()).collect();
        assert_eq!(delays, [0, 0, 10, 20, 40, 80, 160, 300, 300]);
        assert_eq!(BackOff::default().delay(u32::MAX).as_secs(), 300);
    }

    #[test]
    fn there_is_a_pause_after_each_failed_attempt() {
        let pauses: Vec<u128> = (1..8).map(|n| OBJECTS.pause(n).as_millis()).collect();
        assert_eq!(pauses, [500, 1000, 2000, 4000, 8000, 15_000, 15_000]);
        assert_eq!(OBJECTS.pause(u32::MAX), OBJECTS.limit);
        let none = BackOff { base: Duration::ZERO, limit: Duration::ZERO };
        assert!((2..9).all(|n| none.delay(n) == SHORTEST), "a configuration cannot take it away");
    }

    #[test]
    fn ten_minutes_of_running_forgive() {
        assert!(!BackOff::default().forgives(Duration::from_secs(599)));
        assert!(BackOff::default().forgives(Duration::from_secs(600)));
    }
}
