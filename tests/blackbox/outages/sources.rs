//! Every source of credentials serves a pod, and comes before those that the order puts behind it.

use std::ffi::OsString;
use std::fs;

use podeip_sim::calls::{Call, ServiceKind};
use podeip_sim::cloud::defaults;
use serde_json::Value;

use super::credentials::{addon_token, cached};
use super::rrsa::{ASK, ASSUME, add_with, webhook, with_rrsa};
use crate::scene::{Scene, WITH_EIP};

/// Sets one more source up, in front of the ones before it. What it returns the process finds in its environment.
type SetUp = fn(&Scene, &mut Value) -> Vec<(&'static str, OsString)>;

fn rrsa(_: &Scene, settings: &mut Value) -> Vec<(&'static str, OsString)> {
    settings["enable_rrsa"] = "true".into();
    settings["rrsa_role_name"] = defaults::RRSA_ROLE.into();
    vec![]
}

fn add_on(scene: &Scene, settings: &mut Value) -> Vec<(&'static str, OsString)> {
    scene.write("token-config", &addon_token(&cached(scene)).to_string());
    settings["credential_path"] = scene.path("token-config").to_str().unwrap().into();
    vec![]
}

fn access_key(_: &Scene, settings: &mut Value) -> Vec<(&'static str, OsString)> {
    settings["access_key"] = defaults::ACCESS_KEY_ID.into();
    settings["access_secret"] = defaults::ACCESS_KEY_SECRET.into();
    vec![]
}

/// How often the calls of `since` asked for a token, for its role, and for the node's.
fn asked(since: &[Call]) -> [usize; 3] {
    let of_the_node = format!("get ram/security-credentials/{}", defaults::ROLE);
    [ASK, ASSUME, &of_the_node].map(|name| since.iter().filter(|call| call.name == name).count())
}

#[test]
fn each_serves_a_pod_in_both_modes_of_metadata_and_before_the_next() {
    let set_up: [(&str, SetUp, [usize; 3]); 5] = [
        ("the node's role", |_, _| vec![], [0, 0, 1]),
        ("RRSA by TokenRequest", rrsa, [1, 1, 0]),
        ("RRSA by the webhook", |scene, _| webhook(scene, 600).into(), [0, 1, 0]),
        ("the add-on token", add_on, [0, 0, 0]),
        ("the AccessKey", access_key, [0, 0, 0]),
    ];
    for hardened_only in [false, true] {
        let scene = with_rrsa();
        scene.world.cloud.set(|settings| {
            settings.role = Some(defaults::ROLE.into());
            settings.metadata_hardened_only = hardened_only;
        });
        scene.use_ram_role();
        let mut settings: Value = serde_json::from_slice(&fs::read(scene.path("eni_conf")).unwrap()).unwrap();
        let mut variables = Vec::new();
        for (nth, (source, set_up, expected)) in (5..).zip(&set_up) {
            variables.extend(set_up(&scene, &mut settings));
            scene.write("eni_conf", &settings.to_string());
            // What a source behind this one left in it would answer unseen.
            let _ = fs::remove_file(scene.state_dir().join("credentials.json"));
            let pod = scene.pod(&format!("web-{nth}"), [10, 219, 0, nth], &[WITH_EIP]);
            let mark = scene.world.calls.mark();
            add_with(&scene, &pod, &variables).assert_added(&pod);
            scene.assert_served(&pod);
            let calls = scene.world.calls.since(mark);
            assert_eq!(asked(&calls), *expected, "{source}, hardened only: {hardened_only}");
            let signs = calls.iter().find_map(|call| call.parameter("AccessKeyId")).unwrap();
            assert_eq!(signs == defaults::ACCESS_KEY_ID, *source == "the AccessKey", "{source}: {signs}");
            let metadata =
                calls.iter().filter(|call| call.service == ServiceKind::Metadata && call.name != "put token");
            for call in metadata {
                assert_eq!(call.parameter("hardened"), Some("true"), "{source}: {call:?}");
            }
        }
    }
}
