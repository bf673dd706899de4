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
}

impl Clock {
    /// One that only moves by being moved, so that a busy machine ends nothing before its time.
    pub fn standing() -> Self {
        Self { stands: Some(Timestamp::now()), ..Self::default() }
    }

    pub fn now(&self) -> Timestamp {
        self.stands.unwrap_or_else(Timestamp::now) + *self.moved.lock().expect("no holder of this lock panics")
    }

    /// Moves the world forward; the machine's clock stays.
    pub fn advance(&self, span: Duration) {
        let span = SignedDuration::try_from(span).expect("a test's span fits into 292 years");
        *self.moved.lock().expect("no holder of this lock panics") += span;
    }
}
