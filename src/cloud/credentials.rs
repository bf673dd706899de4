//! Who signs: the chain of credential sources, renewal, and one fetch for all threads of a process.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;

use crate::deadline::Deadline;
use crate::secret::Secret;

use super::addon_token;
use super::credential_cache::Cache;
use super::error::{CloudError, Failure};
use super::metadata::Metadata;
use super::rrsa::Exchange;
use super::turn::Turn;
use super::{AccessKey, Class};

/// The action named in errors.
const ACTION: &str = "cloud credentials";

/// Longer than any verb, so credentials never expire under one; the metadata service rotates its
/// own well before this.
pub(super) const RENEW_BEFORE: SignedDuration = SignedDuration::from_mins(10);

/// A source that hands out credentials close to their end is not asked before every call.
const RENEW_PAUSE: Duration = Duration::from_secs(30);

/// With usable credentials in the cache, asking which role the node has may not take longer.
const ROLE_CHECK: Duration = Duration::from_secs(1);

/// Below `meta-data/`: the role's name; with the name appended, its credentials.
const ROLE_PATH: &str = "ram/security-credentials/";

/// What signs a call. Long-lived keys have neither token nor end.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Credentials {
    pub key: AccessKey,
    pub token: Option<Secret>,
    pub expires: Option<Timestamp>,
}

impl Credentials {
    /// Whether they end within `span` from now.
    pub fn end_within(&self, span: SignedDuration) -> bool {
        self.expires.is_some_and(|end| end.duration_since(Timestamp::now()) <= span)
    }

    /// Every text that must not appear in messages.
    pub fn secrets(&self) -> impl Iterator<Item = &str> {
        std::iter::once(self.key.secret.reveal()).chain(self.token.as_ref().map(Secret::reveal))
    }
}

/// One place that may have credentials. They are asked in the order of [`Chain::new`].
///
/// A further source is a variant here and an arm in [`Chain::ask`]; temporary credentials go through
/// [`Cache`] under a name of their own.
enum Source {
    /// `access_key` and `access_secret` of the configuration.
    AccessKey(AccessKey),
    /// `credential_path`: whoever writes that file renews it.
    AddonToken(PathBuf),
    /// A role for the service account's token.
    Rrsa(Exchange),
    /// The RAM role attached to this node.
    RamRole(Arc<Metadata>),
    /// Stands in the place of one that is not configured, and says so.
    Unset(&'static str),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::AccessKey(key) => write!(f, "access_key {} of eni_conf", key.id),
            Source::AddonToken(path) => write!(f, "the add-on token in {}", path.display()),
            Source::Rrsa(exchange) => write!(f, "RRSA with the role {}", exchange.role()),
            Source::RamRole(_) => f.write_str("the RAM role of the node"),
            Source::Unset(reason) => f.write_str(reason),
        }
    }
}

/// What a source said.
pub(super) enum Found {
    Here(Credentials),
    /// It has none, and why: the next one is asked.
    Absent(String),
}

#[derive(Clone)]
struct Held {
    credentials: Arc<Credentials>,
    since: Instant,
}

impl Held {
    fn fresh(&self) -> bool {
        let just_fetched = self.since.elapsed() < RENEW_PAUSE && !self.credentials.end_within(SignedDuration::ZERO);
        just_fetched || !self.credentials.end_within(RENEW_BEFORE)
    }
}

/// What the configuration names, in the order in which it is asked; the node's RAM role is last.
#[derive(Default)]
pub(super) struct Sources {
    /// One with an empty half counts as not there.
    pub access_key: Option<AccessKey>,
    pub addon_token: Option<PathBuf>,
    pub exchange: Option<Exchange>,
}

/// What the chain found.
pub(super) struct Answered {
    pub credentials: Credentials,
    /// The source that had them, for people.
    pub source: String,
}

pub(super) struct Chain {
    sources: Vec<Source>,
    cache: Cache,
    held: Mutex<Option<Held>>,
    turn: Turn,
}

