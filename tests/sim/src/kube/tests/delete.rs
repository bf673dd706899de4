//! DELETE: preconditions, grace, finalizers, namespaces.

use super::*;

fn delete(api: &KubeApi, target: &str, options: &Value) -> (u16, Value) {
    call(api, "DELETE", target, options)
}

#[test]
fn a_plain_object_is_gone_at_once() {
    let api = api();
    let found = ok(&api, "POST", PODEIPS, &podeip("a"));
    let (code, status) = delete(&api, &format!("{PODEIPS}/a"), &Value::Null);
    assert_eq!((code, &status["status"]), (200, &json!("Success")));
    let uid = &found["metadata"]["uid"];
    assert_eq!(status["details"], json!({ "name": "a", "group": "alibabacloud.com", "kind": "podeips", "uid": uid }));
    let message = "podeips.alibabacloud.com \"a\" not found";
    refused(delete(&api, &format!("{PODEIPS}/a"), &Value::Null), 404, "NotFound", message);
}

#[test]
fn preconditions_protect_a_later_object() {
    let api = api();
    let found = ok(&api, "POST", PODEIPS, &podeip("a"));
    let target = format!("{PODEIPS}/a");
    let uid = found["metadata"]["uid"].as_str().unwrap();
    let message = format!(
        "Operation cannot be fulfilled on PodEIP.alibabacloud.com \"a\": the UID in the precondition (other) does not \
         match the UID in record ({uid}). The object might have been deleted and then recreated"
    );
    let options = json!({ "preconditions": { "uid": "other" } });
    refused(delete(&api, &target, &options), 409, "Conflict", &message);
    let message = format!(
        "Operation cannot be fulfilled on PodEIP.alibabacloud.com \"a\": the ResourceVersion in the precondition (1) does \
         not match the ResourceVersion in record ({}). The object might have been modified",
        version(&found)
    );
    let options = json!({ "preconditions": { "uid": uid, "resourceVersion": "1" } });
    refused(delete(&api, &target, &options), 409, "Conflict", &message);
    let options = json!({ "preconditions": { "uid": uid, "resourceVersion": version(&found) } });
    assert_eq!(delete(&api, &target, &options).0, 200);
    assert_eq!(api.get("podeips", "default", "a"), None);
}

#[test]
fn finalizers_keep_an_object_until_they_are_gone() {
    let api = api();
    let mut sent = podeip("a");
    sent["metadata"]["finalizers"] = json!([FINALIZER, "other.example/f"]);
    ok(&api, "POST", PODEIPS, &sent);
    let target = format!("{PODEIPS}/a");
    let (code, marked) = delete(&api, &target, &Value::Null);
    assert_eq!((code, &marked["kind"]), (200, &json!("PodEIP")));
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 0);
    assert_eq!(marked["metadata"]["generation"], 2);
    assert_eq!(delete(&api, &target, &Value::Null), (200, marked.clone()), "a second deletion changes nothing");

    let added = json!({ "metadata": { "finalizers": [FINALIZER, "other.example/f", "new.example/f"] } });
    let message = concat!(
        "PodEIP.alibabacloud.com \"a\" is invalid: metadata.finalizers: Forbidden: no new finalizers can be ",
        "added if the object is being deleted, found new finalizers []string{\"new.example/f\"}",
    );
    refused(patch(&api, &target, MERGE, &added), 422, "Invalid", message);
    // What is marked stays marked.
    let unmark = json!({ "metadata": { "deletionTimestamp": null } });
    assert_eq!(patch(&api, &target, MERGE, &unmark), (200, marked));

    patch(&api, &target, MERGE, &json!({ "metadata": { "finalizers": ["other.example/f"] } }));
    assert!(api.get("podeips", "default", "a").is_some());
    let (code, last) = patch(&api, &target, MERGE, &json!({ "metadata": { "finalizers": null } }));
    assert_eq!((code, &last["metadata"]["name"]), (200, &json!("a")));
    assert_eq!(api.get("podeips", "default", "a"), None);
}

