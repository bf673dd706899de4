//! How far long work has come, for a person who waits at a terminal.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar on stderr while it lives; nothing where stderr is not a terminal.
pub struct Progress(ProgressBar);

impl Progress {
    /// For `total` pieces of work, of which `doing` tells in a word or two.
    pub fn of(total: usize, doing: &'static str) -> Self {
        let bar = ProgressBar::with_draw_target(u64::try_from(total).ok(), ProgressDrawTarget::stderr());
        if let Ok(style) = ProgressStyle::with_template("{msg} {bar:30} {pos}/{len}") {
            bar.set_style(style);
        }
        bar.set_message(doing);
        Self(bar)
    }

    /// One piece is done.
    pub fn step(&self) {
        self.0.inc(1);
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
