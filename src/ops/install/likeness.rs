//! What a file keeps besides its content when another one takes its place: mode, owner, and labels.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::Path;

use xattr::FileExt;

/// The SELinux label, without which a runtime may not read the file where SELinux is enforced, and the access
/// control list, which says more than the mode.
const LABELS: [&str; 2] = ["security.selinux", "system.posix_acl_access"];

/// How a file looks to everybody but its reader.
#[derive(Debug)]
pub struct Likeness {
    found: Metadata,
    labels: Vec<(&'static str, Vec<u8>)>,
}

impl Likeness {
    /// # Errors
    /// A file that cannot be looked at. Labels that cannot be read count as absent.
    pub fn of(path: &Path) -> io::Result<Self> {
        let labelled = |name: &&'static str| Some((*name, xattr::get_deref(path, name).ok()??));
        Ok(Self { found: fs::metadata(path)?, labels: LABELS.iter().filter_map(labelled).collect() })
    }

    pub fn mode(&self) -> u32 {
        self.found.permissions().mode() & 0o7777
    }

    /// Gives `file` the owner and the labels; its mode is given at its creation. What cannot be given is told
    /// and goes without: root's file in its directory's default label serves runtimes almost everywhere, and
    /// no stanza serves nobody.
    pub fn give(&self, file: &File, name: &Path) {
        let lacks = |what: &str, error: io::Error| {
            log::warn!("{} goes without the {what} that it had: {error}", name.display());
        };
        if let Err(error) = self.give_owner(file) {
            lacks("owner", error);
        }
        for (label, value) in &self.labels {
            if !file.get_xattr(label).is_ok_and(|given| given.as_ref() == Some(value))
                && let Err(error) = file.set_xattr(label, value)
            {
                lacks(label, error);
            }
        }
    }

    fn give_owner(&self, file: &File) -> io::Result<()> {
        let made = file.metadata()?;
        if (made.uid(), made.gid()) == (self.found.uid(), self.found.gid()) {
            return Ok(());
        }
        fchown(file, Some(self.found.uid()), Some(self.found.gid()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owner_mode_and_labels_are_kept() {
        let directory = tempfile::tempdir().unwrap();
        let [old, new] = ["old", "new"].map(|name| directory.path().join(name));
        fs::write(&old, "x").unwrap();
        fs::set_permissions(&old, fs::Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::chown(&old, Some(7), Some(8)).unwrap();
        // Owner rw, user 9 r, group r, mask r, others none, as the kernel stores it.
        let acl: Vec<u8> =
            [(1_u16, 6_u16, u32::MAX), (2, 4, 9), (4, 4, u32::MAX), (16, 4, u32::MAX), (32, 0, u32::MAX)]
                .into_iter()
                .flat_map(|(tag, may, id)| [&tag.to_le_bytes()[..], &may.to_le_bytes(), &id.to_le_bytes()].concat())
                .collect();
        let acl = [&2_u32.to_le_bytes()[..], &acl].concat();
        let label = b"system_u:object_r:cni_conf_t:s0\0".to_vec();
        let labels = [(LABELS[0], label), (LABELS[1], acl)];
        labels.iter().for_each(|(name, value)| xattr::set(&old, name, value).unwrap());

        let likeness = Likeness::of(&old).unwrap();
        let file = File::create(&new).unwrap();
        file.set_permissions(fs::Permissions::from_mode(likeness.mode())).unwrap();
        likeness.give(&file, &new);
        let found = new.metadata().unwrap();
        assert_eq!((found.mode() & 0o7777, found.uid(), found.gid()), (0o640, 7, 8));
        for (name, value) in labels {
            assert_eq!(xattr::get(&new, name).unwrap(), Some(value), "{name}");
        }
    }

    #[test]
    fn a_label_that_cannot_be_given_is_gone_without() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let file = File::create(&path).unwrap();
        let strange = Likeness { found: path.metadata().unwrap(), labels: vec![("nowhere.podeip", b"x".to_vec())] };
        strange.give(&file, &path);
        assert_eq!(xattr::list(&path).unwrap().count(), 0);
    }
}
