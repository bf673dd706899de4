//! Who is calling: AccessKeys, temporary credentials, and the checks of a signed request.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use crate::cloud::defaults;
use crate::cloud::error::{ApiError, ApiResult};
use crate::cloud::rpc::Rpc;
use crate::cloud::signature::{sign, string_to_sign};
use crate::cloud::state::{State, api_time};

/// Temporary credentials of a RAM role.
#[derive(Clone, Debug)]
pub(crate) struct Temporary {
    pub access_key_id: String,
    pub secret: String,
    pub token: String,
    pub role: String,
    pub session: String,
    /// By the world's clock.
    pub expires: Timestamp,
}

/// The caller of a signed action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Principal {
    /// The account's RAM user with the long-lived AccessKey.
    User,
    Role {
        role: String,
        session: String,
    },
}

impl State {
    /// New credentials, valid from now on.
    pub fn issue(&mut self, role: &str, session: &str, lifetime: Duration, now: Timestamp) -> Temporary {
        let serial = self.next_serial();
        let unique = uuid::Uuid::new_v4().simple().to_string();
        let temporary = Temporary {
            access_key_id: format!("STS.NSimulated{serial:08}"),
            secret: format!("simulated{unique}"),
            // Characters that a careless encoder breaks.
            token: format!("CAIS{unique}/sim+{serial}=="),
            role: role.into(),
            session: session.into(),
            expires: now + lifetime,
        };
        self.temporaries.push(temporary.clone());
        temporary
    }

    /// Checks a signed request. `now` is the world's time; the Timestamp parameter alone is
    /// compared with the machine's, which is what the client reads.
    pub fn authenticate(&mut self, call: &Rpc, now: Timestamp) -> ApiResult<Principal> {
        let incomplete = |name: &str| {
            ApiError::bad("IncompleteSignature", format!("The parameter {name} is mandatory for a signed request."))
        };
        for name in ["SignatureMethod", "SignatureVersion", "SignatureNonce", "Signature"] {
            call.text(name).ok_or_else(|| incomplete(name))?;
        }
        let key = call.text("AccessKeyId").ok_or_else(|| incomplete("AccessKeyId"))?;
        if call.text("SignatureMethod") != Some("HMAC-SHA1") || call.text("SignatureVersion") != Some("1.0") {
            let message = "SignatureMethod HMAC-SHA1 and SignatureVersion 1.0 are wanted.";
            return Err(ApiError::bad("InvalidParameter.SignatureMethod", message));
        }
        self.check_timestamp(call)?;
        let (secret, principal) = self.secret_of(key, call, now)?;
        let text = string_to_sign(call);
        if call.text("Signature") != Some(sign(&text, &secret).as_str()) {
            let message =
                format!("Specified signature is not matched with our calculation. server string to sign is:{text}");
            return Err(ApiError::bad("SignatureDoesNotMatch", message));
        }
        self.use_nonce(call)?;
        Ok(principal)
    }

    fn check_timestamp(&self, call: &Rpc) -> ApiResult<()> {
        let text = call.required("Timestamp")?;
        let malformed = || ApiError::bad("InvalidTimeStamp.Format", "The Timestamp is not yyyy-MM-ddTHH:mm:ssZ.");
        let at: Timestamp = text.parse().map_err(|_| malformed())?;
        if api_time(at) != text {
            return Err(malformed());
        }
        let skew = SignedDuration::from_secs(self.settings.clock_skew_seconds);
        if (Timestamp::now() + skew).duration_since(at).unsigned_abs() > self.settings.timestamp_window {
            return Err(ApiError::bad("InvalidTimeStamp.Expired", "Specified time stamp or date value is expired."));
        }
        Ok(())
    }

    fn secret_of(&self, key: &str, call: &Rpc, now: Timestamp) -> ApiResult<(String, Principal)> {
        let token = call.text("SecurityToken");
        let mismatch = || {
            let message = "The specified SecurityToken does not belong to the AccessKeyId.";
            ApiError::bad("InvalidSecurityToken.MismatchWithAccessKey", message)
        };
        if key == defaults::ACCESS_KEY_ID {
            return match token {
                _ if self.settings.access_key_inactive => {
                    Err(ApiError::bad("InvalidAccessKeyId.Inactive", "Specified access key is disabled."))
                }
                Some(_) => Err(mismatch()),
                None => Ok((defaults::ACCESS_KEY_SECRET.into(), Principal::User)),
            };
        }
        if key.starts_with("STS.") && token.is_none() {
            let message = "SecurityToken is mandatory for temporary credentials.";
            return Err(ApiError::bad("MissingSecurityToken", message));
        }
        let Some(temporary) = self.temporaries.iter().find(|temporary| temporary.access_key_id == key) else {
            let message = "Specified access key is not found.";
            return Err(ApiError::not_found("InvalidAccessKeyId.NotFound", message));
        };
        match token {
            Some(token) if token == temporary.token => {}
            Some(token) if self.temporaries.iter().any(|other| other.token == token) => return Err(mismatch()),
            _ => {
                let message = "The specified SecurityToken is malformed.";
                return Err(ApiError::bad("InvalidSecurityToken.Malformed", message));
            }
        }
        if temporary.expires <= now {
            return Err(ApiError::bad("InvalidSecurityToken.Expired", "Specified SecurityToken is expired."));
        }
        let principal = Principal::Role { role: temporary.role.clone(), session: temporary.session.clone() };
        Ok((temporary.secret.clone(), principal))
    }

    /// A nonce is remembered for as long as its Timestamp could be accepted.
    fn use_nonce(&mut self, call: &Rpc) -> ApiResult<()> {
        let (now, window) = (Timestamp::now(), self.settings.timestamp_window);
        self.nonces.retain(|_, seen| *seen + window + window > now);
        let nonce = call.text("SignatureNonce").unwrap_or_default();
        match self.nonces.insert(nonce.to_owned(), now) {
            None => Ok(()),
            Some(_) => Err(ApiError::bad("SignatureNonceUsed", "Specified signature nonce was used already.")),
        }
    }
}

/// STS GetCallerIdentity.
pub(crate) fn caller_identity(principal: &Principal) -> Value {
    let account = defaults::ACCOUNT;
    match principal {
        Principal::User => json!({
            "AccountId": account, "IdentityType": "RAMUser", "UserId": "200000000000000001",
            "PrincipalId": "200000000000000001", "Arn": format!("acs:ram::{account}:user/podeip"),
        }),
        Principal::Role { role, session } => json!({
            "AccountId": account, "IdentityType": "AssumedRoleUser", "RoleId": "300000000000000001",
            "PrincipalId": format!("300000000000000001:{session}"),
            "Arn": format!("acs:ram::{account}:assumed-role/{role}/{session}"),
        }),
    }
}
