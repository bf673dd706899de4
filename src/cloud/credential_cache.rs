//! Temporary credentials on disk, so that the next process need not ask for its own. Never long-lived keys.

use std::path::PathBuf;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::bounded;
use crate::durable;
use crate::secret::Secret;

use super::AccessKey;
use super::credentials::{Credentials, RENEW_BEFORE};

/// Version 1 is the first; another one is ignored and replaced.
const VERSION: u32 = 1;

/// Sources that are RAM roles of the node are named with this and the role.
pub(super) const RAM_ROLE: &str = "ram-role/";

/// The file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct CacheFile {
    version: u32,
    source: String,
    access_key_id: String,
    access_key_secret: Secret,
    security_token: Secret,
    expiration: Timestamp,
}

/// What the file holds: credentials and where they came from.
pub(super) struct Entry {
    pub source: String,
    pub credentials: Credentials,
}

impl Entry {
    pub fn is_ram_role(&self) -> bool {
        self.source.starts_with(RAM_ROLE)
    }
}

pub(super) struct Cache {
    path: PathBuf,
}

impl Cache {
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    /// None when there is no file, it cannot be read, or what it holds ends too soon.
    pub fn read(&self) -> Option<Entry> {
        let text = bounded::read(&self.path).ok()?;
        let file: CacheFile = serde_json::from_slice(&text).ok()?;
        let credentials = Credentials {
            key: AccessKey { id: file.access_key_id, secret: file.access_key_secret },
            token: Some(file.security_token),
            expires: Some(file.expiration),
        };
        let usable = file.version == VERSION && !credentials.end_within(RENEW_BEFORE);
        usable.then_some(Entry { source: file.source, credentials })
    }

    /// Keeps temporary credentials; anything else is left alone. A cache that cannot be written costs
    /// the next process one metadata call, so it is no error.
    pub fn write(&self, source: &str, credentials: &Credentials) {
        let (Some(token), Some(expiration)) = (credentials.token.clone(), credentials.expires) else { return };
        let file = CacheFile {
            version: VERSION,
            source: source.into(),
            access_key_id: credentials.key.id.clone(),
            access_key_secret: credentials.key.secret.clone(),
            security_token: token,
            expiration,
        };
        let written = serde_json::to_vec(&file)
            .map_err(std::io::Error::from)
            .and_then(|text| durable::replace(&self.path, &text, 0o600));
        if let Err(failure) = written {
            log::warn!("credentials are not cached in {}: {failure}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use jiff::SignedDuration;

    use super::*;

    fn temporary(minutes: i64) -> Credentials {
        Credentials {
            key: AccessKey { id: "STS.1".into(), secret: Secret::new("hush") },
            token: Some(Secret::new("token")),
            expires: Some(Timestamp::now() + SignedDuration::from_mins(minutes)),
        }
    }

    #[test]
    fn keeps_temporary_credentials_for_our_eyes_only() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::new(directory.path().join("credentials.json"));
        assert!(cache.read().is_none());
        cache.write("ram-role/worker", &temporary(60));
        let entry = cache.read().unwrap();
        assert_eq!(entry.source, "ram-role/worker");
        assert_eq!(entry.credentials.token, Some(Secret::new("token")));
        assert_eq!(cache.path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn forgets_what_ends_soon_or_cannot_be_read() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::new(directory.path().join("credentials.json"));
        cache.write("ram-role/worker", &temporary(9));
        assert!(cache.read().is_none());
        std::fs::write(&cache.path, "{").unwrap();
        assert!(cache.read().is_none());
    }

    #[test]
    fn never_keeps_long_lived_keys() {
        let directory = tempfile::tempdir().unwrap();
        let cache = Cache::new(directory.path().join("credentials.json"));
        cache.write("access-key", &Credentials { token: None, expires: None, ..temporary(60) });
        assert!(!cache.path.exists());
    }
}
