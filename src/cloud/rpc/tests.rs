//! The loop against a scripted server: what is repeated, with which token, and what is never shown.

use std::collections::HashSet;
use std::net::TcpListener;
use std::time::{Duration, Instant};

use super::*;
use crate::cloud::Config;
use crate::cloud::error::LONGEST_TEXT;
use crate::cloud::scripted::{Seen, Server, Step, deadline};
use crate::cloud::tests::{Note, SECRET, cloud, config};
use crate::cloud::wire::Done;

fn done() -> Step {
    Step::answer(200, r#"{"RequestId":"R-1"}"#)
}

fn refusal(status: u16, code: &str, message: &str) -> Step {
    Step::answer(status, &format!(r#"{{"RequestId":"R-9","HostId":"h","Code":"{code}","Message":"{message}"}}"#))
}

fn associate() -> Rpc {
    Rpc::tokened("AssociateEipAddress", &ClientToken::new("token-1"), "eip-1").with("AllocationId", "eip-1")
}

fn describe() -> Rpc {
    Rpc::new(Product::Vpc, "DescribeEipAddresses", Effect::Read, "")
}

fn call(cloud: &Cloud, rpc: &Rpc) -> Result<(), CloudError> {
    cloud.call::<Done>(rpc, deadline()).map(drop)
}

fn every(requests: &[Seen], name: &str) -> Vec<String> {
    requests.iter().map(|request| request.parameter(name).unwrap()).collect()
}

/// The signature over what arrived is the one that arrived.
fn assert_signed(request: &Seen, secret: &str) {
    let (signature, rest): (Vec<_>, Vec<_>) =
        request.parameters().into_iter().partition(|(name, _)| name == "Signature");
    assert_eq!(signature[0].1, sign(&string_to_sign("POST", &rest), &crate::secret::Secret::new(secret)));
}

#[test]
fn everything_travels_signed_in_the_body() {
    let server = Server::start(vec![done()]);
    call(&cloud(&server), &associate()).unwrap();
    let request = &server.requests()[0];
    assert_eq!(request.line, "POST /");
    assert_eq!(request.header("content-type"), Some("application/x-www-form-urlencoded"));
    assert!(request.header("user-agent").unwrap().contains("Kubernetes.Alicloud"));
    for (name, value) in [
        ("Action", "AssociateEipAddress"),
        ("Version", "2016-04-28"),
        ("Format", "JSON"),
        ("RegionId", "cn-hangzhou"),
        ("SignatureType", ""),
        ("SignatureVersion", "1.0"),
        ("ClientToken", "token-1"),
    ] {
        assert_eq!(request.parameter(name).as_deref(), Some(value), "{name}");
    }
    let stamp = request.parameter("Timestamp").unwrap();
    assert!(stamp.len() == 20 && stamp.ends_with('Z'), "{stamp}");
    assert_signed(request, SECRET);
}

#[test]
fn a_lost_answer_is_repeated_with_the_same_token_and_a_new_nonce() {
    let server = Server::start(vec![Step::HangUp, Step::Truncated, Step::answer(502, "<html>"), done()]);
    call(&cloud(&server), &associate()).unwrap();
    let requests = server.requests();
    assert_eq!(every(&requests, "ClientToken"), ["token-1"; 4]);
    let nonces: HashSet<_> = every(&requests, "SignatureNonce").into_iter().collect();
    assert_eq!(nonces.len(), 4);
    requests.iter().for_each(|request| assert_signed(request, SECRET));
}

#[test]
fn every_try_is_counted_by_what_it_brought() {
    let script = vec![
        Step::HangUp,
        Step::answer(502, "<html>"),
        done(),
        refusal(400, "QuotaExceeded.Eip", "no more"),
        Step::answer(403, "{}"),
        refusal(400, "<odd>", "no code at all"),
    ];
    let server = Server::start(script);
    let config = config(&server);
    let tally = config.tally.clone();
    let cloud = Cloud::new(config, Box::new(Note::default())).unwrap();
    call(&cloud, &associate()).unwrap();
    for _ in 0..3 {
        call(&cloud, &describe()).unwrap_err();
    }
    let counted = serde_json::to_value(tally.take().calls).unwrap();
    let expected = serde_json::json!({
        "AssociateEipAddress": {"Unanswered": 1, "Garbled": 1, "OK": 1},
        "DescribeEipAddresses": {"QuotaExceeded.Eip": 1, "HTTP403": 1, "Other": 1},
    });
    assert_eq!(counted, expected);
}

#[test]
fn a_garbled_answer_is_an_unknown_outcome() {
    for body in ["", "{}", "<html>busy</html>", r#"{"RequestId":"#, r#"["hush"]"#] {
        let server = Server::start((0..20).map(|_| Step::answer(200, body)).collect());
        let short = Deadline::after(Duration::from_millis(1000));
        let error = cloud(&server).call::<Done>(&associate(), short).map(drop).unwrap_err();
        assert!(error.outcome_unknown(), "{body}: {error}");
        assert!(!error.to_string().contains("hush"), "{error}");
        assert!(
            error.to_string().contains("unreadable answer"),
            "the last answer tells, not the lack of time: {error}"
        );
    }
}

#[test]
fn a_hanging_try_does_not_eat_the_deadline() {
    let server = Server::start(vec![Step::Hang(Duration::from_secs(60)), done()]);
    let started = Instant::now();
    cloud(&server).call::<Done>(&associate(), Deadline::after(Duration::from_secs(3))).unwrap();
    assert!(started.elapsed() >= Duration::from_secs(1));
}

#[test]
fn a_refused_connection_is_tried_again() {
    // Free until it is taken again: nothing else uses this loopback address.
    let listener = TcpListener::bind("127.77.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let mut config = config(&Server::start(vec![]));
    config.endpoints.vpc = Some(format!("http://{address}/"));
    let cloud = Cloud::new(config, Box::new(Note::default())).unwrap();
    let late = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(250));
        Server::on(TcpListener::bind(address).unwrap(), vec![done()])
    });
    call(&cloud, &associate()).unwrap();
    assert_eq!(late.join().unwrap().requests().len(), 1);
}

#[test]
fn what_never_left_has_a_known_outcome() {
    let mut config = config(&Server::start(vec![]));
    config.endpoints.vpc = Some("http://127.0.0.1:1".into());
    let cloud = Cloud::new(config, Box::new(Note::default())).unwrap();
    let error = cloud.call::<Done>(&associate(), Deadline::after(Duration::from_secs(1))).map(drop).unwrap_err();
    assert_eq!((error.class(), error.outcome_unknown()), (Class::NotSent, false));
    assert!(error.tries() > 1, "{error}");
    assert!(error.to_string().starts_with("AssociateEipAddress eip-1: could not reach the service: "), "{error}");
}

#[test]
fn a_change_without_time_for_its_answer_is_not_sent() {
    let server = Server::start(vec![done()]);
    let short = || Deadline::after(Duration::from_millis(100));
    let error = cloud(&server).call::<Done>(&associate(), short()).map(drop).unwrap_err();
    assert_eq!((error.class(), error.outcome_unknown()), (Class::NotSent, false));
    assert!(server.requests().is_empty());
}

#[test]
fn an_outcome_stays_unknown_when_the_server_then_vanishes() {
    let server = Server::start(vec![Step::HangUp]);
    let error =
        cloud(&server).call::<Done>(&associate(), Deadline::after(Duration::from_secs(2))).map(drop).unwrap_err();
    assert_eq!((error.class(), error.outcome_unknown()), (Class::NotSent, true));
}

#[test]
fn throttling_is_noted_and_waited_out() {
    let server = Server::start(vec![refusal(400, "Throttling.User", "user flow control"), done()]);
    let note = Note::default();
    let cloud = Cloud::new(config(&server), Box::new(note.clone())).unwrap();
    let started = Instant::now();
    call(&cloud, &associate()).unwrap();
    assert_eq!(*note.told.lock().unwrap(), ["AssociateEipAddress"]);
    assert!(started.elapsed() >= Duration::from_millis(750));
}

#[test]
fn other_processes_throttling_holds_us_back_but_never_to_death() {
    let server = Server::start(vec![done(), done()]);
    let note = Note { wait: Duration::from_millis(300), ..Note::default() };
    let started = Instant::now();
    call(&Cloud::new(config(&server), Box::new(note)).unwrap(), &describe()).unwrap();
    assert!(started.elapsed() >= Duration::from_millis(300));
    let note = Note { wait: Duration::from_secs(60), ..Note::default() };
    let cloud = Cloud::new(config(&server), Box::new(note)).unwrap();
    cloud.call::<Done>(&describe(), Deadline::after(Duration::from_millis(1500))).unwrap();
}

#[test]
fn server_trouble_and_a_token_in_flight_are_waited_out_with_the_same_token() {
    let server = Server::start(vec![
        refusal(503, "ServiceUnavailable", "later"),
        refusal(400, "LastTokenProcessing", "still running"),
        done(),
    ]);
    call(&cloud(&server), &associate()).unwrap();
    assert_eq!(every(&server.requests(), "ClientToken"), ["token-1"; 3]);
}

#[test]
fn the_callers_matters_come_back_at_once() {
    let server = Server::start(vec![refusal(400, "TaskConflict", "operate too frequent")]);
    let error = call(&cloud(&server), &associate()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "AssociateEipAddress eip-1: TaskConflict: operate too frequent (RequestId R-9, 1 try)"
    );
    assert_eq!((error.class(), error.outcome_unknown()), (Class::Conflict, false));
    assert_eq!(server.requests().len(), 1);
}

#[test]
fn a_used_nonce_is_replaced_once() {
    let used = || refusal(400, "SignatureNonceUsed", "used");
    let server = Server::start(vec![used(), done(), used(), used()]);
    let cloud = cloud(&server);
    call(&cloud, &associate()).unwrap();
    assert_eq!(call(&cloud, &associate()).unwrap_err().class(), Class::Clock);
    let nonces: HashSet<_> = every(&server.requests(), "SignatureNonce").into_iter().collect();
    assert_eq!(nonces.len(), 4);
}

#[test]
fn a_missing_permission_says_whose_and_which() {
    let body = r#"{"RequestId":"R-9","Code":"Forbidden.RAM","Message":"User not authorized.","AccessDeniedDetail":{
        "AuthAction":"vpc:AssociateEipAddress","AuthPrincipalType":"AssumedRoleUser",
        "AuthPrincipalDisplayName":"worker:i-1","NoPermissionType":"ImplicitDeny",
        "PolicyType":"AccountLevelIdentityBasedPolicy","EncodedDiagnosticMessage":"xxx"}}"#;
    let server = Server::start(vec![Step::answer(403, body)]);
    let error = call(&cloud(&server), &associate()).unwrap_err();
    assert_eq!(error.class(), Class::Permission);
    let wanted =
        "vpc:AssociateEipAddress for AssumedRoleUser worker:i-1: ImplicitDeny by AccountLevelIdentityBasedPolicy";
    assert!(error.to_string().contains(wanted), "{error}");
    assert!(!error.to_string().contains("xxx"), "{error}");
}

