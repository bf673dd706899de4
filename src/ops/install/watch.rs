//! Noticing changes in directories, through inotify(7) where the kernel grants it.

use std::io::PipeReader;
use std::os::fd::AsFd;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// How often to look where no change is noticed: the kernel grants only so many inotify instances to
/// all processes of one user (`fs.inotify.max_user_instances`).
const BLIND: Duration = Duration::from_millis(500);

/// After a poll(2) that failed, which it should not.
const POLL_PAUSE: Duration = Duration::from_millis(100);

/// Why the watch woke up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    Change,
    Time,
    /// The other end of the pipe is closed.
    Stop,
}

/// Directories under watch, and a pipe whose closing ends the wait.
pub struct Watch {
    inotify: Option<Inotify>,
    stop: PipeReader,
}

impl Watch {
    pub fn new(stop: PipeReader) -> Self {
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK);
        let inotify = inotify
            .inspect_err(|errno| {
                log::warn!("changes are looked for every {BLIND:?}, because inotify is denied: {errno}")
            })
            .ok();
        Self { inotify, stop }
    }

    /// Watches `directory` from now on; again and again is no more than once. The directory is watched
    /// and not the file, which is replaced. One that does not exist is passed over.
    pub fn cover(&self, directory: &Path) {
        let changes = AddWatchFlags::IN_CLOSE_WRITE
            | AddWatchFlags::IN_CREATE
            | AddWatchFlags::IN_DELETE
            | AddWatchFlags::IN_MOVED_FROM
            | AddWatchFlags::IN_MOVED_TO
            | AddWatchFlags::IN_ATTRIB
            | AddWatchFlags::IN_DELETE_SELF
            | AddWatchFlags::IN_MOVE_SELF
            | AddWatchFlags::IN_ONLYDIR;
        let Some(inotify) = &self.inotify else { return };
        match inotify.add_watch(directory, changes) {
            Ok(_) | Err(Errno::ENOENT | Errno::ENOTDIR) => {}
            Err(errno) => log::debug!("{} is not watched, only looked at: {errno}", directory.display()),
        }
    }

    /// Sleeps until `time`, a change or the end.
    pub fn wait(&self, time: Instant) -> Woken {
        let time = if self.inotify.is_some() { time } else { time.min(Instant::now() + BLIND) };
        loop {
            if self.stopped_before(time) {
                return Woken::Stop;
            }
            if self.drain() {
                return Woken::Change;
            }
            if Instant::now() >= time {
                return Woken::Time;
            }
        }
    }

    /// Lets `pause` pass, in which changes gather. False at the end.
    pub fn gather(&self, pause: Duration) -> bool {
        let until = Instant::now() + pause;
        while Instant::now() < until {
            let mut stop = [PollFd::new(self.stop.as_fd(), PollFlags::POLLIN)];
            if poll_for(&mut stop, until) && is_ready(&stop[0]) {
                return false;
            }
        }
        self.drain();
        true
    }

    /// Waits for anything until `time`; true at the end.
    fn stopped_before(&self, time: Instant) -> bool {
        let mut files = vec![PollFd::new(self.stop.as_fd(), PollFlags::POLLIN)];
        files.extend(self.inotify.as_ref().map(|inotify| PollFd::new(inotify.as_fd(), PollFlags::POLLIN)));
        poll_for(&mut files, time) && is_ready(&files[0])
    }

    /// Whether there were changes since the last call. Never waits.
    fn drain(&self) -> bool {
        let mut changed = false;
        // It ends with EAGAIN, when all events are read. One that says the queue overflowed is a change too.
        while let Some(Ok(events)) = self.inotify.as_ref().map(Inotify::read_events) {
            changed |= !events.is_empty();
        }
        changed
    }
}

/// A pipe that was closed shows as a hang-up, whatever was asked for.
fn is_ready(file: &PollFd) -> bool {
    file.revents().is_some_and(|events| !events.is_empty())
}

/// False when nothing happened until `time`.
fn poll_for(files: &mut [PollFd], time: Instant) -> bool {
    // Rounded up, so that a rest below a millisecond does not spin.
    let left = time.saturating_duration_since(Instant::now()) + Duration::from_millis(1);
    match poll(files, PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX)) {
        Ok(ready) => ready > 0,
        Err(Errno::EINTR) => false,
        Err(errno) => {
            log::error!("cannot wait for changes of the installation, and looks now and then instead: {errno}");
            thread::sleep(POLL_PAUSE);
            false
        }
    }
}
