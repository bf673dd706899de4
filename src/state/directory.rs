//! The state directory itself: who may own it, how it is made, what is in it.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;

use super::StateError;
use crate::crash;

/// Whether the directory exists; an error unless only its owner, who is us, can put files there.
pub(super) fn exists(directory: &Path) -> Result<bool, StateError> {
    let found = match fs::metadata(directory) {
        Ok(found) => found,
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(StateError::Read { path: directory.to_owned(), source }),
    };
    let user = nix::unistd::geteuid().as_raw();
    let reason = if !found.is_dir() {
        "it is not a directory".to_owned()
    } else if found.uid() != user {
        format!("it belongs to user {}, and podeip runs as user {user}", found.uid())
    } else if found.mode() & 0o002 != 0 {
        format!("everybody may write to it (mode {:04o})", found.mode() & 0o7777)
    } else {
        return Ok(true);
    };
    Err(StateError::Untrusted { path: directory.to_owned(), reason })
}

/// Creates the directory with mode 0700 unless it exists, so that a power cut cannot take it away again.
pub(super) fn create(directory: &Path) -> Result<(), StateError> {
    if exists(directory)? {
        return Ok(());
    }
    let parent = match directory.parent() {
        None => Path::new("/"),
        Some(here) if here.as_os_str().is_empty() => Path::new("."),
        Some(parent) => parent,
    };
    let create = || -> io::Result<()> {
        DirBuilder::new().recursive(true).mode(0o755).create(parent)?;
        if make(directory, 0o700)? {
            crash::point(format_args!("state directory: made"));
            File::open(parent)?.sync_all()?;
        }
        Ok(())
    };
    create().map_err(|source| StateError::Write { path: directory.to_owned(), source })?;
    // Somebody else may have been faster, and may be somebody we do not trust.
    exists(directory).map(|_| ())
}

/// Creates one directory; false when it was there already.
pub(super) fn make(path: &Path, mode: u32) -> io::Result<bool> {
    match DirBuilder::new().mode(mode).create(path) {
        Ok(()) => Ok(true),
        Err(there) if there.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

/// The bytes of a regular file, `None` when there is none.
pub(super) fn read_regular(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let Some(mut file) = open_to_read(path)? else { return Ok(None) };
    let mut content = Vec::new();
    file.read_to_end(&mut content)?;
    Ok(Some(content))
}

/// A regular file, `None` when there is none.
pub(super) fn open_to_read(path: &Path) -> io::Result<Option<File>> {
    match open_regular(path, OpenOptions::new().read(true)) {
        Ok(file) => Ok(Some(file)),
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Opens a regular file, and nothing that stands in its place.
pub(super) fn open_regular(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    // Without O_NONBLOCK a FIFO in the file's place would hang every pod of the node.
    let flags = OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK;
    let file = options.custom_flags(flags.bits()).open(path)?;
    if !file.metadata()?.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "not a regular file"));
    }
    Ok(file)
}

/// What is in `directory`, in no order; nothing when it does not exist.
pub(super) fn entries(directory: &Path) -> Result<Vec<PathBuf>, StateError> {
    let list = || -> io::Result<Vec<PathBuf>> { fs::read_dir(directory)?.map(|entry| Ok(entry?.path())).collect() };
    match list() {
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        listed => listed.map_err(|source| StateError::Read { path: directory.to_owned(), source }),
    }
}

pub(super) fn name_starts_with(path: &Path, prefix: &str) -> bool {
    path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(prefix.as_bytes()))
}
