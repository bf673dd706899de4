//! RRSA: a RAM role for the token of podeip's service account, asked of the API server or found in a file.

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use podeip_sim::cloud::defaults;
use podeip_sim::faults::{Effect, Rule};
use serde_json::{Value, json};

use crate::scene::{Answer, Sandbox, Scene, WITH_EIP};

const ACCOUNT: &str = "system:serviceaccount:kube-system:podeip";
const ASSUME: &str = "AssumeRoleWithOIDC";
const ASK: &str = "create serviceaccounts/token";

/// A token of the service account as the API server signs them.
fn token(claims: &Value) -> String {
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

fn configure(scene: &Scene, change: impl FnOnce(&mut Value)) {
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

fn cached(scene: &Scene) -> Value {
    serde_json::from_slice(&fs::read(scene.state_dir().join("credentials.json")).unwrap()).unwrap()
}

#[test]
fn the_service_accounts_role_serves_pods_in_both_modes_of_metadata() {
    for hardened_only in [false, true] {
        let scene = with_rrsa();
        scene.world.cloud.set(|settings| settings.metadata_hardened_only = hardened_only);
        let (first, second) = (pod(&scene, 5), pod(&scene, 6));
        scene.add(&first).assert_added(&first);
        scene.assert_served(&first);
        scene.add(&second).assert_added(&second);
        assert_eq!((calls(&scene, ASK), calls(&scene, ASSUME)), (1, 1), "the next process finds it in the cache");
        let entry = cached(&scene);
        assert_eq!(entry["source"], format!("rrsa/{}", defaults::RRSA_ROLE));
        let session = scene.world.calls.named(ASSUME)[0].parameter("RoleSessionName").unwrap().to_owned();
        assert!(session.starts_with("podeip@"), "{session}");
        let own = token(&json!({"sub": ACCOUNT}));
        for secret in [entry["accessKeySecret"].as_str().unwrap(), entry["securityToken"].as_str().unwrap(), &own] {
            assert!(!scene.log().contains(secret), "{secret} is in the log");
        }

        // The cache believes in them for an hour still.
        scene.world.cloud.expire_credentials();
        scene.delete_pod(&first);
        scene.del(&first);
        assert_eq!(calls(&scene, ASSUME), 2, "taken once more");
        assert_eq!(scene.ours().len(), 1);

        let doctor = scene.podeip(&["doctor", "credentials"]);
        let row = doctor.stdout.lines().find(|line| line.starts_with("credentials")).unwrap().to_owned();
        let arn = format!("acs:ram::{}:assumed-role/{}", defaults::ACCOUNT, defaults::RRSA_ROLE);
        for word in
            ["pass", "RRSA with the role podeip-rrsa", &arn, "before it: access_key and access_secret are not set"]
        {
            assert!(row.contains(word), "{word} is missing in {row}");
        }
    }
}

#[test]
fn a_token_file_of_the_environment_is_enough() {
    let scene = with_rrsa();
    configure(&scene, |settings| settings["enable_rrsa"] = false.into());
    scene.world.cloud.verify_oidc_signatures_with(|_| true);
    let soon = scene.world.clock.now().as_second() + 600;
    let claims = |ends: i64| json!({"sub": ACCOUNT, "aud": "sts.aliyuncs.com", "exp": ends});
    scene.write("token", &token(&claims(soon)));
    let trust = podeip_sim::cloud::OidcTrust::clone(&scene.world.cloud.settings().oidc[0]);
    let add = |sandbox: &Sandbox| -> Answer {
        let mut command = scene.command("ADD", sandbox);
        command
            .env("ALIBABA_CLOUD_ROLE_ARN", &trust.role_arn)
            .env("ALIBABA_CLOUD_OIDC_PROVIDER_ARN", &trust.provider_arn)
            .env("ALIBABA_CLOUD_OIDC_TOKEN_FILE", scene.path("token"));
        let stdin = scene.stdin(sandbox, Some(sandbox.result()));
        crate::scene::start(command, &stdin).wait_with_output().unwrap().into()
    };
    let (first, second) = (pod(&scene, 5), pod(&scene, 6));
    add(&first).assert_added(&first);
    assert_eq!((calls(&scene, ASK), calls(&scene, ASSUME)), (0, 1));

    fs::remove_file(scene.state_dir().join("credentials.json")).unwrap();
    scene.write("token", &token(&claims(soon - 3600)));
    add(&second).assert_error(102, &["AuthenticationFail.OIDCToken.Expired", "RequestId"]);
    let tries = calls(&scene, ASSUME) - 1;
    assert!(tries >= 2 && tries.is_multiple_of(2), "the file is read once more: {tries}");
    fs::remove_file(scene.path("token")).unwrap();
    add(&second).assert_error(102, &["cannot read", "ALIBABA_CLOUD_OIDC_TOKEN_FILE"]);
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
