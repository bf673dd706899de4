//! POST: system fields, names, namespaces, and what is refused.

use super::*;

#[test]
fn fills_the_system_fields() {
    let api = api();
    let sent = json!({
        "metadata": { "name": "p", "uid": "mine", "creationTimestamp": "2001-01-01T00:00:00Z", "generation": 7,
            "annotations": { "a": "b" } },
        "spec": { "containers": [{ "name": "c", "image": "i" }] },
        "status": { "phase": "Running" },
    });
    let (code, pod) = call(&api, "POST", PODS, &sent);
    assert_eq!(code, 201);
    assert_eq!((&pod["kind"], &pod["apiVersion"]), (&json!("Pod"), &json!("v1")));
    assert_eq!(pod["metadata"]["namespace"], "default");
    assert_eq!(pod["metadata"]["generation"], 1);
    assert_eq!(pod["metadata"]["annotations"], json!({ "a": "b" }));
    assert_eq!(uuid::Uuid::parse_str(pod["metadata"]["uid"].as_str().unwrap()).unwrap().get_version_num(), 4);
    let created = pod["metadata"]["creationTimestamp"].as_str().unwrap();
    assert!(created > "2020" && created.len() == 20 && created.ends_with('Z'), "{created}");
    assert_eq!(pod["status"], json!({ "phase": "Pending", "qosClass": "BestEffort" }));
    assert_eq!(pod["spec"]["terminationGracePeriodSeconds"], 30);
    assert_eq!(get(&api, "/api/v1/namespaces/default/pods/p"), (200, pod));
}

#[test]
fn versions_grow_across_resources() {
    let api = api();
    let first = ok(&api, "POST", CONFIGMAPS, &configmap("a"));
    let second = ok(&api, "POST", PODEIPS, &podeip("a"));
    let number = |object: &Value| version(object).parse::<u64>().unwrap();
    assert_eq!(number(&second), number(&first) + 1);
    assert_eq!(first["metadata"]["generation"], Value::Null);
    assert_eq!(second["metadata"]["generation"], 1);
}

#[test]
fn generates_names() {
    let api = api();
    let sent = json!({ "metadata": { "generateName": "web-" } });
    let name = ok(&api, "POST", CONFIGMAPS, &sent)["metadata"]["name"].as_str().unwrap().to_owned();
    assert!(name.starts_with("web-") && name.len() == 9, "{name}");
    assert_ne!(ok(&api, "POST", CONFIGMAPS, &sent)["metadata"]["name"], *name);
}

#[test]
fn refuses_a_second_object_of_a_name() {
    let api = api();
    ok(&api, "POST", PODEIPS, &podeip("a"));
    let message = "podeips.alibabacloud.com \"a\" already exists";
    let status = refused(call(&api, "POST", PODEIPS, &podeip("a")), 409, "AlreadyExists", message);
    assert_eq!(status["details"], json!({ "name": "a", "group": "alibabacloud.com", "kind": "podeips" }));

    api.merge("podeips", "default", "a", &json!({ "metadata": { "finalizers": [FINALIZER] } }));
    ok(&api, "DELETE", &format!("{PODEIPS}/a"), &Value::Null);
    let message = "object is being deleted: podeips.alibabacloud.com \"a\" already exists";
    refused(call(&api, "POST", PODEIPS, &podeip("a")), 409, "AlreadyExists", message);
}

