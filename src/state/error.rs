//! What can go wrong with the state directory, and what to do about it.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use nix::errno::Errno;
use thiserror::Error;

/// A failure of the state directory. The text names the path and the remedy; an I/O cause is the
/// `source`.
#[derive(Debug, Error)]
pub enum StateError {
    /// The file was written by a newer podeip and stays as it is.
    #[error(
        "{path} has version {found}, and this podeip knows version {known} at most: it was left untouched; \
         install the newer podeip again"
    )]
    NewerVersion { path: PathBuf, found: u64, known: u32 },

    /// The file did not parse and was moved aside. Reported once: the next call starts empty.
    #[error(
        "{path} could not be understood ({reason}); it was moved to {moved_to} for inspection and the state \
         starts empty: PodEIPs and tags tell what this node had"
    )]
    Corrupt { path: PathBuf, moved_to: PathBuf, reason: String },

    /// The file did not parse, and was only looked at.
    #[error("{path} could not be understood ({reason}); it was left as it is")]
    Broken { path: PathBuf, reason: String },

    /// Another process kept the lock.
    #[error(
        "{path} was held by another process for {waited:.1?}; if this stays so, `lslocks` or `fuser {path}` names \
         the holder"
    )]
    Locked { path: PathBuf, waited: Duration },

    /// Other users could change the directory, so nothing in it can be believed.
    #[error(
        "{path} cannot be trusted: {reason}; run `chown <user> {path}` and `chmod 0700 {path}`, or set another stateDir"
    )]
    Untrusted { path: PathBuf, reason: String },

    #[error("cannot read {path}: {}", read_remedy(.source))]
    Read { path: PathBuf, source: io::Error },

    #[error("cannot write {path}: {}", write_remedy(.source))]
    Write { path: PathBuf, source: io::Error },

    /// flock(2) itself was refused. podeip never goes on without its locks.
    #[error("cannot lock {path}: put stateDir on a local file system that supports flock(2)")]
    Lock { path: PathBuf, source: io::Error },
}

fn read_remedy(source: &io::Error) -> &'static str {
    const NOT_A_FILE: &str = "something that is not a regular file is in its place; move that away";
    match source.kind() {
        io::ErrorKind::PermissionDenied => "podeip must run as the user that owns the state directory",
        io::ErrorKind::IsADirectory | io::ErrorKind::NotADirectory | io::ErrorKind::InvalidInput => NOT_A_FILE,
        io::ErrorKind::InvalidData => "it is not understood; remove it, its writer writes it anew",
        // A symbolic link, which O_NOFOLLOW refuses.
        _ if source.raw_os_error() == Some(Errno::ELOOP as i32) => NOT_A_FILE,
        _ => "check the disk and the kernel's log; nothing was changed",
    }
}

fn write_remedy(source: &io::Error) -> &'static str {
    match source.kind() {
        io::ErrorKind::StorageFull => "disk full; free space or inodes on its file system, the old content is intact",
        io::ErrorKind::QuotaExceeded => "disk quota exceeded; raise the quota, the old content is intact",
        io::ErrorKind::ReadOnlyFilesystem => "its file system is read-only; remount it or set another stateDir",
        io::ErrorKind::PermissionDenied => "podeip must run as the user that owns the state directory",
        _ => "check the disk and the kernel's log",
    }
}
