//! A lock that is waited for no longer than a deadline: several threads need a value, one fetches it.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::deadline::Deadline;

/// Whose turn it is to fetch. The fetched value lives beside it and is looked at again after the wait.
#[derive(Default)]
pub(super) struct Turn {
    taken: Mutex<bool>,
    free: Condvar,
}

/// Gives the turn back when it is dropped.
#[must_use]
pub(super) struct Taken<'a>(&'a Turn);

impl Turn {
    /// None when the deadline passes while another thread has the turn.
    pub fn take(&self, deadline: Deadline) -> Option<Taken<'_>> {
        let waiting = self.free.wait_timeout_while(self.flag(), deadline.left(), |taken| *taken);
        let (mut taken, _) = waiting.unwrap_or_else(PoisonError::into_inner);
        if std::mem::replace(&mut *taken, true) { None } else { Some(Taken(self)) }
    }

    fn flag(&self) -> MutexGuard<'_, bool> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.0.flag() = false;
        self.0.free.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn waits_for_the_other_but_not_for_ever() {
        let turn = Turn::default();
        let first = turn.take(Deadline::after(Duration::from_secs(1)));
        assert!(first.is_some());
        assert!(turn.take(Deadline::after(Duration::from_millis(10))).is_none());
        std::thread::scope(|scope| {
            let second = scope.spawn(|| turn.take(Deadline::after(Duration::from_secs(10))).is_some());
            std::thread::sleep(Duration::from_millis(20));
            drop(first);
            assert!(second.join().unwrap());
        });
        assert!(turn.take(Deadline::after(Duration::ZERO)).is_some());
    }
}
