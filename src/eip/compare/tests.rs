//! What is a difference, what is none, and how it is said.

use serde_json::{Value, json};

use super::*;
use crate::cloud::Eip;
use crate::eip::views::{NamespacedName, View};
use crate::kube::{Owner, Pod, PodEip};
use crate::names::{BandwidthPackageId, EipId, EipKind, PodUid};
use crate::state::format::{Attachment, Phase};
use crate::strategy::Strategy;

mod wishes;

const KINDS: &[String] = &[];
const OURS: Settings = Settings { cluster: Some("c1"), stateful_kinds: KINDS };

fn record() -> Attachment {
    serde_json::from_value(json!({
        "containerId": "c", "ifname": "eth0", "netns": "/run/netns/c", "phase": "Bound", "clientToken": "t",
        "pod": {"namespace": "shop", "name": "web-0", "uid": "u1"}, "published": true,
        "eip": {"id": "eip-1", "address": "47.0.0.1", "type": "Auto"},
        "binding": {"eni": "eni-1", "privateIp": "10.0.0.5"},
        "allocation": {"bandwidth": 5, "internetChargeType": "PayByTraffic"},
        "createdAt": "2026-01-02T03:04:05Z", "updatedAt": "2026-01-02T03:04:06.789Z"
    }))
    .unwrap()
}

fn pod_eip() -> PodEip {
    serde_json::from_value(json!({
        "metadata": {"namespace": "shop", "name": "web-0", "uid": "o1",
            "annotations": {"podeip/pod-uid": "u1", "podeip/node": "n1"}},
        "spec": {"allocationID": "eip-1", "allocationType": {"type": "Auto", "releaseStrategy": "Follow"}},
        "status": {"eipAddress": "47.0.0.1", "networkInterfaceID": "eni-1", "privateIPAddress": "10.0.0.5",
            "status": "InUse", "isp": "BGP", "internetChargeType": "PayByTraffic"}
    }))
    .unwrap()
}

fn pod() -> Pod {
    let annotations = [
        ("k8s.aliyun.com/pod-with-eip", "true"),
        ("k8s.aliyun.com/allocated-eipAddress", "47.0.0.1"),
        ("network.alibabacloud.com/allocated-eipAddress", "47.0.0.1"),
        ("network.alibabacloud.com/allocated-eip-address", "47.0.0.1"),
        ("network.alibabacloud.com/allocated-eip-id", "eip-1"),
        ("k8s.aliyun.com/allocated-eipInstanceId", "eip-1"),
        ("network.alibabacloud.com/allocated-eni-id", "eni-1"),
    ];
    Pod {
        namespace: "shop".into(),
        name: "web-0".into(),
        uid: "u1".into(),
        resource_version: "1".into(),
        node: Some("n1".into()),
        annotations: annotations.map(|(key, value)| (key.to_string(), value.to_string())).into(),
        owners: Vec::new(),
        readiness_gates: Vec::new(),
        phase: "Running".into(),
        terminating: false,
        host_network: false,
        ips: vec![],
        conditions: Default::default(),
    }
}

fn wire_eip() -> Value {
    let tag = |key: &str, value: &str| json!({"Key": key, "Value": value});
    json!({
        "AllocationId": "eip-1", "IpAddress": "47.0.0.1", "Status": "InUse", "InstanceId": "eni-1",
        "InstanceType": "NetworkInterface", "PrivateIpAddress": "10.0.0.5", "Bandwidth": "5", "ISP": "BGP",
        "InternetChargeType": "PayByTraffic",
        "Tags": {"Tag": [tag("podeip-cluster", "c1"), tag("podeip-namespace", "shop"), tag("podeip-pod", "web-0"),
            tag("podeip-uid", "u1"), tag("podeip-node", "n1")]},
    })
}

fn eip(changes: Value) -> View<Eip> {
    let mut wire = wire_eip();
    for (key, value) in changes.as_object().unwrap() {
        wire[key] = value.clone();
    }
    View::Known(serde_json::from_value(wire).unwrap())
}

fn unbound() -> View<Eip> {
    eip(json!({"Status": "Available", "InstanceId": "", "InstanceType": "", "PrivateIpAddress": ""}))
}

