//! STS AssumeRoleWithOIDC: unsigned, its refusals are HTTP 401.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cloud::defaults;
use crate::cloud::error::{ApiError, ApiResult};
use crate::cloud::rpc::Rpc;
use crate::cloud::settings::OidcTrust;
use crate::cloud::state::{State, api_time};

const DEFAULT_SESSION: u64 = 3600;
/// The role's MaxSessionDuration.
const LONGEST_SESSION: u64 = 12 * 3600;

fn refused(code: &str, message: &str) -> ApiError {
    ApiError::new(401, format!("AuthenticationFail.{code}"), message)
}

pub(crate) fn assume_role_with_oidc(state: &mut State, now: Timestamp, call: &Rpc) -> ApiResult<Value> {
    let session = session_name(call)?;
    let seconds = call.number("DurationSeconds")?.unwrap_or(DEFAULT_SESSION);
    if !(900..=LONGEST_SESSION).contains(&seconds) {
        return Err(ApiError::invalid("DurationSeconds", format!("it has to be 900 to {LONGEST_SESSION}")));
    }
    let (provider, role) = (call.required("OIDCProviderArn")?, call.required("RoleArn")?);
    let token = call.required("OIDCToken")?;
    if !(4..=20_000).contains(&token.len()) {
        return Err(ApiError::invalid("OIDCToken", "it has to be 4 to 20000 characters long"));
    }
    let trust = state.settings.oidc.iter().find(|trust| trust.provider_arn == provider && trust.role_arn == role);
    let trust = trust.ok_or_else(|| refused("NoPermission", "The role does not trust this OIDC provider."))?;
    let claims = claims(token)?;
    if state.verify_oidc.as_ref().is_some_and(|genuine| !genuine(token)) {
        return Err(refused("OIDCToken.InvalidSignature", "The signature of the OIDC token is not valid."));
    }
    let audiences = audiences(&claims);
    check(trust, &claims, &audiences, now)?;
    let role_name = role.rsplit('/').next().unwrap_or(role).to_owned();
    let temporary = state.issue(&role_name, &session, Duration::from_secs(seconds), now);
    Ok(json!({
        "Credentials": {
            "AccessKeyId": temporary.access_key_id, "AccessKeySecret": temporary.secret,
            "SecurityToken": temporary.token, "Expiration": api_time(temporary.expires),
        },
        "AssumedRoleUser": {
            "Arn": format!("acs:ram::{}:role/{role_name}/{session}", defaults::ACCOUNT),
            "AssumedRoleId": format!("300000000000000001:{session}"),
        },
        "OIDCTokenInfo": {
            "Subject": claims["sub"], "Issuer": claims["iss"], "ClientIds": audiences.join(","),
            "ExpirationTime": time_claim(&claims, "exp").map(api_time),
            "IssuanceTime": time_claim(&claims, "iat").map(api_time), "VerificationInfo": "Success",
        },
    }))
}

fn session_name(call: &Rpc) -> ApiResult<String> {
    let name = call.required("RoleSessionName")?;
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '@' | '-' | '_');
    if !(2..=64).contains(&name.len()) || !name.chars().all(allowed) {
        return Err(ApiError::invalid("RoleSessionName", "2 to 64 letters, digits, '.', '@', '-' and '_' are wanted"));
    }
    Ok(name.into())
}

/// The payload of a JWT: three parts, all there.
fn claims(token: &str) -> ApiResult<Value> {
    let invalid = || refused("OIDCToken.Invalid", "The OIDC token is not a JWT.");
    let parts: Vec<&str> = token.split('.').collect();
    let [header, payload, signature] = parts[..] else { return Err(invalid()) };
    if header.is_empty() || signature.is_empty() {
        return Err(invalid());
    }
    let bytes = URL_SAFE_NO_PAD.decode(payload).map_err(|_| invalid())?;
    serde_json::from_slice(&bytes).ok().filter(Value::is_object).ok_or_else(invalid)
}

/// `aud` is a text or a list of texts.
fn audiences(claims: &Value) -> Vec<String> {
    match &claims["aud"] {
        Value::String(one) => vec![one.clone()],
        Value::Array(many) => many.iter().filter_map(|one| one.as_str().map(str::to_owned)).collect(),
        _ => Vec::new(),
    }
}

fn check(trust: &OidcTrust, claims: &Value, audiences: &[String], now: Timestamp) -> ApiResult<()> {
    if !audiences.contains(&trust.audience) {
        return Err(refused("OIDCToken.AudienceNotMatch", "The audience of the OIDC token is not the provider's."));
    }
    let expires =
        time_claim(claims, "exp").ok_or_else(|| refused("OIDCToken.Invalid", "The OIDC token has no exp."))?;
    if expires <= now {
        return Err(refused("OIDCToken.Expired", "The OIDC token is expired."));
    }
    if trust.issuer.as_ref().is_some_and(|issuer| claims["iss"].as_str() != Some(issuer)) {
        return Err(refused("OIDCToken.Invalid", "The issuer of the OIDC token is not the provider's."));
    }
    let subject = claims["sub"].as_str().unwrap_or_default();
    if !trust.subjects.is_empty() && !trust.subjects.iter().any(|trusted| trusted == subject) {
        return Err(refused("NoPermission", "The trust policy of the role does not name this subject."));
    }
    Ok(())
}

fn time_claim(claims: &Value, name: &str) -> Option<Timestamp> {
    Timestamp::from_second(claims[name].as_i64()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cloud::tests::{unsigned, world};

    fn token(claims: &Value) -> String {
        format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
    }

    fn assume(world: &crate::cloud::CloudSim, token: &str, role: &str) -> Result<Value, ApiError> {
        let trust = defaults::oidc_trust();
        unsigned(
            world,
            "AssumeRoleWithOIDC",
            &[
                ("OIDCProviderArn", &trust.provider_arn),
                ("RoleArn", role),
                ("OIDCToken", token),
                ("RoleSessionName", "podeip"),
            ],
        )
    }

    #[test]
    fn a_good_token_gives_credentials_and_a_bad_one_401() {
        let world = world();
        let role = defaults::oidc_trust().role_arn;
        let expires = Timestamp::now().as_second() + 600;
        let good =
            json!({"aud": ["sts.aliyuncs.com"], "exp": expires, "sub": "system:serviceaccount:kube-system:podeip"});
        let answer = assume(&world, &token(&good), &role).unwrap();
        assert!(answer["Credentials"]["AccessKeyId"].as_str().unwrap().starts_with("STS."));
        for (name, bad, code) in [
            ("aud", json!("other"), "OIDCToken.AudienceNotMatch"),
            ("exp", json!(expires - 1000), "OIDCToken.Expired"),
            ("exp", json!(null), "OIDCToken.Invalid"),
        ] {
            let mut claims = good.clone();
            claims[name] = bad;
            let refused = assume(&world, &token(&claims), &role).unwrap_err();
            assert_eq!((refused.status, refused.code), (401, format!("AuthenticationFail.{code}")));
        }
        assert_eq!(assume(&world, "abcd", &role).unwrap_err().code, "AuthenticationFail.OIDCToken.Invalid");
        let other = assume(&world, &token(&good), "acs:ram::1:role/other").unwrap_err();
        assert_eq!(other.code, "AuthenticationFail.NoPermission");
        world.verify_oidc_signatures_with(|_| false);
        let forged = assume(&world, &token(&good), &role).unwrap_err();
        assert_eq!(forged.code, "AuthenticationFail.OIDCToken.InvalidSignature");
    }
}
