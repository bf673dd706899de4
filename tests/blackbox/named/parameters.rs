//! How a new EIP is to be: every annotation reaches the cloud, and what the cloud does not take is mended or told.

use podeip_sim::cloud::defaults;
use podeip_sim::faults::{Effect, Rule};
use podeip_sim::kube::PodSpec;
use serde_json::json;

use crate::scene::{Scene, WITH_EIP};

const IP: [u8; 4] = [10, 219, 0, 5];
const IN_PACKAGE: (&str, &str) = ("network.alibabacloud.com/eip-common-bandwidth-package-id", defaults::PACKAGE);

#[test]
fn every_annotation_arrives_at_the_cloud() {
    let scene = Scene::new();
    scene.world.cloud.set(|settings| settings.single_line_isps = true);
    for prefix in ["network.alibabacloud.com", "k8s.aliyun.com"] {
        let of = |key: &str| format!("{prefix}/{key}");
        let wishes = [
            (of("pod-with-eip"), "true"),
            (of("eip-bandwidth"), "321"),
            (of("eip-internet-charge-type"), "PayByBandwidth"),
            (of("eip-instance-charge-type"), "PostPaid"),
            (of("eip-isp"), "ChinaUnicom"),
            (of("eip-public-ip-address-pool-id"), defaults::ADDRESS_POOL),
            (of("eip-resource-group-id"), defaults::OTHER_RESOURCE_GROUP),
            (of("eip-name"), "web/0 +%20 弹性"),
            (of("eip-description"), "for *everybody* ~ & = '"),
            (of("eip-security-protection-types"), "AntiDDoS_Enhanced"),
            (of("eip-tags"), r#"{"team":"a b","stage":"test"}"#),
        ];
        let wishes: Vec<(&str, &str)> = wishes.iter().map(|(key, value)| (key.as_str(), *value)).collect();
        let pod = scene.pod(&format!("web-{}", prefix.len()), IP, &wishes);
        scene.add(&pod).assert_added(&pod);
        let eip = scene.assert_served(&pod);
        assert_eq!((eip.bandwidth, eip.internet_charge_type.as_str()), (321, "PayByBandwidth"));
        assert_eq!((eip.isp.as_str(), eip.instance_charge_type.as_str()), ("ChinaUnicom", "PostPaid"));
        assert_eq!((eip.name.as_str(), eip.description.as_str()), ("web/0 +%20 弹性", "for *everybody* ~ & = '"));
        assert_eq!(
            (eip.address_pool.as_str(), eip.resource_group.as_str()),
            (defaults::ADDRESS_POOL, defaults::OTHER_RESOURCE_GROUP)
        );
        assert_eq!(eip.security_protection, ["AntiDDoS_Enhanced"]);
        assert_eq!(
            (eip.tag("team"), eip.tag("stage"), eip.tag("podeip-uid")),
            (Some("a b"), Some("test"), Some(pod.uid.as_str()))
        );
        let status = &scene.pod_eip(&pod).unwrap()["status"];
        for (key, value) in [
            ("isp", "ChinaUnicom"),
            ("internetChargeType", "PayByBandwidth"),
            ("resourceGroupID", defaults::OTHER_RESOURCE_GROUP),
            ("name", "web/0 +%20 弹性"),
            ("publicIpAddressPoolID", defaults::ADDRESS_POOL),
            ("networkInterfaceID", defaults::POD_ENI),
        ] {
            assert_eq!(status[key], value, "{key}");
        }
        scene.delete_pod(&pod);
        scene.del(&pod);
    }
    scene.assert_nothing_left();
}

#[test]
fn compatible_names_count_and_ours_win() {
    let scene = Scene::new();
    let pod = scene.pod(
        "web-0",
        IP,
        &[("k8s.aliyun.com/eci-with-eip", "true"), ("k8s.aliyun.com/eip-charge-type", "PayByBandwidth")],
    );
    scene.add(&pod).assert_added(&pod);
    assert_eq!(scene.assert_served(&pod).internet_charge_type, "PayByBandwidth");

    let both = scene.pod(
        "web-1",
        [10, 219, 0, 6],
        &[WITH_EIP, ("network.alibabacloud.com/eip-bandwidth", "8"), ("k8s.aliyun.com/eip-bandwidth", "9")],
    );
    scene.add(&both).assert_added(&both);
    assert_eq!(scene.assert_served(&both).bandwidth, 8);
    let events = scene.events(&both, "AnnotationConflict");
    let names = ["network.alibabacloud.com/eip-bandwidth", "k8s.aliyun.com/eip-bandwidth"];
    assert!(events.len() == 1 && names.iter().all(|name| events[0].contains(name)), "{events:?}");
    let objects = scene.world.cluster.events_for("default", "web-1");
    assert!(objects.iter().any(|event| event["reason"] == "AnnotationConflict" && event["type"] == "Warning"));

    let named = scene.pod("web-2", [10, 219, 0, 7], &[("k8s.aliyun.com/eci-eip-instanceid", defaults::USER_EIP)]);
    scene.add(&named).assert_added(&named);
    assert_eq!(scene.assert_served(&named).id, defaults::USER_EIP);
}

#[test]
fn a_name_that_the_older_rule_refuses_is_sent_once_more_in_plain_characters() {
    let scene = Scene::new();
    scene.world.cloud.set(|settings| settings.older_name_rule = true);
    let pod = scene.pod(
        "web-0",
        IP,
        &[WITH_EIP, ("k8s.aliyun.com/eip-name", "0/web 0"), ("k8s.aliyun.com/eip-description", "for team/a")],
    );
    scene.add(&pod).assert_added(&pod);
    let eip = scene.assert_served(&pod);
    assert_eq!((eip.name.as_str(), eip.description.as_str()), ("e0-web-0", "for-team-a"));
    assert_eq!(scene.events(&pod, "EIPTextReplaced").len(), 1);
    let calls = scene.world.calls.named("AllocateEipAddress");
    assert_eq!(calls.len(), 2);
    assert_eq!(calls[0].parameter("Name"), Some("0/web 0"));
    assert_ne!(calls[0].parameter("ClientToken"), calls[1].parameter("ClientToken"), "it is another operation");
    scene.delete_pod(&pod);
    scene.del(&pod);
    scene.assert_nothing_left();
}

#[test]
fn what_the_cloud_refuses_for_good_is_told_and_nothing_is_left() {
    let scene = Scene::new();
    scene.world.cloud.set(|settings| settings.ddos_origin_opened = false);
    let cases: [(&str, &str, u64, &[&str]); 5] = [
        ("eip-isp", "BGP_PRO", 106, &["IllegalParam.Isp"]),
        ("eip-resource-group-id", "rg-nowhere", 106, &["InvalidResourceGroupId"]),
        ("eip-public-ip-address-pool-id", "pippool-nowhere", 106, &["ResourceNotFound.PublicIpAddressPool"]),
        (
            "eip-security-protection-types",
            "AntiDDoS_Enhanced",
            102,
            &["NotOpenDdosOrigin", "open the Anti-DDoS Origin service"],
        ),
        ("eip-name", "http://x", 106, &["InvalidParameter"]),
    ];
    for (key, value, code, words) in cases {
        let key = format!("k8s.aliyun.com/{key}");
        let pod = scene.pod("web-0", IP, &[WITH_EIP, (&key, value)]);
        let answer = scene.add(&pod);
        if key.ends_with("eip-name") {
            // Replaced characters make a name of it.
            answer.assert_added(&pod);
        } else {
            answer.assert_error(code, words);
            answer.assert_error(code, &["AllocateEipAddress", "web-0", "RequestId"]);
            assert!(scene.events(&pod, "EIPFailed").iter().any(|message| message.contains(words[0])));
        }
        scene.delete_pod(&pod);
        scene.del(&pod);
        scene.assert_nothing_left();
    }

    scene.world.cloud.set(|settings| settings.quota = 0);
    let pod = scene.pod("web-1", IP, &[WITH_EIP]);
    scene.add(&pod).assert_error(103, &["QuotaExceeded.Eip", "Quota Center"]);
    scene.delete_pod(&pod);
    scene.del(&pod);
    scene.assert_nothing_left();
}

#[test]
fn a_bandwidth_package_is_joined_before_the_pod_starts_and_left_before_release() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", IP, &[WITH_EIP, IN_PACKAGE]);
    scene.add(&pod).assert_added(&pod);
    let eip = scene.assert_served(&pod);
    assert_eq!(eip.package.as_deref(), Some(defaults::PACKAGE));
    let pod_eip = scene.pod_eip(&pod).unwrap();
    assert_eq!(pod_eip["spec"]["bandwidthPackageID"], defaults::PACKAGE);
    assert_eq!(pod_eip["status"]["bandwidthPackageID"], defaults::PACKAGE);

    // A restart finds it a member already.
    scene.del(&pod);
    let next = pod.restarted();
    scene.add(&next).assert_added(&next);
    assert_eq!(scene.assert_served(&next).package.as_deref(), Some(defaults::PACKAGE));
    assert_eq!(scene.calls_of("AddCommonBandwidthPackageIp"), 1);
    scene.delete_pod(&pod);
    scene.del(&next);
    scene.assert_nothing_left();
    let writes: Vec<String> =
        scene.world.calls.all().into_iter().filter(|call| call.succeeded()).map(|call| call.name).collect();
    let at = |name: &str| writes.iter().position(|call| call == name).unwrap();
    assert!(at("RemoveCommonBandwidthPackageIp") < at("ReleaseEipAddress"));
}

