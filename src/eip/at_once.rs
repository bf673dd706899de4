//! The same work for many attachments at the same time.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Nearly all of the work is waiting for remote systems, which count requests, not threads.
const WORKERS: usize = 8;

/// What `work` made of each of `items`, in their order.
pub fn each<T: Sync, R: Send>(items: &[T], work: impl Fn(&T) -> R + Sync) -> Vec<R> {
    if items.len() < 2 {
        return items.iter().map(work).collect();
    }
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(items.len()));
    std::thread::scope(|scope| {
        for _ in 0..WORKERS.min(items.len()) {
            scope.spawn(|| {
                loop {
                    let at = next.fetch_add(1, Ordering::Relaxed);
                    let Some(item) = items.get(at) else { break };
                    let made = work(item);
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((at, made));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, made)| made).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_stand_in_the_order_of_their_items() {
        let items: Vec<u64> = (0..50).collect();
        let slow_first = |item: &u64| {
            std::thread::sleep(std::time::Duration::from_millis(u64::from(*item == 0) * 20));
            item * 2
        };
        assert_eq!(each(&items, slow_first), (0..50).map(|item| item * 2).collect::<Vec<_>>());
        assert!(each(&[] as &[u64], slow_first).is_empty());
    }
}
