//! Reading files that the kubelet mounts from ConfigMaps, Secrets and projected volumes.
//!
//! Such a directory holds symbolic links through `..data`, which itself points at a directory named after
//! the time. The kubelet renews all files at once: it points `..data` at a new directory and then
//! deletes the old one. A reader in between can see old and new side by side, or nothing at all.

use std::fs;
use std::io;
use std::path::Path;

use crate::bounded;

/// The link whose target changes with every renewal.
const GENERATION: &str = "..data";

/// The kubelet renews once a minute or so: a second look meets no renewal, a third is for bad luck.
const LOOKS: usize = 3;

/// The contents of files of one directory, all of the same generation; `None` for one that is not there.
///
/// # Errors
/// A file that is there and cannot be read, and a directory that changed at every look.
pub fn read_together<const N: usize>(directory: &Path, names: [&str; N]) -> io::Result<[Option<Vec<u8>>; N]> {
    read_between(directory, || {
        let mut contents = [const { None }; N];
        for (content, name) in contents.iter_mut().zip(names) {
            *content = read_once(&directory.join(name))?;
        }
        Ok(contents)
    })
}

/// The content of one file; `None` when it is not there.
///
/// # Errors
/// As [`read_together`].
pub fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    read_between(path.parent().unwrap_or(Path::new("/")), || read_once(path))
}

/// Repeats `look` until the generation is the same before and after it.
fn read_between<T>(directory: &Path, mut look: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let generation = || fs::read_link(directory.join(GENERATION)).ok();
    for _ in 0..LOOKS {
        let before = generation();
        let seen = look();
        if generation() == before {
            return seen;
        }
    }
    Err(io::Error::new(io::ErrorKind::ResourceBusy, "the mounted files changed at every look"))
}

fn read_once(path: &Path) -> io::Result<Option<Vec<u8>>> {
    match bounded::read(path) {
        Ok(content) => Ok(Some(content)),
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
pub mod tests {
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    use super::*;

    /// A mount as the kubelet makes it.
    pub struct Mount {
        root: TempDir,
        generation: usize,
    }

    impl Mount {
        pub fn new(files: &[(&str, &str)]) -> Self {
            let mut mount = Self { root: tempfile::tempdir().unwrap(), generation: 0 };
            mount.renew(files);
            mount
        }

        pub fn path(&self) -> &Path {
            self.root.path()
        }

        /// In the kubelet's order; names that are gone keep a dangling link, as at the kubelet's for a moment.
        pub fn renew(&mut self, files: &[(&str, &str)]) {
            let old = format!("..{}", self.generation);
            self.generation += 1;
            let new = format!("..{}", self.generation);
            fs::create_dir(self.path().join(&new)).unwrap();
            for (name, content) in files {
                fs::write(self.path().join(&new).join(name), content).unwrap();
            }
            symlink(&new, self.path().join("..data_tmp")).unwrap();
            fs::rename(self.path().join("..data_tmp"), self.path().join(GENERATION)).unwrap();
            for (name, _) in files {
                let link = self.path().join(name);
                if link.symlink_metadata().is_err() {
                    symlink(Path::new(GENERATION).join(name), link).unwrap();
                }
            }
            let _ = fs::remove_dir_all(self.path().join(old));
        }
    }

    #[test]
    fn a_renewal_in_the_middle_is_looked_at_again() {
        let mut mount = Mount::new(&[("token", "old"), ("ca.crt", "old")]);
        let directory = mount.path().to_owned();
        let mut looks = 0;
        let seen = read_between(&directory, || {
            looks += 1;
            let token = read_once(&directory.join("token"))?;
            if looks == 1 {
                mount.renew(&[("token", "new"), ("ca.crt", "new")]);
            }
            Ok((token.unwrap(), read_once(&directory.join("ca.crt"))?.unwrap()))
        });
        assert_eq!((seen.unwrap(), looks), ((b"new".to_vec(), b"new".to_vec()), 2));
        let busy = read_between(&directory, || {
            mount.renew(&[("token", "newer")]);
            Ok(())
        });
        assert_eq!(busy.unwrap_err().kind(), io::ErrorKind::ResourceBusy);
    }

    #[test]
    fn plain_and_missing_files_are_read_too() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("token"), "t").unwrap();
        let read_both = read_together(directory.path(), ["token", "ca.crt"]).unwrap();
        assert_eq!(read_both, [Some(b"t".to_vec()), None]);
        assert_eq!(read(&directory.path().join("no/such")).unwrap(), None);
        assert!(read(directory.path()).is_err());
    }
}