#[test]
fn refuses_bad_names() {
    let api = api();
    for (name, fault) in [
        ("Web", "a lowercase RFC 1123 subdomain must consist of"),
        ("web-", "a lowercase RFC 1123 subdomain must consist of"),
        (&"a".repeat(254), "must be no more than 253 characters"),
    ] {
        let (code, status) = call(&api, "POST", CONFIGMAPS, &configmap(name));
        let message = status["message"].as_str().unwrap();
        assert_eq!((code, &status["reason"]), (422, &json!("Invalid")));
        let expected = format!("ConfigMap \"{name}\" is invalid: metadata.name: Invalid value: \"{name}\": {fault}");
        assert!(message.starts_with(&expected), "{message}");
        assert_eq!(status["details"]["causes"][0]["field"], "metadata.name");
        assert_eq!(status["details"]["causes"][0]["reason"], "FieldValueInvalid");
    }
    assert_eq!(call(&api, "POST", CONFIGMAPS, &configmap(&"a".repeat(253))).0, 201);
    let message = "ConfigMap \"\" is invalid: metadata.name: Required value: name or generateName is required";
    refused(call(&api, "POST", CONFIGMAPS, &json!({ "metadata": {} })), 422, "Invalid", message);
}

#[test]
fn refuses_bad_metadata() {
    let api = api();
    let sent = |metadata: Value| {
        let mut object = configmap("a");
        json_patch::merge(&mut object["metadata"], &metadata);
        call(&api, "POST", CONFIGMAPS, &object)
    };
    let wrong = [
        json!({ "labels": { "a b": "c" } }),
        json!({ "labels": { "a": "not a label" } }),
        json!({ "annotations": { "-a": "b" } }),
        json!({ "annotations": { "a": "x".repeat(300_000) } }),
        json!({ "finalizers": ["a b"] }),
        json!({ "ownerReferences": [{ "kind": "StatefulSet", "name": "web" }] }),
    ];
    for metadata in wrong {
        assert_eq!(sent(metadata.clone()).0, 422, "{metadata}");
    }
    let message = "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: json: cannot unmarshal number into Go \
         struct field ObjectMeta.metadata.annotations of type string";
    refused(sent(json!({ "annotations": { "a": 5 } })), 400, "BadRequest", message);
}

#[test]
fn refuses_what_does_not_match_the_path() {
    let api = api();
    let mut elsewhere = configmap("a");
    elsewhere["metadata"]["namespace"] = "kube-system".into();
    let message = "the namespace of the provided object does not match the namespace sent on the request";
    refused(call(&api, "POST", CONFIGMAPS, &elsewhere), 400, "BadRequest", message);

    let mut other = configmap("a");
    other["apiVersion"] = "v2".into();
    let message = "the API version in the data (v2) does not match the expected API version (v1)";
    refused(call(&api, "POST", CONFIGMAPS, &other), 400, "BadRequest", message);

    let mut other = configmap("a");
    other["kind"] = "Secret".into();
    assert_eq!(call(&api, "POST", CONFIGMAPS, &other).0, 400);

    let mut nameless = podeip("a");
    nameless.as_object_mut().unwrap().remove("kind");
    assert_eq!(call(&api, "POST", PODEIPS, &nameless).0, 400);
    let mut broken = request("POST", CONFIGMAPS, &Value::Null);
    broken.body = b"{".to_vec();
    assert_eq!(read(api.answer(&broken)).0, 400);
    assert_eq!(api.list("configmaps"), Vec::<Value>::new());
}

#[test]
fn a_new_object_has_no_version() {
    let mut sent = configmap("a");
    sent["metadata"]["resourceVersion"] = "1".into();
    let (code, status) = call(&api(), "POST", CONFIGMAPS, &sent);
    assert_eq!(
        (code, status["message"].as_str()),
        (500, Some("resourceVersion should not be set on objects to be created"))
    );
}

#[test]
fn namespaces_must_exist_unless_switched() {
    let api = api_with(|options| options.auto_create_namespaces = false);
    let target = "/api/v1/namespaces/games/configmaps";
    let status =
        refused(call(&api, "POST", target, &configmap("a")), 404, "NotFound", "namespaces \"games\" not found");
    assert_eq!(status["details"], json!({ "name": "games", "kind": "namespaces" }));
    api.set_auto_create_namespaces(true);
    ok(&api, "POST", target, &configmap("a"));
    assert_eq!(api.get("namespaces", "", "games").unwrap()["status"]["phase"], "Active");
    assert!(api.get("serviceaccounts", "games", "default").is_some());
    for namespace in ["default", "kube-system"] {
        assert!(api.get("namespaces", "", namespace).is_some());
    }
}

