//! The add-on token on the node: a mirror of the mounted Secret, which the plugin cannot see.

use std::io;
use std::path::{Path, PathBuf};

use anyhow::Context;

use super::kept::{Kept, Repair};
use super::{mounted, secret_file};
use crate::durable;

/// The mirror of the encrypted add-on token.
pub struct MirroredToken {
    /// The file in the mounted Secret.
    pub source: PathBuf,
    pub target: PathBuf,
}

impl MirroredToken {
    /// Most clusters have no such Secret. A token that outlived its Secret would end soon, and every ADD
    /// would be refused for it, where without the file the next source of credentials is asked.
    fn without_token(&self) -> anyhow::Result<Repair> {
        let (source, target) = (self.source.display(), self.target.display());
        if !self.source.parent().is_some_and(Path::is_dir) {
            return Ok(Repair::Waiting(format!("{target} is not written: {source} is not mounted")));
        }
        match durable::remove(&self.target) {
            Ok(()) => Ok(Repair::Done(format!("{target} removed, as {source} was"))),
            Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(Repair::Sound),
            Err(error) => Err(error).with_context(|| format!("cannot remove {target}; its directory must be writable")),
        }
    }
}

impl Kept for MirroredToken {
    fn watched(&self) -> Vec<PathBuf> {
        [&self.source, &self.target].into_iter().filter_map(|file| file.parent()).map(Path::to_owned).collect()
    }

    fn put_right(&self) -> anyhow::Result<Repair> {
        let (source, target) = (self.source.display(), self.target.display());
        let token = mounted::read(&self.source)
            .with_context(|| format!("cannot read the add-on token {source}; check the mounted Secret"))?;
        let Some(token) = token else { return self.without_token() };
        if token.is_empty() {
            return Ok(Repair::Waiting(format!("{target} is not written: {source} is empty")));
        }
        if secret_file::keep(&self.target, &token, |old| old == token)? {
            Ok(Repair::Done(format!("{target} written from {source}")))
        } else {
            Ok(Repair::Sound)
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use super::super::mounted::tests::Mount;
    use super::*;

    #[test]
    fn follows_the_mounted_secret() {
        let node = tempfile::tempdir().unwrap();
        let mut secret = Mount::new(&[("token-config", "first")]);
        let mirror = MirroredToken {
            source: secret.path().join("token-config"),
            target: node.path().join("podeip/token-config"),
        };
        assert_eq!(mirror.watched(), [secret.path().to_owned(), node.path().join("podeip")]);
        assert!(matches!(mirror.put_right().unwrap(), Repair::Done(_)));
        assert_eq!(mirror.target.metadata().unwrap().mode() & 0o7777, 0o600);
        assert_eq!(mirror.put_right().unwrap(), Repair::Sound);

        secret.renew(&[("token-config", "second")]);
        assert!(matches!(mirror.put_right().unwrap(), Repair::Done(_)));
        secret.renew(&[("token-config", "")]);
        assert!(matches!(mirror.put_right().unwrap(), Repair::Waiting(_)));
        assert_eq!(fs::read_to_string(&mirror.target).unwrap(), "second");

        secret.renew(&[]);
        assert!(matches!(mirror.put_right().unwrap(), Repair::Done(_)));
        assert!(!mirror.target.exists());
        assert_eq!(mirror.put_right().unwrap(), Repair::Sound);
        fs::remove_dir_all(secret.path()).unwrap();
        assert!(matches!(mirror.put_right().unwrap(), Repair::Waiting(_)));
    }
}