impl Chain {
    pub fn new(configured: Sources, metadata: Arc<Metadata>, cache: PathBuf) -> Self {
        let given = configured.access_key.filter(|key| !key.id.is_empty() && !key.secret.reveal().is_empty());
        let sources = vec![
            given.map_or(Source::Unset("access_key and access_secret are not set"), Source::AccessKey),
            configured.addon_token.map_or(Source::Unset("credential_path is not set"), Source::AddonToken),
            configured.exchange.map_or(Source::Unset("enable_rrsa is off"), Source::Rrsa),
            Source::RamRole(metadata),
        ];
        Self { sources, cache: Cache::new(cache), held: Mutex::new(None), turn: Turn::default() }
    }

    /// Credentials that are good for a while: held ones, else cached ones, else from a source.
    pub fn current(&self, deadline: Deadline) -> Result<Arc<Credentials>, CloudError> {
        if let Some(held) = self.held().filter(Held::fresh) {
            return Ok(held.credentials);
        }
        let _turn = self.turn.take(deadline).ok_or_else(late)?;
        let held = self.held();
        if let Some(held) = held.clone().filter(Held::fresh) {
            return Ok(held.credentials);
        }
        match (self.fetch(true, deadline), held) {
            (Ok(credentials), _) => Ok(self.hold(credentials)),
            (Err(failure), Some(held)) if !held.credentials.end_within(SignedDuration::ZERO) => {
                log::warn!("credentials were not renewed, using the present ones: {failure}");
                Ok(held.credentials)
            }
            (Err(failure), _) => Err(failure),
        }
    }

    /// Other credentials than `stale`, which the cloud refused: what another thread got meanwhile,
    /// else from the source past every cache. None for long-lived keys, which have no successor.
    pub fn renew(&self, stale: &Arc<Credentials>, deadline: Deadline) -> Result<Option<Arc<Credentials>>, CloudError> {
        if stale.expires.is_none() {
            return Ok(None);
        }
        let _turn = self.turn.take(deadline).ok_or_else(late)?;
        if let Some(held) = self.held().filter(|held| !Arc::ptr_eq(&held.credentials, stale)) {
            return Ok(Some(held.credentials));
        }
        let credentials = self.fetch(false, deadline)?;
        Ok(Some(self.hold(credentials)))
    }

    /// As [`current`](Self::current), past what this process holds, with the sources that were asked in
    /// vain and why. Those are in the failure itself when no source has any.
    pub fn explain(&self, deadline: Deadline) -> (Vec<String>, Result<Answered, CloudError>) {
        let mut skipped = Vec::new();
        let Some(_turn) = self.turn.take(deadline) else { return (skipped, Err(late())) };
        let answered = self.walk(true, &mut skipped, deadline);
        if let Ok(answered) = &answered {
            self.hold(answered.credentials.clone());
        }
        (skipped, answered)
    }

    fn fetch(&self, cached: bool, deadline: Deadline) -> Result<Credentials, CloudError> {
        self.walk(cached, &mut Vec::new(), deadline).map(|answered| answered.credentials)
    }

    fn walk(&self, cached: bool, skipped: &mut Vec<String>, deadline: Deadline) -> Result<Answered, CloudError> {
        for source in &self.sources {
            match self.ask(source, cached, deadline)? {
                Found::Here(credentials) => return Ok(Answered { credentials, source: source.to_string() }),
                Found::Absent(reason) => skipped.push(reason),
            }
        }
        let failure = Failure::NoCredentials(std::mem::take(skipped).join("; "));
        Err(CloudError::new(ACTION, "", 1, failure))
    }

    fn ask(&self, source: &Source, cached: bool, deadline: Deadline) -> Result<Found, CloudError> {
        match source {
            Source::AccessKey(key) => Ok(Found::Here(Credentials { key: key.clone(), token: None, expires: None })),
            Source::AddonToken(path) => addon_credentials(path),
            Source::Rrsa(exchange) => self.rrsa(exchange, cached, deadline).map(Found::Here),
            Source::RamRole(metadata) => self.ram_role(metadata, cached, deadline),
            Source::Unset(reason) => Ok(Found::Absent((*reason).into())),
        }
    }

