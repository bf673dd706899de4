//! Pause points: a call stops at a chosen moment and waits until a test lets it go on.
//!
//! Crash tests use them so: set a gate, start the plugin, wait until the gate is reached, SIGKILL
//! the plugin, release the gate, look at the cloud. A call goes on by itself when its client is
//! dead: a gate released with [`Outcome::Continue`] after the kill is a request that was already
//! on its way, so its effect takes place and only the answer is lost.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

/// Where in its life a call is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Moment {
    /// The request has arrived whole; the service has not seen it.
    BeforeEffect,
    /// The service has carried it out; no byte of the answer was sent.
    AfterEffect,
    /// The answer's last byte was given to the client's socket. Every call that arrives while the
    /// gate is closed, of whichever process, is held before its effect: between this moment and
    /// the release the cloud sees nothing new. What the client does *locally* after the answer is
    /// its own affair; to stop at the end of that, use [`Moment::BeforeEffect`] of the next call.
    AfterAnswer,
}

/// How a stopped call goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Outcome {
    /// As if nothing had happened.
    Continue,
    /// The connection is closed, and what has not happened yet does not happen. After
    /// [`Moment::AfterAnswer`] this concerns the calls that were held meanwhile.
    Cut,
}

/// A test's end of a pause point. Dropping it opens the gate as [`Outcome::Cut`] does if a call
/// waits there, and removes it otherwise, so a failed test leaves no call behind.
#[derive(Debug)]
#[must_use = "a dropped gate stops nothing"]
pub struct Gate(pub(crate) Arc<Stop>);

impl Gate {
    /// Waits until a call stands at the gate; false when `timeout` passes first.
    pub fn wait_reached(&self, timeout: Duration) -> bool {
        let end = Instant::now() + timeout;
        let mut state = self.0.lock();
        while state.reached_by.is_none() {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            state = self.0.reached.wait_timeout(state, left).expect("no holder of this lock panics").0;
        }
        true
    }

    /// Sequence number (in the call log) of the call that reached the gate.
    pub fn reached_by(&self) -> Option<u64> {
        self.0.lock().reached_by
    }

    /// Opens the gate for good. One that no call reached yet will stop none.
    pub fn release(&self, outcome: Outcome) {
        self.0.release(outcome);
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.0.release(Outcome::Cut);
    }
}

/// The servers' end of a gate.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    state: Mutex<State>,
    reached: Condvar,
    released: Notify,
}

#[derive(Debug, Default)]
struct State {
    reached_by: Option<u64>,
    released: Option<Outcome>,
}

impl Stop {
    /// Reports the call at the gate, without waiting.
    pub(crate) fn reach(&self, seq: u64) {
        let mut state = self.lock();
        if state.released.is_none() && state.reached_by.is_none() {
            state.reached_by = Some(seq);
            self.reached.notify_all();
        }
    }

    /// Reports the call at the gate and waits for the release.
    pub(crate) async fn stop(&self, seq: u64) -> Outcome {
        if self.is_open() {
            return Outcome::Continue;
        }
        self.reach(seq);
        self.wait_open().await
    }

    pub(crate) async fn wait_open(&self) -> Outcome {
        loop {
            let notified = self.released.notified();
            if let Some(outcome) = self.lock().released {
                return outcome;
            }
            notified.await;
        }
    }

    pub(crate) fn is_open(&self) -> bool {
        self.lock().released.is_some()
    }

    fn release(&self, outcome: Outcome) {
        let mut state = self.lock();
        if state.released.is_none() {
            state.released = Some(outcome);
            self.released.notify_waiters();
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no holder of this lock panics")
    }
}
