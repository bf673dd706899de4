//! Annotations that change while the pod runs and apply to a new EIP only: told, once, and without effect.

use podeip_sim::cloud::{UserEip, defaults};
use serde_json::{Value, json};

use super::{IP, annotate, kinds_told, names_since, running};
use crate::scene::{Sandbox, Scene};

/// `count` of each event of this reason.
fn counts(scene: &Scene, pod: &Sandbox) -> Vec<u64> {
    let events = scene.world.cluster.events_for(&pod.namespace, &pod.name);
    let of_reason = events.iter().filter(|event| event["reason"] == "AppliesAtCreation");
    of_reason.map(|event| event["count"].as_u64().unwrap()).collect()
}

/// Annotates a running pod so and has two rounds see it: each of `told` is an event on the pod and
/// one on its PodEIP, and nothing else happens.
fn assert_only_told(before: &[(&str, &str)], changes: &[(&str, Option<&str>)], told: &[&[&str]]) {
    let scene = Scene::new();
    let pod = running(&scene, "web-0", IP, before);
    let eip = json!(scene.ours().remove(0));
    annotate(&scene, &pod, changes);
    let mark = scene.world.calls.mark();
    for round in 1..=2 {
        scene.agent_once();
        let reason = "AppliesAtCreation";
        for events in [scene.events(&pod, reason), scene.pod_eip_events(&pod, reason)] {
            for words in told {
                let with_all = events.iter().filter(|message| words.iter().all(|word| message.contains(word)));
                assert_eq!(with_all.count(), 1, "{words:?} in {events:#?}");
            }
            assert_eq!(events.len(), told.len(), "{events:#?}");
        }
        assert_eq!(counts(&scene, &pod), vec![round; 2 * told.len()], "another process counts the event up");
    }
    let kinds = kinds_told(&scene, &pod, "AppliesAtCreation");
    assert!(kinds.iter().all(|kind| kind.ends_with("Warning")), "{kinds:?}");
    let actions = names_since(&scene, mark);
    assert!(actions.iter().all(|name| name.starts_with("Describe") || name.contains(' ')), "{actions:?}");
    scene.assert_served(&pod);
    assert_eq!(json!(scene.ours().remove(0)), eip);
    assert_eq!(scene.ever_ours().len(), 1);
    assert_eq!(scene.events(&pod, "EIPChangeFailed"), [] as [&str; 0]);
}

#[test]
fn what_an_eip_is_created_with_stays() {
    let key = |name: &str| format!("network.alibabacloud.com/{name}");
    let wishes = [
        ("eip-isp", "BGP_PRO", "BGP"),
        ("eip-internet-charge-type", "PayByBandwidth", "PayByTraffic"),
        ("eip-public-ip-address-pool-id", defaults::ADDRESS_POOL, "none"),
        ("eip-resource-group-id", defaults::OTHER_RESOURCE_GROUP, defaults::RESOURCE_GROUP),
        ("eip-security-protection-types", "AntiDDoS_Enhanced", "none"),
    ];
    let keys = wishes.map(|(name, ..)| key(name));
    let changes: Vec<_> = keys.iter().zip(wishes).map(|(key, (_, value, _))| (key.as_str(), Some(value))).collect();
    let told = wishes.map(|(name, value, is)| [name, value, is]);
    let told: Vec<&[&str]> = told.iter().map(|words| words.as_slice()).collect();
    assert_only_told(&[], &changes, &told);
}

#[test]
fn the_release_strategy_is_changed_in_the_podeip_only() {
    let key = "network.alibabacloud.com/pod-eip-release-strategy";
    assert_only_told(
        &[(key, "10m")],
        &[(key, Some("Never"))],
        &[&["pod-eip-release-strategy", "Never", "10m", "spec"]],
    );
}

#[test]
fn another_eip_comes_with_the_next_sandbox() {
    let key = "network.alibabacloud.com/pod-eip-instanceid";
    assert_only_told(&[], &[(key, Some(defaults::USER_EIP))], &[&["pod-eip-instanceid", defaults::USER_EIP, "eip-"]]);
}

#[test]
fn switching_the_eip_off_is_for_the_next_sandbox() {
    let key = "network.alibabacloud.com/pod-with-eip";
    for switch in [Some("false"), None] {
        assert_only_told(&[], &[(key, switch)], &[&["pod-with-eip", "off"]]);
    }
}

#[test]
fn another_named_eip_comes_with_the_next_sandbox() {
    let scene = Scene::new();
    let key = "network.alibabacloud.com/pod-eip-instanceid";
    let pod = scene.pod("web-0", IP, &[(key, defaults::USER_EIP)]).alive();
    scene.add(&pod).assert_added(&pod);
    let other = scene.world.cloud.create_user_eip(UserEip::default());
    annotate(&scene, &pod, &[(key, Some(other.as_str()))]);
    scene.agent_once();
    let told = scene.events(&pod, "AppliesAtCreation");
    assert!(told.len() == 1 && told[0].contains(&other) && told[0].contains(defaults::USER_EIP), "{told:?}");
    assert_eq!(scene.on(pod.ip)[0].id, defaults::USER_EIP);
    assert_eq!(scene.world.cloud.eip(&other).unwrap().binding, None);
    assert_eq!(scene.pod_eip(&pod).unwrap()["metadata"]["deletionTimestamp"], Value::Null);
}
