//! The API server's time: the one clock that all nodes of a cluster share.
//!
//! Lifetimes of fixed EIPs and leases are written by one node and judged by another, whose clocks
//! may differ by more than they last. Every answer carries the server's time in its `Date`.

use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use jiff::Timestamp;

/// The server's time as of its last answer.
#[derive(Debug, Default)]
pub(super) struct ServerClock(Mutex<Option<Heard>>);

#[derive(Clone, Copy, Debug)]
struct Heard {
    date: Timestamp,
    at: Instant,
}

impl ServerClock {
    /// Takes note of an answer's `Date`. One that is no date changes nothing.
    pub fn heard(&self, date: Option<&str>) {
        let Some(date) = date.and_then(|text| jiff::fmt::rfc2822::parse(text).ok()) else { return };
        let heard = Heard { date: date.timestamp(), at: Instant::now() };
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(heard);
    }

    /// The server's time now, to the second; this machine's before the first answer.
    pub fn now(&self) -> Timestamp {
        match *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(heard) => heard.date.saturating_add(heard.at.elapsed()).unwrap_or(heard.date),
            None => Timestamp::now(),
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    #[test]
    fn an_answers_date_is_the_time_from_then_on() {
        let clock = ServerClock::default();
        let apart = |date: &str| clock.now().duration_since(date.parse().unwrap());
        assert!(apart(&Timestamp::now().to_string()).abs() < SignedDuration::from_secs(5));
        clock.heard(Some("Thu, 26 Nov 2026 02:41:42 GMT"));
        assert!(apart("2026-11-26T02:41:42Z") < SignedDuration::from_secs(60));
        clock.heard(Some("yesterday"));
        clock.heard(None);
        assert!(apart("2026-11-26T02:41:42Z") < SignedDuration::from_secs(60));
    }
}
