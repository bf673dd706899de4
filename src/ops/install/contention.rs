//! Noticing that somebody keeps undoing what the installation puts right.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// In which repairs are counted.
pub const WINDOW: Duration = Duration::from_secs(60);

/// A primary that restarts writes its files once or twice; an update of it, some times. More is somebody
/// who writes back.
const PATIENCE: usize = 5;

/// The repairs of one part in the last [`WINDOW`].
#[derive(Debug, Default)]
pub struct Contention {
    repairs: VecDeque<Instant>,
    told: Option<Instant>,
}

impl Contention {
    /// Takes a repair at `now` into account. Once in a window, and only if there were too many, the
    /// number of them.
    pub fn repaired(&mut self, now: Instant) -> Option<usize> {
        self.repairs.push_back(now);
        if !self.stands(now) || self.told.is_some_and(|told| now.duration_since(told) < WINDOW) {
            return None;
        }
        self.told = Some(now);
        Some(self.repairs.len())
    }

    /// Whether somebody keeps undoing the repairs.
    pub fn stands(&mut self, now: Instant) -> bool {
        while self.repairs.front().is_some_and(|first| now.duration_since(*first) >= WINDOW) {
            self.repairs.pop_front();
        }
        self.repairs.len() > PATIENCE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_told_once_in_a_window_while_it_lasts() {
        let start = Instant::now();
        let mut contention = Contention::default();
        let told: Vec<u64> =
            (0..200).filter(|second| contention.repaired(start + Duration::from_secs(*second)).is_some()).collect();
        assert_eq!(told, [5, 65, 125, 185]);
        let calm = start + Duration::from_secs(199) + WINDOW;
        assert!(contention.stands(calm - Duration::from_secs(10)));
        assert!(!contention.stands(calm));
        assert_eq!(contention.repaired(calm), None);
    }

    #[test]
    fn repairs_now_and_then_are_nobodys_fault() {
        let start = Instant::now();
        let mut contention = Contention::default();
        for nth in 0..20 {
            assert_eq!(contention.repaired(start + nth * Duration::from_secs(20)), None);
        }
    }
}
