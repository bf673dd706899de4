//! RRSA: a RAM role for the token of podeip's service account, asked of the API server or found in a file.

use std::ffi::OsString;
use std::fs;
use std::process::Child;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::{SignedDuration, Timestamp};
use podeip_sim::calls::Call;
use podeip_sim::cloud::defaults;
use podeip_sim::faults::{Effect, Rule, ServiceMatch};
use podeip_sim::gates::{Moment, Outcome};
use serde_json::{Value, json};

use super::credentials::cached;
use crate::scene::{Answer, PATIENCE, Sandbox, Scene, WITH_EIP, start};

pub const ACCOUNT: &str = "system:serviceaccount:kube-system:podeip";
pub const ASSUME: &str = "AssumeRoleWithOIDC";
pub const ASK: &str = "create serviceaccounts/token";

/// A token of the service account as the API server signs them.
pub fn token(claims: &Value) -> String {
    format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(claims.to_string()))
}

/// A node whose kubeconfig has such a token, and no other source of credentials than RRSA.
pub fn with_rrsa() -> Scene {
    let scene = Scene::new();
    scene.world.cloud.set(|settings| {
        settings.role = None;
        settings.oidc[0].subjects = vec![ACCOUNT.into()];
    });
    let account = json!({"apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": "podeip", "namespace": "kube-system"}});
    scene.world.cluster.create(account).unwrap();
    let own = token(&json!({"sub": ACCOUNT}));
    scene.world.cluster.set_token(Some(&own));
    scene.write("kubeconfig", &scene.world.kubeconfig().replace(defaults::KUBE_TOKEN, &own));
    configure(&scene, |_| {});
    scene
}

pub fn configure(scene: &Scene, change: impl FnOnce(&mut Value)) {
    scene.configure(|settings| {
        let others = ["access_key", "access_secret", "region_id", "vpc_id"];
        settings.as_object_mut().unwrap().retain(|key, _| !others.contains(&key.as_str()));
        settings["enable_rrsa"] = "true".into();
        settings["rrsa_role_name"] = defaults::RRSA_ROLE.into();
        change(settings);
    });
}

fn pod(scene: &Scene, last: u8) -> Sandbox {
    scene.pod(&format!("web-{last}"), [10, 219, 0, last], &[WITH_EIP])
}

fn calls(scene: &Scene, name: &str) -> usize {
    scene.world.calls.all().iter().filter(|call| call.name == name).count()
}

/// As STS refuses a token that has ended.
const ENDED: &str = "AuthenticationFail.OIDCToken.Expired";

