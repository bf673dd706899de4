//! PATCH: three formats, fences by UID and version, and patches that change nothing.

use super::*;

#[test]
fn merges() {
    let api = api();
    let before = pod(&api, "p");
    let target = format!("{PODS}/p");
    let change = json!({ "metadata": { "annotations": { "a": "1", "b": "2" } } });
    let (code, after) = patch(&api, &target, MERGE, &change);
    assert_eq!((code, &after["metadata"]["annotations"]), (200, &json!({ "a": "1", "b": "2" })));
    assert_ne!(version(&after), version(&before));
    let (_, after) = patch(&api, &target, MERGE, &json!({ "metadata": { "annotations": { "a": null } } }));
    assert_eq!(after["metadata"]["annotations"], json!({ "b": "2" }));
    assert_eq!(after["metadata"]["generation"], 1);
}

#[test]
fn a_patch_that_changes_nothing_keeps_the_version() {
    let api = api();
    let before = pod(&api, "p");
    let target = format!("{PODS}/p");
    for change in [
        json!({}),
        json!({ "metadata": { "annotations": { "never": null } } }),
        json!({ "status": { "phase": "Failed" } }),
    ] {
        let (code, after) = patch(&api, &target, MERGE, &change);
        assert_eq!((code, after), (200, before.clone()), "{change}");
    }
}

#[test]
fn a_patch_fenced_by_uid_hits_only_that_object() {
    let api = api();
    let before = pod(&api, "p");
    let target = format!("{PODS}/p");
    let fenced = |uid: &str| json!({ "metadata": { "uid": uid, "annotations": { "a": "1" } } });
    // Unlike a PUT, a patch has no precondition: the real server finds the difference when it
    // validates the result, so this is 422 and not 409.
    let message = "Pod \"p\" is invalid: metadata.uid: Invalid value: \"other\": field is immutable";
    for content_type in [MERGE, STRATEGIC] {
        let status = refused(patch(&api, &target, content_type, &fenced("other")), 422, "Invalid", message);
        assert_eq!(status["details"]["causes"][0]["field"], "metadata.uid");
        refused(patch(&api, &format!("{target}/status"), content_type, &fenced("other")), 422, "Invalid", message);
    }
    let (code, _) = patch(&api, &target, MERGE, &fenced(before["metadata"]["uid"].as_str().unwrap()));
    assert_eq!(code, 200);
}

#[test]
fn a_patch_fenced_by_version_conflicts() {
    let api = api();
    let before = ok(&api, "POST", PODEIPS, &podeip("a"));
    api.merge("podeips", "default", "a", &json!({ "metadata": { "labels": { "a": "b" } } }));
    let fenced = |version: &str| json!({ "metadata": { "resourceVersion": version }, "status": { "isp": "BGP" } });
    let message = "Operation cannot be fulfilled on podeips.alibabacloud.com \"a\": the object has been modified; \
         please apply your changes to the latest version and try again";
    for target in [format!("{PODEIPS}/a"), format!("{PODEIPS}/a/status")] {
        refused(patch(&api, &target, MERGE, &fenced(version(&before))), 409, "Conflict", message);
    }
    let now = api.get("podeips", "default", "a").unwrap();
    assert_eq!(patch(&api, &format!("{PODEIPS}/a/status"), MERGE, &fenced(version(&now))).0, 200);
}

#[test]
fn the_status_of_a_custom_resource_is_not_fenced_by_uid() {
    // The real server copies the stored object and only takes `.status` over, so a UID in a patch of
    // a custom resource's status is not even looked at.
    let api = api();
    ok(&api, "POST", PODEIPS, &podeip("a"));
    let change = json!({ "metadata": { "uid": "other" }, "status": { "isp": "BGP" } });
    let (code, after) = patch(&api, &format!("{PODEIPS}/a/status"), MERGE, &change);
    assert_eq!((code, &after["status"]["isp"]), (200, &json!("BGP")));
    assert_eq!(patch(&api, &format!("{PODEIPS}/a"), MERGE, &change).0, 422);
}

#[test]
fn json_patches() {
    let api = api();
    ok(&api, "POST", PODEIPS, &podeip("a"));
    let target = format!("{PODEIPS}/a");
    let change = json!([
        { "op": "test", "path": "/spec/allocationID", "value": "eip-1" },
        { "op": "add", "path": "/metadata/finalizers", "value": [FINALIZER] },
    ]);
    let (code, after) = patch(&api, &target, JSON_PATCH, &change);
    assert_eq!((code, &after["metadata"]["finalizers"]), (200, &json!([FINALIZER])));
    let message = "the server rejected our request due to an error in our request";
    let failing = json!([{ "op": "test", "path": "/spec/allocationID", "value": "eip-9" }]);
    refused(patch(&api, &target, JSON_PATCH, &failing), 422, "Invalid", message);
    assert_eq!(patch(&api, &target, JSON_PATCH, &json!({ "op": "add" })).0, 400);
}

