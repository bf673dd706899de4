//! How fast one client may ask the API server: a rate, and a burst above it.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A rate below one in an hour is this one: the time of the next call stays one that a clock can tell.
const LONGEST: Duration = Duration::from_secs(3600);

/// Spaces calls out evenly once a burst is used up (the generic cell rate algorithm).
#[derive(Debug)]
pub(super) struct Pace {
    between: Duration,
    burst: Duration,
    /// When the calls admitted so far would all have been spaced out.
    next: Mutex<Instant>,
}

impl Pace {
    /// `qps` calls a second, and `burst` of them at once after a quiet time. Both are above zero.
    pub fn new(qps: f64, burst: u32) -> Self {
        let between = Duration::try_from_secs_f64(1.0 / qps).map_or(LONGEST, |between| between.min(LONGEST));
        Self { between, burst: between.saturating_mul(burst.max(1) - 1), next: Mutex::new(Instant::now()) }
    }

    /// Takes the next place and says how long to wait for it.
    pub fn place(&self, now: Instant) -> Duration {
        let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
        let at = (*next).max(now);
        *next = at + self.between;
        at.saturating_duration_since(now + self.burst)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_the_rest_is_spaced_out() {
        let pace = Pace::new(10.0, 3);
        let now = Instant::now();
        let waits: Vec<u128> = (0..6).map(|_| pace.place(now).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 100, 200, 300]);
        assert_eq!(pace.place(now + Duration::from_secs(9)), Duration::ZERO, "a quiet time gives the burst back");
    }

    #[test]
    fn no_rate_is_beyond_what_a_clock_can_tell() {
        for qps in [1e-300, 1e-19, 1e-5, f64::MIN_POSITIVE, f64::MAX] {
            let pace = Pace::new(qps, u32::MAX);
            let now = Instant::now();
            assert!((0..9).all(|_| pace.place(now) <= LONGEST), "{qps}");
        }
    }
}
