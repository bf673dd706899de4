//! From a story that breaks a promise to the shortest one that still does.

use std::fmt::Write as _;
use std::thread;
use std::time::{Duration, Instant};

use super::step::Step;
use super::{Counts, tell};

/// Stories are told side by side while one is sought.
const AT_ONCE: usize = 12;

/// After this the shortest one so far has to do: the runner ends tests that go on for minutes.
const PATIENCE: Duration = Duration::from_secs(100);

/// The story of `seed` in as few steps as still break a promise, in words.
pub fn minimal(seed: u64, steps: &[Step], how: &str) -> String {
    let end = Instant::now() + PATIENCE;
    let (mut steps, mut how) = (steps.to_vec(), how.to_owned());
    let mut size = steps.len().div_ceil(2);
    while size > 0 && Instant::now() < end {
        match shorter(&steps, size, end) {
            Some((fewer, still)) => {
                (steps, how) = (fewer, still);
                size = size.min(steps.len());
            }
            None => size /= 2,
        }
    }
    let mut text = format!("the story of seed {seed} breaks a promise. In few steps:\n");
    for (at, step) in steps.iter().enumerate() {
        let _ = writeln!(text, "{:4}. {step}", at + 1); // writing to a String cannot fail
    }
    let _ =
        write!(text, "{how}\nTell it again with PODEIP_MODEL_SEED={seed}; add PODEIP_MODEL_LOG=FILE for podeip's log.");
    text
}

/// The first of the stories without `size` steps in a row that breaks a promise, too.
fn shorter(steps: &[Step], size: usize, end: Instant) -> Option<(Vec<Step>, String)> {
    let starts: Vec<usize> = (0..steps.len()).step_by(size).collect();
    let without = |start: usize| [&steps[..start], &steps[steps.len().min(start + size)..]].concat();
    let broken = |start: usize| tell(&without(start), &Counts::default()).err().map(|how| (without(start), how));
    for some in starts.rchunks(AT_ONCE) {
        if Instant::now() > end {
            return None;
        }
        let found = thread::scope(|scope| {
            let told: Vec<_> = some.iter().map(|start| scope.spawn(move || broken(*start))).collect();
            told.into_iter().filter_map(|it| it.join().ok().flatten()).next()
        });
        if found.is_some() {
            return found;
        }
    }
    None
}
