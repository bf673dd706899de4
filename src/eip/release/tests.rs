//! Who may be released, one side at a time.

use serde_json::{Value, json};

use super::*;
use crate::state::format::StateFile;

fn eip(status: &str, cluster: &str) -> Eip {
    serde_json::from_value(json!({"AllocationId": "eip-u1", "Status": status, "Tags": {"Tag": [
        {"Key": "podeip-cluster", "Value": cluster}, {"Key": "podeip-uid", "Value": "u1"},
        {"Key": "podeip-namespace", "Value": "default"}, {"Key": "podeip-pod", "Value": "web-u1"}]}}))
    .unwrap()
}

fn claim(annotations: Value) -> PodEip {
    serde_json::from_value(json!({
        "metadata": {"namespace": "default", "name": "web-u1", "uid": "e1", "annotations": annotations},
        "spec": {"allocationID": "eip-u1", "allocationType": {"type": "Auto", "releaseStrategy": "Never"}},
    }))
    .unwrap()
}

fn pod(uid: &str, phase: &str) -> View<Pod> {
    View::Known(Pod {
        namespace: "default".into(),
        name: "web-u1".into(),
        uid: uid.into(),
        resource_version: "1".into(),
        node: None,
        annotations: Default::default(),
        owners: vec![],
        readiness_gates: vec![],
        phase: phase.into(),
        terminating: false,
        host_network: false,
        ips: vec![],
        conditions: Default::default(),
    })
}

fn nothing() -> Views {
    Views {
        name: None,
        record: View::Absent,
        pod_eip: View::Absent,
        pod: View::Absent,
        cloud: View::Absent,
        more_eips: vec![],
        events: View::Absent,
    }
}

/// `released`, `nothing`, or the refusal.
fn said(views: &Views) -> String {
    match judge(views, "c1") {
        Ok(Some(_)) => "released".into(),
        Ok(None) => "nothing".into(),
        Err(why) => why,
    }
}

#[test]
fn a_record_is_released_unless_its_own_pod_uses_it() {
    let file: StateFile = serde_json::from_str(include_str!("../../../tests/fixtures/state/guard.json")).unwrap();
    let bound = file.attachments.into_iter().find(|record| record.pod.uid.as_str() == "u1").unwrap();
    let held = Attachment { binding: None, ..bound.clone() };
    let of = |record: &Attachment, pod| said(&Views { record: View::Known(record.clone()), pod, ..nothing() });
    assert!(of(&bound, pod("u1", "Running")).contains("lives and uses it"));
    for over in [View::Absent, pod("u1", "Succeeded"), pod("u2", "Running")] {
        assert_eq!(of(&bound, over), "released");
    }
    assert_eq!(of(&held, pod("u1", "Running")), "released", "it waits for its next sandbox");
    assert!(of(&held, View::Unknown("down".into())).contains("the pod is unknown: down"));
}

#[test]
fn a_pod_eip_is_released_when_no_pod_of_the_name_lives() {
    let marked = || claim(json!({"podeip/pod-uid": "u1"}));
    let of = |claim: PodEip, pod, cloud| said(&Views { pod_eip: View::Known(claim), pod, cloud, ..nothing() });
    assert_eq!(of(marked(), View::Absent, View::Known(eip("Available", "c1"))), "released");
    assert_eq!(of(marked(), pod("u1", "Failed"), View::Absent), "released");
    for living in ["u1", "u2"] {
        assert!(of(marked(), pod(living, "Running"), View::Absent).contains("lives and uses it"));
    }
    assert!(of(claim(json!({})), View::Absent, View::Absent).contains("another tool's"));
    assert!(of(marked(), View::Absent, View::Unknown("down".into())).contains("the cloud is unknown"));
    let mut odd = marked();
    odd.problem = Some("odd".into());
    assert!(of(odd, View::Absent, View::Absent).contains("not understood: odd"));
}

#[test]
fn owner_tags_alone_speak_for_a_free_eip_of_this_cluster() {
    let of = |eip, pod| said(&Views { cloud: View::Known(eip), pod, ..nothing() });
    assert_eq!(of(eip("Available", "c1"), View::Absent), "released");
    assert_eq!(of(eip("Available", "c1"), pod("u2", "Running")), "released");
    assert!(of(eip("Available", "c1"), pod("u1", "Running")).contains("lives and uses it"));
    assert!(of(eip("InUse", "c1"), View::Absent).contains("InUse"));
    assert!(of(eip("Available", "c2"), View::Absent).contains("nothing says that podeip allocated"));
    assert_eq!(said(&nothing()), "nothing");
}