fn healthy() -> Views {
    Views {
        name: Some(NamespacedName { namespace: "shop".into(), name: "web-0".into() }),
        record: View::Known(record()),
        pod_eip: View::Known(pod_eip()),
        pod: View::Known(pod()),
        cloud: eip(json!({})),
        more_eips: Vec::new(),
        events: View::Known(Vec::new()),
    }
}

impl Views {
    fn with_record(mut self, change: impl FnOnce(&mut Attachment)) -> Self {
        let mut changed = record();
        change(&mut changed);
        self.record = View::Known(changed);
        self
    }

    fn with_pod_eip(mut self, change: impl FnOnce(&mut PodEip)) -> Self {
        let mut changed = pod_eip();
        change(&mut changed);
        self.pod_eip = View::Known(changed);
        self
    }

    fn with_pod(mut self, change: impl FnOnce(&mut Pod)) -> Self {
        let mut changed = pod();
        change(&mut changed);
        self.pod = View::Known(changed);
        self
    }

    fn with_cloud(self, cloud: View<Eip>) -> Self {
        Self { cloud, ..self }
    }
}

/// Exactly these sentences, in this order.
#[track_caller]
fn assert_told(views: &Views, expected: &[&str]) {
    let told = compare(views, &OURS).differences;
    assert_eq!(told.iter().map(|it| it.message.as_str()).collect::<Vec<_>>(), expected);
}

/// The only difference, with what it is about and who differs.
#[track_caller]
fn assert_differs(views: &Views, facts: &[Fact], sides: &[Side], message: &str) {
    assert_told(views, &[message]);
    let comparison = compare(views, &OURS);
    assert_eq!((&comparison.differences[0].facts[..], &comparison.differences[0].sides[..]), (facts, sides));
    for row in comparison.rows {
        assert_eq!(row.differs, facts.contains(&row.fact), "{:?}", row.fact);
    }
}

#[test]
fn a_healthy_pod_has_no_differences() {
    let comparison = compare(&healthy(), &OURS);
    assert_eq!(comparison.differences, []);
    assert!(comparison.rows.iter().all(|row| !row.differs));
    let row = |fact| comparison.rows.iter().find(|row| row.fact == fact).unwrap();
    let status = row(Fact::Status);
    let cells = [&status.record, &status.pod_eip, &status.pod, &status.cloud].map(|cell| cell.as_deref().unwrap());
    assert_eq!(cells, ["Bound", "InUse", "Running", "InUse"]);
    assert_eq!(row(Fact::LastSeen).record.as_deref(), Some("2026-01-02T03:04:06Z"));
    assert_eq!(row(Fact::Isp).record, None, "the API's default was not asked for");
    assert!(comparison.rows.iter().all(|row| row.fact != Fact::Name), "nobody says anything of it");
}

#[test]
fn who_is_silent_differs_from_nobody() {
    let down = || "down".to_string();
    let mut views = healthy();
    views.cloud = View::Unknown(down());
    assert_told(&views, &[]);
    views.pod_eip = View::Unknown(down());
    views.pod = View::Unknown(down());
    assert_told(&views, &[]);
    let views = Views { record: View::Unknown(down()), ..healthy() };
    assert_told(&views, &[]);
    assert_eq!(compare(&views, &OURS).rows[0].record, None);
}

#[test]
fn where_the_cloud_has_it() {
    let place = [Fact::Status, Fact::PrivateIp, Fact::Eni];
    let on = "but the record and the PodEIP say it is bound on eni-1 (10.0.0.5)";
    let differs = |cloud: View<Eip>, facts: &[Fact], said: &str| {
        assert_differs(&healthy().with_cloud(cloud), facts, &[Side::Cloud], &format!("{said}, {on}"));
    };
    differs(unbound(), &place, "the cloud shows eip-1 unbound");
    differs(View::Absent, &place, "the cloud has no eip-1");
    let other_ip = eip(json!({"PrivateIpAddress": "10.0.0.6"}));
    differs(other_ip, &[Fact::PrivateIp], "the cloud shows eip-1 bound on eni-1 (10.0.0.6)");
    let other_eni = eip(json!({"InstanceId": "eni-2"}));
    differs(other_eni, &[Fact::Eni], "the cloud shows eip-1 bound on eni-2 (10.0.0.5)");
    let instance = eip(json!({"InstanceId": "i-1", "InstanceType": "EcsInstance", "PrivateIpAddress": ""}));
    differs(instance, &[Fact::PrivateIp, Fact::Eni], "the cloud shows eip-1 bound on i-1");
}

