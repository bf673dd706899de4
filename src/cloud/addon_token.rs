//! The add-on token: temporary credentials that ACK writes into a file, encrypted with a key that stands beside them.
//!
//! ACK renews the file before they end (Secret `kube-system/addon.network.token`, as Terway mounts it). The
//! encryption hides nothing from whoever reads the file; it only has to be undone.

use std::io;
use std::path::{Path, PathBuf};

use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeDecrypt, KeyIvInit};
use aes::{Aes128, Aes192, Aes256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use super::AccessKey;
use super::credentials::Credentials;
use crate::bounded;
use crate::secret::Secret;

/// AES' block, and with that the length of the initialisation vector.
const BLOCK: usize = 16;

/// Why a token file that is there cannot be used. No text of the file but the cloud's own error is repeated.
#[derive(Debug, thiserror::Error)]
pub(super) enum TokenError {
    #[error("{path} cannot be read: {source}", path = .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{path} is not the JSON of an add-on token", path = .path.display())]
    Form { path: PathBuf },
    #[error("{path} lacks the key \"{key}\"", path = .path.display())]
    Lacking { path: PathBuf, key: &'static str },
    #[error("{path}: the keyring is {length} bytes long; AES takes 16, 24 or 32", path = .path.display())]
    Keyring { path: PathBuf, length: usize },
    #[error("{path}: the key \"{key}\" is not encrypted with the keyring of the file", path = .path.display())]
    Encrypted { path: PathBuf, key: &'static str },
    #[error(
        "{path}: ACK could not get a token for the role {role} ({code}: {message}); authorise that role",
        path = .path.display()
    )]
    Refused { path: PathBuf, role: String, code: String, message: String },
    #[error("{path}: the token ended at {ended}, and nobody has renewed the file", path = .path.display())]
    Expired { path: PathBuf, ended: Timestamp },
}

/// The file. Every key may be missing, because a file may carry an error instead.
#[derive(Deserialize)]
struct TokenFile {
    #[serde(rename = "access.key.id")]
    key_id: Option<String>,
    #[serde(rename = "access.key.secret")]
    key_secret: Option<String>,
    #[serde(rename = "security.token")]
    security_token: Option<String>,
    /// Read only when it is needed: beside an error it may be empty.
    expiration: Option<String>,
    keyring: Option<Secret>,
    error: Option<Refusal>,
}

/// What ACK writes instead of a token it could not get.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Refusal {
    role_name: String,
    code: String,
    message: String,
}

/// The credentials in the file at `path`; `None` when there is no such file.
///
/// # Errors
/// Any [`TokenError`].
pub(super) fn read(path: &Path) -> Result<Option<Credentials>, TokenError> {
    match bounded::read(path) {
        Ok(text) => decode(path, &text).map(Some),
        Err(missing) if missing.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(TokenError::Read { path: path.into(), source }),
    }
}

pub(super) fn decode(path: &Path, text: &[u8]) -> Result<Credentials, TokenError> {
    // The parser's own message could quote a value.
    let file: TokenFile = serde_json::from_slice(text).map_err(|_| TokenError::Form { path: path.into() })?;
    if let Some(Refusal { role_name, code, message }) = file.error {
        return Err(TokenError::Refused { path: path.into(), role: role_name, code, message });
    }
    let lacking = |key| TokenError::Lacking { path: path.into(), key };
    let keyring = file.keyring.ok_or_else(|| lacking("keyring"))?;
    let ended = file.expiration.ok_or_else(|| lacking("expiration"))?;
    let ended: Timestamp = ended.parse().map_err(|_| TokenError::Form { path: path.into() })?;
    let open = |key: &'static str, value: Option<String>| {
        let value = value.ok_or_else(|| lacking(key))?;
        decrypt(keyring.reveal().as_bytes(), &value).map_err(|sealed| match sealed {
            Sealed::Keyring => TokenError::Keyring { path: path.into(), length: keyring.reveal().len() },
            Sealed::Value => TokenError::Encrypted { path: path.into(), key },
        })
    };
    let credentials = Credentials {
        key: AccessKey {
            id: open("access.key.id", file.key_id)?,
            secret: Secret::new(open("access.key.secret", file.key_secret)?),
        },
        token: Some(Secret::new(open("security.token", file.security_token)?)),
        expires: Some(ended),
    };
    if credentials.end_within(SignedDuration::ZERO) {
        return Err(TokenError::Expired { path: path.into(), ended });
    }
    Ok(credentials)
}

/// What keeps a value from being read.
#[derive(Debug, PartialEq)]
enum Sealed {
    Keyring,
    Value,
}

/// `value` is the base64 of the initialisation vector and the AES-CBC ciphertext, padded as PKCS#7 says.
fn decrypt(keyring: &[u8], value: &str) -> Result<String, Sealed> {
    let bytes = STANDARD.decode(value).map_err(|_| Sealed::Value)?;
    let (vector, ciphertext) = bytes.split_at_checked(BLOCK).ok_or(Sealed::Value)?;
    let plain = match keyring.len() {
        16 => opened::<cbc::Decryptor<Aes128>>(keyring, vector, ciphertext),
        24 => opened::<cbc::Decryptor<Aes192>>(keyring, vector, ciphertext),
        32 => opened::<cbc::Decryptor<Aes256>>(keyring, vector, ciphertext),
        _ => return Err(Sealed::Keyring),
    };
    let text = plain.and_then(|plain| String::from_utf8(plain).ok()).filter(|text| !text.is_empty());
    text.ok_or(Sealed::Value)
}

fn opened<D: KeyIvInit + BlockModeDecrypt>(key: &[u8], vector: &[u8], ciphertext: &[u8]) -> Option<Vec<u8>> {
    D::new_from_slices(key, vector).ok()?.decrypt_padded_vec::<Pkcs7>(ciphertext).ok()
}

#[cfg(test)]
mod tests;