#[test]
fn a_page_instead_of_a_refusal_is_still_a_refusal() {
    let server = Server::start(vec![Step::answer(404, "<html>no such site</html>")]);
    let error = call(&cloud(&server), &associate()).unwrap_err();
    assert_eq!((error.class(), error.code(), error.outcome_unknown()), (Class::Other, None, false));
    assert_eq!(error.to_string(), "AssociateEipAddress eip-1: HTTP 404 (1 try)");
}

fn role(name: &str) -> Step {
    Step::answer(
        200,
        &format!(
            r#"{{"Code":"Success","AccessKeyId":"STS.{name}","AccessKeySecret":"hush-{name}",
                "SecurityToken":"to/ken+{name}==","Expiration":"2999-01-02T03:04:05Z"}}"#
        ),
    )
}

/// A cloud whose credentials are the RAM role's of a scripted metadata service.
fn with_role(api: &Server, metadata: &Server, directory: &std::path::Path) -> Cloud {
    let mut config = Config { access_key: None, credential_cache: directory.join("credentials.json"), ..config(api) };
    config.endpoints.metadata = Some(metadata.url());
    Cloud::new(config, Box::new(Note::default())).unwrap()
}

fn two_roles() -> Server {
    let steps = [Step::answer(404, ""), Step::answer(200, "worker"), role("a"), Step::answer(200, "worker"), role("b")];
    Server::start(steps.into())
}