#[test]
fn without_a_record_the_pod_eip_is_the_measure() {
    let views = Views { record: View::Absent, ..healthy() };
    assert_told(&views, &[]);
    let primary = eip(json!({"PrivateIpAddress": ""}));
    assert_told(&views.clone().with_cloud(primary), &[]);
    let said = "the cloud shows eip-1 unbound, but the PodEIP says it is bound on eni-1 (10.0.0.5)";
    assert_told(&views.with_cloud(unbound()), &[said]);
}

#[test]
fn an_empty_private_ip_is_the_primary_one() {
    let primary = eip(json!({"PrivateIpAddress": ""}));
    let views = healthy().with_record(|record| record.binding.as_mut().unwrap().primary = true);
    assert_told(&views.with_cloud(primary.clone()), &[]);
    let said =
        "the cloud shows eip-1 bound on eni-1, but the record and the PodEIP say it is bound on eni-1 (10.0.0.5)";
    assert_differs(&healthy().with_cloud(primary), &[Fact::PrivateIp], &[Side::Cloud], said);
}

#[test]
fn on_the_way_it_is_nowhere_in_particular() {
    for status in ["Associating", "Unassociating", "Releasing"] {
        assert_told(&healthy().with_cloud(eip(json!({"Status": status}))), &[]);
    }
    for phase in [Phase::Allocated, Phase::Binding, Phase::Unbinding, Phase::Releasing] {
        let on_the_way = || healthy().with_record(|record| record.phase = phase);
        assert_told(&on_the_way().with_cloud(unbound()), &[]);
        assert_told(&on_the_way(), &[]);
    }
}

#[test]
fn a_held_eip_is_unbound() {
    let held = |record: &mut Attachment| {
        (record.phase, record.binding, record.published) = (Phase::Held, None, false);
    };
    let left = |pod_eip: &mut PodEip| pod_eip.status.as_mut().unwrap().status = Some("Available".into());
    assert_told(&healthy().with_record(held).with_pod_eip(left).with_cloud(unbound()), &[]);
    assert_differs(
        &healthy().with_record(held).with_cloud(unbound()),
        &[Fact::Status, Fact::PrivateIp, Fact::Eni],
        &[Side::PodEip],
        "the PodEIP says eip-1 is bound on eni-1 (10.0.0.5), but the record and the cloud say it is unbound",
    );
    assert_differs(
        &healthy().with_record(held).with_pod_eip(left),
        &[Fact::Status, Fact::PrivateIp, Fact::Eni],
        &[Side::Cloud],
        "the cloud shows eip-1 bound on eni-1 (10.0.0.5), but the record and the PodEIP say it is unbound",
    );
}

#[test]
fn an_edited_pod_eip() {
    assert_differs(
        &healthy().with_pod_eip(|it| it.spec.strategy = Strategy::Never),
        &[Fact::Strategy],
        &[Side::PodEip],
        "the PodEIP says strategy Never, but the record and the pod say Follow",
    );
    assert_differs(
        &healthy().with_pod_eip(|it| it.spec.allocation_id = EipId::new("eip-2")),
        &[Fact::EipId],
        &[Side::PodEip],
        "the PodEIP says EIP id eip-2, but the record, the cloud and the pod say eip-1",
    );
    let package = |it: &mut PodEip| it.spec.bandwidth_package_id = Some(BandwidthPackageId::new("cbwp-1"));
    assert_differs(
        &healthy().with_pod_eip(package),
        &[Fact::BandwidthPackage],
        &[Side::PodEip],
        "the PodEIP says bandwidth package cbwp-1, but the record and the cloud say none",
    );
    let odd = |it: &mut PodEip| it.problem = Some("spec.allocationType.type is \"Borrowed\"".into());
    assert_told(&healthy().with_pod_eip(odd), &["the PodEIP is wrong: spec.allocationType.type is \"Borrowed\""]);
    let blank = |it: &mut PodEip| it.spec.allocation_id = EipId::new("");
    let views = Views { record: View::Absent, ..healthy() }.with_pod_eip(blank).with_cloud(View::Absent);
    assert_told(&views, &[]);
}

