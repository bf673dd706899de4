//! Lists: shape, selectors, pages.

use super::*;

fn names(list: &Value) -> Vec<&str> {
    list["items"].as_array().unwrap().iter().map(|item| item["metadata"]["name"].as_str().unwrap()).collect()
}

fn listed(api: &KubeApi, target: &str) -> Vec<String> {
    let (code, list) = get(api, target);
    assert_eq!(code, 200, "{list}");
    names(&list).into_iter().map(str::to_owned).collect()
}

#[test]
fn lists_a_namespace_or_all_of_them() {
    let api = api();
    ok(&api, "POST", CONFIGMAPS, &configmap("b"));
    ok(&api, "POST", CONFIGMAPS, &configmap("a"));
    let last = ok(&api, "POST", "/api/v1/namespaces/kube-system/configmaps", &configmap("c"));
    let (_, list) = get(&api, "/api/v1/configmaps");
    assert_eq!(names(&list), ["a", "b", "c"]);
    assert_eq!((&list["kind"], &list["apiVersion"]), (&json!("ConfigMapList"), &json!("v1")));
    assert_eq!(list["metadata"], json!({ "resourceVersion": version(&last) }));
    assert_eq!(listed(&api, CONFIGMAPS), ["a", "b"]);
    assert_eq!(listed(&api, "/api/v1/namespaces/nowhere/configmaps"), Vec::<String>::new());
}

#[test]
fn items_name_their_kind_only_in_custom_lists() {
    let api = api();
    pod(&api, "p");
    ok(&api, "POST", PODEIPS, &podeip("a"));
    let (_, pods) = get(&api, PODS);
    assert_eq!((&pods["items"][0]["kind"], &pods["items"][0]["apiVersion"]), (&Value::Null, &Value::Null));
    let (_, podeips) = get(&api, PODEIPS);
    assert_eq!(podeips["kind"], "PodEIPList");
    assert_eq!(podeips["items"][0]["kind"], "PodEIP");
}

#[test]
fn selects_by_fields() {
    let api = api();
    pod(&api, "a");
    api.create_pod(&PodSpec { node: "node-2".into(), ..PodSpec::new("kube-system", "b") });
    ok(&api, "POST", PODEIPS, &podeip("a"));
    assert_eq!(listed(&api, "/api/v1/pods?fieldSelector=spec.nodeName=node-2"), ["b"]);
    assert_eq!(listed(&api, "/api/v1/pods?fieldSelector=spec.nodeName!=node-2"), ["a"]);
    assert_eq!(listed(&api, "/api/v1/pods?fieldSelector=status.phase==Running,spec.nodeName=node-1"), ["a"]);
    assert_eq!(listed(&api, "/api/v1/pods?fieldSelector=metadata.namespace=kube-system"), ["b"]);
    assert_eq!(listed(&api, &format!("{PODEIPS}?fieldSelector=metadata.name=a")), ["a"]);
    let target = format!("{PODEIPS}?fieldSelector=spec.allocationID=eip-1");
    refused(get(&api, &target), 400, "BadRequest", "field label not supported: spec.allocationID");
    let target = "/api/v1/pods?fieldSelector=spec.subdomain=x";
    refused(get(&api, target), 400, "BadRequest", "field label not supported: spec.subdomain");
    let target = format!("{CONFIGMAPS}?fieldSelector=data.key=x");
    let message = "\"data.key\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"";
    refused(get(&api, &target), 400, "BadRequest", message);
    assert_eq!(get(&api, &format!("{PODS}?fieldSelector=nonsense")).0, 400);
}

#[test]
fn selects_by_labels() {
    let api = api();
    for (name, labels) in [("a", json!({ "app": "web", "zone": "a" })), ("b", json!({ "app": "db" })), ("c", json!({}))]
    {
        let mut sent = configmap(name);
        sent["metadata"]["labels"] = labels;
        ok(&api, "POST", CONFIGMAPS, &sent);
    }
    let by = |selector: &str| listed(&api, &format!("{CONFIGMAPS}?labelSelector={selector}"));
    assert_eq!(by("app=web"), ["a"]);
    assert_eq!(by("app==web,zone=a"), ["a"]);
    assert_eq!(by("app!=web"), ["b", "c"]);
    assert_eq!(by("app in (web, db)"), ["a", "b"]);
    assert_eq!(by("app notin (web),app"), ["b"]);
    assert_eq!(by("!app"), ["c"]);
    assert_eq!(by("app"), ["a", "b"]);
    for wrong in ["a b", "app in (web", "app within (web)", "app=not valid"] {
        assert_eq!(get(&api, &format!("{CONFIGMAPS}?labelSelector={wrong}")).0, 400, "{wrong}");
    }
}

#[test]
fn pages_show_one_snapshot() {
    let api = api();
    for name in ["a", "b", "c", "d", "e"] {
        ok(&api, "POST", CONFIGMAPS, &configmap(name));
    }
    let (_, first) = get(&api, &format!("{CONFIGMAPS}?limit=2"));
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    // What happens between the pages is not seen in them.
    ok(&api, "DELETE", &format!("{CONFIGMAPS}/c"), &Value::Null);
    ok(&api, "POST", CONFIGMAPS, &configmap("cc"));
    api.merge("configmaps", "default", "d", &json!({ "data": { "key": "later" } }));
    let next = |page: &Value| {
        let token = page["metadata"]["continue"].as_str().unwrap();
        get(&api, &format!("{CONFIGMAPS}?limit=2&continue={token}"))
    };
    let (_, second) = next(&first);
    assert_eq!(names(&second), ["c", "d"]);
    assert_eq!(second["items"][1]["data"]["key"], "value");
    assert_eq!(version(&second), version(&first));
    let (_, third) = next(&second);
    assert_eq!(names(&third), ["e"]);
    assert_eq!(third["metadata"], json!({ "resourceVersion": version(&first) }));

    api.compact();
    let (code, status) = next(&first);
    assert_eq!((code, &status["reason"]), (410, &json!("Expired")));
    assert_eq!(get(&api, &format!("{CONFIGMAPS}?continue=nonsense")).0, 400);
}

#[test]
fn what_remains_behind_a_selector_is_not_counted() {
    let api = api();
    for name in ["a", "b"] {
        ok(&api, "POST", CONFIGMAPS, &configmap(name));
    }
    let (_, page) = get(&api, &format!("{CONFIGMAPS}?limit=1&labelSelector=!app"));
    assert!(page["metadata"]["continue"].is_string());
    assert_eq!(page["metadata"]["remainingItemCount"], Value::Null);
    let (_, whole) = get(&api, &format!("{CONFIGMAPS}?limit=2"));
    assert_eq!(whole["metadata"]["continue"], Value::Null);
}

#[test]
fn a_version_from_the_future_times_out() {
    let (code, status) = get(&api(), &format!("{CONFIGMAPS}?resourceVersion=9999"));
    assert_eq!((code, &status["reason"]), (504, &json!("Timeout")));
    assert!(status["message"].as_str().unwrap().starts_with("Timeout: Too large resource version: 9999, current: "));
    assert_eq!(get(&api(), &format!("{CONFIGMAPS}?resourceVersion=x")).0, 400);
    assert_eq!(get(&api(), &format!("{CONFIGMAPS}?resourceVersion=0")).0, 200);
}
