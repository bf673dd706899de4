//! The client against a scripted API server on loopback.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::scripted::{Authority, Reply, Scripted, status};
use super::*;
use crate::deadline::Deadline;
use crate::names::{EipId, EipKind};
use crate::strategy::Strategy;

/// Longer than any test that succeeds; a test that waits for it has failed.
const AMPLE: Duration = Duration::from_secs(30);

struct World {
    server: Scripted,
    kube: Kube,
    directory: tempfile::TempDir,
}

impl World {
    fn new(replies: impl IntoIterator<Item = Reply>) -> Self {
        Self::with_user(replies, "token: first")
    }

    fn with_user(replies: impl IntoIterator<Item = Reply>, user: &str) -> Self {
        let server = Scripted::new(replies);
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("token"), "first\n").unwrap();
        let kubeconfig = directory.path().join("kubeconfig");
        std::fs::write(&kubeconfig, config(&server, user)).unwrap();
        let kube = Kube::from_kubeconfig(&kubeconfig).unwrap();
        Self { server, kube, directory }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn bearers(&self) -> Vec<String> {
        self.server.seen().into_iter().map(|seen| seen.authorization.unwrap_or_default()).collect()
    }
}

fn config(server: &Scripted, user: &str) -> String {
    let lines = [
        "current-context: c".to_string(),
        "contexts: [{name: c, context: {cluster: k, user: u}}]".to_string(),
        format!("clusters: [{{name: k, cluster: {{server: 'http://{}'}}}}]", server.address),
        format!("users: [{{name: u, user: {{{user}}}}}]"),
    ];
    lines.join("\n")
}

fn ample() -> Deadline {
    Deadline::after(AMPLE)
}

fn pod_object(name: &str) -> Value {
    json!({"kind": "Pod", "metadata": {"namespace": "shop", "name": name, "uid": format!("uid-{name}"),
        "resourceVersion": "3"}, "spec": {"nodeName": "n-1"}, "status": {"phase": "Running"}})
}

fn pod_eip_object(version: &str) -> Value {
    json!({"kind": "PodEIP", "metadata": {"namespace": "shop", "name": "web-0", "uid": "u-1",
            "resourceVersion": version, "finalizers": ["other.example/f", FINALIZER],
            "annotations": {POD_UID_ANNOTATION: "p-1", NODE_ANNOTATION: "n-1"}},
        "spec": {"allocationID": "eip-1", "allocationType": {"type": "Auto", "releaseStrategy": "Follow"}},
        "status": {"eipAddress": "198.51.100.7", "status": "InUse"}})
}

fn doomed_object(version: &str) -> Value {
    let mut object = pod_eip_object(version);
    object["metadata"]["deletionTimestamp"] = "2024-03-01T08:00:00Z".into();
    object
}

fn pod_eip(object: Value) -> PodEip {
    serde_json::from_value(object).unwrap()
}

fn current() -> PodEip {
    pod_eip(pod_eip_object("10"))
}

fn moved() -> Reply {
    status(409, "Conflict", "the object has been modified")
}

fn absent() -> Reply {
    status(404, "NotFound", "podeips.alibabacloud.com \"web-0\" not found")
}

const PODEIP: &str = "/apis/alibabacloud.com/v1beta1/namespaces/shop/podeips/web-0";

#[test]
fn reads_a_pod_with_its_token_on_one_connection() {
    let world = World::new([Reply::Json(200, pod_object("web-0")), status(404, "NotFound", "pods \"x\" not found")]);
    let pod = world.kube.pod("shop", "web-0", ample()).unwrap().unwrap();
    assert_eq!((pod.uid.as_str(), pod.node.as_deref()), ("uid-web-0", Some("n-1")));
    assert_eq!(world.kube.pod("shop", "x", ample()).unwrap(), None);
    assert_eq!(world.bearers(), ["Bearer first", "Bearer first"]);
    assert_eq!(world.server.lines()[0], "GET /api/v1/namespaces/shop/pods/web-0");
    assert_eq!(world.server.connections(), 1);
}

