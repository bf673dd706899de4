//! The signals that tell a process which stays to end.

use anyhow::Context;
use nix::sys::signal::{SigSet, Signal};

/// Holds SIGTERM and SIGINT back for whoever waits for them. To be called before any thread that stays: each inherits
/// which signals are held back.
///
/// # Errors
/// The kernel refuses.
pub fn hold_back() -> anyhow::Result<SigSet> {
    let mut ends = SigSet::empty();
    ends.add(Signal::SIGTERM);
    ends.add(Signal::SIGINT);
    ends.thread_block().context("holding signals back")?;
    Ok(ends)
}
