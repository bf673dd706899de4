//! One pod on 10.0.0.9 and what is decided about it, one difference at a time.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::*;
use crate::kube::Owner;
use crate::names::PodUid;

fn pod(owner: Option<&str>, annotations: &[(&str, &str)]) -> Pod {
    Pod {
        namespace: "shop".into(),
        name: "web-0".into(),
        uid: "u1".into(),
        resource_version: "1".into(),
        node: Some("n1".into()),
        annotations: annotations
            .iter()
            .map(|(key, value)| (format!("k8s.aliyun.com/{key}"), value.to_string()))
            .collect(),
        owners: owner.map(|kind| Owner { kind: kind.into(), name: "web".into() }).into_iter().collect(),
        readiness_gates: vec![],
        phase: "Running".into(),
        terminating: false,
        host_network: false,
        ips: vec![Ipv4Addr::new(10, 0, 0, 9)],
        conditions: BTreeMap::new(),
    }
}

fn asking(owner: Option<&str>) -> Pod {
    pod(owner, &[("pod-with-eip", "true")])
}

/// In use on eni-1 and 10.0.0.9, but for `change`.
fn eip(change: Value) -> Eip {
    let mut eip = json!({"AllocationId": "eip-1", "IpAddress": "47.0.0.1", "Status": "InUse", "InstanceId": "eni-1",
        "InstanceType": "NetworkInterface", "PrivateIpAddress": "10.0.0.9"});
    eip.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
    serde_json::from_value(eip).unwrap()
}

fn tagged(tags: &[(&str, &str)]) -> Eip {
    let tags: Vec<Value> = tags.iter().map(|(key, value)| json!({"Key": key, "Value": value})).collect();
    eip(json!({"Tags": {"Tag": tags}}))
}

fn pod_eip(kind: &str, strategy: &str, metadata: Value) -> PodEip {
    let (name, after) = if ["Follow", "Never"].contains(&strategy) { (strategy, "") } else { ("TTL", strategy) };
    let mut object = json!({
        "metadata": {"namespace": "shop", "name": "web-0", "uid": "e1", "resourceVersion": "7"},
        "spec": {"allocationID": "eip-1", "bandwidthPackageID": "cbwp-1",
            "allocationType": {"type": kind, "releaseStrategy": name, "releaseAfter": after}},
    });
    object["metadata"].as_object_mut().unwrap().extend(metadata.as_object().unwrap().clone());
    serde_json::from_value(object).unwrap()
}

fn eni() -> Eni {
    Eni {
        id: EniId::new("eni-1"),
        mac: "00:16:3e:00:00:01".into(),
        primary_ip: Some(Ipv4Addr::new(10, 0, 0, 2)),
        vpc_id: Some("vpc-1".into()),
        instance_id: Some("i-1".into()),
        private_ips: vec![Ipv4Addr::new(10, 0, 0, 2), Ipv4Addr::new(10, 0, 0, 9)],
    }
}

fn decide(from: Peer, pod: &Pod, pod_eip: Option<&PodEip>, eip: Option<&Eip>) -> Decision {
    let (enis, kinds) = ([eni()], ["GameServerSet".to_string()]);
    let rules = Rules { from, cluster: "c1", enis: &enis, stateful_kinds: &kinds };
    judge(&Case { pod, record: None, pod_eip, eip }, &rules)
}

#[track_caller]
fn adopted(decision: Decision) -> (Attachment, Option<String>) {
    let Decision::TakeOver { record, note } = decision else { panic!("{decision:?}") };
    (*record, note)
}

/// Kind and strategy of what is taken over.
#[track_caller]
fn terms(decision: Decision) -> String {
    let (record, _) = adopted(decision);
    format!("{} {}", record.eip.unwrap().kind, record.strategy)
}

#[track_caller]
fn assert_refused(decision: Decision, word: &str) {
    let Decision::Refused(why) = decision else { panic!("{decision:?}") };
    assert!(why.contains(word), "{word:?} is missing in {why}");
}

