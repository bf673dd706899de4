//! Replacing a file so that a crash or power cut leaves either the old or the new content.

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Temporary files of [`replace`] start with this; a file of that name is a crash's leftover.
pub const TEMP_PREFIX: &str = ".podeip-tmp-";

/// Writes `content` to a temporary file beside `path`, syncs it, renames it over `path` and
/// syncs the directory. `mode` is the new file's permission bits, such as `0o600`, whatever the umask.
///
/// # Errors
/// Any I/O error of the five steps; `path` then has its old content, or (when only the last
/// sync failed) the new one.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let directory = match path.parent() {
        Some(here) if here.as_os_str().is_empty() => Path::new("."),
        parent => parent.unwrap_or(Path::new("/")),
    };
    let mut file = tempfile::Builder::new()
        .prefix(TEMP_PREFIX)
        .permissions(Permissions::from_mode(mode))
        .tempfile_in(directory)?;
    file.write_all(content)?;
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    file.persist(path).map_err(|refused| refused.error)?;
    File::open(directory)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replaces_content_and_sets_the_mode() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.json");
        std::fs::write(&path, "old").unwrap();
        replace(&path, b"new", 0o600).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "new");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
        // More than any umask leaves.
        replace(&path, b"open", 0o777).unwrap();
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o777);
    }
}
