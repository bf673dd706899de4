//! PodEIPs as their definition has them, and the definition itself.

use super::*;

#[test]
fn the_schema_is_enforced() {
    let api = api();
    let sent = |change: Value| {
        let mut object = podeip("a");
        json_patch::merge(&mut object, &change);
        call(&api, "POST", PODEIPS, &object)
    };
    let cases = [
        (json!({ "spec": { "allocationID": null } }), "spec.allocationID: Required value"),
        (json!({ "spec": { "allocationType": null } }), "spec.allocationType: Required value"),
        (
            json!({ "spec": { "allocationType": { "type": "auto" } } }),
            "spec.allocationType.type: Unsupported value: \"auto\": supported values: \"Auto\", \"Static\"",
        ),
        (
            json!({ "spec": { "allocationType": { "releaseStrategy": "5m" } } }),
            "spec.allocationType.releaseStrategy: Unsupported value: \"5m\": supported values: \"Follow\", \"TTL\", \"Never\"",
        ),
        (
            json!({ "spec": { "allocationType": { "releaseStrategy": null } } }),
            "spec.allocationType.releaseStrategy: Required value",
        ),
        (
            json!({ "spec": { "allocationID": 5 } }),
            "spec.allocationID: Invalid value: \"integer\": spec.allocationID in body must be of type string: \"integer\"",
        ),
    ];
    for (change, reason) in cases {
        let message = format!("PodEIP.alibabacloud.com \"a\" is invalid: {reason}");
        let status = refused(sent(change), 422, "Invalid", &message);
        assert_eq!(status["details"]["kind"], "PodEIP");
        assert_eq!(status["details"]["group"], "alibabacloud.com");
    }
    assert_eq!(api.list("podeips"), Vec::<Value>::new());
}

#[test]
fn unknown_fields_are_dropped_and_defaults_filled_in() {
    let api = api();
    let mut sent = podeip("a");
    sent["spec"]["podUID"] = "x".into();
    sent["spec"]["allocationType"] = json!({ "releaseStrategy": "TTL", "releaseAfter": "10m", "other": 1 });
    sent["conditions"] = json!([]);
    sent["status"] = json!({ "isp": "BGP" });
    let strict = call(&api, "POST", &format!("{PODEIPS}?fieldValidation=Strict"), &sent);
    let message = "PodEIP in version \"v1beta1\" cannot be handled as a PodEIP: strict decoding error: unknown field \
         \"conditions\", unknown field \"spec.allocationType.other\", unknown field \"spec.podUID\"";
    refused(strict, 400, "BadRequest", message);
    let stored = ok(&api, "POST", PODEIPS, &sent);
    let allocation = json!({ "releaseStrategy": "TTL", "releaseAfter": "10m", "type": "Auto" });
    assert_eq!(stored["spec"], json!({ "allocationID": "eip-1", "allocationType": allocation }));
    assert_eq!((stored.get("conditions"), stored.get("status")), (None, None));
}

#[test]
fn strict_writes_refuse_unknown_fields() {
    let api = api();
    let mut found = ok(&api, "POST", PODEIPS, &podeip("a"));
    let target = format!("{PODEIPS}/a?fieldValidation=Strict");
    let (code, status) = patch(&api, &target, MERGE, &json!({ "spec": { "podUID": "x" } }));
    assert_eq!(code, 422);
    let message = status["message"].as_str().unwrap();
    assert!(message.ends_with("strict decoding error: unknown field \"spec.podUID\""), "{message}");
    found["spec"]["podUID"] = "x".into();
    assert_eq!(call(&api, "PUT", &target, &found).0, 400);
    assert_eq!(call(&api, "PUT", &format!("{PODEIPS}/a"), &found).0, 200);
}

