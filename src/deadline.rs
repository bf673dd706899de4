//! How long a verb may still take. Every wait, lock and call is capped by one `Deadline`.

use std::time::{Duration, Instant};

/// A point in monotonic time after which nothing new is started.
#[derive(Clone, Copy, Debug)]
pub struct Deadline(Instant);

impl Deadline {
    pub fn after(span: Duration) -> Self {
        Self(Instant::now() + span)
    }

    /// Time left, zero once it has passed.
    pub fn left(&self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    pub fn passed(&self) -> bool {
        self.left().is_zero()
    }

    /// The earlier of this deadline and `span` from now: the budget of one step.
    pub fn within(&self, span: Duration) -> Self {
        Self(self.0.min(Instant::now() + span))
    }

    /// This deadline brought forward by `span`, which the caller keeps for what comes after.
    pub fn keeping(&self, span: Duration) -> Self {
        Self(self.0.checked_sub(span).unwrap_or(self.0))
    }

    /// Sleeps for `span`, or until the deadline if that is sooner. False when the deadline passed.
    pub fn sleep(&self, span: Duration) -> bool {
        std::thread::sleep(span.min(self.left()));
        !self.passed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_never_outlives_the_verb() {
        let verb = Deadline::after(Duration::from_secs(1));
        assert!(verb.within(Duration::from_secs(60)).left() <= Duration::from_secs(1));
        assert!(verb.within(Duration::from_millis(10)).left() <= Duration::from_millis(10));
        assert!(verb.keeping(Duration::from_millis(900)).left() <= Duration::from_millis(100));
    }

    #[test]
    fn sleep_stops_at_the_deadline() {
        let deadline = Deadline::after(Duration::from_millis(5));
        assert!(!deadline.sleep(Duration::from_secs(60)));
        assert!(deadline.passed());
    }
}
