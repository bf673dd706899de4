//! PUT: versions, UIDs, status, generations.

use super::*;

const CONFLICT: &str = "the object has been modified; please apply your changes to the latest version and try again";

#[test]
fn a_lease_is_updated_by_one_of_two() {
    let api = api();
    let target = format!("{LEASES}/podeip-sweeper");
    let sent = json!({ "metadata": { "name": "podeip-sweeper" }, "spec": { "holderIdentity": "a", "leaseDurationSeconds": 15 } });
    let lease = ok(&api, "POST", LEASES, &sent);
    let mut first = lease.clone();
    first["spec"]["holderIdentity"] = "b".into();
    let mut second = lease.clone();
    second["spec"]["holderIdentity"] = "c".into();
    let won = ok(&api, "PUT", &target, &first);
    assert_ne!(version(&won), version(&lease));
    let message = format!("Operation cannot be fulfilled on leases.coordination.k8s.io \"podeip-sweeper\": {CONFLICT}");
    let status = refused(call(&api, "PUT", &target, &second), 409, "Conflict", &message);
    let details = json!({ "name": "podeip-sweeper", "group": "coordination.k8s.io", "kind": "leases" });
    assert_eq!(status["details"], details);
    assert_eq!(api.get("leases", "default", "podeip-sweeper").unwrap()["spec"]["holderIdentity"], "b");
}

#[test]
fn lease_numbers_are_validated() {
    let sent = json!({ "metadata": { "name": "a" }, "spec": { "leaseDurationSeconds": 0, "leaseTransitions": -1 } });
    let message = "Lease.coordination.k8s.io \"a\" is invalid: [spec.leaseDurationSeconds: Invalid value: 0: must be \
         greater than 0, spec.leaseTransitions: Invalid value: -1: must be greater than or equal to 0]";
    refused(call(&api(), "POST", LEASES, &sent), 422, "Invalid", message);
}

#[test]
fn a_put_creates_leases_and_events_only() {
    let api = api();
    assert_eq!(call(&api, "PUT", &format!("{LEASES}/a"), &json!({ "metadata": { "name": "a" } })).0, 201);
    let (code, _) = call(&api, "PUT", &format!("{CONFIGMAPS}/a"), &configmap("a"));
    assert_eq!(code, 404);
}

#[test]
fn some_resources_need_a_version() {
    let api = api();
    ok(&api, "POST", CONFIGMAPS, &configmap("a"));
    ok(&api, "PUT", &format!("{CONFIGMAPS}/a"), &configmap("a"));
    ok(&api, "POST", PODEIPS, &podeip("a"));
    let message = "podeips.alibabacloud.com \"a\" is invalid: metadata.resourceVersion: Invalid value: 0x0: must be \
         specified for an update";
    refused(call(&api, "PUT", &format!("{PODEIPS}/a"), &podeip("a")), 422, "Invalid", message);
}

#[test]
fn a_put_that_names_another_uid_conflicts() {
    let api = api();
    let found = ok(&api, "POST", CONFIGMAPS, &configmap("a"));
    let mut sent = found.clone();
    sent["metadata"]["uid"] = "other".into();
    let uid = found["metadata"]["uid"].as_str().unwrap();
    let message = format!(
        "Operation cannot be fulfilled on configmaps \"a\": StorageError: invalid object, Code: 4, Key: \
         /registry/configmaps/default/a, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in \
         precondition: other, UID in object meta: {uid}"
    );
    refused(call(&api, "PUT", &format!("{CONFIGMAPS}/a"), &sent), 409, "Conflict", &message);
}

#[test]
fn the_name_and_namespace_of_the_path_count() {
    let api = api();
    let found = ok(&api, "POST", CONFIGMAPS, &configmap("a"));
    let message = "the name of the object (a) does not match the name on the URL (b)";
    refused(call(&api, "PUT", &format!("{CONFIGMAPS}/b"), &found), 400, "BadRequest", message);
    let message = "the namespace of the object (default) does not match the namespace on the request (kube-system)";
    refused(call(&api, "PUT", "/api/v1/namespaces/kube-system/configmaps/a", &found), 400, "BadRequest", message);
}

#[test]
fn status_and_the_rest_are_written_apart() {
    let api = api();
    let mut found = ok(&api, "POST", PODEIPS, &podeip("a"));
    found["status"] = json!({ "eipAddress": "1.2.3.4" });
    let unchanged = ok(&api, "PUT", &format!("{PODEIPS}/a"), &found);
    assert_eq!(unchanged["status"], Value::Null);
    assert_eq!(version(&unchanged), version(&found));

    found["spec"]["allocationID"] = "eip-2".into();
    found["metadata"]["annotations"] = json!({ "a": "b" });
    let written = ok(&api, "PUT", &format!("{PODEIPS}/a/status"), &found);
    assert_eq!(written["status"], json!({ "eipAddress": "1.2.3.4" }));
    assert_eq!(written["spec"]["allocationID"], "eip-1");
    assert_eq!(written["metadata"]["annotations"], Value::Null);
    assert_eq!(written["metadata"]["generation"], 1);
    assert_eq!(get(&api, &format!("{PODEIPS}/a/status")), (200, written));
}

#[test]
fn generation_counts_changes_of_the_spec() {
    let api = api();
    let mut found = ok(&api, "POST", PODEIPS, &podeip("a"));
    found["metadata"]["annotations"] = json!({ "a": "b" });
    found["metadata"]["generation"] = 9.into();
    let mut found = ok(&api, "PUT", &format!("{PODEIPS}/a"), &found);
    assert_eq!(found["metadata"]["generation"], 1);
    found["spec"]["bandwidthPackageID"] = "cbwp-1".into();
    let found = ok(&api, "PUT", &format!("{PODEIPS}/a"), &found);
    assert_eq!(found["metadata"]["generation"], 2);
}

#[test]
fn the_times_of_an_object_are_the_servers() {
    let api = api();
    let found = ok(&api, "POST", CONFIGMAPS, &configmap("a"));
    let mut sent = found.clone();
    sent["metadata"]["creationTimestamp"] = "2001-01-01T00:00:00Z".into();
    sent["metadata"].as_object_mut().unwrap().remove("uid");
    assert_eq!(ok(&api, "PUT", &format!("{CONFIGMAPS}/a"), &sent), found);
    sent["metadata"]["deletionTimestamp"] = "2001-01-01T00:00:00Z".into();
    assert_eq!(call(&api, "PUT", &format!("{CONFIGMAPS}/a"), &sent).0, 422);
}

#[test]
fn a_pods_spec_is_settled() {
    let api = api();
    let mut found = pod(&api, "p");
    found["spec"]["containers"][0]["image"] = "registry.invalid/app:2".into();
    let mut found = ok(&api, "PUT", &format!("{PODS}/p"), &found);
    assert_eq!(found["metadata"]["generation"], 2);
    found["spec"]["nodeName"] = "node-2".into();
    let (code, status) = call(&api, "PUT", &format!("{PODS}/p"), &found);
    let message = status["message"].as_str().unwrap();
    assert_eq!(code, 422);
    assert!(
        message.starts_with("Pod \"p\" is invalid: spec: Forbidden: pod updates may not change fields"),
        "{message}"
    );
}