#[test]
fn events_belong_to_their_objects_namespace() {
    let api = api();
    let events = "/api/v1/namespaces/default/events";
    let event = |namespace: &str, name: &str| {
        json!({ "metadata": { "name": name }, "involvedObject": { "kind": "Pod", "namespace": namespace, "name": "p" },
            "reason": "EipBound", "type": "Normal" })
    };
    ok(&api, "POST", events, &event("default", "p.1"));
    let message = "Event \"p.2\" is invalid: involvedObject.namespace: Invalid value: \"kube-system\": does not match \
         event.namespace";
    refused(call(&api, "POST", events, &event("kube-system", "p.2")), 422, "Invalid", message);
    // A cluster-scoped object's events live in the namespace default, and only there.
    ok(&api, "POST", events, &event("", "p.3"));
    assert_eq!(call(&api, "POST", "/api/v1/namespaces/kube-system/events", &event("", "p.4")).0, 422);
    assert_eq!(call(&api, "POST", events, &event("default", &"p".repeat(253))).0, 201);
    assert_eq!(call(&api, "POST", events, &event("default", &"p".repeat(254))).0, 422);
    assert_eq!(api.events_for("default", "p").len(), 2);
}

#[test]
fn events_with_event_time_say_who_and_what() {
    let api = api();
    let mut event = json!({
        "metadata": { "name": "p.1" }, "involvedObject": { "kind": "Pod", "namespace": "default", "name": "p" },
        "reason": "EipBound", "type": "Normal", "eventTime": "2025-01-01T00:00:00.000000Z", "message": "m",
    });
    let target = "/api/v1/namespaces/default/events";
    let message = "Event \"p.1\" is invalid: [reportingController: Required value, reportingInstance: Required value, \
         action: Required value]";
    refused(call(&api, "POST", target, &event), 422, "Invalid", message);
    json_patch::merge(
        &mut event,
        &json!({ "reportingComponent": "podeip", "reportingInstance": "node-1", "action": "Bind", "message": "x".repeat(1025) }),
    );
    let message = "Event \"p.1\" is invalid: message: Invalid value: \"\": can have at most 1024 characters";
    refused(call(&api, "POST", target, &event), 422, "Invalid", message);
    event["message"] = "x".repeat(1024).into();
    ok(&api, "POST", target, &event);
}

#[test]
fn other_verbs_and_formats_are_refused() {
    let api = api();
    let message = "the server does not allow this method on the requested resource";
    let status = refused(call(&api, "PUT", CONFIGMAPS, &configmap("a")), 405, "MethodNotAllowed", message);
    assert_eq!(status["details"], json!({}));
    assert_eq!(call(&api, "POST", "/api/v1/configmaps", &configmap("a")).0, 405);
    assert_eq!(call(&api, "POST", &format!("{CONFIGMAPS}/a"), &configmap("a")).0, 405);
    assert_eq!(call(&api, "POST", &format!("{PODS}/a/status"), &configmap("a")).0, 405);
    assert_eq!(call(&api, "POST", &format!("{CONFIGMAPS}?dryRun=All"), &configmap("a")).0, 400);
    let message = "the body of the request was in an unknown format - accepted media types include: application/json";
    for target in [
        CONFIGMAPS,
        "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews",
        "/api/v1/namespaces/default/serviceaccounts/default/token",
    ] {
        let protobuf = request("POST", target, &configmap("a"));
        let protobuf = with_header(protobuf, "content-type", "application/vnd.kubernetes.protobuf");
        refused(read(api.answer(&protobuf)), 415, "UnsupportedMediaType", message);
    }
    let picky = with_header(request("GET", CONFIGMAPS, &Value::Null), "accept", "application/vnd.kubernetes.protobuf");
    assert_eq!(read(api.answer(&picky)).0, 406);
}
