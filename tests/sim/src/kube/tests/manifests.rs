//! What is applied to a cluster to install something: roles, workloads, settings. What a real server refuses is refused.

use super::*;

const DAEMON_SETS: &str = "/apis/apps/v1/namespaces/kube-system/daemonsets";
const RBAC: &str = "/apis/rbac.authorization.k8s.io/v1";

fn daemon_set() -> Value {
    json!({
        "metadata": { "name": "agent" },
        "spec": {
            "selector": { "matchLabels": { "app": "agent" } },
            "template": {
                "metadata": { "labels": { "app": "agent" } },
                "spec": {
                    "containers": [{ "name": "agent", "image": "agent:1",
                        "volumeMounts": [{ "name": "state", "mountPath": "/state" }] }],
                    "volumes": [{ "name": "state", "hostPath": { "path": "/var/lib/agent", "type": "DirectoryOrCreate" } }],
                },
            },
        },
    })
}

/// Posts `sent` with a change, and gives the refusal's message.
fn refusal(api: &KubeApi, target: &str, mut sent: Value, change: &Value) -> String {
    json_patch::merge(&mut sent, change);
    let (code, status) = call(api, "POST", target, &sent);
    assert_eq!(code, 422, "{change}: {status}");
    status["message"].as_str().unwrap().to_owned()
}

#[test]
fn a_workload_must_hold_together() {
    let api = api();
    let template = |spec: Value| json!({ "spec": { "template": { "spec": spec } } });
    let container = |change: Value| {
        let mut container = json!({ "name": "agent", "image": "agent:1" });
        json_patch::merge(&mut container, &change);
        template(json!({ "containers": [container] }))
    };
    let mount = |name: &str, path: &str| json!({ "name": name, "mountPath": path });
    for (change, reason) in [
        (json!({ "spec": { "selector": null } }), "spec.selector: Required value"),
        (
            json!({ "spec": { "selector": { "matchLabels": null } } }),
            "spec.selector: Invalid value: {}: empty selector",
        ),
        (
            json!({ "spec": { "selector": { "matchLabels": { "app": "other" } } } }),
            "spec.template.metadata.labels: Invalid value: {\"app\":\"agent\"}: `selector` does not match template",
        ),
        (template(json!({ "containers": [] })), "spec.template.spec.containers: Required value"),
        (
            template(json!({ "restartPolicy": "Never" })),
            "restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
        ),
        (template(json!({ "dnsPolicy": "Host" })), "spec.template.spec.dnsPolicy: Unsupported value: \"Host\""),
        (
            template(json!({ "initContainers": [{ "name": "agent", "image": "i" }] })),
            "name: Duplicate value: \"agent\"",
        ),
        (container(json!({ "image": null })), "spec.template.spec.containers[0].image: Required value"),
        (container(json!({ "volumeMounts": [mount("stat", "/state")] })), "volumeMounts[0].name: Not found: \"stat\""),
        (container(json!({ "volumeMounts": [mount("state", "")] })), "volumeMounts[0].mountPath: Required value"),
        (
            container(json!({ "volumeMounts": [mount("state", "/a"), mount("state", "/a")] })),
            "volumeMounts[1].mountPath: Invalid value: \"/a\": must be unique",
        ),
        (
            template(json!({ "volumes": [{ "name": "state", "hostPath": { "path": "/a", "type": "Folder" } }] })),
            "spec.template.spec.volumes[0].hostPath.type: Unsupported value: \"Folder\"",
        ),
        (
            template(json!({ "volumes": [{ "name": "state", "hostPath": { "path": "/a/../b" } }] })),
            "spec.template.spec.volumes[0].hostPath.path: Invalid value: \"/a/../b\": must not contain '..'",
        ),
        (
            template(json!({ "volumes": [{ "name": "state", "emptyDir": {}, "hostPath": { "path": "/a" } }] })),
            "spec.template.spec.volumes[0]: Forbidden: may not specify more than 1 volume type",
        ),
    ] {
        let message = refusal(&api, DAEMON_SETS, daemon_set(), &change);
        assert!(message.contains(reason), "{change}: {message}");
    }
    ok(&api, "POST", DAEMON_SETS, &daemon_set());
}

