//! Temporary credentials of the node's RAM role: cached for our eyes only, renewed, or missed with a reason.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use aes::Aes256;
use aes::cipher::block_padding::Pkcs7;
use aes::cipher::{BlockModeEncrypt, KeyIvInit};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use podeip_sim::calls::{Call, ServiceKind};
use podeip_sim::cloud::defaults;
use podeip_sim::faults::{Effect, Rule, ServiceMatch};
use serde_json::{Value, json};

use super::impatient;
use crate::scene::{Sandbox, Scene, WITH_EIP};

const EXPIRED: &str = "InvalidSecurityToken.Expired";

fn with_role() -> Scene {
    let scene = Scene::new();
    scene.use_ram_role();
    scene
}

fn pod(scene: &Scene, last: u8) -> Sandbox {
    scene.pod(&format!("web-{last}"), [10, 219, 0, last], &[WITH_EIP])
}

/// How often credentials were handed out since `mark`.
fn fetches(scene: &Scene, mark: u64) -> usize {
    let path = format!("get ram/security-credentials/{}", defaults::ROLE);
    scene.world.calls.since(mark).iter().filter(|call| call.name == path).count()
}

fn metadata_calls(scene: &Scene) -> Vec<Call> {
    scene.world.calls.all().into_iter().filter(|call| call.service == ServiceKind::Metadata).collect()
}

pub fn cached(scene: &Scene) -> Value {
    serde_json::from_slice(&fs::read(scene.state_dir().join("credentials.json")).unwrap()).unwrap()
}

#[test]
fn credentials_are_cached_for_our_eyes_only_and_serve_the_next_process() {
    let scene = with_role();
    let (first, second) = (pod(&scene, 5), pod(&scene, 6));
    scene.add(&first).assert_added(&first);
    assert_eq!(fetches(&scene, 0), 1);
    let file = scene.state_dir().join("credentials.json");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(scene.state_dir()).unwrap().permissions().mode() & 0o777, 0o700);
    let mark = scene.world.calls.mark();
    scene.add(&second).assert_added(&second);
    assert_eq!(fetches(&scene, mark), 0);
    let entry = cached(&scene);
    for key in ["accessKeySecret", "securityToken"] {
        let secret = entry[key].as_str().unwrap();
        assert!(!secret.is_empty() && !scene.log().contains(secret), "{key} is in the log");
    }
}

#[test]
fn an_access_key_is_never_cached() {
    let scene = Scene::new();
    let pod = pod(&scene, 5);
    scene.add(&pod).assert_added(&pod);
    assert!(!scene.state_dir().join("credentials.json").exists());
    assert!(metadata_calls(&scene).iter().all(|call| !call.name.contains("ram/")));
}

#[test]
fn credentials_that_end_soon_are_renewed_first() {
    let scene = with_role();
    scene.world.cloud.set(|settings| settings.credential_lifetime = Duration::from_secs(5 * 60));
    let (first, second) = (pod(&scene, 5), pod(&scene, 6));
    scene.add(&first).assert_added(&first);
    scene.world.cloud.set(|settings| settings.credential_lifetime = Duration::from_secs(6 * 3600));
    scene.world.cloud.expire_credentials();
    let (before, mark) = (cached(&scene), scene.world.calls.mark());
    scene.add(&second).assert_added(&second);
    assert_eq!(fetches(&scene, mark), 1);
    assert_ne!(cached(&scene)["accessKeyId"], before["accessKeyId"]);
    let refused = scene.world.calls.since(mark).iter().filter(|call| call.code() == Some(EXPIRED)).count();
    assert_eq!(refused, 0, "nothing was sent with the old ones");
}

#[test]
fn an_expired_token_answer_renews_once_and_repeats() {
    let scene = with_role();
    let (first, second) = (pod(&scene, 5), pod(&scene, 6));
    scene.add(&first).assert_added(&first);
    // The cache believes in them for hours still.
    scene.world.cloud.expire_credentials();
    let mark = scene.world.calls.mark();
    scene.add(&second).assert_added(&second);
    scene.assert_served(&second);
    assert_eq!(fetches(&scene, mark), 1);
    assert!(scene.world.calls.since(mark).iter().any(|call| call.code() == Some(EXPIRED)));
    assert_eq!(scene.ever_ours().len(), 2);

    scene.world.cloud.expire_credentials();
    let mark = scene.world.calls.mark();
    scene.delete_pod(&second);
    scene.del(&second);
    assert_eq!((scene.ours().len(), fetches(&scene, mark)), (1, 1));
}

#[test]
fn a_token_that_stays_expired_is_code_102() {
    let scene = with_role();
    let pod = pod(&scene, 5);
    let expired = Effect::error(400, EXPIRED, "Specified SecurityToken is expired.");
    scene.world.faults.add(Rule::on("*", expired).service(ServiceMatch::Cloud));
    scene.add(&pod).assert_error(102, &[EXPIRED, "check the RAM role and the node's clock"]);
    assert!(fetches(&scene, 0) <= 2, "{}", fetches(&scene, 0));
    assert!(scene.ever_ours().is_empty());
    assert!(scene.events(&pod, "EIPFailed").iter().any(|message| message.contains(EXPIRED)));
}