#[test]
fn an_expired_token_renews_once_and_repeats() {
    let directory = tempfile::tempdir().unwrap();
    let metadata = two_roles();
    let expired = || refusal(400, "InvalidSecurityToken.Expired", "expired");
    let api = Server::start(vec![expired(), done(), expired(), expired()]);
    let cloud = with_role(&api, &metadata, directory.path());
    call(&cloud, &associate()).unwrap();
    let requests = api.requests();
    assert_eq!(every(&requests, "SecurityToken"), ["to/ken+a==", "to/ken+b=="]);
    assert_eq!(every(&requests, "ClientToken"), ["token-1"; 2]);
    assert_signed(&requests[1], "hush-b");
    // Metadata is silent now, so the credentials cannot be renewed: the refusal comes back.
    let error = call(&cloud, &describe()).unwrap_err();
    assert_eq!((error.class(), error.tries()), (Class::CredentialExpired, 1));
}

#[test]
fn wrong_long_lived_keys_are_not_repeated() {
    let server = Server::start(vec![refusal(404, "InvalidAccessKeyId.NotFound", "no such key")]);
    let error = call(&cloud(&server), &associate()).unwrap_err();
    assert_eq!((error.class(), error.tries()), (Class::CredentialWrong, 1));
}

#[test]
fn no_message_shows_a_secret_or_what_was_signed() {
    let directory = tempfile::tempdir().unwrap();
    let metadata = two_roles();
    let token = encode("to/ken+b==");
    let echo = format!("bad token to/ken+b== or {token} or {} with hush-b", encode(&token));
    let signed =
        format!("Specified signature is not matched. server string to sign is:POST&%2F&SecurityToken%3D{token}");
    let api = Server::start(vec![
        refusal(400, "InvalidSecurityToken.Malformed", "first"),
        refusal(400, "InvalidSecurityToken.Malformed", &echo),
        refusal(400, "SignatureDoesNotMatch", &signed),
    ]);
    let cloud = with_role(&api, &metadata, directory.path());
    for expected in ["(secret)", "the cloud signed another text"] {
        let error = call(&cloud, &associate()).unwrap_err();
        let shown = format!("{error} {error:?} {}", error.message().unwrap());
        assert!(shown.contains(expected), "{shown}");
        for secret in ["to/ken", "hush", "to%2Fken", "to%252Fken", "string to sign", "POST&"] {
            assert!(!shown.contains(secret), "{secret} in {shown}");
        }
    }
}