#[test]
fn a_workloads_selector_is_for_good() {
    let api = api();
    let labels = json!({ "app": "agent", "tier": "node" });
    let mut stored = ok(&api, "POST", DAEMON_SETS, &daemon_set());
    stored["spec"]["template"]["metadata"]["labels"] = labels.clone();
    let mut stored = ok(&api, "PUT", &format!("{DAEMON_SETS}/agent"), &stored);
    assert_eq!(stored["metadata"]["generation"], 2);
    stored["spec"]["selector"]["matchLabels"] = labels.clone();
    let (code, status) = call(&api, "PUT", &format!("{DAEMON_SETS}/agent"), &stored);
    let message = status["message"].as_str().unwrap();
    assert!(code == 422 && message.contains("spec.selector") && message.contains("field is immutable"), "{message}");

    let sets = "/apis/apps/v1/namespaces/default/statefulsets";
    let mut stored = ok(&api, "POST", sets, &daemon_set());
    stored["spec"]["replicas"] = 2.into();
    let mut stored = ok(&api, "PUT", &format!("{sets}/agent"), &stored);
    stored["spec"]["serviceName"] = "agent".into();
    let (code, status) = call(&api, "PUT", &format!("{sets}/agent"), &stored);
    let message = status["message"].as_str().unwrap();
    let reason = "spec: Forbidden: updates to statefulset spec for fields other than 'replicas', ";
    assert!(code == 422 && message.contains(reason), "{message}");
}

#[test]
fn a_rule_must_say_what_it_permits() {
    let api = api();
    let role = |rule: Value| json!({ "metadata": { "name": "system:reader" }, "rules": [rule] });
    let (roles, cluster_roles) = (format!("{RBAC}/namespaces/default/roles"), format!("{RBAC}/clusterroles"));
    for (target, rule, reason) in [
        (&roles, json!({ "apiGroups": [""], "resources": ["pods"] }), "rules[0].verbs: Required value"),
        (&roles, json!({ "resources": ["pods"], "verbs": ["get"] }), "rules[0].apiGroups: Required value"),
        (&roles, json!({ "apiGroups": [""], "verbs": ["get"] }), "rules[0].resources: Required value"),
        (&roles, json!({ "nonResourceURLs": ["/metrics"], "verbs": ["get"] }), "namespaced rules cannot apply"),
        (
            &cluster_roles,
            json!({ "nonResourceURLs": ["/metrics"], "resources": ["pods"], "verbs": ["get"] }),
            "rules cannot apply to both regular resources and non-resource URLs",
        ),
    ] {
        let message = refusal(&api, target, role(rule), &json!({}));
        assert!(message.contains(reason), "{message}");
    }
    ok(&api, "POST", &cluster_roles, &role(json!({ "nonResourceURLs": ["/metrics"], "verbs": ["get"] })));
    ok(&api, "POST", &roles, &role(json!({ "apiGroups": [""], "resources": ["pods"], "verbs": ["get"] })));
}

#[test]
fn a_binding_names_its_role_and_keeps_it() {
    let api = api();
    let binding = json!({
        "metadata": { "name": "reader" }, "roleRef": { "kind": "ClusterRole", "name": "reader" },
        "subjects": [{ "kind": "ServiceAccount", "name": "agent", "namespace": "kube-system" }, { "kind": "User", "name": "u" }],
    });
    let (bindings, cluster_bindings) =
        (format!("{RBAC}/namespaces/default/rolebindings"), format!("{RBAC}/clusterrolebindings"));
    let subject = |subject: Value| json!({ "subjects": [subject] });
    for (target, change, reason) in [
        (&bindings, json!({ "roleRef": { "kind": "Roles" } }), "roleRef.kind: Unsupported value: \"Roles\""),
        (&cluster_bindings, json!({ "roleRef": { "kind": "Role" } }), "roleRef.kind: Unsupported value: \"Role\""),
        (&bindings, json!({ "roleRef": { "name": "" } }), "roleRef.name: Required value"),
        (&bindings, json!({ "roleRef": { "apiGroup": "apps" } }), "roleRef.apiGroup: Unsupported value: \"apps\""),
        (&bindings, subject(json!({ "kind": "Robot", "name": "r" })), "subjects[0].kind: Unsupported value: \"Robot\""),
        (&bindings, subject(json!({ "kind": "User" })), "subjects[0].name: Required value"),
        (
            &cluster_bindings,
            subject(json!({ "kind": "ServiceAccount", "name": "agent" })),
            "subjects[0].namespace: Required value",
        ),
    ] {
        let message = refusal(&api, target, binding.clone(), &change);
        assert!(message.contains(reason), "{message}");
    }
    let mut stored = ok(&api, "POST", &cluster_bindings, &binding);
    assert_eq!(stored["roleRef"]["apiGroup"], "rbac.authorization.k8s.io");
    stored["subjects"] = json!([]);
    let mut stored = ok(&api, "PUT", &format!("{cluster_bindings}/reader"), &stored);
    stored["roleRef"]["name"] = "writer".into();
    let (code, status) = call(&api, "PUT", &format!("{cluster_bindings}/reader"), &stored);
    assert!(code == 422 && status["message"].as_str().unwrap().contains("cannot change roleRef"), "{status}");
}

