//! Annotations that change while the pod runs: what the EIP follows at once.

use podeip_sim::cloud::{Package, Status, UserEip, defaults};
use podeip_sim::faults::{Effect, Rule};
use serde_json::{Value, json};

use super::{Agent, IP, annotate, kinds_told, names_since, running};
use crate::scene::{Sandbox, Scene, WITH_EIP, await_true};

const BANDWIDTH: &str = "network.alibabacloud.com/eip-bandwidth";
const PACKAGE: &str = "network.alibabacloud.com/eip-common-bandwidth-package-id";
const NAME: &str = "network.alibabacloud.com/eip-name";
const DESCRIPTION: &str = "k8s.aliyun.com/eip-description";
const TAGS: &str = "network.alibabacloud.com/eip-tags";
const OTHER_PACKAGE: &str = "cbwp-bp1sim0000000000002";

/// The cloud's actions that change something, since `mark`.
fn changes_since(scene: &Scene, mark: u64) -> Vec<String> {
    let reads = |name: &String| name.starts_with("Describe") || name.contains(' ');
    names_since(scene, mark).into_iter().filter(|name| !reads(name)).collect()
}

#[test]
fn a_new_bandwidth_reaches_the_cloud_while_the_eip_stays_bound() {
    let scene = Scene::new();
    let pod = running(&scene, "web-0", IP, &[(BANDWIDTH, "5")]);
    let id = scene.ours().remove(0).id;
    annotate(&scene, &pod, &[(BANDWIDTH, Some("20"))]);
    let mark = scene.world.calls.mark();
    scene.agent_once();
    assert_eq!(scene.assert_served(&pod).bandwidth, 20);
    assert_eq!(changes_since(&scene, mark), ["ModifyEipAddressAttribute"]);
    let message = format!("{id}: bandwidth 5 → 20 Mbit/s");
    assert_eq!(scene.events(&pod, "EIPChanged"), [message]);
    assert_eq!(kinds_told(&scene, &pod, "EIPChanged"), ["Pod Normal", "PodEIP Normal"]);

    annotate(&scene, &pod, &[(BANDWIDTH, None)]);
    let mark = scene.world.calls.mark();
    scene.agent_once();
    assert_eq!(scene.assert_served(&pod).bandwidth, 20, "what is not asked for stays");
    assert_eq!(changes_since(&scene, mark), [] as [&str; 0]);
    assert_eq!(scene.events(&pod, "EIPChanged").len(), 1);
}

#[test]
fn an_agent_that_starts_catches_up() {
    let scene = Scene::new();
    let pod = running(&scene, "web-0", IP, &[]);
    annotate(&scene, &pod, &[(BANDWIDTH, Some("20")), (PACKAGE, Some("cbwp-none"))]);
    let agent = Agent::start(&scene);
    await_true("the bandwidth is changed", || scene.ours()[0].bandwidth == 20);
    await_true("the refusal is told", || scene.events(&pod, "EIPChangeFailed").len() == 1);
    assert_eq!(agent.stop().code, Some(0));
    scene.assert_served(&pod);
}

#[test]
fn a_value_that_breaks_a_rule_is_told_and_nothing_changes() {
    let scene = Scene::new();
    let pod = running(&scene, "web-0", IP, &[(BANDWIDTH, "5")]);
    annotate(&scene, &pod, &[(BANDWIDTH, Some("9999")), (NAME, Some("other"))]);
    let mark = scene.world.calls.mark();
    scene.agent_once();
    let eip = scene.assert_served(&pod);
    assert_eq!((eip.bandwidth, eip.name.as_str()), (5, ""));
    assert_eq!(changes_since(&scene, mark), [] as [&str; 0]);
    let told = scene.events(&pod, "EIPChangeFailed");
    assert!(told[0].contains(BANDWIDTH) && told[0].contains("9999") && told[0].contains("1 to 200"), "{told:?}");
    assert_eq!(kinds_told(&scene, &pod, "EIPChangeFailed"), ["Pod Warning", "PodEIP Warning"]);
    annotate(&scene, &pod, &[(BANDWIDTH, Some("7"))]);
    scene.agent_once();
    assert_eq!(scene.assert_served(&pod).bandwidth, 7);
}

/// The package as the cloud, the PodEIP's spec and the record tell it.
fn packages(scene: &Scene, pod: &Sandbox) -> [Option<String>; 3] {
    let text = |value: &Value| value.as_str().map(str::to_string);
    let spec = scene.pod_eip(pod).unwrap()["spec"]["bandwidthPackageID"].clone();
    [scene.ours().remove(0).package, text(&spec), text(&scene.records()[0]["bandwidthPackage"])]
}