#[test]
fn asks_again_while_the_server_cannot_answer() {
    let world = World::new([
        status(503, "ServiceUnavailable", "starting"),
        Reply::Cut,
        Reply::Text(200, "{\"metadata\": {"),
        status(429, "TooManyRequests", "slow down"),
        Reply::Json(200, pod_object("web-0")),
    ]);
    assert!(world.kube.pod("shop", "web-0", ample()).unwrap().is_some());
    assert_eq!(world.server.lines().len(), 5);
}

#[test]
fn every_try_is_counted_by_what_it_brought() {
    let world = World::new([
        status(503, "ServiceUnavailable", "starting"),
        Reply::Cut,
        moved(),
        Reply::Json(200, pod_eip_object("11")),
        Reply::Json(200, json!({})),
    ]);
    let tally = std::sync::Arc::new(crate::measure::Tally::default());
    let kube = world.kube.counted_by(tally.clone());
    let status = PodEipStatus { status: Some("Available".into()), ..PodEipStatus::default() };
    kube.patch_pod_eip_status(&current(), &status, ample()).unwrap();
    let counted = serde_json::to_value(tally.take().calls).unwrap();
    let expected = json!({
        "patch podeips/status": {"503": 1, "Unanswered": 1, "409": 1, "200": 1},
        "get podeips": {"200": 1},
    });
    assert_eq!(counted, expected);
}

#[test]
fn a_refusal_is_final() {
    let world = World::new([status(403, "Forbidden", "User \"node\" cannot get resource \"pods\"")]);
    let refused = world.kube.pod("shop", "web-0", ample()).unwrap_err();
    assert_eq!(refused.status(), Some(403));
    assert!(!refused.not_answered());
    assert!(refused.hint().unwrap().contains("lacks verb get on pods"));
    assert_eq!(world.server.lines().len(), 1);
}

