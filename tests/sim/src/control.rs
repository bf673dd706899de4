//! The control endpoint: JSON over HTTP, for people and for tests in other languages.
//!
//! Every route is in [`ROUTES`], which `GET /` answers. A request that cannot be carried out is
//! answered 400 (404 for an unknown route) with `{"error": "…"}`.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::Context;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::calls::{CallLog, ServiceKind};
use crate::clock::Clock;
use crate::cloud::{CloudSim, EniSpec, Package, UserEip};
use crate::exchange::{Body, Reply, Request, Service};
use crate::faults::{Faults, Rule, RuleId, ServiceMatch};
use crate::gates::{Gate, Moment, Outcome};
use crate::serve::CERTIFICATE_HEADER;
use crate::world::{Kube, Servers};

/// Method, path and what it takes.
pub const ROUTES: &[(&str, &str, &str)] = &[
    ("GET", "/state", "the whole cloud, the Kubernetes objects and the time"),
    ("GET", "/calls", "the call log; ?since=SEQ for the calls after that one"),
    ("GET", "/faults", "the rules in force"),
    (
        "POST",
        "/faults",
        r#"a rule: {"service":"cloud","call":"Allocate*","skip":0,"times":1,"effect":{"kind":"error","status":400,"code":"QuotaExceeded.Eip","message":"quota","when":"beforeEffect"}}; other kinds: latency {millis}, gateway {status, when}, cut {when}, hang {when}, garbage, truncated"#,
    ),
    ("DELETE", "/faults", "all rules; ?id=N for one"),
    (
        "POST",
        "/gates",
        r#"stop a call: {"service":"any","call":"*","k":1,"moment":"beforeEffect|afterEffect|afterAnswer"}; answers its id"#,
    ),
    ("GET", "/gates", "?id=N&waitMillis=M: has a call reached the gate (within that time)?"),
    ("DELETE", "/gates", "?id=N&outcome=continue|cut: let the call go on"),
    ("POST", "/clock", r#"{"advanceSeconds":60}"#),
    ("POST", "/services", r#"take a service down or up: {"service":"kube","up":false}"#),
    ("GET", "/cloud/settings", "the cloud's switches"),
    ("POST", "/cloud/settings", r#"change some: {"quota":3,"associateDelay":2000,"ignoreTagsOnAllocate":true}"#),
    (
        "POST",
        "/cloud/enis",
        r#"a network interface: {"id":"eni-x","mac":"00:16:3e:00:00:09","primaryIp":"10.219.3.1","privateIps":["10.219.3.2"]}"#,
    ),
    ("DELETE", "/cloud/enis", "?id=eni-x"),
    ("POST", "/cloud/private-ips", r#"{"eni":"eni-x","ips":["10.219.3.3"]}"#),
    ("POST", "/cloud/eips", r#"an EIP of the user's: {"name":"mine","bandwidth":5}; answers its id"#),
    ("DELETE", "/cloud/eips", "?id=eip-x: released at once"),
    ("POST", "/cloud/bind", r#"at once, by hand: {"eip":"eip-x","eni":"eni-x","privateIp":"10.219.3.2"}"#),
    ("POST", "/cloud/unbind", r#"at once, by hand: {"eip":"eip-x"}"#),
    ("POST", "/cloud/packages", r#"a bandwidth package: {"id":"cbwp-x","isp":"BGP","bandwidth":100}"#),
    ("POST", "/cloud/expire-credentials", "all temporary credentials expire now: {}"),
    ("POST", "/kube/pods", r#"a pod: {"namespace":"default","name":"web-0","annotations":{},"nodeName":"node-1"}"#),
    ("DELETE", "/kube/pods", "?namespace=default&name=web-0; &gracePeriodSeconds=0 deletes at once"),
    ("*", "/kube/api…", "any request of the Kubernetes API, as it would be below the API server's root"),
];

/// Namespaced and other lists that `GET /state` shows.
const KUBE_LISTS: [(&str, &str); 5] = [
    ("pods", "/api/v1/pods"),
    ("nodes", "/api/v1/nodes"),
    ("events", "/api/v1/events"),
    ("podeips", "/apis/alibabacloud.com/v1beta1/podeips"),
    ("leases", "/apis/coordination.k8s.io/v1/leases"),
];

/// The service behind the control endpoint.
pub(crate) struct Control {
    cloud: Arc<CloudSim>,
    faults: Arc<Faults>,
    calls: Arc<CallLog>,
    clock: Clock,
    kube: Kube,
    servers: Arc<Servers>,
    gates: Mutex<BTreeMap<u64, Arc<Gate>>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewGate {
    #[serde(default)]
    service: ServiceMatch,
    #[serde(default = "every")]
    call: String,
    #[serde(default = "first")]
    k: u32,
    moment: Moment,
}

fn every() -> String {
    "*".into()
}

fn first() -> u32 {
    1
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Advance {
    advance_seconds: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Switch {
    service: ServiceKind,
    up: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PrivateIps {
    eni: String,
    ips: Vec<Ipv4Addr>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Bind {
    eip: String,
    eni: String,
    private_ip: Ipv4Addr,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unbind {
    eip: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewPod {
    #[serde(default = "default_namespace")]
    namespace: String,
    name: String,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
    #[serde(default = "default_node")]
    node_name: String,
}

fn default_namespace() -> String {
    "default".into()
}

fn default_node() -> String {
    "node-1".into()
}

impl Service for Control {
    fn call_name(&self, request: &Request) -> String {
        format!("{} {}", request.method, request.path)
    }

    fn answer(&self, request: &Request) -> Reply {
        if let Some(path) = request.path.strip_prefix("/kube").filter(|path| path.starts_with("/api")) {
            return self.ask_kube(&request.method, path, request.query.clone(), request.body.clone(), request);
        }
        match self.route(request) {
            Ok(Some(answer)) => Reply::json(200, &answer),
            Ok(None) => {
                let error = format!("there is no {} {}; GET / lists what there is", request.method, request.path);
                Reply::json(404, &json!({"error": error}))
            }
            Err(error) => Reply::json(400, &json!({"error": format!("{error:#}")})),
        }
    }
}

impl Control {
    pub fn new(
        cloud: Arc<CloudSim>,
        faults: Arc<Faults>,
        calls: Arc<CallLog>,
        clock: Clock,
        kube: Kube,
        servers: Arc<Servers>,
    ) -> Self {
        Self { cloud, faults, calls, clock, kube, servers, gates: Mutex::default() }
    }

    /// `None`: no such route.
    fn route(&self, request: &Request) -> anyhow::Result<Option<Value>> {
        if request.path.starts_with("/cloud/") {
            return self.route_cloud(request);
        }
        Ok(Some(match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/") => json!(ROUTES),
            ("GET", "/state") => {
                json!({"now": self.clock.now(), "cloud": self.cloud.state(), "kube": self.kube_state()})
            }
            ("GET", "/calls") => match request.parameter("since") {
                Some(seq) => json!(self.calls.since(seq.parse().context("since has to be a number")?)),
                None => json!(self.calls.all()),
            },
            ("GET", "/faults") => {
                let rules = self.faults.rules().into_iter();
                rules.map(|(id, rule)| json!({"id": id, "hits": self.faults.hits(id), "rule": rule})).collect()
            }
            ("POST", "/faults") => json!({"id": self.faults.add(body::<Rule>(request)?)}),
            ("DELETE", "/faults") => {
                match request.parameter("id") {
                    Some(id) => self.faults.remove(RuleId(id.parse().context("id has to be a number")?)),
                    None => self.faults.clear(),
                }
                json!({})
            }
            ("POST", "/gates") => self.new_gate(body(request)?),
            ("GET", "/gates") => self.look_at_gate(request)?,
            ("DELETE", "/gates") => self.open_gate(request)?,
            ("POST", "/clock") => {
                self.clock.advance(Duration::from_secs(body::<Advance>(request)?.advance_seconds));
                json!({"now": self.clock.now()})
            }
            ("POST", "/services") => {
                let Switch { service, up } = body(request)?;
                self.servers.set_up(service, up);
                json!({})
            }
            ("POST", "/kube/pods") => self.create_pod(body(request)?)?,
            ("DELETE", "/kube/pods") => self.delete_pod(request)?,
            _ => return Ok(None),
        }))
    }

    fn route_cloud(&self, request: &Request) -> anyhow::Result<Option<Value>> {
        Ok(Some(match (request.method.as_str(), request.path.as_str()) {
            ("GET", "/cloud/settings") => json!(self.cloud.settings()),
            ("POST", "/cloud/settings") => {
                self.cloud.set_json(&body(request)?)?;
                json!(self.cloud.settings())
            }
            ("POST", "/cloud/enis") => {
                self.cloud.add_eni(body::<EniSpec>(request)?);
                json!({})
            }
            ("DELETE", "/cloud/enis") => json!({"deleted": self.cloud.delete_eni(parameter(request, "id")?)}),
            ("POST", "/cloud/private-ips") => {
                let PrivateIps { eni, ips } = body(request)?;
                self.cloud.add_private_ips(&eni, &ips)?;
                json!({})
            }
            ("POST", "/cloud/eips") => json!({"id": self.cloud.create_user_eip(body::<UserEip>(request)?)}),
            ("DELETE", "/cloud/eips") => {
                self.cloud.release_by_hand(parameter(request, "id")?)?;
                json!({})
            }
            ("POST", "/cloud/bind") => {
                let Bind { eip, eni, private_ip } = body(request)?;
                self.cloud.bind_by_hand(&eip, &eni, private_ip)?;
                json!({})
            }
            ("POST", "/cloud/unbind") => {
                self.cloud.unbind_by_hand(&body::<Unbind>(request)?.eip)?;
                json!({})
            }
            ("POST", "/cloud/packages") => {
                self.cloud.add_package(body::<Package>(request)?);
                json!({})
            }
            ("POST", "/cloud/expire-credentials") => {
                self.cloud.expire_credentials();
                json!({})
            }
            _ => return Ok(None),
        }))
    }

    fn new_gate(&self, wanted: NewGate) -> Value {
        let gate = self.faults.gate_on(wanted.service, &wanted.call, wanted.k, wanted.moment);
        let mut gates = self.gates();
        let id = gates.last_key_value().map_or(1, |(last, _)| last + 1);
        gates.insert(id, Arc::new(gate));
        json!({"id": id})
    }

    fn look_at_gate(&self, request: &Request) -> anyhow::Result<Value> {
        let gate = self.gates().get(&gate_id(request)?).cloned().context("there is no such gate")?;
        let wait = request.parameter("waitMillis").unwrap_or("0").parse().context("waitMillis has to be a number")?;
        let reached = gate.wait_reached(Duration::from_millis(wait));
        Ok(json!({"reached": reached, "call": gate.reached_by()}))
    }

    fn open_gate(&self, request: &Request) -> anyhow::Result<Value> {
        let outcome = request.parameter("outcome").unwrap_or("continue");
        let outcome: Outcome = serde_json::from_value(json!(outcome)).context("outcome is continue or cut")?;
        let gate = self.gates().remove(&gate_id(request)?).context("there is no such gate")?;
        gate.release(outcome);
        Ok(json!({}))
    }

    fn gates(&self) -> MutexGuard<'_, BTreeMap<u64, Arc<Gate>>> {
        self.gates.lock().expect("no holder of this lock panics")
    }

    fn kube_state(&self) -> Value {
        let list = |(name, path): (&str, &str)| (name.to_owned(), self.kube_list(path));
        Value::Object(KUBE_LISTS.into_iter().map(list).collect())
    }

    fn kube_list(&self, path: &str) -> Value {
        let asked = empty_request();
        match self.ask_kube("GET", path, Vec::new(), Vec::new(), &asked).body {
            Body::Whole(bytes) => {
                serde_json::from_slice::<Value>(&bytes).map(|list| list["items"].clone()).unwrap_or_default()
            }
            Body::Stream(_) | Body::Conversation(_) => Value::Null,
        }
    }

    fn create_pod(&self, pod: NewPod) -> anyhow::Result<Value> {
        let path = format!("/api/v1/namespaces/{}/pods", pod.namespace);
        let object = json!({
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": pod.name, "namespace": pod.namespace, "annotations": pod.annotations},
            "spec": {"nodeName": pod.node_name, "containers": [{"name": "main", "image": "pause"}]},
        });
        let mut asked = empty_request();
        asked.headers.push(("content-type".into(), "application/json".into()));
        whole(self.ask_kube("POST", &path, Vec::new(), object.to_string().into_bytes(), &asked))
    }

    fn delete_pod(&self, request: &Request) -> anyhow::Result<Value> {
        let namespace = request.parameter("namespace").unwrap_or("default");
        let path = format!("/api/v1/namespaces/{namespace}/pods/{}", parameter(request, "name")?);
        let mut query = request.query.clone();
        query.retain(|(name, _)| !matches!(name.as_str(), "namespace" | "name"));
        whole(self.ask_kube("DELETE", &path, query, Vec::new(), request))
    }

    /// Asks the API server's service directly: neither logged nor disturbed.
    fn ask_kube(
        &self,
        method: &str,
        path: &str,
        query: Vec<(String, String)>,
        body: Vec<u8>,
        asked: &Request,
    ) -> Reply {
        let mut headers = asked.headers.clone();
        headers.retain(|(name, _)| name != "authorization");
        let (name, value) = CERTIFICATE_HEADER;
        headers.push((name.into(), value.into()));
        if let Some(token) = &self.kube.token {
            headers.push(("authorization".into(), format!("Bearer {token}")));
        }
        self.kube.service.answer(&Request { method: method.into(), path: path.into(), query, headers, body })
    }
}

fn empty_request() -> Request {
    Request { method: String::new(), path: String::new(), query: vec![], headers: vec![], body: vec![] }
}

/// The API server's JSON; an error when it refused.
fn whole(reply: Reply) -> anyhow::Result<Value> {
    let Body::Whole(bytes) = reply.body else { anyhow::bail!("the API server answered with a stream") };
    let value: Value = serde_json::from_slice(&bytes).context("reading the API server's answer")?;
    anyhow::ensure!(reply.status < 400, "the API server refused: {value}");
    Ok(value)
}

fn body<T: DeserializeOwned>(request: &Request) -> anyhow::Result<T> {
    serde_json::from_slice(&request.body).context("reading the request's body")
}

fn parameter<'a>(request: &'a Request, name: &str) -> anyhow::Result<&'a str> {
    request.parameter(name).with_context(|| format!("the query has no {name}"))
}

fn gate_id(request: &Request) -> anyhow::Result<u64> {
    parameter(request, "id")?.parse().context("id has to be a number")
}