#[test]
fn hardened_mode_is_tried_first_and_is_enough() {
    let scene = with_role();
    scene.world.cloud.set(|settings| settings.metadata_hardened_only = true);
    let pod = pod(&scene, 5);
    scene.add(&pod).assert_added(&pod);
    let calls = metadata_calls(&scene);
    assert_eq!(calls[0].name, "put token");
    assert!(calls[1..].iter().all(|call| call.parameter("hardened") == Some("true") && call.succeeded()), "{calls:?}");
}

#[test]
fn metadata_that_knows_no_token_is_asked_without() {
    let scene = with_role();
    scene.world.faults.add(Rule::on("put token", Effect::error(404, "", "")).service(ServiceMatch::Metadata));
    let pod = pod(&scene, 5);
    scene.add(&pod).assert_added(&pod);
    scene.assert_served(&pod);
}

#[test]
fn a_node_without_a_role_is_code_102() {
    let scene = impatient(true);
    let pod = pod(&scene, 5);
    scene.world.cloud.set(|settings| settings.role = None);
    let words =
        ["no cloud credentials", "access_key and access_secret are not set", "no RAM role", "attach a RAM role"];
    super::add(&scene, &pod).assert_error(102, &words);
    super::del(&scene, &pod);
    assert!(scene.events(&pod, "EIPFailed").iter().any(|message| message.contains("no RAM role")));
    // Metadata switched off altogether.
    scene.configure(|settings| {
        settings["access_key"] = "".into();
        settings["access_secret"] = "".into();
    });
    scene.world.cloud.set(|settings| settings.metadata_enabled = false);
    scene.add(&pod).assert_error(102, &["metadata access is switched off", "attach a RAM role"]);
    assert!(scene.ever_ours().is_empty() && scene.records().is_empty());

    scene.world.cloud.set(|settings| {
        settings.metadata_enabled = true;
        settings.role = Some(defaults::ROLE.into());
    });
    scene.add(&pod).assert_added(&pod);
}

#[test]
fn a_wrong_secret_or_a_disabled_key_is_code_102() {
    let scene = Scene::new();
    let pod = pod(&scene, 5);
    scene.configure(|settings| settings["access_secret"] = "anotherSecret0000000000000001".into());
    let answer = scene.add(&pod);
    answer.assert_error(102, &["SignatureDoesNotMatch", "check access_key and access_secret"]);
    assert!(!answer.stdout.contains("anotherSecret") && !answer.stdout.contains("SignatureNonce"), "{answer:?}");
    scene.configure(|_| {});
    scene.world.cloud.set(|settings| settings.access_key_inactive = true);
    scene.add(&pod).assert_error(102, &["InvalidAccessKeyId.Inactive"]);
    assert!(scene.ever_ours().is_empty());
}

/// As ACK writes it, for the credentials that podeip has cached.
pub fn addon_token(cached: &Value) -> Value {
    const KEYRING: &str = "an add-on's keyring of 32 bytes!";
    let vector = [9; 16];
    let sealed = |key: &str| {
        let cipher = cbc::Encryptor::<Aes256>::new_from_slices(KEYRING.as_bytes(), &vector).unwrap();
        let ciphertext = cipher.encrypt_padded_vec::<Pkcs7>(cached[key].as_str().unwrap().as_bytes());
        STANDARD.encode([&vector[..], &ciphertext].concat())
    };
    json!({
        "access.key.id": sealed("accessKeyId"),
        "access.key.secret": sealed("accessKeySecret"),
        "security.token": sealed("securityToken"),
        "expiration": cached["expiration"],
        "keyring": KEYRING,
    })
}

#[test]
fn an_addon_token_comes_before_the_role_and_a_broken_one_is_code_102() {
    let scene = Scene::new();
    let (first, second) = (pod(&scene, 5), pod(&scene, 6));
    let token_file = scene.path("token-config");
    scene.configure(|settings| {
        settings["access_key"] = "".into();
        settings["access_secret"] = "".into();
        settings["credential_path"] = token_file.to_str().unwrap().into();
    });
    // There is no such file yet: the next source answers.
    scene.add(&first).assert_added(&first);
    assert_eq!(fetches(&scene, 0), 1);
    let token = addon_token(&cached(&scene));
    fs::remove_file(scene.state_dir().join("credentials.json")).unwrap();

    let mut broken = token.clone();
    broken["security.token"] = "AAAA".into();
    scene.write("token-config", &broken.to_string());
    let words = [
        "token-config: the key \"security.token\" is not encrypted with the keyring of the file",
        "replace the file that is named",
    ];
    scene.add(&second).assert_error(102, &words);
    let mut ended = token.clone();
    ended["expiration"] = "2020-01-02T03:04:05Z".into();
    scene.write("token-config", &ended.to_string());
    scene
        .add(&second)
        .assert_error(102, &["the token ended at 2020-01-02T03:04:05Z", "replace the file that is named"]);
    assert!(!scene.log().contains(token["keyring"].as_str().unwrap()));

    scene.write("token-config", &token.to_string());
    let mark = scene.world.calls.mark();
    scene.add(&second).assert_added(&second);
    scene.assert_served(&second);
    assert_eq!(fetches(&scene, mark), 0, "the role was not needed");
    assert!(!scene.state_dir().join("credentials.json").exists(), "the file is its own cache");
}
