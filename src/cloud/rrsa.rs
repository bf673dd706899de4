//! RRSA: a RAM role for the token of a Kubernetes service account (STS `AssumeRoleWithOIDC`, API version 2015-04-01).

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use serde::Deserialize;

use super::AccessKey;
use super::credentials::Credentials;
use super::error::{CloudError, Failure};
use super::place::Place;
use super::retry::{Attempts, Effect, Next, try_budget, worth_sending};
use super::rpc::{Product, Rpc, common_parameters, post, without_secrets};
use super::signature::canonical;
use crate::deadline::Deadline;
use crate::http::Http;
use crate::measure::Tally;
use crate::secret::Secret;

/// The action, also in errors about what comes before it.
pub(super) const ACTION: &str = "AssumeRoleWithOIDC";

/// How STS answers a token that ended; a source that renews it may have a newer one by now.
pub(super) const EXPIRED: &str = "AuthenticationFail.OIDCToken.Expired";

/// STS takes names of 2 to 64 characters.
const LONGEST_SESSION: usize = 64;

/// What service accounts' tokens are made for, so that RAM's provider takes them.
pub const AUDIENCE: &str = "sts.aliyuncs.com";

/// Whose role is taken, and with what.
#[derive(Clone, Debug)]
pub struct Rrsa {
    /// `acs:ram::<account>:role/<name>`, or a name alone: a role of the node's account.
    pub role: String,
    /// `acs:ram::<account>:oidc-provider/<name>`, or a name alone: a provider of the role's account.
    pub provider: String,
    pub session: SessionName,
    pub tokens: Arc<dyn OidcTokens>,
}

/// Where tokens of the service account come from.
pub trait OidcTokens: fmt::Debug + Send + Sync {
    /// A token made for [`AUDIENCE`].
    ///
    /// # Errors
    /// Why there is none.
    fn token(&self, deadline: Deadline) -> Result<Secret, NoToken>;
}

/// Why there is no token.
#[derive(Debug)]
pub enum NoToken {
    /// Its source did not answer: a later try may have one.
    Unanswered(String),
    /// Somebody has to mend something, and what.
    Refused(String),
}

/// Names the session in the account's audit trail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionName(String);

impl SessionName {
    /// `text` with what STS does not take replaced or cut.
    pub fn new(text: &str) -> Self {
        let allowed = |c: char| c.is_ascii_alphanumeric() || ".@-_".contains(c);
        let name: String = text.chars().map(|c| if allowed(c) { c } else { '-' }).take(LONGEST_SESSION).collect();
        Self(if name.len() < 2 { "podeip".into() } else { name })
    }
}

/// The role, and how to take it.
pub(super) struct Exchange {
    rrsa: Rrsa,
    place: Arc<Place>,
    http: Arc<Http>,
    tally: Arc<Tally>,
}

/// What STS answers.
#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Assumed {
    pub credentials: WireCredentials,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct WireCredentials {
    access_key_id: String,
    access_key_secret: Secret,
    security_token: Secret,
    expiration: Timestamp,
}

impl Exchange {
    pub fn new(rrsa: Rrsa, place: Arc<Place>, http: Arc<Http>, tally: Arc<Tally>) -> Self {
        Self { rrsa, place, http, tally }
    }

    /// The role as it is configured, for messages and as the cache's name.
    pub fn role(&self) -> &str {
        &self.rrsa.role
    }

    /// Credentials of the role. Taking it twice does no harm, so what is not answered is repeated.
    pub fn credentials(&self, deadline: Deadline) -> Result<Credentials, CloudError> {
        let mut token = self.token(deadline)?;
        let (provider, role) = self.arns(deadline)?;
        let rpc = Rpc::new(Product::Sts, ACTION, Effect::Read, "")
            .with("OIDCProviderArn", provider)
            .with("RoleArn", role)
            .with("RoleSessionName", &self.rrsa.session.0);
        let base = self.place.base(Product::Sts, self.place.region(deadline)?);
        let mut attempts = Attempts::default();
        let mut renewed = false;
        loop {
            let tried = self.try_once(&rpc, &base, &token, deadline);
            self.tally.call(ACTION, &tried.as_ref().map_or_else(Failure::code, |_| "OK".into()));
            let failure = match tried {
                Ok(credentials) => return Ok(credentials),
                Err(failure) => failure,
            };
            let next = attempts.failed(failure.class(), Effect::Read, fastrand::f64());
            log::debug!("{ACTION} {}: try {}: {failure}: {next:?}", self.rrsa.role, attempts.tries());
            if failure.code() == EXPIRED && !std::mem::replace(&mut renewed, true) {
                token = self.token(deadline)?;
                continue;
            }
            let again = match next {
                Next::Again(pause) => {
                    worth_sending(Effect::Read, deadline.left().saturating_sub(pause)) && deadline.sleep(pause)
                }
                Next::Renew | Next::Stop => false,
            };
            if !again {
                return Err(self.error(attempts.tries(), failure));
            }
        }
    }

    fn token(&self, deadline: Deadline) -> Result<Secret, CloudError> {
        self.rrsa.tokens.token(deadline).map_err(|none| match none {
            NoToken::Unanswered(why) => self.error(0, Failure::NotTried(why)),
            NoToken::Refused(why) => self.error(0, Failure::BrokenSource(why)),
        })
    }

    fn try_once(&self, rpc: &Rpc, base: &str, token: &Secret, deadline: Deadline) -> Result<Credentials, Failure> {
        if !worth_sending(Effect::Read, deadline.left()) {
            return Err(Failure::NotTried("not sent, because no time was left for its answer".into()));
        }
        let mut parameters = common_parameters(rpc);
        parameters.push(("OIDCToken".into(), token.reveal().into()));
        let patience = deadline.within(try_budget(Effect::Read, deadline.left()));
        let answer = post::<Assumed>(&self.http, base, &canonical(&parameters), patience);
        answer.map(|assumed| assumed.credentials.into()).map_err(|failure| without_token(failure, token))
    }

    /// Provider and role with the account that they belong to.
    fn arns(&self, deadline: Deadline) -> Result<(String, String), CloudError> {
        let Rrsa { role, provider, .. } = &self.rrsa;
        let account = match account_of(role).or(account_of(provider)) {
            Some(account) => account,
            None => self.place.account(deadline)?,
        };
        let arn = |kind: &str, name: &String| match account_of(name) {
            Some(_) => name.clone(),
            None => format!("acs:ram::{account}:{kind}/{name}"),
        };
        Ok((arn("oidc-provider", provider), arn("role", role)))
    }

    fn error(&self, tries: u32, failure: Failure) -> CloudError {
        CloudError::new(ACTION, format!("for the role {}", self.rrsa.role), tries, failure)
    }
}

/// The account in an ARN such as `acs:ram::123:role/x`; `None` for a name.
fn account_of(arn: &str) -> Option<&str> {
    let mut parts = arn.strip_prefix("acs:ram:")?.split(':');
    parts.nth(1)
}

fn without_token(failure: Failure, token: &Secret) -> Failure {
    let Failure::Refused(refusal) = failure else { return failure };
    Failure::Refused(refusal.cleaned(|text| without_secrets(text.to_owned(), std::iter::once(token.reveal()))))
}

impl From<WireCredentials> for Credentials {
    fn from(wire: WireCredentials) -> Self {
        let key = AccessKey { id: wire.access_key_id, secret: wire.access_key_secret };
        Self { key, token: Some(wire.security_token), expires: Some(wire.expiration) }
    }
}

#[cfg(test)]
mod tests;
