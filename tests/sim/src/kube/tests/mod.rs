//! The API as clients see it: requests in, statuses and objects out.

mod access;
mod create;
mod custom;
mod delete;
mod discovery;
mod exec;
mod list;
mod manifests;
mod openapi;
mod patch;
mod podeip;
mod schema;
mod update;
mod watch;
mod world;

use serde_json::{Value, json};

use super::{KubeApi, Options, PodSpec};
use crate::clock::Clock;
use crate::exchange::{Body, Reply, Request, Service};

const PODS: &str = "/api/v1/namespaces/default/pods";
const PODEIPS: &str = "/apis/alibabacloud.com/v1beta1/namespaces/default/podeips";
const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";
const CONFIGMAPS: &str = "/api/v1/namespaces/default/configmaps";
const FINALIZER: &str = "podeip-controller.alibabacloud.com/finalizer";

const MERGE: &str = "application/merge-patch+json";
const JSON_PATCH: &str = "application/json-patch+json";
const STRATEGIC: &str = "application/strategic-merge-patch+json";

fn api() -> KubeApi {
    KubeApi::new(Clock::default(), Options::default())
}

fn api_with(change: impl FnOnce(&mut Options)) -> KubeApi {
    let mut options = Options::default();
    change(&mut options);
    KubeApi::new(Clock::default(), options)
}

/// A request from a path with its query (`/a?b=c`, nothing encoded), with a body if it is not null.
fn request(method: &str, target: &str, body: &Value) -> Request {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    let pair = |pair: &str| {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        (key.to_owned(), value.to_owned())
    };
    Request {
        method: method.into(),
        path: path.into(),
        query: pairs.map(pair).collect(),
        headers: vec![("accept".into(), "application/json".into())],
        body: if body.is_null() { vec![] } else { body.to_string().into_bytes() },
    }
}

fn with_header(mut request: Request, name: &str, value: &str) -> Request {
    request.headers.retain(|(key, _)| key != name);
    request.headers.push((name.into(), value.into()));
    request
}

fn read(reply: Reply) -> (u16, Value) {
    let Body::Whole(bytes) = reply.body else { panic!("a whole body was expected") };
    let text = String::from_utf8(bytes).unwrap();
    (reply.status, serde_json::from_str(&text).unwrap_or(Value::String(text)))
}

fn call(api: &KubeApi, method: &str, target: &str, body: &Value) -> (u16, Value) {
    read(api.answer(&request(method, target, body)))
}

/// A call that must succeed.
fn ok(api: &KubeApi, method: &str, target: &str, body: &Value) -> Value {
    let (status, answer) = call(api, method, target, body);
    assert!((200..300).contains(&status), "{method} {target}: {status} {answer}");
    answer
}

fn get(api: &KubeApi, target: &str) -> (u16, Value) {
    call(api, "GET", target, &Value::Null)
}

fn patch(api: &KubeApi, target: &str, content_type: &str, body: &Value) -> (u16, Value) {
    read(api.answer(&with_header(request("PATCH", target, body), "content-type", content_type)))
}

/// Asserts a failure `Status` with its code, reason and message, and returns it.
fn refused((code, status): (u16, Value), expected: u16, reason: &str, message: &str) -> Value {
    assert_eq!((code, &status["reason"]), (expected, &json!(reason)), "{status}");
    assert_eq!(status["message"], message);
    assert_eq!(status["kind"], "Status");
    assert_eq!(status["apiVersion"], "v1");
    assert_eq!(status["status"], "Failure");
    assert_eq!(status["code"], expected);
    status
}

fn podeip(name: &str) -> Value {
    json!({
        "apiVersion": "alibabacloud.com/v1beta1", "kind": "PodEIP", "metadata": { "name": name },
        "spec": { "allocationID": "eip-1", "allocationType": { "type": "Auto", "releaseStrategy": "Follow" } },
    })
}

fn configmap(name: &str) -> Value {
    json!({ "metadata": { "name": name }, "data": { "key": "value" } })
}

/// A running pod on a node.
fn pod(api: &KubeApi, name: &str) -> Value {
    api.create_pod(&PodSpec { node: "node-1".into(), phase: "Running".into(), ..PodSpec::new("default", name) })
}

fn version(object: &Value) -> &str {
    object["metadata"]["resourceVersion"].as_str().unwrap()
}

/// Everything a stream holds now.
fn drain(reply: &mut Reply) -> Vec<Value> {
    let Body::Stream(lines) = &mut reply.body else { panic!("a stream was expected") };
    std::iter::from_fn(|| lines.try_recv().ok()).map(|line| serde_json::from_slice(&line).unwrap()).collect()
}
