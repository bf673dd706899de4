//! The PodEIP definition as it is shipped: what it refuses, and what other tools write.

use super::*;

/// What a PodEIP with this change of its spec is told: nothing, or the server's reason.
fn refusal(api: &KubeApi, change: &Value) -> Option<String> {
    let mut object = podeip("a");
    json_patch::merge(&mut object["spec"], change);
    let (code, answer) = call(api, "POST", PODEIPS, &object);
    if code == 201 {
        api.remove("podeips", "default", "a");
        return None;
    }
    assert_eq!(code, 422, "{answer}");
    let message = answer["message"].as_str().unwrap();
    Some(message.strip_prefix("PodEIP.alibabacloud.com \"a\" is invalid: ").unwrap().to_owned())
}

#[test]
fn ids_have_their_prefix() {
    let api = api();
    for (key, prefix) in [("allocationID", "eip-"), ("bandwidthPackageID", "cbwp-")] {
        for id in ["bp1abc", "2ze08metxxx", "BP1", "bp1-a"] {
            assert_eq!(refusal(&api, &json!({ key: format!("{prefix}{id}") })), None);
        }
        for id in ["", prefix, "eni-bp1abc", "bp1abc", &format!("{prefix}a b"), &format!("x{prefix}a")] {
            let why = refusal(&api, &json!({ key: id })).expect(id);
            let pattern = format!("^{prefix}[0-9A-Za-z-]+$");
            let expected = format!("spec.{key}: Invalid value: {id:?}: spec.{key} in body should match '{pattern}'");
            assert_eq!(why, expected);
        }
    }
}

#[test]
fn a_duration_is_one_of_gos() {
    let api = api();
    let after =
        |text: &str| refusal(&api, &json!({ "allocationType": { "releaseStrategy": "TTL", "releaseAfter": text } }));
    for text in ["10m", "5m0s", "5m30s", "1.5h", "300ms", "1h2m3.5s", ".5s", "1.s", "1µs", "1μs", "1us", "7ns", "3s1h"]
    {
        assert_eq!(after(text), None, "{text}");
    }
    for text in ["", "0", "5", "5d", "-5m", "+5m", "1h 30m", "-", ".", ".s", "1..5s", "1M", "PT1H", "s", "１s", "10m\n"]
    {
        let why = after(text).expect(text);
        assert!(why.starts_with("spec.allocationType.releaseAfter: Invalid value: "), "{why}");
        assert!(why.contains("should match"), "{why}");
    }
    let without = json!({ "allocationType": { "releaseStrategy": "TTL" } });
    assert_eq!(refusal(&api, &without), None, "as other tools' definitions have it");
}

#[test]
fn what_terways_migration_makes_is_accepted() {
    let api = api();
    let made = json!({
        "apiVersion": "alibabacloud.com/v1beta1", "kind": "PodEIP",
        "metadata": { "name": "web-0", "finalizers": [FINALIZER], "creationTimestamp": null },
        "spec": { "allocationID": "eip-bp1abc", "bandwidthPackageID": "cbwp-bp1abc",
            "allocationType": { "type": "Static", "releaseStrategy": "TTL", "releaseAfter": "5m0s" } },
        // Go writes an unset time as null and leaves no empty status out.
        "status": { "podLastSeen": null },
    });
    let stored = ok(&api, "POST", &format!("{PODEIPS}?fieldValidation=Strict"), &made);
    assert_eq!(stored["spec"], made["spec"]);
    assert_eq!(stored.get("status"), None);
    let status = json!({ "eipAddress": "1.2.3.4", "bandwidth": "5", "period": 1, "podLastSeen": null });
    let (code, after) = patch(
        &api,
        &format!("{PODEIPS}/web-0/status"),
        JSON_PATCH,
        &json!([
            { "op": "add", "path": "/status", "value": status },
        ]),
    );
    assert_eq!(code, 200, "{after}");
    assert_eq!(after["status"], json!({ "eipAddress": "1.2.3.4", "bandwidth": "5", "period": 1 }));
}

#[test]
fn what_the_controller_makes_is_accepted() {
    let api = api();
    let made = json!({
        "apiVersion": "alibabacloud.com/v1beta1", "kind": "PodEIP",
        "metadata": { "name": "example-0", "finalizers": [FINALIZER],
            "annotations": { "k8s.aliyun.com/eip-controller": "ack-extend-network-controller" } },
        "spec": { "allocationID": "eip-2ze08metxxx",
            "allocationType": { "releaseAfter": "10m", "releaseStrategy": "TTL", "type": "Auto" } },
    });
    let mut object = ok(&api, "POST", PODEIPS, &made);
    object["status"] = json!({
        "eipAddress": "39.105.XX.XX", "internetChargeType": "PayByTraffic", "isp": "BGP",
        "networkInterfaceID": "eni-2zeagv8f3wxxx", "podLastSeen": "2023-12-15T05:31:34Z",
        "privateIPAddress": "192.168.XX.XX", "publicIpAddressPoolID": "pippool-2ze498cxxx",
        "resourceGroupID": "rg-acfmwqnwxxx", "status": "InUse",
        "conditions": [{ "type": "Bound", "status": "True", "lastTransitionTime": "2023-12-15T05:31:34Z" }],
        "later": { "than": ["us"] },
    });
    let target = format!("{PODEIPS}/example-0/status?fieldValidation=Strict");
    let written = ok(&api, "PUT", &target, &object);
    assert_eq!(written["status"], object["status"]);
    for (wrong, of) in [(json!({ "period": "1" }), "integer"), (json!({ "conditions": {} }), "array")] {
        let (code, status) = patch(&api, &target, MERGE, &json!({ "status": wrong }));
        assert!(code == 422 && status["message"].as_str().unwrap().contains(&format!("of type {of}")), "{status}");
    }
}
