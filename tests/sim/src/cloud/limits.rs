//! Rate limits: sliding windows of 60 s per action, by the world's clock.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use jiff::Timestamp;

use crate::cloud::error::{ApiError, ApiResult};
use crate::cloud::settings::Settings;

const WINDOW: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(crate) struct Windows(BTreeMap<String, VecDeque<Timestamp>>);

impl Windows {
    /// Counts a call, or refuses it; a refused call does not count.
    pub fn admit(&mut self, action: &str, now: Timestamp, settings: &Settings) -> ApiResult<()> {
        let Some(&rate) = settings.rates.get(action).filter(|_| settings.throttling) else { return Ok(()) };
        let window = self.0.entry(action.to_owned()).or_default();
        while window.front().is_some_and(|at| *at + WINDOW <= now) {
            window.pop_front();
        }
        if window.len() >= rate {
            return Err(ApiError::bad("Throttling.User", "Request was denied due to user flow control."));
        }
        window.push_back(now);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_window_slides() {
        let (mut windows, mut settings) = (Windows::default(), Settings::default());
        settings.rates.insert("A".into(), 2);
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let mut admitted = |seconds, settings: &Settings| windows.admit("A", at(seconds), settings).is_ok();
        assert!(admitted(0, &settings));
        assert!(admitted(30, &settings));
        assert!(!admitted(59, &settings));
        assert!(admitted(60, &settings));
        assert!(!admitted(61, &settings));
        settings.throttling = false;
        assert!(admitted(61, &settings));
    }
}
