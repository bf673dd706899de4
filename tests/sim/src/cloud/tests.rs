//! The RPC front as a client meets it: signed requests of an independent signer.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit, Mac};
use serde_json::Value;

use super::error::{ApiError, ApiResult};
use super::rpc::Rpc;
use super::{CloudSim, Metadata, Product, Settings, defaults};
use crate::clock::Clock;
use crate::exchange::{Body, Request, Service};

pub(crate) fn world() -> CloudSim {
    CloudSim::new(Clock::default())
}

fn product(action: &str) -> (Product, &'static str) {
    match action {
        "DescribeNetworkInterfaces" => (Product::Ecs, "2014-05-26"),
        "AssumeRoleWithOIDC" | "GetCallerIdentity" => (Product::Sts, "2015-04-01"),
        _ => (Product::Vpc, "2016-04-28"),
    }
}

/// Written apart from the server's code, straight from the published steps.
fn encode(text: &str) -> String {
    let keep = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.~".contains(byte);
    text.bytes().map(|byte| if keep(&byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

pub(crate) struct Key<'a> {
    id: &'a str,
    secret: &'a str,
    token: Option<&'a str>,
}

const LASTING: Key = Key { id: defaults::ACCESS_KEY_ID, secret: defaults::ACCESS_KEY_SECRET, token: None };

/// A request with all common parameters, signed; `change` may spoil it before it is signed.
fn signed(
    method: &str,
    action: &str,
    parameters: &[(&str, &str)],
    key: &Key,
    change: impl FnOnce(&mut Vec<(String, String)>),
) -> Rpc {
    let mut all: Vec<(String, String)> = parameters.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    let nonce = uuid::Uuid::new_v4().to_string();
    let now = jiff::Timestamp::now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    for (name, value) in [
        ("Action", action),
        ("Version", product(action).1),
        ("Format", "JSON"),
        ("AccessKeyId", key.id),
        ("SignatureMethod", "HMAC-SHA1"),
        ("SignatureVersion", "1.0"),
        ("SignatureType", ""),
        ("SignatureNonce", &nonce),
        ("Timestamp", &now),
    ] {
        all.push((name.into(), value.into()));
    }
    all.extend(key.token.map(|token| ("SecurityToken".into(), token.into())));
    change(&mut all);
    let mut sorted = all.clone();
    sorted.sort();
    let canonical: Vec<String> = sorted.iter().map(|(k, v)| format!("{}={}", encode(k), encode(v))).collect();
    let text = format!("{method}&%2F&{}", encode(&canonical.join("&")));
    let mut mac = Hmac::<sha1::Sha1>::new_from_slice(format!("{}&", key.secret).as_bytes()).unwrap();
    mac.update(text.as_bytes());
    all.push(("Signature".into(), STANDARD.encode(mac.finalize().into_bytes())));
    Rpc { method: method.into(), parameters: all }
}

fn send(world: &CloudSim, call: &Rpc) -> ApiResult<Value> {
    let action = call.text("Action").unwrap_or_default().to_owned();
    world.rpc(product(&action).0, &call.method, call)
}

/// A good call's query string.
pub(crate) fn query(method: &str, action: &str, parameters: &[(&str, &str)]) -> String {
    let call = signed(method, action, parameters, &LASTING, |_| ());
    let pairs: Vec<String> = call.parameters.iter().map(|(k, v)| format!("{}={}", encode(k), encode(v))).collect();
    pairs.join("&")
}

/// One good call with the lasting AccessKey.
pub(crate) fn call(world: &CloudSim, action: &str, parameters: &[(&str, &str)]) -> ApiResult<Value> {
    send(world, &signed("POST", action, parameters, &LASTING, |_| ()))
}

pub(crate) fn unsigned(world: &CloudSim, action: &str, parameters: &[(&str, &str)]) -> ApiResult<Value> {
    let mut parameters: Vec<(String, String)> = parameters.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect();
    parameters.push(("Action".into(), action.into()));
    parameters.push(("Version".into(), product(action).1.into()));
    send(world, &Rpc { method: "POST".into(), parameters })
}

const DESCRIBE: (&str, &[(&str, &str)]) = ("DescribeEipAddresses", &[("RegionId", "cn-hangzhou")]);

fn describe_spoiled(world: &CloudSim, change: impl FnOnce(&mut Vec<(String, String)>)) -> ApiResult<Value> {
    send(world, &signed("GET", DESCRIBE.0, DESCRIBE.1, &LASTING, change))
}

fn set(parameters: &mut [(String, String)], name: &str, value: &str) {
    parameters.iter_mut().find(|(key, _)| key == name).unwrap().1 = value.into();
}

fn code<T>(result: ApiResult<T>) -> String {
    result.err().map_or_else(|| "ok".into(), |error| error.code)
}

#[test]
fn get_and_post_are_both_accepted_but_not_each_others_signature() {
    let world = world();
    for method in ["GET", "POST"] {
        assert_eq!(code(send(&world, &signed(method, DESCRIBE.0, DESCRIBE.1, &LASTING, |_| ()))), "ok");
    }
    let mut swapped = signed("GET", DESCRIBE.0, DESCRIBE.1, &LASTING, |_| ());
    swapped.method = "POST".into();
    let refused = send(&world, &swapped).unwrap_err();
    assert_eq!((refused.status, refused.code.as_str()), (400, "SignatureDoesNotMatch"));
    assert!(refused.message.contains("server string to sign is:POST&%2F&AccessKeyId%3D"), "{}", refused.message);
    let mut put = signed("PUT", DESCRIBE.0, DESCRIBE.1, &LASTING, |_| ());
    put.method = "PUT".into();
    assert_eq!(code(send(&world, &put)), "UnsupportedHTTPMethod");
}

#[test]
fn what_arrives_is_verified_and_nothing_else() {
    let world = world();
    let mut added = signed("GET", DESCRIBE.0, DESCRIBE.1, &LASTING, |_| ());
    added.parameters.push(("PageSize".into(), "100".into()));
    assert_eq!(code(send(&world, &added)), "SignatureDoesNotMatch");
    let mut lost_empty = signed("GET", DESCRIBE.0, DESCRIBE.1, &LASTING, |_| ());
    lost_empty.parameters.retain(|(key, _)| key != "SignatureType");
    assert_eq!(code(send(&world, &lost_empty)), "SignatureDoesNotMatch");
    assert_eq!(code(describe_spoiled(&world, |all| all.retain(|(key, _)| key != "SignatureType"))), "ok");
}

#[test]
fn nonces_timestamps_versions_and_actions() {
    let world = world();
    let good = signed("GET", DESCRIBE.0, DESCRIBE.1, &LASTING, |_| ());
    assert_eq!(code(send(&world, &good)), "ok");
    assert_eq!(code(send(&world, &good)), "SignatureNonceUsed");
    let old = |minutes: u64| {
        let at = jiff::Timestamp::now() - jiff::SignedDuration::from_mins(i64::try_from(minutes).unwrap());
        at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    };
    assert_eq!(code(describe_spoiled(&world, |all| set(all, "Timestamp", &old(30)))), "ok");
    assert_eq!(code(describe_spoiled(&world, |all| set(all, "Timestamp", &old(32)))), "InvalidTimeStamp.Expired");
    assert_eq!(code(describe_spoiled(&world, |all| set(all, "Timestamp", "today"))), "InvalidTimeStamp.Format");
    assert_eq!(code(describe_spoiled(&world, |all| set(all, "Version", "2014-05-26"))), "InvalidProduct.NotFound");
    assert_eq!(code(describe_spoiled(&world, |all| set(all, "Version", "1"))), "InvalidVersion");
    assert_eq!(
        code(describe_spoiled(&world, |all| set(all, "Action", "describeEipAddresses"))),
        "InvalidAction.NotFound"
    );
    assert_eq!(code(describe_spoiled(&world, |all| all.retain(|(key, _)| key != "RegionId"))), "MissingParameter");
    assert_eq!(code(describe_spoiled(&world, |all| set(all, "RegionId", "cn-beijing"))), "InvalidRegionId.NotFound");
    assert_eq!(
        code(describe_spoiled(&world, |all| all.retain(|(key, _)| key != "SignatureNonce"))),
        "IncompleteSignature"
    );
    assert_eq!(
        code(describe_spoiled(&world, |all| set(all, "AccessKeyId", "LTAIunknown"))),
        "InvalidAccessKeyId.NotFound"
    );
}

/// The node's role credentials, as metadata gives them.
fn role_credentials(cloud: &std::sync::Arc<CloudSim>) -> Value {
    let path = format!("/latest/meta-data/ram/security-credentials/{}", defaults::ROLE);
    let request = Request { method: "GET".into(), path, query: vec![], headers: vec![], body: vec![] };
    match Metadata::new(cloud.clone(), defaults::INSTANCE).answer(&request).body {
        Body::Whole(bytes) => serde_json::from_slice(&bytes).unwrap(),
        _ => panic!("metadata streams nothing"),
    }
}

#[test]
fn temporary_credentials_live_as_long_as_they_say() {
    let clock = Clock::default();
    let world = std::sync::Arc::new(CloudSim::new(clock.clone()));
    let given = role_credentials(&world);
    let (id, secret, token) = (
        given["AccessKeyId"].as_str().unwrap(),
        given["AccessKeySecret"].as_str().unwrap(),
        given["SecurityToken"].as_str().unwrap(),
    );
    let ask = |token: Option<&str>| {
        let key = Key { id, secret, token };
        send(&world, &signed("POST", "GetCallerIdentity", &[], &key, |_| ()))
    };
    assert_eq!(ask(Some(token)).unwrap()["IdentityType"], "AssumedRoleUser");
    assert_eq!(code(ask(None)), "MissingSecurityToken");
    assert_eq!(code(ask(Some("nonsense"))), "InvalidSecurityToken.Malformed");
    assert_eq!(role_credentials(&world)["AccessKeyId"], id, "the same ones while they last");
    clock.advance(Duration::from_secs(6 * 3600 - 60));
    let renewed = role_credentials(&world);
    assert_ne!(renewed["AccessKeyId"], id, "new ones ahead of expiry");
    assert_eq!(code(ask(Some(token))), "ok");
    let mixed = Key { id, secret, token: renewed["SecurityToken"].as_str() };
    assert_eq!(
        code(send(&world, &signed("POST", "GetCallerIdentity", &[], &mixed, |_| ()))),
        "InvalidSecurityToken.MismatchWithAccessKey"
    );
    clock.advance(Duration::from_secs(61));
    assert_eq!(code(ask(Some(token))), "InvalidSecurityToken.Expired");
}

#[test]
fn one_token_buys_one_eip() {
    let world = world();
    let buy = |bandwidth: &str| {
        call(
            &world,
            "AllocateEipAddress",
            &[("RegionId", "cn-hangzhou"), ("Bandwidth", bandwidth), ("ClientToken", "t-1")],
        )
    };
    let first = buy("5").unwrap();
    assert_eq!(buy("5").unwrap(), first);
    assert_eq!(code(buy("6")), "IdempotentParameterMismatch");
    assert_eq!(world.eips().len(), 2, "the user's and the bought one");
    assert_eq!(world.eips()[1].client_token.as_deref(), Some("t-1"));
}

#[test]
fn a_token_in_flight_and_a_token_that_remembers() {
    let world = std::sync::Arc::new(world());
    let buy = |world: &CloudSim, token: &str| {
        call(world, "AllocateEipAddress", &[("RegionId", "cn-hangzhou"), ("ClientToken", token)])
    };
    world.set(|settings| settings.processing = [("AllocateEipAddress".to_owned(), 1000)].into());
    let other = world.clone();
    let beside = std::thread::spawn(move || buy(&other, "slow"));
    let outcomes = [buy(&world, "slow"), beside.join().unwrap()];
    let bought = outcomes.iter().find_map(|outcome| outcome.as_ref().ok()).unwrap();
    assert!(outcomes.iter().any(|outcome| code(outcome.clone()) == "LastTokenProcessing"), "{outcomes:?}");
    assert_eq!(buy(&world, "slow").unwrap(), *bought);

    world.set(|settings| *settings = Settings { quota: 2, token_remembers_failure: true, ..Settings::default() });
    assert_eq!(code(buy(&world, "unlucky")), "QuotaExceeded.Eip");
    world.set(|settings| settings.quota = 20);
    assert_eq!(code(buy(&world, "unlucky")), "QuotaExceeded.Eip");
    assert_eq!(code(buy(&world, "lucky")), "ok");
}

#[test]
fn the_account_is_throttled_by_the_worlds_clock() {
    let clock = Clock::default();
    let world = CloudSim::new(clock.clone());
    let release = || call(&world, "ReleaseEipAddress", &[("AllocationId", "eip-none")]);
    world.set(|settings| {
        settings.rates.insert("ReleaseEipAddress".into(), 2);
    });
    assert_eq!(
        [release(), release(), release()].map(code),
        ["InvalidAllocationId.NotFound", "InvalidAllocationId.NotFound", "Throttling.User"]
    );
    clock.advance(Duration::from_secs(60));
    assert_eq!(code(release()), "InvalidAllocationId.NotFound");
}

#[test]
fn settings_by_json() {
    let world = world();
    world.set_json(&serde_json::json!({"quota": 3, "associateDelay": 1500})).unwrap();
    assert_eq!((world.settings().quota, world.settings().associate_delay), (3, Duration::from_millis(1500)));
    assert!(world.set_json(&serde_json::json!({"quotas": 3})).is_err());
    assert!(world.set_json(&serde_json::json!({"quota": "3"})).is_err());
}

#[test]
fn an_error_says_its_code_first() {
    assert_eq!(ApiError::missing("RegionId").to_string().split(':').next(), Some("MissingParameter"));
}
