//! What is wanted beside what there is: of a pod, of a user, and of whoever owns an EIP by its tags.

use super::*;

#[test]
fn an_eip_that_only_its_tags_connect_with_the_pod() {
    let bare = |pod: &mut Pod| pod.annotations.retain(|key, _| key == "k8s.aliyun.com/pod-with-eip");
    let views = Views { record: View::Absent, pod_eip: View::Absent, ..healthy() }.with_pod(bare);
    let said =
        "the cloud shows eip-1 allocated for pod shop/web-0, but neither a record of this node nor a PodEIP claims it";
    assert_told(&views, &[said]);
    assert_eq!(
        compare(&views, &Settings { cluster: Some("c2"), ..OURS }).differences.len(),
        1,
        "c1 is another cluster"
    );
    let more = Views { more_eips: vec![EipId::new("eip-7"), EipId::new("eip-8")], ..views.clone() };
    assert_told(&more, &["the cloud shows more EIPs that were allocated for pod shop/web-0: eip-7, eip-8", said]);

    let nowhere = views.with_cloud(View::Absent);
    let said = "the pod asks for an EIP, but neither this node, a PodEIP nor the cloud has one";
    assert_differs(&nowhere, &[Fact::EipId], &[Side::Pod], said);
    let on_host = nowhere.clone().with_pod(|pod| {
        bare(pod);
        pod.host_network = true;
    });
    assert_told(&on_host, &[&format!("{said}: it is on the host network, where podeip is not called")]);
    assert_told(&nowhere.clone().with_cloud(View::Unknown("down".into())), &[]);
    assert_told(&nowhere.clone().with_pod(|pod| pod.annotations.clear()), &[]);
    assert_told(
        &nowhere.with_pod(|pod| {
            bare(pod);
            pod.phase = "Succeeded".into();
        }),
        &[],
    );
}

#[test]
fn what_the_pod_asks_for_and_what_there_is() {
    let asking = |key: &str, value: &str| {
        healthy().with_pod(|pod| drop(pod.annotations.insert(key.to_string(), value.to_string())))
    };
    assert_differs(
        &asking("k8s.aliyun.com/eip-bandwidth", "50"),
        &[Fact::Bandwidth],
        &[Side::Pod],
        "the pod says bandwidth 50, but the record and the cloud say 5",
    );
    let lasting = asking("k8s.aliyun.com/pod-eip-release-strategy", "10m");
    assert_differs(
        &lasting,
        &[Fact::Strategy],
        &[Side::Pod],
        "the pod says strategy 10m, but the record and the PodEIP say Follow",
    );
    let mut owned = lasting;
    if let View::Known(pod) = &mut owned.pod {
        pod.owners = vec![Owner { kind: "ReplicaSet".into(), name: "web".into() }];
    }
    assert_told(&owned, &[]);
    let stateful = Settings { stateful_kinds: &["ReplicaSet".to_string()], ..OURS };
    assert_eq!(compare(&owned, &stateful).differences.len(), 1);

    let refused = compare(&asking("k8s.aliyun.com/eip-bandwidth", "much"), &OURS).differences;
    assert!(refused[0].message.starts_with("the pod's wish is wrong: annotation k8s.aliyun.com/eip-bandwidth"));
    assert_eq!(refused.len(), 1);
}

#[test]
fn a_changed_bandwidth_and_a_lock_in_the_cloud() {
    assert_differs(
        &healthy().with_cloud(eip(json!({"Bandwidth": "10"}))),
        &[Fact::Bandwidth],
        &[Side::Cloud],
        "the cloud shows bandwidth 10, but the record and the pod say 5",
    );
    let locked = eip(json!({"OperationLocks": {"LockReason": [{"LockReason": "financial"}]}}));
    let rows = compare(&healthy().with_cloud(locked), &OURS).rows;
    let status = rows.iter().find(|row| row.fact == Fact::Status).unwrap();
    assert_eq!(status.cloud.as_deref(), Some("InUse (locked: financial)"));
}

#[test]
fn an_eip_that_the_user_owns() {
    let named = |pod: &mut Pod| {
        pod.annotations.remove("k8s.aliyun.com/pod-with-eip");
        pod.annotations.insert("k8s.aliyun.com/pod-eip-instanceid".into(), "eip-1".into());
    };
    let of_user = |record: &mut Attachment| {
        record.eip.as_mut().unwrap().kind = EipKind::Static;
        record.allocation = None;
    };
    let cloud = eip(json!({"Tags": {}, "Name": "mine", "Bandwidth": "100", "BandwidthPackageId": "cbwp-9"}));
    let joined = |it: &mut PodEip| {
        it.spec.kind = EipKind::Static;
        it.status.as_mut().unwrap().bandwidth_package_id = Some(BandwidthPackageId::new("cbwp-9"));
    };
    let views = healthy().with_record(of_user).with_pod_eip(joined).with_pod(named).with_cloud(cloud);
    assert_told(&views, &[]);
    let other = views.with_pod(|pod| {
        named(pod);
        pod.annotations.insert("k8s.aliyun.com/pod-eip-instanceid".into(), "eip-2".into());
    });
    let said = "the pod says EIP id eip-1, eip-2, but the record, the PodEIP and the cloud say eip-1";
    assert_differs(&other, &[Fact::EipId], &[Side::Pod], said);
}

#[test]
fn tags_of_another_owner() {
    let tags = json!({"Tag": [{"Key": "podeip-cluster", "Value": "c2"}, {"Key": "podeip-namespace", "Value": "shop"},
        {"Key": "podeip-pod", "Value": "web-0"}]});
    let said = "the cloud shows pod shop/web-0 of cluster c2, but the record, the PodEIP and the pod say shop/web-0";
    assert_differs(&healthy().with_cloud(eip(json!({"Tags": tags}))), &[Fact::Pod], &[Side::Cloud], said);
}

#[test]
fn what_is_on_its_way_out_says_so() {
    let views = healthy().with_pod_eip(|it| it.deleting = true).with_pod(|pod| pod.terminating = true);
    let comparison = compare(&views, &OURS);
    assert_eq!(comparison.differences, []);
    let status = comparison.rows.into_iter().find(|row| row.fact == Fact::Status).unwrap();
    assert_eq!(status.pod_eip.as_deref(), Some("InUse (being deleted)"));
    assert_eq!(status.pod.as_deref(), Some("Running (being deleted)"));
}