#[test]
fn a_pod_that_does_not_carry_its_eip() {
    let removed = healthy().with_pod(|pod| pod.annotations.retain(|key, _| key == "k8s.aliyun.com/pod-with-eip"));
    let said = "the pod does not carry eip-1 in its annotations network.alibabacloud.com/allocated-eip-id, \
                k8s.aliyun.com/allocated-eipInstanceId, k8s.aliyun.com/allocated-eipAddress, \
                network.alibabacloud.com/allocated-eipAddress, network.alibabacloud.com/allocated-eip-address, \
                network.alibabacloud.com/allocated-eni-id";
    let facts = [Fact::EipId, Fact::Address, Fact::Eni];
    assert_differs(&removed, &facts, &[Side::Pod], said);
    let of_pod_eip = Views { record: View::Absent, ..removed.clone() };
    assert_differs(&of_pod_eip, &facts, &[Side::Pod], said);
    assert_told(&removed.with_record(|record| record.published = false), &[]);

    let key = "network.alibabacloud.com/allocated-eip-address";
    let one = healthy().with_pod(|pod| drop(pod.annotations.remove(key)));
    let said = format!("the pod does not carry eip-1 in its annotations {key}");
    assert_differs(&one, &[Fact::Address], &[Side::Pod], &said);

    let edited = healthy().with_pod(|pod| drop(pod.annotations.insert(key.into(), "47.0.0.2".into())));
    let said = "the pod says address 47.0.0.1, 47.0.0.2, but the record, the PodEIP and the cloud say 47.0.0.1";
    assert_differs(&edited, &[Fact::Address], &[Side::Pod], said);
    let key = "network.alibabacloud.com/allocated-eni-id";
    let edited = healthy().with_pod(|pod| drop(pod.annotations.insert(key.into(), "eni-2".into())));
    assert_differs(&edited, &[Fact::Eni], &[Side::Pod], "the pod says ENI eni-2, but eip-1 is on eni-1");
}

#[test]
fn a_gate_that_stays_closed() {
    let gate = "k8s.aliyun.com/eip";
    let gated = |status: &str| {
        healthy().with_pod(|pod| {
            pod.readiness_gates = vec![gate.into()];
            pod.conditions = [(gate.to_string(), status.to_string())].into();
        })
    };
    assert_told(&gated("True"), &[]);
    let said = "the pod waits for its condition k8s.aliyun.com/eip, but eip-1 is in place";
    assert_differs(&gated("False"), &[Fact::Status], &[Side::Pod], said);
}

#[test]
fn another_instance_of_the_pod() {
    let said = "the pod says pod UID u2, but the record, the PodEIP and the cloud say u1";
    let newer = healthy().with_pod(|pod| {
        pod.uid = "u2".into();
        pod.annotations.clear();
    });
    assert_differs(&newer, &[Fact::PodUid], &[Side::Pod], said);
    let mut hashed = record();
    hashed.pod.uid = PodUid::new("hash");
    let mirrored = |pod: &mut Pod| drop(pod.annotations.insert("kubernetes.io/config.hash".into(), "hash".into()));
    let views = Views { record: View::Known(hashed), pod_eip: View::Unknown("?".into()), ..healthy() };
    let said = "the cloud shows pod UID u1, but the record and the pod say hash";
    assert_told(&views.with_pod(mirrored), &[said]);
}

#[test]
fn objects_that_somebody_counts_on() {
    let views = Views { pod: View::Absent, ..healthy() };
    let said = "the API server has no pod shop/web-0, but the record holds eip-1 for it";
    assert_differs(&views, &[Fact::Status], &[Side::Pod], said);

    let unrecorded = Views { record: View::Absent, ..views };
    assert_told(&unrecorded, &["the API server has no pod shop/web-0, but its PodEIP (Follow) still names eip-1"]);
    assert_told(&unrecorded.with_pod_eip(|it| it.spec.strategy = Strategy::Never), &[]);

    let views = Views { pod_eip: View::Absent, ..healthy() };
    let said = "there is no PodEIP shop/web-0, but the record says that eip-1 is published in one";
    assert_differs(&views, &[Fact::EipId], &[Side::PodEip], said);
    assert_told(&views.with_record(|record| record.published = false), &[]);
}