#[test]
fn a_record_is_as_an_add_leaves_it() {
    let (record, note) = adopted(decide(Peer::Terway, &asking(None), None, Some(&eip(json!({})))));
    assert_eq!((record.phase, record.published, note), (Phase::Bound, true, None));
    let binding = Binding { eni: EniId::new("eni-1"), private_ip: Ipv4Addr::new(10, 0, 0, 9), primary: false };
    assert_eq!((record.binding, record.pod.uid), (Some(binding), PodUid::new("u1")));
    let mut on_primary = asking(None);
    on_primary.ips = vec![Ipv4Addr::new(10, 0, 0, 2)];
    let primary = eip(json!({"PrivateIpAddress": ""}));
    let (record, _) = adopted(decide(Peer::Terway, &on_primary, None, Some(&primary)));
    assert!(record.binding.is_some_and(|it| it.primary && it.private_ip == Ipv4Addr::new(10, 0, 0, 2)));
}

#[test]
fn terms_are_those_of_the_peer() {
    let plain = eip(json!({}));
    let of_terway = |pod: &Pod| terms(decide(Peer::Terway, pod, None, Some(&plain)));
    assert_eq!(of_terway(&asking(Some("ReplicaSet"))), "Auto Follow");
    assert_eq!(of_terway(&asking(Some("StatefulSet"))), "Auto 5m");
    assert_eq!(of_terway(&asking(Some("GameServerSet"))), "Auto 5m");
    assert_eq!(of_terway(&asking(None)), "Auto Follow", "a bare pod's EIP goes with it");
    let wished = pod(Some("StatefulSet"), &[("pod-with-eip", "true"), ("pod-eip-release-strategy", "Never")]);
    assert_eq!(of_terway(&wished), "Auto Never");
    let named = pod(None, &[("eci-eip-instanceid", "eip-1")]);
    assert_eq!(of_terway(&named), "Static Follow");

    for (kind, strategy) in [("Auto", "Follow"), ("Auto", "10m"), ("Static", "Never")] {
        let claim = pod_eip(kind, strategy, json!({}));
        let decision = decide(Peer::AckExtend, &asking(Some("StatefulSet")), Some(&claim), Some(&plain));
        assert_eq!(terms(decision), format!("{kind} {strategy}"));
    }
    let mistaken = pod_eip("Auto", "Follow", json!({}));
    assert_eq!(terms(decide(Peer::AckExtend, &named, Some(&mistaken), Some(&plain))), "Static Follow");
}

#[test]
fn what_terway_cannot_have_bought_is_never_released() {
    for texts in [json!({"Name": "mine"}), json!({"Description": "mine"})] {
        let (record, note) = adopted(decide(Peer::Terway, &asking(None), None, Some(&eip(texts))));
        assert!(
            record.eip.unwrap().kind == EipKind::Static && note.is_some_and(|note| note.contains("never released"))
        );
    }
}

#[test]
fn annotations_that_only_the_peer_takes_do_not_keep_a_pod_from_it() {
    let odd = pod(None, &[("pod-with-eip", "true"), ("eip-bandwidth", "wide")]);
    let (record, note) = adopted(decide(Peer::Terway, &odd, None, Some(&eip(json!({})))));
    assert!(record.eip.unwrap().kind == EipKind::Auto && note.is_some_and(|note| note.contains("eip-bandwidth")));
    let odd = pod(None, &[("eci-eip-instanceid", "eip-1"), ("pod-eip-release-strategy", "soon")]);
    assert_eq!(terms(decide(Peer::Terway, &odd, None, Some(&eip(json!({}))))), "Static Follow");
}

#[test]
fn the_cloud_has_the_last_word() {
    for (change, word) in [
        (json!({"Status": "Available", "InstanceId": ""}), "Available"),
        (json!({"Status": "Unassociating"}), "Unassociating"),
        (json!({"InstanceType": "EcsInstance", "InstanceId": "i-1"}), "not on the pod's address"),
        (json!({"InstanceId": "eni-9"}), "not an ENI of this node's VPC"),
        (json!({"PrivateIpAddress": "10.0.0.10"}), "10.0.0.10"),
        // The ENI's primary address, which is the node's.
        (json!({"PrivateIpAddress": ""}), "not on the pod's address"),
    ] {
        assert_refused(decide(Peer::Terway, &asking(None), None, Some(&eip(change))), word);
    }
    let mut moved = asking(None);
    moved.ips = vec![Ipv4Addr::new(10, 0, 0, 77)];
    let stale = eip(json!({"PrivateIpAddress": "10.0.0.77"}));
    assert_refused(decide(Peer::Terway, &moved, None, Some(&stale)), "not an address of eni-1");
    let mut over = asking(None);
    over.phase = "Succeeded".into();
    assert_refused(decide(Peer::Terway, &over, None, Some(&eip(json!({})))), "has finished");
}

