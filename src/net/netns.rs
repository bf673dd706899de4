//! Network namespaces by path: whether one is there, and whether it is our own.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::statfs::{NSFS_MAGIC, fstatfs, statfs};

use super::NetError;

/// Whether a namespace is alive at `path`: nsfs is mounted there, or the process of that `/proc`
/// path still has its namespace. A plain file that outlived its mount is none. When the kernel
/// does not let us look, the namespace counts as alive, because callers tear down what is gone.
pub fn netns_exists(path: &str) -> bool {
    match statfs(path) {
        Ok(found) => found.filesystem_type() == NSFS_MAGIC,
        // EINVAL is a path with a zero byte in it.
        Err(Errno::EINVAL | Errno::ENOENT | Errno::ENOTDIR | Errno::ESRCH | Errno::ENAMETOOLONG | Errno::ELOOP) => {
            false
        }
        // The process is there. Only who may trace it sees more, and the agent of the DaemonSet has no capability.
        Err(Errno::EACCES) if path.starts_with("/proc/") => true,
        Err(error) => {
            log::warn!("cannot look at the network namespace {path}, so it counts as alive: {error}");
            true
        }
    }
}

/// Whether `path` is the network namespace of the calling thread (the host's, for a plugin): then
/// the pod runs in the host network.
pub fn own_netns(path: impl AsRef<Path>) -> bool {
    let namespace = |path: &Path| fs::metadata(path).map(|found| (found.dev(), found.ino()));
    match (namespace(path.as_ref()), namespace(Path::new("/proc/thread-self/ns/net"))) {
        (Ok(there), Ok(ours)) => there == ours,
        _ => false,
    }
}

/// Opens the namespace at `path` for entering.
pub(super) fn open(path: &Path) -> Result<File, NetError> {
    let gone = || NetError::NetnsGone { path: path.to_owned() };
    let refused = |source| NetError::Netns { path: path.to_owned(), source };
    // Without O_NONBLOCK a FIFO in its place would hang us.
    let file = match OpenOptions::new().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path) {
        Err(missing) if matches!(missing.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Err(gone());
        }
        opened => opened.map_err(refused)?,
    };
    match fstatfs(&file) {
        Ok(found) if found.filesystem_type() == NSFS_MAGIC => Ok(file),
        Ok(_) => Err(gone()),
        Err(error) => Err(refused(error.into())),
    }
}
