//! Growing delays.

use std::time::Duration;

/// Longest delay between two tries.
pub const LONGEST: Duration = Duration::from_secs(5 * 60);

/// Delay before the next try: `first` after the first failure, twice as long after each further one, at most
/// [`LONGEST`].
pub fn delay(first: Duration, failures: i32) -> Duration {
    doubled(first, failures).min(LONGEST)
}

/// `first` once, twice as long after each further time.
pub fn doubled(first: Duration, times: i32) -> Duration {
    let doublings = u32::try_from(times.saturating_sub(1)).unwrap_or(0).min(16);
    first.saturating_mul(1 << doublings)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn doubles_up_to_the_longest() {
        let first = Duration::from_secs(10);
        assert_eq!([0, 1, 2, 3].map(|n| delay(first, n).as_secs()), [10, 10, 20, 40]);
        assert_eq!(delay(first, i32::MAX), LONGEST);
    }
}
