//! Commands in containers (`kubectl exec`), over WebSockets: a test says what runs them, and all they printed is sent at
//! once. Not simulated: standard input, terminals, and SPDY, which clients before 1.31 speak first.

use std::fmt;
use std::sync::Arc;

use serde_json::{Value, json};

use super::aim::{Aim, ResourceAim};
use super::cluster::{Cluster, Place};
use super::object::text;
use super::status::ApiError;
use crate::exchange::{Body, Conversation, Reply, Request};

/// The newest first.
const PROTOCOLS: [&str; 2] = ["v5.channel.k8s.io", "v4.channel.k8s.io"];

/// The first byte of a message says what it is.
const STDOUT: u8 = 1;
const STDERR: u8 = 2;
const OUTCOME: u8 = 3;

/// A command that a client wants to be run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exec {
    pub namespace: String,
    pub pod: String,
    pub container: String,
    pub command: Vec<String>,
}

/// What became of it.
#[derive(Clone, Debug, Default)]
pub struct Ended {
    pub code: i32,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
}

/// What runs commands in containers: the node, which a test plays.
#[derive(Clone)]
pub struct Executor(Arc<dyn Fn(&Exec) -> Ended + Send + Sync>);

impl Executor {
    pub fn new(run: impl Fn(&Exec) -> Ended + Send + Sync + 'static) -> Self {
        Self(Arc::new(run))
    }
}

impl fmt::Debug for Executor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Executor")
    }
}

/// A request that was admitted. Running it takes its time, and so must not happen under the cluster's lock.
pub struct Admitted {
    exec: Exec,
    executor: Executor,
    protocol: &'static str,
}

impl Admitted {
    pub fn answer(&self) -> Reply {
        let Ended { code, stdout, stderr } = (self.executor.0)(&self.exec);
        let outcome = match code {
            0 => json!({ "metadata": {}, "status": "Success" }),
            code => json!({
                "metadata": {}, "status": "Failure", "reason": "NonZeroExitCode",
                "message": format!("command terminated with non-zero exit code: exit status {code}"),
                "details": { "causes": [{ "reason": "ExitCode", "message": code.to_string() }] },
            }),
        };
        let said = [(STDOUT, stdout), (STDERR, stderr), (OUTCOME, outcome.to_string().into_bytes())];
        let messages = said.into_iter().filter(|(_, bytes)| !bytes.is_empty());
        let messages = messages.map(|(channel, bytes)| [vec![channel], bytes].concat()).collect();
        let conversation = Conversation { protocol: self.protocol.into(), messages };
        Reply { status: 101, content_type: String::new(), location: None, body: Body::Conversation(conversation) }
    }
}

impl Cluster {
    /// `None` when the request is for something else.
    pub fn admit_exec(&self, request: &Request) -> Option<Result<Admitted, ApiError>> {
        match Aim::of(request) {
            Aim::Resource(aim) if aim.plural == "pods" && aim.subresource == "exec" => {
                Some(self.admit_aimed(request, &aim))
            }
            _ => None,
        }
    }

    fn admit_aimed(&self, request: &Request, aim: &ResourceAim) -> Result<Admitted, ApiError> {
        let user = self.access.authenticate(request, self.clock.now())?;
        self.authorize(&user, aim)?;
        let resource = self.resource_of(aim)?;
        let pod = self.get(Place { resource: &resource, namespace: &aim.namespace, name: &aim.name })?;
        let container = container_of(pod, request.parameter("container"))?;
        if text(pod, "/status/phase") != "Running" {
            let phase = text(pod, "/status/phase");
            return Err(ApiError::bad_request(format!("pod {} does not run: it is {phase}", aim.name)));
        }
        let wants = |stream: &str| request.parameter(stream) == Some("true");
        if wants("stdin") || wants("tty") {
            return Err(ApiError::bad_request("podeip-sim simulates neither stdin nor a terminal"));
        }
        if !(wants("stdout") || wants("stderr")) {
            return Err(ApiError::bad_request("you must specify at least 1 of stdin, stdout, stderr"));
        }
        let command: Vec<String> =
            request.query.iter().filter(|(key, _)| key == "command").map(|(_, word)| word.clone()).collect();
        if command.is_empty() {
            return Err(ApiError::bad_request("you must specify a command for the container"));
        }
        let protocol = protocol_of(request)?;
        let executor = self.executor.clone();
        let executor = executor.ok_or_else(|| ApiError::internal("no node runs commands in this world"))?;
        let exec = Exec { namespace: aim.namespace.clone(), pod: aim.name.clone(), container, command };
        Ok(Admitted { exec, executor, protocol })
    }
}

/// The container that is named, or the only one.
fn container_of(pod: &Value, named: Option<&str>) -> Result<String, ApiError> {
    let name = text(pod, "/metadata/name");
    let containers = pod.pointer("/spec/containers").and_then(Value::as_array).into_iter().flatten();
    let names: Vec<&str> = containers.map(|container| text(container, "/name")).collect();
    match (named, names.as_slice()) {
        (Some(named), all) if all.contains(&named) => Ok(named.to_owned()),
        (Some(named), _) => Err(ApiError::bad_request(format!("container {named} is not valid for pod {name}"))),
        (None, [only]) => Ok((*only).to_owned()),
        (None, all) => {
            let all = all.join(" ");
            let why = format!("a container name must be specified for pod {name}, choose one of: [{all}]");
            Err(ApiError::bad_request(why))
        }
    }
}

fn protocol_of(request: &Request) -> Result<&'static str, ApiError> {
    match request.header("upgrade").map(str::to_ascii_lowercase).as_deref() {
        Some("websocket") => {}
        Some(other) => {
            let why = format!("podeip-sim speaks WebSockets and not {other}: use kubectl 1.31 or newer");
            return Err(ApiError::bad_request(why));
        }
        None => return Err(ApiError::bad_request("Upgrade request required")),
    }
    let asked = request.header("sec-websocket-protocol").unwrap_or_default();
    let known = PROTOCOLS.into_iter().find(|known| asked.split(',').any(|one| one.trim() == *known));
    known.ok_or_else(|| ApiError::bad_request(format!("none of these protocols is known: {asked:?}")))
}