#[test]
fn a_wait_that_the_server_asks_for_is_kept_or_given_up_at_once() {
    let busy = |seconds: u64| {
        let body = json!({"kind": "Status", "reason": "TooManyRequests", "message": "m",
            "details": {"retryAfterSeconds": seconds}});
        Reply::Json(429, body)
    };
    let world = World::new([busy(1), Reply::Json(200, pod_object("web-0")), busy(60)]);
    let start = Instant::now();
    assert!(world.kube.pod("shop", "web-0", ample()).unwrap().is_some());
    assert!(start.elapsed() >= Duration::from_secs(1), "{:?}", start.elapsed());
    let start = Instant::now();
    let failure = world.kube.pod("shop", "web-0", Deadline::after(Duration::from_secs(20))).unwrap_err();
    assert_eq!(failure.status(), Some(429));
    assert!(failure.not_answered() && start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

#[test]
fn a_server_that_hangs_costs_no_more_than_the_deadline() {
    let world = World::new([Reply::Hang, Reply::Hang]);
    let start = Instant::now();
    let failure = world.kube.pod("shop", "web-0", Deadline::after(Duration::from_millis(400))).unwrap_err();
    assert!(start.elapsed() >= Duration::from_millis(300) && start.elapsed() < Duration::from_secs(3));
    assert!(failure.not_answered() && failure.status().is_none());
    let text = format!("get pods shop/web-0: no answer from http://{} (1 try)", world.server.address);
    assert_eq!(failure.to_string(), text);
    assert!(std::error::Error::source(&failure).is_some());
}

#[test]
fn a_server_that_is_down_is_asked_until_the_deadline() {
    let world = World::new([]);
    let free = "127.0.0.1:1";
    let text = config(&world.server, "token: t").replace(&world.server.address.to_string(), free);
    std::fs::write(world.file("kubeconfig"), text).unwrap();
    let kube = Kube::from_kubeconfig(&world.file("kubeconfig")).unwrap();
    let start = Instant::now();
    let failure = kube.pod("shop", "web-0", Deadline::after(Duration::from_secs(3))).unwrap_err();
    let KubeError::NoAnswer { tries, cause: crate::http::NoAnswer::NotSent(_), .. } = &failure else {
        panic!("{failure:?}")
    };
    assert!(*tries >= 3 && start.elapsed() < Duration::from_secs(6), "{tries} tries");
    assert!(failure.hint().unwrap().contains(free));
}

#[test]
fn a_refused_token_is_read_again_from_its_file_and_once() {
    let refusal = || status(401, "Unauthorized", "Unauthorized");
    let world = World::with_user([refusal()], "tokenFile: token");
    let refused = world.kube.pod("shop", "web-0", ample()).unwrap_err();
    assert!(refused.hint().unwrap().contains("the token was refused; put a valid one") && !refused.not_answered());
    assert_eq!(world.bearers(), ["Bearer first"], "the same token is not sent twice");
    // The file changes between two calls: the next call sends the new one.
    std::fs::write(world.file("token"), "second").unwrap();
    world.kube.pod("shop", "web-0", ample()).unwrap_err();
    assert_eq!(world.bearers().last().unwrap(), "Bearer second");
    // It vanishes: the last one stays in use.
    std::fs::remove_file(world.file("token")).unwrap();
    world.kube.pod("shop", "web-0", ample()).unwrap_err();
    assert_eq!(world.bearers().last().unwrap(), "Bearer second");
}

#[test]
fn a_token_file_replaced_under_a_call_is_taken_up() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("bound");
    std::fs::write(&file, "old").unwrap();
    let replaced = file.clone();
    let refusal = Reply::Meanwhile(Box::new(move || std::fs::write(replaced, "new").unwrap()), 401, json!({}));
    let user = format!("tokenFile: {}", file.display());
    let world = World::with_user([refusal, Reply::Json(200, pod_object("web-0"))], &user);
    assert!(world.kube.pod("shop", "web-0", ample()).unwrap().is_some());
    assert_eq!(world.bearers(), ["Bearer old", "Bearer new"]);
}

#[test]
fn a_refused_token_is_read_again_from_the_kubeconfig() {
    let refusal = || status(401, "Unauthorized", "Unauthorized");
    let world = World::new([refusal(), Reply::Json(200, pod_object("web-0")), refusal(), refusal()]);
    std::fs::write(world.file("kubeconfig"), config(&world.server, "token: second")).unwrap();
    assert!(world.kube.pod("shop", "web-0", ample()).unwrap().is_some());
    assert_eq!(world.bearers(), ["Bearer first", "Bearer second"]);
    std::fs::write(world.file("kubeconfig"), config(&world.server, "token: third")).unwrap();
    assert_eq!(world.kube.pod("shop", "web-0", ample()).unwrap_err().status(), Some(401));
    assert_eq!(world.bearers()[2..], ["Bearer second", "Bearer third"]);
}

#[test]
fn lists_are_read_page_by_page() {
    let page = |names: &[&str], proceed: &str| {
        let items: Vec<Value> = names.iter().map(|name| pod_object(name)).collect();
        Reply::Json(200, json!({"kind": "PodList", "metadata": {"continue": proceed}, "items": items}))
    };
    let odd = Reply::Json(200, json!({"metadata": {}, "items": [pod_object("c"), {"metadata": {"name": "odd"}}]}));
    let world = World::new([page(&["a", "b"], "t+1="), odd]);
    let pods = world.kube.pods_of_node("n-1", ample()).unwrap();
    assert_eq!(pods.iter().map(|pod| pod.name.as_str()).collect::<Vec<_>>(), ["a", "b", "c"]);
    let first = "GET /api/v1/pods?fieldSelector=spec.nodeName%3Dn-1&limit=250";
    assert_eq!(world.server.lines(), [first.to_string(), format!("{first}&continue=t%2B1%3D")]);
}

#[test]
fn an_expired_page_starts_the_list_anew_and_whole() {
    let item = |name: &str| {
        let mut object = pod_eip_object("1");
        object["metadata"]["name"] = name.into();
        object
    };
    let world = World::new([
        Reply::Json(200, json!({"metadata": {"continue": "t"}, "items": [item("gone")]})),
        status(410, "Expired", "The provided continue parameter is too old"),
        Reply::Json(200, json!({"metadata": {"continue": ""}, "items": [item("a"), item("b")]})),
    ]);
    let found = world.kube.pod_eips(Some("shop"), ample()).unwrap();
    assert_eq!(found.iter().map(|object| object.name.as_str()).collect::<Vec<_>>(), ["a", "b"]);
    let root = "GET /apis/alibabacloud.com/v1beta1/namespaces/shop/podeips";
    assert_eq!(world.server.lines()[2], root);
}

#[test]
fn an_empty_list_may_be_null() {
    let world = World::new([Reply::Json(200, json!({"metadata": {}, "items": null}))]);
    assert!(world.kube.pod_eips(None, ample()).unwrap().is_empty());
}

#[test]
fn annotations_go_in_one_fenced_merge_patch() {
    let other = json!({"kind": "Status", "reason": "Invalid", "message": "Pod \"web-0\" is invalid: metadata.uid",
        "details": {"causes": [{"field": "metadata.uid"}]}});
    let world =
        World::new([Reply::Json(200, pod_object("web-0")), Reply::Json(200, json!({})), Reply::Json(422, other)]);
    let pod = world.kube.pod("shop", "web-0", ample()).unwrap().unwrap();
    let changes = BTreeMap::from([("k/address", Some("198.51.100.7")), ("k/old", None)]);
    world.kube.patch_pod_annotations(&pod, &changes, ample()).unwrap();
    let sent = &world.server.seen()[1];
    assert_eq!(sent.line, "PATCH /api/v1/namespaces/shop/pods/web-0/status");
    assert_eq!(sent.content_type.as_deref(), Some("application/merge-patch+json"));
    let body = json!({"metadata": {"uid": "uid-web-0", "annotations": {"k/address": "198.51.100.7", "k/old": null}}});
    assert_eq!(sent.body, body);
    let replaced = world.kube.patch_pod_annotations(&pod, &changes, ample()).unwrap_err();
    assert!(replaced.is_superseded() && replaced.is_conflict());
}

#[test]
fn a_condition_goes_to_the_status_subresource() {
    let world = World::new([Reply::Json(200, pod_object("web-0")), Reply::Cut, Reply::Json(200, json!({}))]);
    let pod = world.kube.pod("shop", "web-0", ample()).unwrap().unwrap();
    let condition = PodCondition {
        kind: "k8s.aliyun.com/eip".into(),
        status: true,
        reason: "Associate eip succeed".into(),
        message: String::new(),
    };
    world.kube.set_pod_condition(&pod, &condition, ample()).unwrap();
    let sent = &world.server.seen()[1..];
    assert_eq!(sent.len(), 2);
    assert_eq!(sent[1].line, "PATCH /api/v1/namespaces/shop/pods/web-0/status");
    assert_eq!(sent[1].content_type.as_deref(), Some("application/strategic-merge-patch+json"));
    assert_eq!(sent[0].body, sent[1].body);
}

#[test]
fn a_repeated_event_counts_up() {
    let there = |count: u64| json!({"metadata": {"name": "e", "uid": "e-1", "resourceVersion": count.to_string()}, "count": count});
    let exists = || status(409, "AlreadyExists", "events \"e\" already exists");
    let world = World::new([
        Reply::Json(201, json!({})),
        exists(),
        Reply::Json(200, there(4)),
        moved(),
        exists(),
        Reply::Json(200, there(5)),
        Reply::Json(200, json!({})),
    ]);
    let subject = current().reference();
    let event = Event { warning: false, reason: "EIPBound".into(), message: "bound".into(), node: None };
    world.kube.record_event(&subject, &event, ample()).unwrap();
    world.kube.record_event(&subject, &event, ample()).unwrap();
    let seen = world.server.seen();
    assert_eq!(seen.len(), 7);
    assert_eq!(seen[0].line, "POST /api/v1/namespaces/shop/events");
    assert_eq!(seen[0].body["metadata"]["name"], seen[1].body["metadata"]["name"]);
    assert_eq!(seen[6].line.split(' ').next(), Some("PATCH"));
    assert_eq!((&seen[6].body["count"], &seen[6].body["metadata"]["resourceVersion"]), (&json!(6), &json!("5")));
}

#[test]
fn events_are_selected_by_their_subject_and_only_ours_are_read() {
    let told = |component: &str, last: &str, count: Value| {
        json!({"metadata": {"name": "e", "uid": "e"}, "involvedObject": {"uid": "u-1"}, "type": "Warning",
            "reason": "EIPFailed", "message": last, "count": count, "lastTimestamp": last,
            "source": {"component": component}})
    };
    let items = json!([
        told("podeip", "2024-03-01T10:00:07Z", json!(3)),
        told("kubelet", "2024-03-01T10:00:08Z", json!(1)),
        told("podeip", "2024-03-01T09:00:00Z", Value::Null),
    ]);
    let world = World::new([Reply::Json(200, json!({"metadata": {}, "items": items}))]);
    let events = world.kube.events_about("shop", "web-0", ample()).unwrap();
    let subject = "involvedObject.name%3Dweb-0%2CinvolvedObject.namespace%3Dshop";
    let line = format!("GET /api/v1/namespaces/shop/events?fieldSelector={subject}&limit=500");
    assert_eq!(world.server.lines(), [line]);
    let seen: Vec<_> = events.iter().map(|event| (event.message.as_str(), event.count)).collect();
    assert_eq!(seen, [("2024-03-01T09:00:00Z", 1), ("2024-03-01T10:00:07Z", 3)], "the oldest first");
    assert!(events[0].warning && events[0].reason == "EIPFailed" && events[0].regarding_uid == "u-1");
}

fn new_pod_eip() -> NewPodEip {
    NewPodEip {
        namespace: "shop".into(),
        name: "web-0".into(),
        spec: PodEipSpec {
            allocation_id: EipId::new("eip-1"),
            bandwidth_package_id: None,
            kind: EipKind::Auto,
            strategy: Strategy::Follow,
        },
        annotations: BTreeMap::from([(POD_UID_ANNOTATION.to_string(), "p-1".to_string())]),
    }
}

#[test]
fn a_lost_creation_is_repeated_and_seen_to_exist() {
    let exists = status(409, "AlreadyExists", "podeips \"web-0\" already exists");
    let world = World::new([Reply::Cut, exists, Reply::Json(200, pod_eip_object("10"))]);
    let failure = world.kube.create_pod_eip(&new_pod_eip(), ample()).unwrap_err();
    assert!(failure.is_already_exists() && !failure.is_conflict());
    let found = world.kube.pod_eip("shop", "web-0", ample()).unwrap().unwrap();
    assert_eq!(found.pod_uid().unwrap().as_str(), new_pod_eip().annotations[POD_UID_ANNOTATION]);
    let sent = world.server.seen();
    assert_eq!(sent[1].line, "POST /apis/alibabacloud.com/v1beta1/namespaces/shop/podeips");
    assert_eq!(sent[1].body["metadata"]["finalizers"], json!([FINALIZER]));
}

#[test]
fn an_absent_object_and_an_absent_crd_are_two_things() {
    let world = World::new([absent(), Reply::Text(404, "404 page not found\n")]);
    assert_eq!(world.kube.pod_eip("shop", "web-0", ample()).unwrap(), None);
    let failure = world.kube.pod_eip("shop", "web-0", ample()).unwrap_err();
    assert!(failure.hint().unwrap().contains("CustomResourceDefinition"));
}

#[test]
fn a_take_over_is_fenced_by_version_and_puts_the_finalizer_back() {
    let mut taken = pod_eip_object("11");
    taken["spec"]["allocationType"]["releaseStrategy"] = "Never".into();
    taken["metadata"]["annotations"][POD_UID_ANNOTATION] = "p-2".into();
    let world = World::new([
        // Done, but the answer is lost; the repeat meets the new version.
        Reply::Cut,
        moved(),
        Reply::Json(200, taken),
        // Somebody else was faster.
        moved(),
        Reply::Json(200, pod_eip_object("12")),
    ]);
    let mut bare = current();
    bare.finalizers = vec!["other.example/f".into()];
    let spec = PodEipSpec { strategy: Strategy::Never, ..bare.spec.clone() };
    let ours = BTreeMap::from([(POD_UID_ANNOTATION, Some("p-2"))]);
    let found = world.kube.update_pod_eip_spec(&bare, &spec, &ours, ample()).unwrap();
    assert_eq!((found.resource_version.as_str(), found.spec.strategy), ("11", Strategy::Never));
    let metadata = &world.server.seen()[1].body["metadata"];
    assert_eq!(metadata["finalizers"], json!(["other.example/f", FINALIZER]));
    assert_eq!((&metadata["uid"], &metadata["resourceVersion"]), (&json!("u-1"), &json!("10")));
    assert!(world.kube.update_pod_eip_spec(&bare, &spec, &ours, ample()).unwrap_err().is_conflict());
}

#[test]
fn a_status_is_written_over_a_newer_version_but_not_over_a_newer_pod() {
    let mut taken = pod_eip_object("12");
    taken["metadata"]["annotations"][POD_UID_ANNOTATION] = "p-2".into();
    let world = World::new([
        moved(),
        Reply::Json(200, pod_eip_object("11")),
        Reply::Json(200, pod_eip_object("12")),
        moved(),
        Reply::Json(200, taken),
    ]);
    let mut wanted = current().status.unwrap();
    wanted.status = Some("Available".into());
    world.kube.patch_pod_eip_status(&current(), &wanted, ample()).unwrap();
    let seen = world.server.seen();
    assert_eq!(seen[2].line, format!("PATCH {PODEIP}/status"));
    assert_eq!(seen[2].body["metadata"], json!({"uid": "u-1", "resourceVersion": "11"}));
    assert_eq!(seen[2].body["status"], json!({"status": "Available"}));
    let failure = world.kube.patch_pod_eip_status(&current(), &wanted, ample()).unwrap_err();
    assert!(failure.is_superseded(), "{failure}");
    assert!(failure.to_string().contains("pod UID p-2"));
    assert_eq!(world.server.lines().len(), 5);
}

#[test]
fn annotating_touches_nothing_else() {
    let world = World::new([Reply::Json(200, pod_eip_object("11"))]);
    let changes = BTreeMap::from([("podeip/note", Some("pod lives"))]);
    assert_eq!(world.kube.annotate_pod_eip(&current(), &changes, ample()).unwrap().resource_version, "11");
    let body = json!({"metadata": {"uid": "u-1", "annotations": {"podeip/note": "pod lives"}}});
    assert_eq!(world.server.seen()[0].body, body);
}

#[test]
fn a_deletion_marks_first_and_clears_our_finalizer_then() {
    let world = World::new([
        Reply::Json(200, doomed_object("11")),
        Reply::Json(200, doomed_object("11")),
        moved(),
        Reply::Json(200, doomed_object("12")),
        Reply::Json(200, doomed_object("13")),
    ]);
    world.kube.delete_pod_eip(&current(), ample()).unwrap();
    let seen = world.server.seen();
    let lines: Vec<_> = seen.iter().map(|seen| seen.line.split(' ').next().unwrap()).collect();
    assert_eq!(lines, ["DELETE", "GET", "PATCH", "GET", "PATCH"]);
    assert_eq!(seen[0].body["preconditions"], json!({"uid": "u-1", "resourceVersion": "10"}));
    let metadata = json!({"uid": "u-1", "resourceVersion": "12", "finalizers": ["other.example/f"]});
    assert_eq!(seen[4].body, json!({"metadata": metadata}));
}

#[test]
fn a_deletion_goes_on_after_a_crash_between_its_two_steps() {
    let world = World::new([Reply::Json(200, json!({}))]);
    world.kube.delete_pod_eip(&pod_eip(doomed_object("11")), ample()).unwrap();
    assert_eq!(world.server.lines(), [format!("PATCH {PODEIP}")]);
}

#[test]
fn a_deletion_whose_answer_was_lost_goes_on() {
    let world = World::new([Reply::Cut, moved(), Reply::Json(200, doomed_object("11")), Reply::Json(200, json!({}))]);
    world.kube.delete_pod_eip(&current(), ample()).unwrap();
    assert_eq!(world.server.lines().len(), 4);
}

#[test]
fn what_is_gone_is_deleted() {
    let mut other = pod_eip_object("20");
    other["metadata"]["uid"] = "u-2".into();
    let uid = "Precondition failed: UID in precondition: u-1, UID in object meta: u-2";
    let world = World::new([
        absent(),
        // Another object has the name.
        status(409, "Conflict", uid),
        Reply::Json(200, other),
        // Nobody else's finalizer held it.
        Reply::Json(200, json!({"kind": "Status", "status": "Success"})),
        absent(),
    ]);
    for requests in [1, 3, 5] {
        world.kube.delete_pod_eip(&current(), ample()).unwrap();
        assert_eq!(world.server.lines().len(), requests);
    }
}

#[test]
fn a_changed_object_is_not_deleted() {
    let mut taken = doomed_object("12");
    taken["metadata"]["annotations"][POD_UID_ANNOTATION] = "p-2".into();
    let world = World::new([moved(), Reply::Json(200, pod_eip_object("11")), moved(), Reply::Json(200, taken)]);
    let failure = world.kube.delete_pod_eip(&current(), ample()).unwrap_err();
    assert!(failure.is_conflict() && failure.status() == Some(409));
    let failure = world.kube.delete_pod_eip(&current(), ample()).unwrap_err();
    assert!(failure.is_superseded(), "{failure}");
    assert!(world.server.lines().iter().all(|line| !line.starts_with("PATCH")));
}

#[test]
fn no_error_shows_the_token() {
    let world = World::with_user([Reply::Cut, Reply::Text(404, "no"), Reply::Text(200, "no")], "token: s3cr3t-t0ken");
    let soon = || Deadline::after(Duration::from_secs(1));
    for _ in 0..3 {
        let failure = world.kube.pod("shop", "web-0", soon()).unwrap_err();
        let text = format!("{failure} {failure:?} {:?}", failure.hint());
        assert!(!text.contains("s3cr3t"), "{text}");
    }
    assert_eq!(world.bearers()[0], "Bearer s3cr3t-t0ken");
}

#[test]
fn many_threads_share_one_client() {
    let world = World::new((0..8).map(|_| Reply::Json(200, pod_object("web-0"))));
    std::thread::scope(|scope| {
        let ask = || world.kube.pod("shop", "web-0", ample()).unwrap().unwrap();
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(ask)).collect();
        assert!(threads.into_iter().all(|thread| thread.join().unwrap().name == "web-0"));
    });
    assert_eq!(world.server.lines().len(), 8);
}