#[test]
fn strategic_merge_keeps_other_conditions() {
    let api = api();
    pod(&api, "p");
    let target = format!("{PODS}/p/status");
    let conditions = |list: Value| json!({ "status": { "conditions": list } });
    let ready = json!({ "type": "Ready", "status": "False", "reason": "ReadinessGatesNotReady" });
    patch(&api, &target, STRATEGIC, &conditions(json!([ready])));
    let ours = json!({ "type": "k8s.aliyun.com/eip", "status": "True", "reason": "Associate eip succeed" });
    let (_, after) = patch(&api, &target, STRATEGIC, &conditions(json!([ours])));
    assert_eq!(after["status"]["conditions"], json!([ready, ours]));
    assert_eq!(after["status"]["phase"], "Running");
    let (_, after) = patch(&api, &target, STRATEGIC, &conditions(json!([{ "type": "Ready", "status": "True" }])));
    assert_eq!(after["status"]["conditions"][0]["reason"], "ReadinessGatesNotReady");
    assert_eq!(after["status"]["conditions"][0]["status"], "True");
    let (_, after) = patch(&api, &target, STRATEGIC, &conditions(json!([{ "type": "Ready", "$patch": "delete" }])));
    assert_eq!(after["status"]["conditions"], json!([ours]));
    // A merge patch replaces the list: whoever uses it there drops the kubelet's conditions.
    let (_, after) = patch(&api, &target, MERGE, &conditions(json!([ready])));
    assert_eq!(after["status"]["conditions"], json!([ready]));
    let (code, _) = patch(&api, &target, STRATEGIC, &conditions(json!([{ "status": "True" }])));
    assert_eq!(code, 400);
}

#[test]
fn strategic_merge_of_finalizers_is_a_union() {
    let api = api();
    pod(&api, "p");
    let target = format!("{PODS}/p");
    let with = |list: Value| json!({ "metadata": { "finalizers": list } });
    patch(&api, &target, STRATEGIC, &with(json!(["a.example/one"])));
    let (_, after) = patch(&api, &target, STRATEGIC, &with(json!(["a.example/two", "a.example/one"])));
    assert_eq!(after["metadata"]["finalizers"], json!(["a.example/one", "a.example/two"]));
    let removal = json!({ "metadata": { "$deleteFromPrimitiveList/finalizers": ["a.example/one"] } });
    let (_, after) = patch(&api, &target, STRATEGIC, &removal);
    assert_eq!(after["metadata"]["finalizers"], json!(["a.example/two"]));
}

#[test]
fn unknown_formats_are_refused_with_what_is_accepted() {
    let api = api();
    ok(&api, "POST", PODEIPS, &podeip("a"));
    pod(&api, "p");
    let prefix = "the body of the request was in an unknown format - accepted media types include: \
         application/json-patch+json, application/merge-patch+json";
    for content_type in [STRATEGIC, "application/apply-patch+yaml", "application/json"] {
        let answer = patch(&api, &format!("{PODEIPS}/a"), content_type, &json!({}));
        refused(answer, 415, "UnsupportedMediaType", prefix);
    }
    let answer = patch(&api, &format!("{PODS}/p"), "application/apply-patch+yaml", &json!({}));
    refused(answer, 415, "UnsupportedMediaType", &format!("{prefix}, {STRATEGIC}"));
    assert_eq!(patch(&api, &format!("{PODS}/p"), "application/merge-patch+json; charset=utf-8", &json!({})).0, 200);
    assert_eq!(patch(&api, &format!("{PODS}/p"), MERGE, &json!([])).0, 400);
}

#[test]
fn a_patch_cannot_move_or_break_an_object() {
    let api = api();
    pod(&api, "p");
    let target = format!("{PODS}/p");
    let message = "the name of the object (q) does not match the name on the URL (p)";
    refused(patch(&api, &target, MERGE, &json!({ "metadata": { "name": "q" } })), 400, "BadRequest", message);
    let broken = json!({ "metadata": { "annotations": { "a": 5 } } });
    let (code, status) = patch(&api, &target, MERGE, &broken);
    assert_eq!(code, 422);
    assert!(status["message"].as_str().unwrap().contains("cannot unmarshal number"), "{status}");
    assert_eq!(patch(&api, &format!("{PODS}/none"), MERGE, &json!({})).0, 404);
}

#[test]
fn a_pods_status_endpoint_writes_metadata_but_not_spec() {
    let api = api();
    let before = pod(&api, "p");
    let change = json!({
        "metadata": { "annotations": { "a": "1" }, "ownerReferences": null }, "spec": { "nodeName": "node-9" },
        "status": { "podIP": "10.0.0.1" },
    });
    let (code, after) = patch(&api, &format!("{PODS}/p/status"), MERGE, &change);
    assert_eq!(code, 200);
    assert_eq!(after["metadata"]["annotations"], json!({ "a": "1" }));
    assert_eq!(after["status"]["podIP"], "10.0.0.1");
    assert_eq!(after["spec"], before["spec"]);
}
