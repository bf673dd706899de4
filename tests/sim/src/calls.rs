//! The call log: every request any simulated service received, in the order of arrival.
//!
//! Signatures, security tokens, OIDC tokens and authorization headers never enter it.

use std::collections::BTreeMap;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::clock::Clock;
use crate::exchange::{Body, Reply, Request};

/// Parameters whose values are secret, or as good as secret.
const UNLOGGED: [&str; 3] = ["Signature", "SecurityToken", "OIDCToken"];

/// Which simulated service a request came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceKind {
    Vpc,
    Ecs,
    Sts,
    Metadata,
    Kube,
}

impl ServiceKind {
    /// One of the RPC endpoints (metadata is none).
    pub fn is_cloud(self) -> bool {
        matches!(self, Self::Vpc | Self::Ecs | Self::Sts)
    }
}

/// How the server's side of a call ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Ending {
    /// Still in progress, or blocked at a gate.
    Pending,
    /// An answer was made. Whether the client got it says [`Call::delivered`].
    Answered { status: u16, code: Option<String> },
    /// The connection was closed instead of an answer.
    Cut,
    /// Never answered.
    Hung,
}

/// One request and what became of it. Times are the simulated world's.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Call {
    /// 1 for the first call of this world.
    pub seq: u64,
    /// Requests with the same number came over one connection.
    pub connection: u64,
    pub service: ServiceKind,
    /// The cloud's action, or verb and resource.
    pub name: String,
    pub method: String,
    pub path: String,
    /// Query and (for the cloud) form body, decoded, without secrets.
    pub parameters: BTreeMap<String, String>,
    /// The Kubernetes API's request body: JSON, or a string where it is none.
    pub body: Option<Value>,
    pub began: Timestamp,
    /// When the answer was ready, or the call was given up.
    pub ended: Option<Timestamp>,
    /// The service carried the request out (it may have refused it).
    pub reached_service: bool,
    pub ending: Ending,
    /// The whole answer was handed to the client's connection.
    pub delivered: bool,
}

impl Call {
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str)
    }

    /// Answered with a 2xx status.
    pub fn succeeded(&self) -> bool {
        matches!(self.ending, Ending::Answered { status: 200..=299, .. })
    }

    /// The error code of a refusal: the cloud's `Code`, Kubernetes' `reason`.
    pub fn code(&self) -> Option<&str> {
        match &self.ending {
            Ending::Answered { code, .. } => code.as_deref(),
            _ => None,
        }
    }
}

/// The log. All methods may be called from any thread.
#[derive(Debug, Default)]
pub struct CallLog {
    clock: Clock,
    calls: Mutex<Vec<Call>>,
    changed: Condvar,
}

impl CallLog {
    pub fn new(clock: Clock) -> Self {
        Self { clock, ..Self::default() }
    }

    pub fn all(&self) -> Vec<Call> {
        self.lock().clone()
    }

    /// Calls after the one numbered `seq` (see [`CallLog::mark`]).
    pub fn since(&self, seq: u64) -> Vec<Call> {
        self.lock().iter().filter(|call| call.seq > seq).cloned().collect()
    }

    /// The newest call's number, 0 before the first.
    pub fn mark(&self) -> u64 {
        self.lock().last().map_or(0, |call| call.seq)
    }

    pub fn named(&self, name: &str) -> Vec<Call> {
        self.lock().iter().filter(|call| call.name == name).cloned().collect()
    }

