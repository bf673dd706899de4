//! The simulated world's time: the machine's, plus whatever a test moved it by.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

/// A clock that all simulated services share. Cloning it shares the time.
#[derive(Clone, Debug, Default)]
pub struct Clock(Arc<Mutex<SignedDuration>>);

impl Clock {
    pub fn now(&self) -> Timestamp {
        Timestamp::now() + *self.0.lock().expect("no holder of this lock panics")
    }

    /// Moves the world forward; the machine's clock stays.
    pub fn advance(&self, span: Duration) {
        let span = SignedDuration::try_from(span).expect("a test's span fits into 292 years");
        *self.0.lock().expect("no holder of this lock panics") += span;
    }
}