/// A kubeconfig for `server` with files beside it, by relative names.
fn secure_config(server: &Scripted, directory: &tempfile::TempDir, ca: &Authority, client: &Authority) -> PathBuf {
    let (certificate, key) = client.sign("node");
    for (name, content) in [("ca.crt", &ca.pem), ("client.crt", &certificate), ("client.key", &key)] {
        std::fs::write(directory.path().join(name), content).unwrap();
    }
    let kubeconfig = directory.path().join("kubeconfig");
    let user = "client-certificate: client.crt, client-key: client.key";
    let text = config(server, user).replace("http://", "https://");
    let text = text.replace("{server: ", "{certificate-authority: ca.crt, server: ");
    std::fs::write(&kubeconfig, text).unwrap();
    kubeconfig
}

#[test]
fn speaks_tls_with_a_private_authority_and_a_client_certificate_over_ipv6() {
    let authority = Authority::new();
    let server = Scripted::secure([Reply::Json(200, pod_object("web-0"))], &authority);
    let directory = tempfile::tempdir().unwrap();
    let kube = Kube::from_kubeconfig(&secure_config(&server, &directory, &authority, &authority)).unwrap();
    assert!(kube.server().starts_with("https://[::1]:"));
    assert_eq!(kube.pod("shop", "web-0", ample()).unwrap().unwrap().name, "web-0");
    assert_eq!(server.seen()[0].authorization, None);
}

#[test]
fn a_server_of_another_authority_gets_no_request_and_only_one_try() {
    let (authority, other) = (Authority::new(), Authority::new());
    let server = Scripted::secure([], &authority);
    let directory = tempfile::tempdir().unwrap();
    let kube = Kube::from_kubeconfig(&secure_config(&server, &directory, &other, &authority)).unwrap();
    let failure = kube.pod("shop", "web-0", ample()).unwrap_err();
    assert!(failure.hint().unwrap().contains("certificate authority"), "{failure:?}");
    assert!(server.lines().is_empty() && server.connections() == 1);
}