    /// Waits until `holds` is true of the whole log; false when `timeout` passes first.
    pub fn wait_until(&self, timeout: Duration, holds: impl Fn(&[Call]) -> bool) -> bool {
        let end = Instant::now() + timeout;
        let mut calls = self.lock();
        loop {
            if holds(&calls) {
                return true;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            calls = self.changed.wait_timeout(calls, left).expect("no holder of this lock panics").0;
        }
    }

    pub(crate) fn begin(&self, connection: u64, service: ServiceKind, name: String, request: &Request) -> u64 {
        let mut calls = self.lock();
        let seq = calls.last().map_or(0, |call| call.seq) + 1;
        calls.push(Call {
            seq,
            connection,
            service,
            name,
            method: request.method.clone(),
            path: request.path.clone(),
            parameters: parameters(service, request),
            body: (service == ServiceKind::Kube && !request.body.is_empty()).then(|| loose_json(&request.body)),
            began: self.clock.now(),
            ended: None,
            reached_service: false,
            ending: Ending::Pending,
            delivered: false,
        });
        drop(calls);
        self.changed.notify_all();
        seq
    }

    pub(crate) fn reached_service(&self, seq: u64) {
        self.change(seq, |call, _| call.reached_service = true);
    }

    pub(crate) fn end(&self, seq: u64, ending: Ending) {
        self.change(seq, |call, now| {
            call.ended = Some(now);
            call.ending = ending;
        });
    }

    pub(crate) fn delivered(&self, seq: u64) {
        self.change(seq, |call, _| call.delivered = true);
    }

    fn change(&self, seq: u64, change: impl FnOnce(&mut Call, Timestamp)) {
        let mut calls = self.lock();
        let now = self.clock.now();
        if let Some(call) = calls.iter_mut().find(|call| call.seq == seq) {
            change(call, now);
        }
        drop(calls);
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Call>> {
        self.calls.lock().expect("no holder of this lock panics")
    }
}

/// The ending of an answered call: status, and the code that a refusal's body carries.
pub(crate) fn answered(reply: &Reply) -> Ending {
    let code = match &reply.body {
        Body::Whole(bytes) if reply.status >= 400 => {
            let value: Value = serde_json::from_slice(bytes).unwrap_or_default();
            ["Code", "reason"].iter().find_map(|key| value[key].as_str().map(str::to_owned))
        }
        _ => None,
    };
    Ending::Answered { status: reply.status, code }
}

fn parameters(service: ServiceKind, request: &Request) -> BTreeMap<String, String> {
    let mut all: BTreeMap<String, String> = request.query.iter().cloned().collect();
    if service.is_cloud() {
        all.extend(request.form());
    }
    all.retain(|key, _| !UNLOGGED.contains(&key.as_str()));
    if service == ServiceKind::Metadata {
        let hardened = request.header("x-aliyun-ecs-metadata-token").is_some();
        all.insert("hardened".into(), hardened.to_string());
    }
    all
}

fn loose_json(body: &[u8]) -> Value {
    serde_json::from_slice(body).unwrap_or_else(|_| Value::String(String::from_utf8_lossy(body).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_never_enter_the_log() {
        let log = CallLog::default();
        let request = Request {
            method: "POST".into(),
            path: "/".into(),
            query: vec![("Action".into(), "X".into()), ("Signature".into(), "s3cret".into())],
            headers: vec![
                ("content-type".into(), "application/x-www-form-urlencoded".into()),
                ("authorization".into(), "Bearer s3cret".into()),
            ],
            body: b"SecurityToken=s3cret&OIDCToken=s3cret&RegionId=cn-hangzhou".to_vec(),
        };
        log.begin(1, ServiceKind::Vpc, "X".into(), &request);
        let text = serde_json::to_string(&log.all()).unwrap();
        assert!(!text.contains("s3cret"), "{text}");
        assert!(text.contains("cn-hangzhou"), "{text}");
    }

    #[test]
    fn waiting_ends_when_the_call_arrives_and_not_before() {
        let log = std::sync::Arc::new(CallLog::default());
        assert!(!log.wait_until(Duration::from_millis(20), |calls| !calls.is_empty()));
        let other = log.clone();
        let writer = std::thread::spawn(move || {
            let request =
                Request { method: "GET".into(), path: "/".into(), query: vec![], headers: vec![], body: vec![] };
            other.begin(1, ServiceKind::Kube, "get pods".into(), &request)
        });
        assert!(log.wait_until(Duration::from_secs(5), |calls| calls.len() == 1));
        assert_eq!(writer.join().unwrap(), log.mark());
    }
}
