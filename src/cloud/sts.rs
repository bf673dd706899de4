//! The STS product: who the credentials belong to (API version 2015-04-01).

use serde::Deserialize;

use crate::deadline::Deadline;

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

impl Cloud {
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