/// The variables that ACK's webhook sets, with a token in their file that lasts for `seconds` from now on.
pub fn webhook(scene: &Scene, seconds: i64) -> [(&'static str, OsString); 3] {
    write_token(scene, seconds);
    let trust = &scene.world.cloud.settings().oidc[0];
    [
        ("ALIBABA_CLOUD_ROLE_ARN", trust.role_arn.clone().into()),
        ("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", trust.provider_arn.clone().into()),
        ("ALIBABA_CLOUD_OIDC_TOKEN_FILE", scene.path("token").into()),
    ]
}

/// One that the API server has not made, and that the provider's keys prove nevertheless.
fn write_token(scene: &Scene, seconds: i64) {
    scene.world.cloud.verify_oidc_signatures_with(|_| true);
    let end = scene.world.clock.now().as_second() + seconds;
    scene.write("token", &token(&json!({"sub": ACCOUNT, "aud": "sts.aliyuncs.com", "exp": end})));
}

/// ADD by a process that has these variables.
fn adding(scene: &Scene, sandbox: &Sandbox, variables: &[(&str, OsString)]) -> Child {
    let mut command = scene.command("ADD", sandbox);
    command.envs(variables.iter().map(|(name, value)| (name, value)));
    start(command, &scene.stdin(sandbox, Some(sandbox.result())))
}

pub fn add_with(scene: &Scene, sandbox: &Sandbox, variables: &[(&str, OsString)]) -> Answer {
    adding(scene, sandbox, variables).wait_with_output().unwrap().into()
}

#[test]
fn the_service_accounts_role_serves_pods_and_is_renewed() {
    let scene = with_rrsa();
    let (first, second) = (pod(&scene, 5), pod(&scene, 6));
    scene.world.faults.add(Rule::on(ASSUME, Effect::error(401, ENDED, "The OIDC token is expired.")).once());
    scene.add(&first).assert_added(&first);
    scene.assert_served(&first);
    assert_eq!((calls(&scene, ASK), calls(&scene, ASSUME)), (2, 2), "a token that has ended is asked for anew");
    scene.add(&second).assert_added(&second);
    assert_eq!((calls(&scene, ASK), calls(&scene, ASSUME)), (2, 2), "the next process finds it in the cache");
    let mut entry = cached(&scene);
    assert_eq!(entry["source"], format!("rrsa/{}", defaults::RRSA_ROLE));
    let session = scene.world.calls.named(ASSUME)[0].parameter("RoleSessionName").unwrap().to_owned();
    assert!(session.starts_with("podeip@"), "{session}");

    // Near its end it is taken anew before it is used again.
    let soon = Timestamp::now() + SignedDuration::from_mins(9);
    entry["expiration"] = soon.strftime("%Y-%m-%dT%H:%M:%SZ").to_string().into();
    scene.write("state/credentials.json", &entry.to_string());
    scene.world.cloud.expire_credentials();
    let mark = scene.world.calls.mark();
    scene.delete_pod(&second);
    scene.del(&second);
    let refused = |call: &&Call| call.code() == Some("InvalidSecurityToken.Expired");
    let refused = scene.world.calls.since(mark).iter().filter(refused).count();
    assert_eq!((calls(&scene, ASSUME), refused), (3, 0), "nothing was sent with the old ones");
    assert_ne!(cached(&scene)["accessKeyId"], entry["accessKeyId"]);

    // The cache believes in them for an hour still.
    scene.world.cloud.expire_credentials();
    scene.delete_pod(&first);
    scene.del(&first);
    assert_eq!(calls(&scene, ASSUME), 4, "taken once more");
    assert!(scene.ours().is_empty());
}

#[test]
fn doctor_says_whose_credentials_they_are_and_why_not_anothers() {
    let scene = with_rrsa();
    let row = || {
        let doctor = scene.podeip(&["doctor", "credentials"]);
        doctor.stdout.lines().find(|line| line.starts_with("credentials")).unwrap().to_owned()
    };
    let has = |row: String, words: &[&str]| {
        words.iter().for_each(|word| assert!(row.contains(word), "{word} is missing in {row}"));
    };
    let before = "before it: access_key and access_secret are not set; credential_path is not set";
    let arn = format!("acs:ram::{}:assumed-role/{}/podeip@", defaults::ACCOUNT, defaults::RRSA_ROLE);
    has(row(), &["pass", "RRSA with the role podeip-rrsa: ", &arn, " until ", before]);

    let refusal = Effect::error(403, "Forbidden.RAM", "no");
    let id = scene.world.faults.add(Rule::on("GetCallerIdentity", refusal));
    has(row(), &["fail", "RRSA with the role podeip-rrsa: GetCallerIdentity", "Forbidden.RAM", before]);
    scene.world.faults.remove(id);

    // A node without a state directory has no cache either.
    scene.world.cloud.set(|settings| settings.oidc.clear());
    has(row(), &["fail", "AssumeRoleWithOIDC", "AuthenticationFail.NoPermission", before]);

    configure(&scene, |settings| settings["enable_rrsa"] = false.into());
    let words = "credential_path is not set; enable_rrsa is off; the node has no RAM role";
    has(row(), &["fail", "no cloud credentials: access_key and access_secret are not set", words]);
}

#[test]
fn a_token_file_of_the_environment_is_read_once_more_when_its_token_has_ended() {
    let scene = with_rrsa();
    configure(&scene, |settings| settings["enable_rrsa"] = false.into());
    let (first, second) = (pod(&scene, 5), pod(&scene, 6));
    let variables = webhook(&scene, -1);
    let gate = scene.world.faults.gate_on(ServiceMatch::Sts, ASSUME, 1, Moment::BeforeEffect);
    let child = adding(&scene, &first, &variables);
    assert!(gate.wait_reached(PATIENCE), "{}", scene.log());
    // As kubelet does it, a moment late.
    write_token(&scene, 600);
    gate.release(Outcome::Continue);
    Answer::from(child.wait_with_output().unwrap()).assert_added(&first);
    assert_eq!((calls(&scene, ASK), calls(&scene, ASSUME)), (0, 2));

    fs::remove_file(scene.state_dir().join("credentials.json")).unwrap();
    write_token(&scene, -1);
    add_with(&scene, &second, &variables).assert_error(102, &[ENDED, "RequestId", "set the node's clock"]);
    fs::remove_file(scene.path("token")).unwrap();
    let words = ["cannot read", "ALIBABA_CLOUD_OIDC_TOKEN_FILE"];
    add_with(&scene, &second, &variables).assert_error(102, &words);
}

#[test]
fn what_is_wrong_with_it_is_said_with_the_remedy() {
    type Arrange = fn(&Scene);
    let cases: [(Arrange, u64, &[&str]); 5] = [
        (
            |scene| scene.world.cloud.set(|settings| settings.oidc[0].subjects = vec!["another".into()]),
            102,
            &["AssumeRoleWithOIDC for the role podeip-rrsa", "AuthenticationFail.NoPermission", "trust policy names"],
        ),
        (
            |scene| scene.world.cloud.set(|settings| settings.oidc.clear()),
            102,
            &["AuthenticationFail.NoPermission", "RRSA is enabled for the cluster"],
        ),
        (
            |scene| scene.world.cluster.deny("create", "serviceaccounts/token"),
            102,
            &["create serviceaccounts/token kube-system/podeip", "HTTP 403", "apply install/rbac.yaml"],
        ),
        (
            |scene| {
                scene.world.cluster.set_token(Some(defaults::KUBE_TOKEN));
                scene.write("kubeconfig", &scene.world.kubeconfig());
            },
            102,
            &["has no token of a service account", "switch enable_rrsa off"],
        ),
        (
            |scene| {
                let trouble = Effect::error(503, "ServiceUnavailable", "later");
                scene.world.faults.add(Rule::on(ASSUME, trouble));
            },
            11,
            &["AssumeRoleWithOIDC", "ServiceUnavailable"],
        ),
    ];
    for (arrange, code, words) in cases {
        let scene = with_rrsa();
        arrange(&scene);
        configure(&scene, |settings| settings["eip_add_timeout_seconds"] = 3.into());
        let pod = pod(&scene, 5);
        scene.add(&pod).assert_error(code, words);
        assert!(scene.ever_ours().is_empty(), "{words:?}");
    }
}