#[test]
fn the_status_has_its_schema_too() {
    let api = api();
    ok(&api, "POST", PODEIPS, &podeip("a"));
    let target = format!("{PODEIPS}/a/status");
    let status = json!({ "eipAddress": "1.2.3.4", "podLastSeen": "2023-12-15T05:18:47Z" });
    let (code, after) = patch(&api, &target, MERGE, &json!({ "status": status }));
    assert_eq!((code, &after["status"]), (200, &status));
    assert_eq!(after["metadata"]["generation"], 1);
    let message = "PodEIP.alibabacloud.com \"a\" is invalid: status.podLastSeen: Invalid value: \"yesterday\": \
         status.podLastSeen in body must be of type date-time: \"yesterday\"";
    let change = json!({ "status": { "podLastSeen": "yesterday" } });
    refused(patch(&api, &target, MERGE, &change), 422, "Invalid", message);
    assert_eq!(patch(&api, &target, MERGE, &json!({ "status": { "isp": 5 } })).0, 422);
    assert_eq!(patch(&api, &target, MERGE, &json!({ "status": null })).1["status"], Value::Null);
}

#[test]
fn without_the_definition_nothing_is_served() {
    let api = api();
    ok(&api, "POST", PODEIPS, &podeip("a"));
    api.set_podeip_installed(false);
    for (method, target) in [("GET", format!("{PODEIPS}/a")), ("GET", PODEIPS.into()), ("POST", PODEIPS.into())] {
        // The real server has no group of that name then, and answers without a Status; clients
        // say "the server could not find the requested resource".
        assert_eq!(call(&api, method, &target, &podeip("a")), (404, json!("404 page not found\n")));
    }
    assert_eq!(api.get("podeips", "default", "a"), None);
    api.set_podeip_installed(true);
    assert_eq!(get(&api, PODEIPS).1["items"], json!([]), "its objects went with it");
    let message = "the server could not find the requested resource";
    let status = refused(get(&api, "/api/v1/namespaces/default/nonsense"), 404, "NotFound", message);
    assert_eq!(status["details"], json!({}));
    assert_eq!(get(&api, &format!("{PODS}/p/nonsense")).0, 404);
    assert_eq!(get(&api, "/api/v1/namespaces/default/nodes").0, 404, "nodes are in no namespace");
}

#[test]
fn a_client_can_install_a_definition() {
    let api = api_with(|options| options.podeip_installed = false);
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let version = json!({ "name": "v1", "served": true, "storage": true, "schema": { "openAPIV3Schema": {
        "type": "object", "properties": { "spec": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } } } } });
    let mut definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": { "name": "widgets.example.com" },
        "spec": { "group": "example.com", "scope": "Cluster", "names": { "plural": "widgets", "kind": "Widget" },
            "versions": [version] },
    });
    let stored = ok(&api, "POST", definitions, &definition);
    assert_eq!(stored["status"]["conditions"][1]["type"], "Established");
    assert_eq!(stored["status"]["conditions"][1]["status"], "True");
    let widget = json!({
        "apiVersion": "example.com/v1", "kind": "Widget", "metadata": { "name": "w" }, "spec": { "any": [1] },
        "status": { "dropped": true },
    });
    let stored = ok(&api, "POST", "/apis/example.com/v1/widgets", &widget);
    assert_eq!((&stored["spec"], stored.get("status")), (&json!({ "any": [1] }), None));
    ok(&api, "DELETE", &format!("{definitions}/widgets.example.com"), &Value::Null);
    assert_eq!(get(&api, "/apis/example.com/v1/widgets").0, 404);

    definition["metadata"]["name"] = "gadgets.example.com".into();
    assert_eq!(call(&api, "POST", definitions, &definition).0, 422);
    definition["metadata"]["name"] = "widgets.example.com".into();
    let schema = &mut definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    schema["properties"]["spec"] = json!({ "type": "string", "x-kubernetes-validations": [{ "rule": "true" }] });
    let message = "CustomResourceDefinition.apiextensions.k8s.io \"widgets.example.com\" is invalid: \
         spec.versions[0].schema.openAPIV3Schema.spec.x-kubernetes-validations: Forbidden: podeip-sim does not act on this keyword";
    refused(call(&api, "POST", definitions, &definition), 422, "Invalid", message);
}
