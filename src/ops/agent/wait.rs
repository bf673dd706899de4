//! What the agent sleeps on: its state file, its signals, and the time.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use super::super::stop;
use crate::state::{Store, Watch};

/// A verb writes its record several times in a row; one look after the last is enough.
const CALM: Duration = Duration::from_millis(100);

/// poll(2) counts milliseconds in 32 bits.
const LONGEST_POLL: Duration = Duration::from_secs(3600);

/// Why the agent woke up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// The state file was replaced.
    Change,
    Time,
    /// SIGTERM or SIGINT.
    Stop,
}

/// Holds signals back and watches the state file.
pub struct Waiter {
    signals: SignalFd,
    watch: Watch,
}

impl Waiter {
    /// To be made before any thread that stays.
    pub fn new(store: &Store) -> anyhow::Result<Self> {
        let ends = stop::hold_back()?;
        let signals = SignalFd::with_flags(&ends, SfdFlags::SFD_CLOEXEC | SfdFlags::SFD_NONBLOCK)
            .context("cannot make the agent's descriptor of signals; see whether the node has run out of files")?;
        Ok(Self { signals, watch: store.watch()? })
    }

    /// Sleeps until `time`, a change or a signal.
    pub fn wait(&self, time: Instant) -> Woken {
        loop {
            let left = time.saturating_duration_since(Instant::now()).min(LONGEST_POLL);
            self.poll(left);
            if matches!(self.signals.read_signal(), Ok(Some(_))) {
                return Woken::Stop;
            }
            if self.watch.changed() {
                std::thread::sleep(CALM);
                self.watch.changed();
                return Woken::Change;
            }
            if Instant::now() >= time {
                return Woken::Time;
            }
        }
    }

    fn poll(&self, longest: Duration) {
        let mut files =
            [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN), PollFd::new(self.watch.as_fd(), PollFlags::POLLIN)];
        // Rounded up, so that a rest below a millisecond does not spin.
        let timeout = PollTimeout::try_from(longest + Duration::from_millis(1)).unwrap_or(PollTimeout::MAX);
        if let Err(errno) = poll(&mut files, timeout)
            && errno != Errno::EINTR
        {
            log::error!("cannot wait for signals and for changes of state.json, and tries again: {errno}");
            std::thread::sleep(CALM);
        }
    }
}
