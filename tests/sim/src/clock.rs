//! The simulated world's time: the machine's, plus whatever a test moved it by.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// A clock that all simulated services share. Cloning it shares the time.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    moved: Arc<Mutex<SignedDuration>>,
    /// The time that it shows but for having been moved, if it stands still.
    stands: Option<Timestamp>,
    /// Since when it runs this many times as fast as the machine's, if it does.
    runs: Option<(Timestamp, u32)>,
}

impl Clock {
    /// One that only moves by being moved, so that a busy machine ends nothing before its time.
    pub fn standing() -> Self {
        Self { stands: Some(Timestamp::now()), ..Self::default() }
    }

    /// One that runs so many times as fast as the machine's: what the cloud counts by the minute takes less of a test.
    pub fn running(factor: u32) -> Self {
        Self { runs: Some((Timestamp::now(), factor)), ..Self::default() }
    }

    pub fn now(&self) -> Timestamp {
        let unmoved = match self.runs {
            Some((since, factor)) => {
                since + Timestamp::now().duration_since(since) * i32::try_from(factor).unwrap_or(i32::MAX)
            }
            None => self.stands.unwrap_or_else(Timestamp::now),
        };
        unmoved + *self.moved.lock().expect("no holder of this lock panics")
    }

    /// Moves the world forward; the machine's clock stays.
    pub fn advance(&self, span: Duration) {
        let span = SignedDuration::try_from(span).expect("a test's span fits into 292 years");
        *self.moved.lock().expect("no holder of this lock panics") += span;
    }
}