#[test]
fn a_bandwidth_package_is_joined_changed_and_left() {
    let scene = Scene::new();
    let other = Package { id: OTHER_PACKAGE.into(), isp: "BGP".into(), bandwidth: 100, security_protection: vec![] };
    scene.world.cloud.add_package(other);
    let pod = running(&scene, "web-0", IP, &[]);
    for (wish, said) in [
        (Some(defaults::PACKAGE), format!("none → {}", defaults::PACKAGE)),
        (Some(OTHER_PACKAGE), format!("{} → {OTHER_PACKAGE}", defaults::PACKAGE)),
        (None, format!("{OTHER_PACKAGE} → none")),
        (Some(defaults::PACKAGE), format!("none → {}", defaults::PACKAGE)),
    ] {
        annotate(&scene, &pod, &[(PACKAGE, wish)]);
        scene.agent_once();
        scene.world.clock.advance(scene.world.cloud.settings().package_delay);
        let wished = [(); 3].map(|()| wish.map(str::to_string));
        await_true("the EIP is in the package that is wished", || packages(&scene, &pod) == wished);
        let told = scene.events(&pod, "EIPChanged");
        assert!(told.iter().any(|message| message.ends_with(&format!("bandwidth package {said}"))), "{told:?}");
        scene.assert_served(&pod);
    }
    scene.delete_pod(&pod);
    let mark = scene.world.calls.mark();
    scene.del(&pod);
    scene.assert_nothing_left();
    let mut calls = changes_since(&scene, mark);
    calls.dedup(); // a release is refused until the EIP has left
    assert_eq!(calls, ["UnassociateEipAddress", "RemoveCommonBandwidthPackageIp", "ReleaseEipAddress"]);
}

#[test]
fn a_package_that_a_person_chose_is_not_left() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", IP, &[WITH_EIP]).alive();
    let tags = [("podeip-cluster", defaults::CLUSTER), ("podeip-uid", "earlier")];
    let tags = tags.map(|(key, value)| (key.to_string(), value.to_string())).into();
    let id = scene.world.cloud.create_user_eip(UserEip {
        package: Some(defaults::PACKAGE.into()),
        tags,
        ..UserEip::default()
    });
    let kept = json!({
        "apiVersion": "alibabacloud.com/v1beta1", "kind": "PodEIP",
        "metadata": {"namespace": "default", "name": "web-0", "annotations": {"podeip/pod-uid": "earlier"}},
        "spec": {"allocationID": id, "allocationType": {"type": "Auto", "releaseStrategy": "Never"}},
    });
    scene.world.cluster.create(kept).unwrap();
    scene.add(&pod).assert_added(&pod);
    for lost in [false, true] {
        if lost {
            std::fs::remove_file(scene.state_dir().join("state.json")).unwrap();
        }
        scene.agent_once();
        scene.agent_once();
        assert_eq!(scene.records().len(), 1);
        let eip = scene.world.cloud.eip(&id).unwrap();
        assert_eq!((eip.package.as_deref(), eip.status), (Some(defaults::PACKAGE), Status::InUse), "lost: {lost}");
    }
}

#[test]
fn a_package_that_was_refused_is_forgotten_with_its_annotation() {
    let scene = Scene::new();
    let pod = running(&scene, "web-0", IP, &[]);
    annotate(&scene, &pod, &[(PACKAGE, Some("cbwp-none"))]);
    scene.agent_once();
    let told = scene.events(&pod, "EIPChangeFailed");
    assert!(told[0].contains("InvalidBandwidthPackageId.NotFound") && told[0].contains("RequestId"), "{told:?}");
    scene.assert_served(&pod);
    annotate(&scene, &pod, &[(PACKAGE, None)]);
    scene.agent_once();
    assert_eq!(packages(&scene, &pod), [None, None, None]);
    assert_eq!(kinds_told(&scene, &pod, "EIPChangeFailed"), ["Pod Warning", "PodEIP Warning"]);
}

