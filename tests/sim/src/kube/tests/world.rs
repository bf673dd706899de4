//! What tests arrange and look at.

use super::*;
use crate::kube::Owner;

#[test]
fn a_pod_has_what_it_is_given() {
    let api = api();
    let spec = PodSpec {
        uid: Some("uid-1".into()),
        node: "node-1".into(),
        annotations: [("k8s.aliyun.com/pod-with-eip".to_owned(), "true".to_owned())].into(),
        owners: vec![Owner::new("StatefulSet", "web")],
        readiness_gates: vec!["k8s.aliyun.com/eip".into()],
        phase: "Running".into(),
        pod_ip: Some("10.0.0.1".into()),
        host_network: true,
        ..PodSpec::new("games", "web-0")
    };
    let pod = api.create_pod(&spec);
    assert_eq!(pod["metadata"]["uid"], "uid-1");
    assert_eq!(pod["metadata"]["annotations"], json!({ "k8s.aliyun.com/pod-with-eip": "true" }));
    assert_eq!(pod["metadata"]["ownerReferences"][0]["kind"], "StatefulSet");
    assert_eq!(pod["metadata"]["ownerReferences"][0]["controller"], true);
    assert_eq!(pod["spec"]["readinessGates"], json!([{ "conditionType": "k8s.aliyun.com/eip" }]));
    assert_eq!((&pod["spec"]["nodeName"], &pod["spec"]["hostNetwork"]), (&json!("node-1"), &json!(true)));
    assert_eq!((&pod["status"]["phase"], &pod["status"]["podIP"]), (&json!("Running"), &json!("10.0.0.1")));
    assert_eq!(get(&api, "/api/v1/namespaces/games/pods/web-0"), (200, pod));
}

#[test]
fn a_static_pods_mirror_carries_the_hash() {
    let api = api();
    let spec = PodSpec {
        static_hash: Some("abc".into()),
        node: "node-1".into(),
        ..PodSpec::new("kube-system", "etcd-node-1")
    };
    let pod = api.create_pod(&spec);
    assert_ne!(pod["metadata"]["uid"], "abc");
    assert_eq!(pod["metadata"]["annotations"]["kubernetes.io/config.hash"], "abc");
    assert_eq!(pod["metadata"]["annotations"]["kubernetes.io/config.mirror"], "abc");
    assert_eq!(pod["metadata"]["ownerReferences"][0]["kind"], "Node");
}

#[test]
fn pods_end_in_two_steps_or_at_once() {
    let api = api();
    pod(&api, "p");
    assert!(api.begin_pod_deletion("default", "p").unwrap()["metadata"]["deletionTimestamp"].is_string());
    assert!(api.get("pods", "default", "p").is_some());
    api.finish_deletion("default", "p");
    assert_eq!(api.get("pods", "default", "p"), None);
    pod(&api, "q");
    api.merge("pods", "default", "q", &json!({ "metadata": { "finalizers": ["a.example/f"] } }));
    assert!(api.remove_pod("default", "q").is_some());
    assert_eq!(api.get("pods", "default", "q"), None);
    assert_eq!(api.begin_pod_deletion("default", "q"), None);
}

#[test]
fn objects_are_stored_with_their_status() {
    let api = api();
    let mut object = podeip("a");
    object["status"] = json!({ "eipAddress": "1.2.3.4" });
    object["metadata"]["uid"] = "uid-1".into();
    object["metadata"]["creationTimestamp"] = "2023-12-15T04:25:37Z".into();
    let stored = api.create(object).unwrap();
    assert_eq!(stored["status"]["eipAddress"], "1.2.3.4");
    assert_eq!(stored["metadata"]["uid"], "uid-1");
    assert_eq!(stored["metadata"]["creationTimestamp"], "2023-12-15T04:25:37Z");
    assert_eq!(stored["metadata"]["namespace"], "default");
    assert_eq!(api.create(podeip("a")).unwrap_err().code, 409);
    let unknown = json!({ "apiVersion": "v9", "kind": "Nothing", "metadata": { "name": "a" } });
    assert_eq!(api.create(unknown).unwrap_err().message, "no matches for kind \"Nothing\" in version \"v9\"");
    let mut misspelt = podeip("b");
    misspelt["spec"]["allocationId"] = "eip-1".into();
    assert_eq!(api.create(misspelt).unwrap_err().code, 400, "a test's spelling mistakes are not dropped silently");
}

#[test]
fn the_whole_state_can_be_read() {
    let api = api();
    pod(&api, "p");
    ok(&api, "POST", PODEIPS, &podeip("a"));
    let dump = api.dump();
    assert_eq!(dump["pods"][0]["metadata"]["name"], "p");
    assert_eq!(dump["podeips.alibabacloud.com"][0]["metadata"]["name"], "a");
    assert_eq!(dump["namespaces"].as_array().unwrap().len(), 2);
    assert_eq!(api.list("pods").len(), 1);
    assert_eq!(api.get("podeips.alibabacloud.com", "default", "a"), api.get("podeips", "default", "a"));
    assert_eq!(api.get("nonsense", "default", "a"), None);
}

#[test]
fn pod_specs_are_read_from_json() {
    let spec: PodSpec = serde_json::from_value(json!({
        "namespace": "games", "name": "web-0", "node": "node-1", "readinessGates": ["g"], "staticHash": "h",
        "owners": [{ "apiVersion": "apps/v1", "kind": "StatefulSet", "name": "web", "uid": "u" }],
    }))
    .unwrap();
    assert_eq!((spec.readiness_gates.len(), spec.owners[0].kind.as_str()), (1, "StatefulSet"));
    assert!(serde_json::from_value::<PodSpec>(json!({ "nmae": "web-0" })).is_err());
}
