//! Files on the node that only podeip's own user may read.

use std::fs::{self, DirBuilder};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

use anyhow::Context;
use nix::unistd::geteuid;

use crate::durable;

const FILE_MODE: u32 = 0o600;
const DIRECTORY_MODE: u32 = 0o700;

/// Writes `content` unless the file is sound already: a regular file of our own, of mode 0600, whose content
/// `same` takes for equal. Says whether it wrote. A directory that is there keeps its mode, since it may
/// be somebody else's.
///
/// # Errors
/// What kept the file from being read or written.
pub fn keep(path: &Path, content: &[u8], same: impl FnOnce(&[u8]) -> bool) -> anyhow::Result<bool> {
    let found = sound(path).with_context(|| format!("cannot read {}; check what is there", path.display()))?;
    if found.is_some_and(|old| same(&old)) {
        return Ok(false);
    }
    let written = create_directory(path).and_then(|()| durable::replace(path, content, FILE_MODE));
    written.with_context(|| {
        format!("cannot write {}; its directory must be writable and its file system not full", path.display())
    })?;
    Ok(true)
}

/// The content, unless there is no file, or one of the wrong kind, owner or mode.
fn sound(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match fs::symlink_metadata(path) {
        Ok(found) if found.is_file() && found.uid() == geteuid().as_raw() && found.mode() & 0o7777 == FILE_MODE => {
            fs::read(path).map(Some)
        }
        Ok(_) => Ok(None),
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn create_directory(path: &Path) -> io::Result<()> {
    let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty() && !parent.exists()) else {
        return Ok(());
    };
    if let Some(above) = directory.parent() {
        DirBuilder::new().recursive(true).mode(0o755).create(above)?;
    }
    // Recursive, so that somebody faster is no error.
    DirBuilder::new().recursive(true).mode(DIRECTORY_MODE).create(directory)
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    fn mode(path: &Path) -> u32 {
        path.symlink_metadata().unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn writes_only_what_is_not_sound() {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().join("etc/podeip/file");
        let keep = |content: &str| keep(&path, content.as_bytes(), |old| old == content.as_bytes()).unwrap();
        assert!(keep("one"));
        assert_eq!((mode(&path), mode(path.parent().unwrap())), (0o600, 0o700));
        assert!(!keep("one"));
        assert!(keep("two"));
        fs::set_permissions(&path, Permissions::from_mode(0o644)).unwrap();
        assert!(keep("two"), "a mode too wide is put right");
        assert_eq!(mode(&path), 0o600);

        let elsewhere = root.path().join("elsewhere");
        fs::write(&elsewhere, "two").unwrap();
        fs::remove_file(&path).unwrap();
        symlink(&elsewhere, &path).unwrap();
        assert!(keep("two"), "a link is replaced, not followed");
        assert!(path.symlink_metadata().unwrap().is_file());
    }

    #[test]
    fn names_the_file_that_cannot_be_written() {
        let root = tempfile::tempdir().unwrap();
        let error = keep(root.path(), b"", |_| true).unwrap_err();
        assert!(error.to_string().contains(root.path().to_str().unwrap()), "{error}");
    }
}
