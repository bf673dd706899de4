//! The STS product: who the credentials belong to (API version 2015-04-01).

use jiff::Timestamp;
use serde::Deserialize;

use crate::deadline::Deadline;

use super::credentials::Answered;
use super::retry::Effect;
use super::rpc::{Product, Rpc};
use super::wire::text;
use super::{Cloud, CloudError};

/// Whom the cloud sees behind our credentials.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct CallerIdentity {
    #[serde(deserialize_with = "text")]
    pub account_id: String,
    /// `acs:ram::<account>:…`
    #[serde(default, deserialize_with = "text")]
    pub arn: String,
    /// `Account`, `RAMUser` or `AssumedRoleUser`.
    #[serde(default, deserialize_with = "text")]
    pub identity_type: String,
}

/// With whose credentials we call, and how they were found.
#[derive(Debug)]
pub struct Identity {
    /// The sources that were asked in vain, and why each had none.
    pub skipped: Vec<String>,
    /// The one that had them, for people; no secret.
    pub source: Option<String>,
    /// When temporary ones end; podeip takes new ones before.
    pub expires: Option<Timestamp>,
    /// The failure is of the source, or of the cloud that does not take what it had.
    pub caller: Result<CallerIdentity, CloudError>,
}

impl Cloud {
    /// Asks all sources in their order, and the cloud who that is.
    pub fn identity(&self, deadline: Deadline) -> Identity {
        match self.credentials.explain(deadline) {
            (skipped, Ok(Answered { credentials, source })) => Identity {
                skipped,
                source: Some(source),
                expires: credentials.expires,
                caller: self.caller_identity(deadline),
            },
            (skipped, Err(failure)) => Identity { skipped, source: None, expires: None, caller: Err(failure) },
        }
    }

    /// A self-test of the credentials: needs no permission, changes nothing.
    pub fn caller_identity(&self, deadline: Deadline) -> Result<CallerIdentity, CloudError> {
        self.call(&Rpc::new(Product::Sts, "GetCallerIdentity", Effect::Read, ""), deadline)
    }
}

#[cfg(test)]
mod tests {
    use crate::cloud::scripted::{Server, Step, deadline};
    use crate::cloud::tests::cloud;

    #[test]
    fn says_who_we_are() {
        let body = r#"{"RequestId":"R","AccountId":123,"Arn":"acs:ram::123:role/w","IdentityType":"AssumedRoleUser"}"#;
        let server = Server::start(vec![Step::answer(200, body)]);
        let identity = cloud(&server).caller_identity(deadline()).unwrap();
        assert_eq!((identity.account_id.as_str(), identity.arn.as_str()), ("123", "acs:ram::123:role/w"));
        assert_eq!(server.requests()[0].parameter("RegionId"), None);
    }
}
