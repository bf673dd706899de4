//! The bearer token: where it comes from, and taking up a newer one while we run.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{PoisonError, RwLock};

use crate::bounded;
use crate::secret::Secret;

/// A token and its source. Bound tokens live for about an hour and are replaced on disk; a
/// process that lives longer has to look again.
pub(super) struct Token {
    source: Source,
    last: RwLock<Secret>,
}

enum Source {
    /// `tokenFile`: read again at every use.
    File(PathBuf),
    /// `token`, inside this kubeconfig: read again when the API server refuses it.
    Kubeconfig(PathBuf),
}

impl Token {
    /// # Errors
    /// The file cannot be read, or holds no token ([`io::ErrorKind::InvalidData`]).
    pub fn in_file(path: PathBuf) -> io::Result<Self> {
        let last = RwLock::new(read(&path)?);
        Ok(Self { source: Source::File(path), last })
    }

    pub fn in_kubeconfig(path: PathBuf, token: Secret) -> Self {
        Self { source: Source::Kubeconfig(path), last: RwLock::new(token) }
    }

    /// The token to send now. A token file that cannot be read at this moment (it is being
    /// replaced, say) leaves the one that was read last.
    pub fn current(&self) -> Secret {
        if let Source::File(path) = &self.source {
            match read(path) {
                Ok(token) => self.store(token),
                Err(cause) => log::warn!("token file {}: {cause}; the last token is used", path.display()),
            }
        }
        self.last.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Another token than the refused one, if its source has one by now.
    pub fn instead_of(&self, refused: &Secret) -> Option<Secret> {
        if let Source::Kubeconfig(path) = &self.source {
            match super::kubeconfig::load(path) {
                Ok(found) => self.store(found.token?.current()),
                Err(cause) => log::warn!("after a refused token: {cause}"),
            }
        }
        Some(self.current()).filter(|token| token != refused)
    }

    fn store(&self, token: Secret) {
        *self.last.write().unwrap_or_else(PoisonError::into_inner) = token;
    }
}

/// A token out of text that people or tools wrote: it goes into an HTTP header, so it must be
/// printable ASCII without spaces.
pub fn word(text: &str) -> Option<&str> {
    let token = text.trim();
    (!token.is_empty() && token.bytes().all(|byte| byte.is_ascii_graphic())).then_some(token)
}

pub(super) fn parse(text: &str) -> Option<Secret> {
    word(text).map(Secret::new)
}

fn read(path: &Path) -> io::Result<Secret> {
    let text = bounded::read_to_string(path)?;
    parse(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it holds no token"))
}