#[test]
fn a_wrong_secret_is_told_from_a_wrong_encoding() {
    let theirs = format!("not matched, {SIGNED_TEXT} POST&%2F&a%3D1");
    let shown = without_signed_text(&theirs, "POST&%2F&a%3D1");
    assert_eq!(
        shown,
        "not matched: the cloud signed the same text, so the access secret is not the one of this AccessKey"
    );
    assert!(without_signed_text(&theirs, "POST&%2F&b%3D1").ends_with("another text than podeip did"));
}

#[test]
fn hosts_of_a_region() {
    assert_eq!(Product::Vpc.url("cn-hangzhou", false), "https://vpc-vpc.cn-hangzhou.aliyuncs.com");
    assert_eq!(Product::Ecs.url("cn-beijing", false), "https://ecs-vpc.cn-beijing.aliyuncs.com");
    assert_eq!(Product::Vpc.url("cn-hangzhou", true), "http://vpc-vpc.cn-hangzhou.aliyuncs.com");
    assert_eq!(Product::Sts.url("cn-hangzhou-finance", false), "https://sts-vpc.cn-hangzhou.aliyuncs.com");
}

#[test]
fn no_part_of_a_refusal_shows_a_secret() {
    let secret = |key: &str| format!("{key} and to%2Fken");
    let body = serde_json::json!({"Code": secret("hush"), "Message": secret("hush"), "RequestId": secret("hush"),
        "AccessDeniedDetail": {"AuthAction": secret("hush"), "PolicyType": secret("hush")}});
    let answer = Answer { status: 403, date: None, body: body.to_string().into_bytes() };
    let key = crate::cloud::AccessKey { id: "LTAI".into(), secret: crate::secret::Secret::new("hush") };
    let credentials = Credentials { key, token: Some(crate::secret::Secret::new("to/ken")), expires: None };
    let failure = clean(decode::<Done>(&answer).err().unwrap(), "", &credentials);
    let error = CloudError::new("Action", "", 1, failure);
    let shown = format!("{error} {error:?}");
    assert!(!shown.contains("hush") && !shown.contains("to%2Fken") && shown.contains("(secret)"), "{shown}");
}

#[test]
fn a_refusal_is_cut_after_its_secrets_are_out() {
    let key = crate::cloud::AccessKey { id: "LTAI".into(), secret: crate::secret::Secret::new("hush-hush") };
    let credentials = Credentials { key, token: None, expires: None };
    for before in [LONGEST_TEXT - 4, 100_000] {
        let message = format!("{}hush-hush and more {}", "ü".repeat(before), "x".repeat(LONGEST_TEXT));
        let body = serde_json::json!({"Code": &message, "Message": &message, "RequestId": &message,
            "AccessDeniedDetail": {"AuthAction": &message}});
        let answer = Answer { status: 403, date: None, body: body.to_string().into_bytes() };
        let error = CloudError::new("Action", "", 1, clean(decode::<Done>(&answer).err().unwrap(), "", &credentials));
        let shown = error.to_string();
        assert!(shown.chars().count() < 4 * LONGEST_TEXT + 100 && !shown.contains("hush"), "{shown}");
        assert!(error.message().unwrap().ends_with('…'));
    }
}