#[test]
fn whose_it_is() {
    let claim = |metadata| pod_eip("Auto", "Follow", metadata);
    let of = |claim: &PodEip, eip: Option<&Eip>| decide(Peer::AckExtend, &asking(None), Some(claim), eip);
    let others = tagged(&[("podeip-cluster", "c2")]);
    assert_refused(of(&claim(json!({})), Some(&others)), "cluster c2");
    terms(of(&claim(json!({})), Some(&tagged(&[("podeip-cluster", HANDED_BACK)]))));
    assert_refused(of(&claim(json!({})), None), "does not exist");
    let earlier = claim(json!({"annotations": {"podeip/pod-uid": "u0"}}));
    assert_refused(of(&earlier, Some(&eip(json!({})))), "earlier pod, u0");
    assert_refused(of(&pod_eip("Borrowed", "Follow", json!({})), Some(&eip(json!({})))), "not understood");
    assert!(matches!(decide(Peer::AckExtend, &asking(None), None, None), Decision::Without(_)));
}

#[test]
fn what_an_earlier_run_began_is_finished() {
    let ours = tagged(&[("podeip-cluster", "c1"), ("podeip-uid", "u1")]);
    let plain = eip(json!({}));
    let (record, _) = adopted(decide(Peer::Terway, &asking(None), None, Some(&plain)));
    let mut shown = asking(None);
    shown.annotations.insert(publish::ID_KEYS[0].into(), "eip-1".into());
    let mut claim = pod_eip("Auto", "Follow", json!({"annotations": {"podeip/pod-uid": "u1"}}));
    claim.status = Some(Default::default());
    let enis = [eni()];
    let rules = Rules { from: Peer::Terway, cluster: "c1", enis: &enis, stateful_kinds: &[] };
    let of = |record: &Attachment, pod: &Pod, pod_eip: Option<&PodEip>, eip: &Eip| {
        matches!(judge(&Case { pod, record: Some(record), pod_eip, eip: Some(eip) }, &rules), Decision::TakeOver { .. })
    };
    assert!(!of(&record, &shown, Some(&claim), &ours), "all is there");
    assert!(of(&record, &shown, Some(&claim), &plain), "the tags are missing");
    assert!(of(&record, &shown, None, &ours), "the PodEIP is missing");
    assert!(of(&record, &asking(None), Some(&claim), &ours), "the pod does not show it");
    let others = pod_eip("Auto", "Follow", json!({"annotations": {"podeip/pod-uid": "u2"}}));
    assert!(!of(&record, &shown, Some(&others), &ours), "another instance has it");
    let binding = Attachment { phase: Phase::Binding, ..record.clone() };
    assert!(!of(&binding, &shown, Some(&claim), &plain), "a verb or the agent is at it");
}

#[test]
fn what_outlives_its_pod_is_the_peers_until_it_is_marked_and_tagged() {
    let marked = pod_eip("Auto", "Never", json!({"annotations": {"podeip/pod-uid": "e1"}}));
    let ours = tagged(&[("podeip-cluster", "c1"), ("podeip-uid", "e1")]);
    assert!(is_left_behind(&pod_eip("Auto", "Never", json!({})), Some(&ours), "c1"));
    assert!(is_left_behind(&marked, Some(&eip(json!({}))), "c1"));
    assert!(!is_left_behind(&marked, Some(&ours), "c1") && !is_left_behind(&marked, None, "c1"));
    let users = pod_eip("Static", "Never", json!({"annotations": {"podeip/pod-uid": "e1"}}));
    assert!(!is_left_behind(&users, Some(&eip(json!({}))), "c1"));
}
