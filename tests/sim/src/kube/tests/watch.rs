//! Watches: what they say, when they end.

use std::time::{Duration, Instant};

use super::*;

fn watch(api: &KubeApi, target: &str) -> Reply {
    let reply = api.answer(&request("GET", target, &Value::Null));
    assert_eq!(reply.status, 200);
    reply
}

/// `ADDED a`, `MODIFIED b`
fn said(reply: &mut Reply) -> Vec<String> {
    let tell = |event: Value| {
        let name = event["object"]["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        format!("{} {name}", event["type"].as_str().unwrap())
    };
    drain(reply).into_iter().map(tell).collect()
}

fn is_closed(reply: &Reply) -> bool {
    let Body::Stream(lines) = &reply.body else { panic!("a stream was expected") };
    lines.is_closed()
}

fn wait_until(mut done: impl FnMut() -> bool) {
    let limit = Instant::now() + Duration::from_secs(10);
    while !done() {
        assert!(Instant::now() < limit, "it did not happen within 10 s");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn goes_on_from_a_version() {
    let api = api();
    ok(&api, "POST", CONFIGMAPS, &configmap("a"));
    let (_, list) = get(&api, CONFIGMAPS);
    ok(&api, "POST", CONFIGMAPS, &configmap("b"));
    let mut stream = watch(&api, &format!("{CONFIGMAPS}?watch=true&resourceVersion={}", version(&list)));
    assert_eq!(said(&mut stream), ["ADDED b"]);
    api.merge("configmaps", "default", "a", &json!({ "data": null }));
    ok(&api, "DELETE", &format!("{CONFIGMAPS}/b"), &Value::Null);
    ok(&api, "POST", "/api/v1/namespaces/kube-system/configmaps", &configmap("elsewhere"));
    ok(&api, "POST", PODEIPS, &podeip("other-resource"));
    assert_eq!(said(&mut stream), ["MODIFIED a", "DELETED b"]);
}

#[test]
fn starts_with_everything_when_no_version_is_given() {
    let api = api();
    pod(&api, "p");
    for target in [format!("{PODS}?watch=1"), format!("{PODS}?watch=true&resourceVersion=0")] {
        let events = drain(&mut watch(&api, &target));
        assert_eq!(events.len(), 1);
        assert_eq!((&events[0]["type"], &events[0]["object"]["kind"]), (&json!("ADDED"), &json!("Pod")));
    }
}

#[test]
fn the_last_event_of_an_object_carries_the_removals_version() {
    let api = api();
    ok(&api, "POST", CONFIGMAPS, &configmap("a"));
    let mut stream = watch(&api, &format!("{CONFIGMAPS}?watch=true"));
    drain(&mut stream);
    ok(&api, "DELETE", &format!("{CONFIGMAPS}/a"), &Value::Null);
    let events = drain(&mut stream);
    let (_, list) = get(&api, CONFIGMAPS);
    assert_eq!(version(&events[0]["object"]), version(&list));
}

#[test]
fn an_object_enters_and_leaves_a_selector() {
    let api = api();
    let mut by_node = watch(&api, "/api/v1/pods?watch=true&fieldSelector=spec.nodeName=node-1");
    api.create_pod(&PodSpec::new("default", "p"));
    assert_eq!(said(&mut by_node), Vec::<String>::new());
    api.merge("pods", "default", "p", &json!({ "spec": { "nodeName": "node-1" } }));
    api.set_pod_phase("default", "p", "Running");
    api.merge("pods", "default", "p", &json!({ "spec": { "nodeName": "node-2" } }));
    api.remove_pod("default", "p");
    assert_eq!(said(&mut by_node), ["ADDED p", "MODIFIED p", "DELETED p"]);
}

#[test]
fn a_forgotten_version_ends_the_stream_with_410() {
    let api = api();
    let (_, list) = get(&api, CONFIGMAPS);
    ok(&api, "POST", CONFIGMAPS, &configmap("a"));
    api.compact();
    let mut stream = watch(&api, &format!("{CONFIGMAPS}?watch=true&resourceVersion={}", version(&list)));
    let events = drain(&mut stream);
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["type"], "ERROR");
    let status = &events[0]["object"];
    assert_eq!(
        (&status["kind"], &status["code"], &status["reason"]),
        (&json!("Status"), &json!(410), &json!("Expired"))
    );
    assert!(status["message"].as_str().unwrap().starts_with("too old resource version: "), "{status}");
    assert!(is_closed(&stream));
    let (_, list) = get(&api, CONFIGMAPS);
    let stream = watch(&api, &format!("{CONFIGMAPS}?watch=true&resourceVersion={}", version(&list)));
    assert!(!is_closed(&stream));
}

#[test]
fn ends_after_its_timeout() {
    let api = api();
    let stream = watch(&api, &format!("{CONFIGMAPS}?watch=true&timeoutSeconds=1"));
    let long = watch(&api, &format!("{CONFIGMAPS}?watch=true&timeoutSeconds=100"));
    assert!(!is_closed(&stream));
    wait_until(|| is_closed(&stream));
    assert!(!is_closed(&long));
    api.drop_watches();
    assert!(is_closed(&long));
}

#[test]
fn sends_bookmarks_to_those_who_want_them() {
    let api = api_with(|options| options.bookmark_every = Duration::from_millis(20));
    let mut with = watch(&api, &format!("{PODEIPS}?watch=true&allowWatchBookmarks=true"));
    let mut without = watch(&api, &format!("{PODEIPS}?watch=true"));
    let created = ok(&api, "POST", CONFIGMAPS, &configmap("elsewhere"));
    let mut events = Vec::new();
    wait_until(|| {
        events.extend(drain(&mut with));
        events.iter().any(|event| event["object"]["metadata"]["resourceVersion"] == version(&created))
    });
    assert_eq!((&events[0]["type"], &events[0]["object"]["kind"]), (&json!("BOOKMARK"), &json!("PodEIP")));
    assert_eq!(drain(&mut without), Vec::<Value>::new());
}

#[test]
fn the_watch_list_feature_is_refused_as_servers_without_it_do() {
    let target = format!("{PODS}?watch=true&sendInitialEvents=true&resourceVersionMatch=NotOlderThan");
    let message = "ListOptions.meta.k8s.io \"\" is invalid: sendInitialEvents: Forbidden: sendInitialEvents is forbidden \
         for watch unless the WatchList feature gate is enabled";
    refused(get(&api(), &target), 422, "Invalid", message);
}