#[test]
fn a_pod_on_a_node_goes_gracefully() {
    let api = api();
    pod(&api, "p");
    let target = format!("{PODS}/p");
    let marked = ok(&api, "DELETE", &target, &Value::Null);
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
    assert!(marked["metadata"]["deletionTimestamp"].is_string());
    assert_eq!(ok(&api, "DELETE", &target, &json!({ "gracePeriodSeconds": 60 })), marked, "grace only shrinks");
    let sooner = ok(&api, "DELETE", &target, &json!({ "gracePeriodSeconds": 5 }));
    assert_eq!(sooner["metadata"]["deletionGracePeriodSeconds"], 5);
    // Patches still work on a pod that is going, and do not remove it.
    assert_eq!(patch(&api, &target, MERGE, &json!({ "metadata": { "annotations": { "a": "b" } } })).0, 200);
    let gone = ok(&api, "DELETE", &format!("{target}?gracePeriodSeconds=0"), &Value::Null);
    assert_eq!(gone["kind"], "Pod");
    assert_eq!(get(&api, &target).0, 404);
}

#[test]
fn a_pod_that_runs_nowhere_goes_at_once() {
    let api = api();
    api.create_pod(&PodSpec::new("default", "unscheduled"));
    pod(&api, "finished");
    api.set_pod_phase("default", "finished", "Succeeded");
    for name in ["unscheduled", "finished"] {
        ok(&api, "DELETE", &format!("{PODS}/{name}"), &Value::Null);
        assert_eq!(get(&api, &format!("{PODS}/{name}")).0, 404);
    }
}

#[test]
fn a_forced_pod_with_finalizers_waits_for_them() {
    let api = api();
    pod(&api, "p");
    let target = format!("{PODS}/p");
    patch(&api, &target, MERGE, &json!({ "metadata": { "finalizers": ["a.example/f"] } }));
    let marked = ok(&api, "DELETE", &target, &json!({ "gracePeriodSeconds": 0 }));
    assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 0);
    patch(&api, &target, MERGE, &json!({ "metadata": { "finalizers": [] } }));
    assert_eq!(get(&api, &target).0, 404);
}

#[test]
fn a_collection_is_deleted_by_selector() {
    let api = api();
    for (name, app) in [("a", "web"), ("b", "web"), ("c", "db")] {
        let mut sent = configmap(name);
        sent["metadata"]["labels"] = json!({ "app": app });
        ok(&api, "POST", CONFIGMAPS, &sent);
    }
    ok(&api, "DELETE", &format!("{CONFIGMAPS}?labelSelector=app=web"), &Value::Null);
    let left: Vec<Value> = api.list("configmaps");
    assert_eq!(left.len(), 1);
    assert_eq!(left[0]["metadata"]["name"], "c");
}

#[test]
fn a_namespace_goes_with_its_last_object() {
    let api = api_with(|options| options.auto_create_namespaces = true);
    let mut sent = podeip("a");
    sent["metadata"]["finalizers"] = json!([FINALIZER]);
    ok(&api, "POST", "/apis/alibabacloud.com/v1beta1/namespaces/games/podeips", &sent);
    ok(&api, "POST", "/api/v1/namespaces/games/configmaps", &configmap("c"));
    let marked = ok(&api, "DELETE", "/api/v1/namespaces/games", &Value::Null);
    assert_eq!(marked["status"]["phase"], "Terminating");
    assert_eq!(get(&api, "/api/v1/namespaces/games/configmaps/c").0, 404);
    assert!(api.get("podeips", "games", "a").unwrap()["metadata"]["deletionTimestamp"].is_string());

    let event = json!({ "metadata": { "name": "e" }, "involvedObject": { "namespace": "games" } });
    let message = "events \"e\" is forbidden: unable to create new content in namespace games because it is being \
         terminated";
    let status = refused(call(&api, "POST", "/api/v1/namespaces/games/events", &event), 403, "Forbidden", message);
    assert_eq!(status["details"]["causes"][0]["reason"], "NamespaceTerminating");

    let target = "/apis/alibabacloud.com/v1beta1/namespaces/games/podeips/a";
    patch(&api, target, MERGE, &json!({ "metadata": { "finalizers": null } }));
    assert_eq!(get(&api, "/api/v1/namespaces/games").0, 404);
}