#[test]
fn settings_are_texts_under_valid_keys() {
    let api = api();
    let map = |data: Value| json!({ "metadata": { "name": "settings" }, "data": data });
    let message = "ConfigMap in version \"v1\" cannot be handled as a ConfigMap: json: cannot unmarshal into Go struct \
         field ConfigMap.data of type string";
    refused(call(&api, "POST", CONFIGMAPS, &map(json!({ "a": 1 }))), 400, "BadRequest", message);
    assert!(
        refusal(&api, CONFIGMAPS, map(json!({ "a b": "" })), &json!({})).contains("a valid config key must consist")
    );
    assert!(refusal(&api, CONFIGMAPS, map(json!({ "a": "x".repeat(1 << 21) })), &json!({})).contains("Too long"));
    ok(&api, "POST", CONFIGMAPS, &map(json!({ "10-a.conflist": "{}" })));

    let secrets = "/api/v1/namespaces/default/secrets";
    let (code, _) = call(&api, "POST", secrets, &map(json!({ "a": "not base64!" })));
    assert_eq!(code, 400);
    let sent = json!({ "metadata": { "name": "s" }, "stringData": { "a": "b" }, "immutable": true });
    let mut stored = ok(&api, "POST", secrets, &sent);
    assert_eq!((&stored["data"], &stored["type"]), (&json!({ "a": "Yg==" }), &json!("Opaque")));
    assert_eq!(stored.get("stringData"), None);
    stored["data"]["a"] = "Yw==".into();
    let (code, status) = call(&api, "PUT", &format!("{secrets}/s"), &stored);
    assert!(code == 422 && status["message"].as_str().unwrap().contains("field is immutable when"), "{status}");
}

#[test]
fn a_pods_account_and_priority_come_first() {
    let api = api();
    let pod = |change: Value| {
        let mut pod = json!({ "metadata": { "name": "p" }, "spec": { "containers": [{ "name": "c", "image": "i" }] } });
        json_patch::merge(&mut pod, &change);
        call(&api, "POST", PODS, &pod)
    };
    let message =
        "pods \"p\" is forbidden: error looking up service account default/agent: serviceaccount \"agent\" not found";
    refused(pod(json!({ "spec": { "serviceAccountName": "agent" } })), 403, "Forbidden", message);
    let message = "pods \"p\" is forbidden: no PriorityClass with name high was found";
    refused(pod(json!({ "spec": { "priorityClassName": "high" } })), 403, "Forbidden", message);
    let (code, stored) = pod(json!({ "spec": { "priorityClassName": "system-node-critical" } }));
    assert_eq!((code, &stored["spec"]["priority"]), (201, &json!(2_000_001_000)));

    let classes = "/apis/scheduling.k8s.io/v1/priorityclasses";
    let class = json!({ "metadata": { "name": "system-mine" }, "value": 5 });
    let message = refusal(&api, classes, class, &json!({}));
    assert!(message.contains("'system-' prefix are reserved"), "{message}");
}

#[test]
fn nothing_is_made_in_a_namespace_that_is_missing_or_of_a_kind_that_is_unknown() {
    let api = api_with(|options| options.auto_create_namespaces = false);
    let target = "/apis/apps/v1/namespaces/nowhere/daemonsets";
    refused(call(&api, "POST", target, &daemon_set()), 404, "NotFound", "namespaces \"nowhere\" not found");
    let mut sent = daemon_set();
    sent["apiVersion"] = "apps/v1beta1".into();
    let (code, status) = call(&api, "POST", DAEMON_SETS, &sent);
    assert!(code == 400 && status["message"].as_str().unwrap().contains("does not match the expected API version"));
    assert_eq!(get(&api, "/apis/apps/v1beta1/namespaces/default/daemonsets").0, 404);
}

#[test]
fn a_definition_waits_for_the_finalizers_of_its_instances() {
    let api = api();
    let definition = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions/podeips.alibabacloud.com";
    let held = json!({ "metadata": { "finalizers": [FINALIZER] } });
    for name in ["held", "free"] {
        ok(&api, "POST", PODEIPS, &podeip(name));
    }
    api.merge("podeips", "default", "held", &held);
    let marked = ok(&api, "DELETE", definition, &Value::Null);
    assert_ne!(marked["metadata"]["deletionTimestamp"], Value::Null);
    let names: Vec<Value> = api.list("podeips").iter().map(|it| it["metadata"]["name"].clone()).collect();
    assert_eq!(names, ["held"]);
    let message = "create not allowed while custom resource definition is terminating";
    refused(call(&api, "POST", PODEIPS, &podeip("new")), 405, "MethodNotAllowed", message);
    assert_eq!(get(&api, definition).0, 200);

    let mut last = get(&api, &format!("{PODEIPS}/held")).1;
    last["metadata"].as_object_mut().unwrap().remove("finalizers");
    ok(&api, "PUT", &format!("{PODEIPS}/held"), &last);
    assert_eq!((get(&api, definition).0, get(&api, PODEIPS).0), (404, 404));
}
