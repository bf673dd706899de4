//! Replacing a file so that a crash or power cut leaves either the old or the new content.

use std::borrow::Cow;
use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use tempfile::{NamedTempFile, TempPath};

use crate::crash;

/// Temporary files of [`replace`] start with this; an old file of that name is a crash's leftover. No
/// runtime takes one for a configuration or a plugin: the name has no extension, and no plugin has it.
pub const TEMP_PREFIX: &str = ".podeip-tmp-";

/// Temporary files younger than this may belong to a living writer, of this process or another. A write
/// takes milliseconds, even on a slow disk far below a minute.
const LEFTOVER_AGE: Duration = Duration::from_secs(60);

/// Writes `content` to a temporary file beside `path`, syncs it, renames it over `path` and
/// syncs the directory. `mode` is the new file's permission bits, such as `0o600`, whatever the umask.
///
/// # Errors
/// Any I/O error of the five steps; `path` then has its old content, or (when only the last
/// sync failed) the new one.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    replace_by_parts(path, &[content], mode)
}

/// As [`replace`], with what `parts` are together.
///
/// # Errors
/// As [`replace`].
pub fn replace_by_parts(path: &Path, parts: &[&[u8]], mode: u32) -> io::Result<()> {
    put(write_parts_beside(path, parts, mode)?.into_temp_path(), path)
}

/// The second half of [`replace`]: the written file takes the place of `path`.
///
/// # Errors
/// Any I/O error; `path` then has its old content, or (when only the sync failed) the new one.
pub fn put(written: TempPath, path: &Path) -> io::Result<()> {
    written.persist(path)?;
    crash::point(format_args!("{}: renamed", name_of(path)));
    sync_directory_of(path)?;
    crash::point(format_args!("{}: rename synced", name_of(path)));
    Ok(())
}

/// Removes `path` so that it stays removed.
///
/// # Errors
/// Any I/O error, also that there is no such file.
pub fn remove(path: &Path) -> io::Result<()> {
    crash::point(format_args!("{}: to be removed", name_of(path)));
    fs::remove_file(path)?;
    crash::point(format_args!("{}: removed", name_of(path)));
    sync_directory_of(path)
}

/// As [`replace`], for what may be lost: a power cut can leave the old content, the new one, or none.
///
/// # Errors
/// Any I/O error.
pub fn replace_unsynced(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = new_beside(path, mode)?;
    file.write_all(content)?;
    file.persist(path).map(drop).map_err(|refused| refused.error)
}

/// The first half of [`replace`]: a synced temporary file, which goes when it is dropped.
///
/// # Errors
/// Any I/O error, such as of a full disk.
pub fn write_beside(path: &Path, content: &[u8], mode: u32) -> io::Result<NamedTempFile> {
    write_parts_beside(path, &[content], mode)
}

fn write_parts_beside(path: &Path, parts: &[&[u8]], mode: u32) -> io::Result<NamedTempFile> {
    let mut file = new_beside(path, mode)?;
    crash::point(format_args!("{}: temporary file made", name_of(path)));
    parts.iter().try_for_each(|part| file.write_all(part))?;
    crash::point(format_args!("{}: written", name_of(path)));
    file.as_file().set_permissions(Permissions::from_mode(mode))?;
    file.as_file().sync_all()?;
    crash::point(format_args!("{}: synced", name_of(path)));
    Ok(file)
}

fn new_beside(path: &Path, mode: u32) -> io::Result<NamedTempFile> {
    let mut builder = tempfile::Builder::new();
    builder.prefix(TEMP_PREFIX).permissions(Permissions::from_mode(mode)).tempfile_in(directory_of(path))
}

/// Has what was renamed to `path`, or removed there, survive a power cut.
///
/// # Errors
/// Any I/O error.
pub fn sync_directory_of(path: &Path) -> io::Result<()> {
    File::open(directory_of(path))?.sync_all()
}

fn name_of(path: &Path) -> Cow<'_, str> {
    path.file_name().unwrap_or_default().to_string_lossy()
}

fn directory_of(path: &Path) -> &Path {
    match path.parent() {
        Some(here) if here.as_os_str().is_empty() => Path::new("."),
        parent => parent.unwrap_or(Path::new("/")),
    }
}

/// Removes what killed writers left in `directory`. A leftover that cannot be removed only takes space,
/// so it is reported and no more.
pub fn sweep_leftovers(directory: &Path) {
    // A directory that is missing or cannot be read is reported by whoever needs it.
    let Ok(entries) = fs::read_dir(directory) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())) {
        let ours = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(TEMP_PREFIX.as_bytes()));
        if ours
            && is_old(&path)
            && let Err(error) = fs::remove_file(&path)
        {
            log::warn!("cannot remove the leftover {}: {error}", path.display());
        }
    }
}

/// False for a file that is gone, or from the future because the clock was set back.
fn is_old(path: &Path) -> bool {
    let modified = fs::symlink_metadata(path).and_then(|found| found.modified());
    modified.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age >= LEFTOVER_AGE))
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