#[test]
fn name_description_and_tags_follow() {
    let scene = Scene::new();
    let pod = running(&scene, "web-0", IP, &[(TAGS, r#"{"team":"a"}"#)]);
    annotate(
        &scene,
        &pod,
        &[
            (NAME, Some("shop/web 弹性")),
            (DESCRIPTION, Some("for everybody")),
            (TAGS, Some(r#"{"team":"b","stage":"test"}"#)),
        ],
    );
    scene.agent_once();
    let eip = scene.assert_served(&pod);
    assert_eq!((eip.name.as_str(), eip.description.as_str()), ("shop/web 弹性", "for everybody"));
    assert_eq!((eip.tag("team"), eip.tag("stage")), (Some("b"), Some("test")));
    assert_eq!(eip.tag("podeip-uid"), Some(pod.uid.as_str()));
    annotate(&scene, &pod, &[(NAME, None), (DESCRIPTION, None), (TAGS, None)]);
    let mark = scene.world.calls.mark();
    scene.agent_once();
    assert_eq!(changes_since(&scene, mark), [] as [&str; 0]);
    assert_eq!(scene.pod_eip(&pod).unwrap()["status"]["name"], "shop/web 弹性");
}

#[test]
fn a_name_that_the_api_refuses_is_sent_once_more_in_plain_characters() {
    let scene = Scene::new();
    scene.world.cloud.set(|settings| settings.older_name_rule = true);
    let pod = running(&scene, "web-0", IP, &[]);
    annotate(&scene, &pod, &[(NAME, Some("shop/web 0")), (DESCRIPTION, Some("0 is first")), (BANDWIDTH, Some("9"))]);
    scene.agent_once();
    let eip = scene.assert_served(&pod);
    assert_eq!((eip.name.as_str(), eip.description.as_str()), ("shop-web-0", "e0-is-first"));
    assert_eq!(eip.bandwidth, 9);
    let told = scene.events(&pod, "EIPTextReplaced");
    assert_eq!(told.len(), 2, "name and description: {told:?}");
    assert!(told.iter().all(|message| message.contains("InvalidParameter")), "{told:?}");
    let events = scene.world.cluster.events_for("default", "web-0").len();
    let mark = scene.world.calls.mark();
    scene.agent_once();
    assert_eq!(changes_since(&scene, mark), [] as [&str; 0], "nothing is asked for again");
    assert_eq!(scene.world.cluster.events_for("default", "web-0").len(), events);
}

#[test]
fn a_change_that_the_cloud_refuses_is_told_and_tried_again() {
    let scene = Scene::new();
    let pod = running(&scene, "web-0", IP, &[]);
    annotate(
        &scene,
        &pod,
        &[(BANDWIDTH, Some("150")), (TAGS, Some(r#"{"team":"b"}"#)), (PACKAGE, Some(defaults::PACKAGE))],
    );
    let refusal = Effect::error(400, "QuotaExceeded.LargeSpecEip", "The quota of large EIPs is exceeded.");
    let rule = scene.world.faults.add(Rule::on("ModifyEipAddressAttribute", refusal));
    scene.agent_once();
    let told = scene.events(&pod, "EIPChangeFailed");
    assert_eq!(told.len(), 1, "{told:?}");
    for word in ["bandwidth 5 → 150 Mbit/s", "QuotaExceeded.LargeSpecEip", "RequestId"] {
        assert!(told[0].contains(word), "{word} is missing in {told:?}");
    }
    let eip = scene.assert_served(&pod);
    assert_eq!((eip.bandwidth, eip.tag("team")), (5, Some("b")), "one refusal does not keep the rest from coming true");
    // The cloud has accepted it; a member it becomes a little later.
    await_true("it becomes a member", || scene.assert_served(&pod).package.as_deref() == Some(defaults::PACKAGE));
    scene.world.faults.remove(rule);
    scene.agent_once();
    assert_eq!(scene.assert_served(&pod).bandwidth, 150);
}

#[test]
fn a_named_eip_is_never_changed() {
    let scene = Scene::new();
    let named = [("k8s.aliyun.com/pod-eip-instanceid", defaults::USER_EIP)];
    let pod = scene.pod("web-0", IP, &named).alive();
    scene.add(&pod).assert_added(&pod);
    let before = json!(scene.world.cloud.eip(defaults::USER_EIP).unwrap());
    let wishes = [
        (BANDWIDTH, Some("20")),
        (PACKAGE, Some(defaults::PACKAGE)),
        (NAME, Some("mine")),
        (DESCRIPTION, Some("mine")),
        (TAGS, Some(r#"{"team":"b"}"#)),
        ("k8s.aliyun.com/pod-with-eip", Some("true")),
    ];
    annotate(&scene, &pod, &wishes);
    let mark = scene.world.calls.mark();
    scene.agent_once();
    assert_eq!(changes_since(&scene, mark), [] as [&str; 0]);
    assert_eq!(json!(scene.world.cloud.eip(defaults::USER_EIP).unwrap()), before);
    // Without its name the pod asks for an EIP of ours, which comes with its next sandbox.
    annotate(&scene, &pod, &[("k8s.aliyun.com/pod-eip-instanceid", None)]);
    scene.agent_once();
    assert_eq!(changes_since(&scene, mark), [] as [&str; 0]);
    assert_eq!(json!(scene.world.cloud.eip(defaults::USER_EIP).unwrap()), before);
}
