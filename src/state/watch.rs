//! Noticing that the state file was replaced, through inotify(7).

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

use super::store::STATE_FILE;
use super::{StateError, Store, directory};

/// Readable when something was renamed into the state directory.
pub struct Watch(Inotify);

impl Store {
    /// Watches the state file from now on. The directory is made if it is missing.
    ///
    /// # Errors
    /// [`StateError::Untrusted`], [`StateError::Write`]; [`StateError::Read`] when the kernel refuses.
    pub fn watch(&self) -> Result<Watch, StateError> {
        directory::create(self.directory())?;
        let refused = |errno: Errno| StateError::Read { path: self.directory().to_owned(), source: errno.into() };
        let inotify = Inotify::init(InitFlags::IN_CLOEXEC | InitFlags::IN_NONBLOCK).map_err(refused)?;
        // The file is only ever replaced by a rename.
        inotify.add_watch(self.directory(), AddWatchFlags::IN_MOVED_TO).map_err(refused)?;
        Ok(Watch(inotify))
    }
}

impl Watch {
    /// Whether the state file was replaced since the last call. Never waits.
    pub fn changed(&self) -> bool {
        let mut changed = false;
        // It ends with EAGAIN, when all events are read.
        while let Ok(events) = self.0.read_events() {
            changed |= events.iter().any(|event| event.name.as_deref().is_some_and(|name| name == STATE_FILE));
        }
        changed
    }
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