#[test]
fn a_bandwidth_package_that_cannot_be_joined_leaves_nothing() {
    let scene = Scene::new();
    let nowhere = ("k8s.aliyun.com/eip-common-bandwidth-package-id", "cbwp-nowhere");
    let pod = scene.pod("web-0", IP, &[WITH_EIP, nowhere]);
    let answer = scene.add(&pod);
    assert!(answer.error().1.contains("cbwp-nowhere"), "{answer:?}");
    assert!(scene.on(pod.ip).is_empty());
    scene.delete_pod(&pod);
    scene.del(&pod);
    scene.assert_nothing_left();
}

#[test]
fn an_endpoint_that_ignores_tags_is_asked_to_tag() {
    let scene = Scene::new();
    scene.world.cloud.set(|settings| settings.ignore_tags_on_allocate = true);
    let pod = scene.pod("web-0", IP, &[WITH_EIP, ("k8s.aliyun.com/eip-tags", r#"{"team":"a"}"#)]);
    scene.add(&pod).assert_added(&pod);
    let eip = scene.assert_served(&pod);
    let expected = [
        ("podeip-cluster", defaults::CLUSTER),
        ("podeip-namespace", "default"),
        ("podeip-node", "node-1"),
        ("podeip-pod", "web-0"),
        ("podeip-uid", &pod.uid),
        ("team", "a"),
    ];
    let tags: Vec<(&str, &str)> = eip.tags.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    assert_eq!(tags, expected);
    assert_eq!(scene.calls_of("TagResources"), 1);
    scene.delete_pod(&pod);
    scene.del(&pod);
    scene.assert_nothing_left();
}

#[test]
fn the_readiness_gate_is_opened_only_where_it_is_listed() {
    let scene = Scene::new();
    let gate = "k8s.aliyun.com/eip";
    let spec = |name: &str, gates: &[&str]| PodSpec {
        readiness_gates: gates.iter().map(|gate| gate.to_string()).collect(),
        ..PodSpec::new("default", name)
    };
    let gated = scene.pod_with(spec("gated-0", &[gate, "example.com/other"]), IP, &[WITH_EIP]);
    let other = scene.pod_with(spec("other-0", &["example.com/other"]), [10, 219, 0, 6], &[WITH_EIP]);
    let conditions = json!([
        {"type": "PodScheduled", "status": "True", "lastTransitionTime": "2024-01-01T00:00:00Z"},
        {"type": "example.com/other", "status": "False", "reason": "Waiting", "message": "for others"},
    ]);
    for name in ["gated-0", "other-0"] {
        let status = json!({"status": {"conditions": conditions}});
        scene.world.cluster.merge("pods", "default", name, &status);
    }
    scene.add(&gated).assert_added(&gated);
    scene.add(&other).assert_added(&other);
    let of = |sandbox| scene.pod_object(sandbox)["status"]["conditions"].as_array().unwrap().clone();
    let found = of(&gated);
    let ours = found.iter().find(|condition| condition["type"] == gate).unwrap();
    assert_eq!((&ours["status"], &ours["reason"]), (&json!("True"), &json!("Associate eip succeed")));
    let rest: Vec<_> = found.into_iter().filter(|condition| condition["type"] != gate).collect();
    assert_eq!(json!(rest), conditions);
    assert_eq!(json!(of(&other)), conditions);
    let with_conditions =
        |call: &podeip_sim::calls::Call| call.body.as_ref().is_some_and(|body| body.get("status").is_some());
    let patches = scene.world.calls.named("patch pods/status");
    assert_eq!(patches.iter().filter(|call| with_conditions(call)).count(), 1);
}

#[test]
fn a_wrong_bandwidth_package_is_named() {
    let scene = Scene::new();
    let package = ("network.alibabacloud.com/eip-common-bandwidth-package-id", "cbwp-bp1nosuchpackage0001");
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP, package]);
    scene.add(&pod).assert_error(106, &["cbwp-bp1nosuchpackage0001", "eip-common-bandwidth-package-id"]);
    scene.delete_pod(&pod);
    scene.del(&pod);
    scene.assert_nothing_left();
}

/// The CNI error code of what only a fault makes the simulated services say.
#[test]
fn the_code_says_who_has_to_act() {
    for (call, status, refusal, code) in [
        ("AllocateEipAddress", 400, "InsufficientBalance", 103),
        ("AllocateEipAddress", 400, "OperationFailed.InsufficientEIP", 11),
        ("AssociateEipAddress", 400, "OperationFailed.IpPrefixConflict", 105),
        ("patch podeips/status", 409, "Conflict", 11),
    ] {
        let scene = Scene::new();
        scene.configure(|settings| settings["eip_add_timeout_seconds"] = json!(8));
        scene.world.faults.add(Rule::on(call, Effect::error(status, refusal, "simulated")));
        let pod = scene.pod("web-0", IP, &[WITH_EIP]);
        scene.add(&pod).assert_error(code, &["simulated"]);
    }
}
