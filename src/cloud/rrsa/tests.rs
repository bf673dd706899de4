use std::sync::Mutex;

use super::*;
use crate::cloud::scripted::{Server, Step, deadline};
use crate::cloud::tests::{Note, config};
use crate::cloud::{Class, Cloud, Config};

/// Hands out one after the other, the last one for ever.
#[derive(Debug)]
struct Tokens(Mutex<Vec<&'static str>>);

impl OidcTokens for Tokens {
    fn token(&self, _: Deadline) -> Result<Secret, NoToken> {
        let mut tokens = self.0.lock().unwrap();
        let token = if tokens.len() > 1 { tokens.remove(0) } else { tokens[0] };
        Ok(Secret::new(token))
    }
}

fn cloud(server: &Server, role: &str, tokens: &[&'static str]) -> Cloud {
    let tokens = Arc::new(Tokens(Mutex::new(tokens.to_vec())));
    let session = SessionName::new("podeip@node/1");
    let rrsa = Rrsa { role: role.into(), provider: "ack-rrsa-c1".into(), session, tokens };
    let config = Config { access_key: None, rrsa: Some(rrsa), ..config(server) };
    Cloud::new(config, Box::new(Note::default())).unwrap()
}

fn assumed() -> Step {
    let end = Timestamp::now() + jiff::SignedDuration::from_hours(1);
    let end = end.strftime("%Y-%m-%dT%H:%M:%SZ");
    Step::answer(
        200,
        &format!(
            r#"{{"RequestId":"R","AssumedRoleUser":{{"Arn":"a"}},"Credentials":{{"AccessKeyId":"STS.1",
                "AccessKeySecret":"hush","SecurityToken":"security","Expiration":"{end}"}}}}"#
        ),
    )
}

fn refused(code: &str, message: &str) -> Step {
    let code = format!("AuthenticationFail.{code}");
    Step::answer(401, &format!(r#"{{"RequestId":"R1","Code":"{code}","Message":"{message}"}}"#))
}

fn caller() -> Step {
    Step::answer(200, r#"{"RequestId":"R","AccountId":"1","Arn":"acs:ram::1:assumed-role/r/s"}"#)
}

#[test]
fn the_role_is_taken_without_a_signature_and_signs_the_next_call() {
    let server = Server::start(vec![assumed(), caller()]);
    let identity = cloud(&server, "acs:ram::7:role/r", &["jwt.one"]).identity(deadline());
    assert_eq!(identity.source.as_deref(), Some("RRSA with the role acs:ram::7:role/r"));
    assert_eq!(identity.skipped, ["access_key and access_secret are not set", "credential_path is not set"]);
    assert!(identity.expires.is_some());
    assert_eq!(identity.caller.unwrap().arn, "acs:ram::1:assumed-role/r/s");
    let [taking, asking] = &server.requests()[..] else { panic!("two calls") };
    let sent = |name| taking.parameter(name);
    assert_eq!(sent("Action").as_deref(), Some(ACTION));
    assert_eq!(sent("RoleArn").as_deref(), Some("acs:ram::7:role/r"));
    assert_eq!(sent("OIDCProviderArn").as_deref(), Some("acs:ram::7:oidc-provider/ack-rrsa-c1"));
    assert_eq!(sent("OIDCToken").as_deref(), Some("jwt.one"));
    assert_eq!(sent("RoleSessionName").as_deref(), Some("podeip@node-1"));
    for signing in ["AccessKeyId", "Signature", "SignatureMethod", "SignatureVersion"] {
        assert_eq!(sent(signing), None, "{signing}");
    }
    assert_eq!(asking.parameter("AccessKeyId").as_deref(), Some("STS.1"));
    assert_eq!(asking.parameter("SecurityToken").as_deref(), Some("security"));
}

#[test]
fn a_role_that_is_only_named_is_one_of_the_nodes_account() {
    let server = Server::start(vec![Step::answer(404, ""), Step::answer(200, "42"), assumed(), caller()]);
    cloud(&server, "r", &["jwt.one"]).identity(deadline()).caller.unwrap();
    let taking = &server.requests()[2];
    assert_eq!(taking.parameter("RoleArn").as_deref(), Some("acs:ram::42:role/r"));
    assert_eq!(taking.parameter("OIDCProviderArn").as_deref(), Some("acs:ram::42:oidc-provider/ack-rrsa-c1"));
}

#[test]
fn an_expired_token_is_taken_anew_once() {
    let expired = || refused("OIDCToken.Expired", "expired");
    let server = Server::start(vec![expired(), assumed(), caller()]);
    cloud(&server, "acs:ram::7:role/r", &["jwt.one", "jwt.two"]).identity(deadline()).caller.unwrap();
    assert_eq!(server.requests()[1].parameter("OIDCToken").as_deref(), Some("jwt.two"));

    let server = Server::start(vec![expired(), expired()]);
    let error = cloud(&server, "acs:ram::7:role/r", &["jwt.one"]).identity(deadline()).caller.unwrap_err();
    assert_eq!((error.class(), server.requests().len()), (Class::Permission, 2));
    assert!(error.hint().unwrap().contains("clock"), "the trust is not what is wrong: {error}");
}

#[test]
fn a_refusal_says_what_to_check_and_hides_the_token() {
    let server = Server::start(vec![refused("NoPermission", "jwt.one is not trusted")]);
    let error = cloud(&server, "acs:ram::7:role/r", &["jwt.one"]).identity(deadline()).caller.unwrap_err();
    let text = error.to_string();
    assert!(text.contains("AssumeRoleWithOIDC for the role acs:ram::7:role/r"), "{text}");
    assert!(text.contains("AuthenticationFail.NoPermission: (secret) is not trusted"), "{text}");
    assert!(text.contains("RequestId R1"), "{text}");
    assert!(error.hint().unwrap().contains("trust policy"));
}

#[test]
fn session_names_are_what_sts_takes() {
    let long = "n".repeat(80);
    for (text, name) in [("podeip@a.b-c_d", "podeip@a.b-c_d"), ("é x", "--x"), ("", "podeip"), (&long, &long[..64])] {
        assert_eq!(SessionName::new(text).0, name);
    }
}
