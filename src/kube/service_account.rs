//! The service account that the kubeconfig's token stands for, and tokens of it for others to believe.

use serde::Deserialize;
use serde_json::json;

use super::claims::claims;
use super::client::Kube;
use super::error::KubeError;
use super::request::{Format, Operation, Request, Resource, Verb};
use crate::deadline::Deadline;
use crate::secret::Secret;

/// The shortest life that the API server grants; such a token is used at once and once.
const SECONDS: u32 = 600;

/// Why there is no token.
#[derive(Debug, thiserror::Error)]
pub enum TokenError {
    #[error("the kubeconfig has no token of a service account")]
    NoServiceAccount,
    #[error(transparent)]
    Kube(#[from] KubeError),
}

/// The part of a token that says whose it is.
#[derive(Deserialize)]
struct Claims {
    sub: String,
}

#[derive(Deserialize)]
struct WireTokenRequest {
    status: WireStatus,
}

#[derive(Deserialize)]
struct WireStatus {
    token: Secret,
}

impl Kube {
    /// A token of our own service account for `audience` (TokenRequest).
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn token_for(&self, audience: &str, deadline: Deadline) -> Result<Secret, TokenError> {
        let (namespace, name) = self.bearer().and_then(|token| subject(&token)).ok_or(TokenError::NoServiceAccount)?;
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenRequest",
            "spec": { "audiences": [audience], "expirationSeconds": SECONDS },
        });
        let operation = Operation::on(Verb::Create, Resource::ServiceAccountTokens, &namespace, &name);
        let request = Request::write(operation, Format::Json, body);
        Ok(self.call(&request, deadline, issued)?)
    }
}

/// The token in an answer. The parser quotes a value that it does not understand, which could be the token.
pub(super) fn issued(body: &[u8]) -> serde_json::Result<Secret> {
    match serde_json::from_slice::<WireTokenRequest>(body) {
        Ok(answer) => Ok(answer.status.token),
        Err(cause) if cause.is_data() => Err(serde::de::Error::custom("it has no status.token")),
        Err(cause) => Err(cause),
    }
}

/// Namespace and name in the `sub` of a service account's token, `system:serviceaccount:NAMESPACE:NAME`.
pub(super) fn subject(token: &Secret) -> Option<(String, String)> {
    let claims: Claims = claims(token)?;
    let (namespace, name) = claims.sub.strip_prefix("system:serviceaccount:")?.split_once(':')?;
    Some((namespace.to_owned(), name.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::super::claims::tests::token;
    use super::*;

    #[test]
    fn an_answer_of_another_shape_is_not_quoted() {
        assert_eq!(issued(br#"{"status":{"token":"hush"}}"#).unwrap(), Secret::new("hush"));
        for body in
            [r#"{"status":"hush"}"#, r#"{"status":{"token":["hush"]}}"#, r#""hush""#, r#"{"status":{"token":hush"#]
        {
            let error = issued(body.as_bytes()).unwrap_err();
            assert!(!error.to_string().contains("hush"), "{error}");
            assert_eq!(error.is_data(), !body.contains(":hush"), "a cut answer is asked for again: {error}");
        }
    }

    #[test]
    fn only_a_service_accounts_token_has_a_subject() {
        let account = r#"{"iss":"i","sub":"system:serviceaccount:kube-system:podeip","aud":["a"]}"#;
        assert_eq!(subject(&token(account)), Some(("kube-system".into(), "podeip".into())));
        for other in [r#"{"sub":"system:node:n"}"#, r#"{"sub":"system:serviceaccount:kube-system"}"#, "{}", "["] {
            assert_eq!(subject(&token(other)), None, "{other}");
        }
        assert_eq!(subject(&Secret::new("opaque")), None);
        assert_eq!(subject(&Secret::new("a.?.b")), None);
    }
}
