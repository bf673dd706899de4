//! The API server as the played control plane asks it: with the refusals that every client gets.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use podeip_sim::cloud::defaults;
use podeip_sim::exchange::{Body, Request};
use serde_json::{Value, json};

use crate::scene::{NODE, Scene};

pub const SYSTEM: &str = "kube-system";

/// A call that has to succeed.
#[track_caller]
pub fn call(scene: &Scene, method: &str, path: &str, body: &Value) -> Value {
    let headers =
        [("authorization", format!("Bearer {}", defaults::KUBE_TOKEN)), ("accept", "application/json".into())];
    let reply = scene.world.kube.service.answer(&Request {
        method: method.into(),
        path: path.into(),
        query: vec![],
        headers: headers.map(|(key, value)| (key.to_owned(), value)).into(),
        body: if body.is_null() { vec![] } else { body.to_string().into_bytes() },
    });
    let Body::Whole(answer) = reply.body else { panic!("{method} {path} is answered by a stream") };
    let answer: Value = serde_json::from_slice(&answer).unwrap();
    assert!((200..300).contains(&reply.status), "{method} {path}: {answer}");
    answer
}

/// A pod of a DaemonSet on the node, as its controller makes it.
pub fn create_pod_of(scene: &Scene, set: &Value) {
    let template = &set["spec"]["template"];
    let mut spec = template["spec"].clone();
    spec["nodeName"] = NODE.into();
    let owner = json!({"apiVersion": "apps/v1", "kind": "DaemonSet", "name": set["metadata"]["name"],
        "uid": set["metadata"]["uid"], "controller": true});
    let pod = json!({
        "metadata": {"generateName": format!("{}-", name(set)), "labels": template["metadata"]["labels"],
            "ownerReferences": [owner]},
        "spec": spec,
    });
    call(scene, "POST", &format!("/api/v1/namespaces/{SYSTEM}/pods"), &pod);
}

/// A token of a pod's service account.
pub fn token_of(scene: &Scene, pod: &Value) -> String {
    let account = pod["spec"]["serviceAccountName"].as_str().unwrap();
    let path = format!("/api/v1/namespaces/{}/serviceaccounts/{account}/token", namespace(pod));
    call(scene, "POST", &path, &json!({"spec": {}}))["status"]["token"].as_str().unwrap().to_owned()
}

/// What a projected volume holds: its files' paths and contents; `None` while something that must be there is not.
pub fn projected(scene: &Scene, sources: &Value) -> Option<Vec<(String, String)>> {
    let mut files = Vec::new();
    for source in sources.as_array().unwrap() {
        let (kind, from) = source.as_object().unwrap().iter().next().unwrap();
        let resource = format!("{}s", kind.to_lowercase());
        let Some(object) = scene.world.cluster.get(&resource, SYSTEM, from["name"].as_str().unwrap()) else {
            if from["optional"] == true { continue } else { return None }
        };
        for item in from["items"].as_array().unwrap() {
            let Some(text) = object["data"][item["key"].as_str().unwrap()].as_str() else {
                if from["optional"] == true { continue } else { return None }
            };
            let text = match kind.as_str() {
                "secret" => String::from_utf8(STANDARD.decode(text).unwrap()).unwrap(),
                _ => text.to_owned(),
            };
            files.push((item["path"].as_str().unwrap().to_owned(), text));
        }
    }
    Some(files)
}

pub fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().unwrap()
}

pub fn namespace(object: &Value) -> &str {
    object["metadata"]["namespace"].as_str().unwrap()
}

pub fn uid(object: &Value) -> &str {
    object["metadata"]["uid"].as_str().unwrap()
}