    fn rrsa(&self, exchange: &Exchange, cached: bool, deadline: Deadline) -> Result<Credentials, CloudError> {
        let source = format!("rrsa/{}", exchange.role());
        if let Some(entry) = self.cache.read().filter(|entry| cached && entry.source == source) {
            return Ok(entry.credentials);
        }
        let credentials = exchange.credentials(deadline)?;
        self.cache.write(&source, &credentials);
        Ok(credentials)
    }

    fn ram_role(&self, metadata: &Metadata, cached: bool, deadline: Deadline) -> Result<Found, CloudError> {
        let cached = if cached { self.cache.read() } else { None };
        let patience = if cached.is_some() { deadline.within(ROLE_CHECK) } else { deadline };
        let role = match (metadata.text(ROLE_PATH, patience), &cached) {
            // A listing: one entry a line, and a node has one role.
            (Ok(Some(listing)), _) => listing.lines().next().unwrap_or_default().trim().to_string(),
            (Ok(None), _) => return Ok(Found::Absent("the node has no RAM role".into())),
            (Err(failure), Some(entry)) if entry.is_ram_role() => {
                log::debug!("the node's RAM role was not looked up, using cached credentials: {failure}");
                return Ok(Found::Here(entry.credentials.clone()));
            }
            (Err(failure), _) if failure.class() == Class::Permission => {
                return Ok(Found::Absent(failure.to_string()));
            }
            (Err(failure), _) => return Err(failure),
        };
        if let Some(entry) = cached.filter(|entry| entry.source == ram_role_source(&role)) {
            return Ok(Found::Here(entry.credentials));
        }
        let path = format!("{ROLE_PATH}{role}");
        let Some(text) = metadata.text(&path, deadline)? else {
            return Ok(Found::Absent(format!("the RAM role {role} has no credentials")));
        };
        let found = role_credentials(&text, &role, &path)?;
        if let Found::Here(credentials) = &found {
            self.cache.write(&ram_role_source(&role), credentials);
        }
        Ok(found)
    }

    fn held(&self) -> Option<Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn hold(&self, credentials: Credentials) -> Arc<Credentials> {
        let credentials = Arc::new(credentials);
        let held = Held { credentials: credentials.clone(), since: Instant::now() };
        *self.held.lock().unwrap_or_else(PoisonError::into_inner) = Some(held);
        credentials
    }
}

/// Read anew each time: the file is the cache.
fn addon_credentials(path: &Path) -> Result<Found, CloudError> {
    match addon_token::read(path) {
        Ok(Some(credentials)) => Ok(Found::Here(credentials)),
        Ok(None) => Ok(Found::Absent(format!("credential_path {} does not exist", path.display()))),
        Err(error) => Err(CloudError::new(ACTION, "", 1, Failure::BrokenSource(format!("credential_path {error}")))),
    }
}

/// The cache's name for credentials of that RAM role.
fn ram_role_source(role: &str) -> String {
    format!("{}{role}", super::credential_cache::RAM_ROLE)
}

fn late() -> CloudError {
    CloudError::new(ACTION, "", 0, Failure::NotTried("no time left while another thread fetches them".into()))
}

/// What metadata answers below a role's name.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct RoleCredentials {
    #[serde(default)]
    code: String,
    access_key_id: Option<String>,
    access_key_secret: Option<Secret>,
    security_token: Option<Secret>,
    expiration: Option<Timestamp>,
}

pub(super) fn role_credentials(text: &str, role: &str, path: &str) -> Result<Found, CloudError> {
    // The parser's own message may quote the secret.
    let unreadable = || {
        let reason = "not the JSON of a RAM role's credentials".into();
        CloudError::new("instance metadata", path, 1, Failure::Garbled { status: 200, reason })
    };
    let answer: RoleCredentials = serde_json::from_str(text).map_err(|_| unreadable())?;
    if answer.code != "Success" {
        return Ok(Found::Absent(format!("the RAM role {role} has no credentials (Code {:?})", answer.code)));
    }
    match (answer.access_key_id, answer.access_key_secret, answer.security_token, answer.expiration) {
        (Some(id), Some(secret), Some(token), Some(end)) => {
            Ok(Found::Here(Credentials { key: AccessKey { id, secret }, token: Some(token), expires: Some(end) }))
        }
        _ => Err(unreadable()),
    }
}

#[cfg(test)]
mod tests;
