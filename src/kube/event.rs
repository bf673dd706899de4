//! Events: what `kubectl describe pod` shows. A repeat counts up instead of making another one, and
//! what podeip told before can be read again.

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};
use sha1::{Digest, Sha1};

use super::client::Kube;
use super::error::KubeError;
use super::request::{Format, Operation, Request, Resource, Verb};
use super::wire::{self, WireMeta};
use crate::deadline::Deadline;

/// The API server refuses a longer message.
const LONGEST_MESSAGE: usize = 1024;

/// Names of objects are at most this long.
const LONGEST_NAME: usize = 253;

/// Several processes of a node may count the same event up at once; the loser looks again.
const COUNT_TRIES: u32 = 5;

/// An event is about 1 KiB, so a page is far below the largest answer.
const EVENTS_PER_PAGE: u32 = 500;

/// Who reports, in the event's source.
const COMPONENT: &str = "podeip";

/// The object an event is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectRef {
    /// Such as `v1` or `alibabacloud.com/v1beta1`.
    pub api_version: String,
    pub kind: String,
    /// Empty for what is in none.
    pub namespace: String,
    pub name: String,
    pub uid: String,
}

impl ObjectRef {
    /// Where events about it are kept; those about what is in no namespace are in the default one.
    fn namespace_of_events(&self) -> &str {
        if self.namespace.is_empty() { "default" } else { &self.namespace }
    }

    /// A node, as its kubelet's events name it: by its name in place of the UID, which is where `kubectl
    /// describe node` looks.
    pub fn node(name: &str) -> Self {
        Self {
            api_version: "v1".into(),
            kind: "Node".into(),
            namespace: String::new(),
            name: name.into(),
            uid: name.into(),
        }
    }
}

/// Something worth telling the pod's owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    /// Type `Warning` instead of `Normal`.
    pub warning: bool,
    /// One word in CamelCase.
    pub reason: String,
    /// For people; cut to 1024 bytes.
    pub message: String,
    /// The node that reports.
    pub node: Option<String>,
}

/// An event of podeip's as the API server keeps it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedEvent {
    /// The kind of the object that it is about, such as `Pod`.
    pub regarding_kind: String,
    /// That object's UID.
    pub regarding_uid: String,
    /// Type `Warning` instead of `Normal`.
    pub warning: bool,
    pub reason: String,
    pub message: String,
    /// How often it was told.
    pub count: u64,
    pub last_seen: Option<Timestamp>,
}

#[derive(Deserialize)]
pub(super) struct WireEvent {
    metadata: WireMeta,
    count: Option<u64>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct WireRecorded {
    involved_object: Option<WireRegarding>,
    #[serde(rename = "type")]
    kind: Option<String>,
    reason: Option<String>,
    message: Option<String>,
    count: Option<u64>,
    last_timestamp: Option<String>,
    source: Option<WireSource>,
}

#[derive(Default, Deserialize)]
struct WireRegarding {
    kind: Option<String>,
    uid: Option<String>,
}

#[derive(Deserialize)]
struct WireSource {
    component: Option<String>,
}

impl WireRecorded {
    fn is_ours(&self) -> bool {
        self.source.as_ref().is_some_and(|source| source.component.as_deref() == Some(COMPONENT))
    }
}

impl From<WireRecorded> for RecordedEvent {
    fn from(wire: WireRecorded) -> Self {
        let regarding = wire.involved_object.unwrap_or_default();
        RecordedEvent {
            regarding_kind: regarding.kind.unwrap_or_default(),
            regarding_uid: regarding.uid.unwrap_or_default(),
            warning: wire.kind.as_deref() == Some("Warning"),
            reason: wire.reason.unwrap_or_default(),
            message: wire.message.unwrap_or_default(),
            count: wire.count.unwrap_or(1),
            last_seen: wire.last_timestamp.as_deref().and_then(wire::time),
        }
    }
}

impl Kube {
    /// Records `event` about `regarding`. The same object, reason and message again (while the
    /// API server still keeps the first one, an hour by default) raises `count` and
    /// `lastTimestamp` of the event that is there.
    pub fn record_event(&self, regarding: &ObjectRef, event: &Event, deadline: Deadline) -> Result<(), KubeError> {
        let name = event_name(regarding, event);
        let body = event_object(regarding, event, &name, self.now());
        let operation = |verb| Operation::on(verb, Resource::Events, regarding.namespace_of_events(), &name);
        let creation = Request::write(operation(Verb::Create), Format::Json, body);
        let mut tries = 0;
        loop {
            tries += 1;
            match self.command(&creation, deadline) {
                Err(there) if there.is_already_exists() => {}
                other => return other,
            }
            let decode = |body: &[u8]| serde_json::from_slice::<WireEvent>(body);
            // It may expire between the two calls; then it is created after all.
            let Some(known) = self.find(operation(Verb::Get), deadline, decode)? else { continue };
            let count = count_patch(&known, self.now());
            match self.command(&Request::write(operation(Verb::Patch), Format::MergePatch, count), deadline) {
                Err(moved) if tries < COUNT_TRIES && (moved.is_conflict() || moved.is_not_found()) => {}
                other => return other,
            }
        }
    }
}

impl Kube {
    /// podeip's events about every object of that name, oldest first: the pod, whichever instance, and
    /// its PodEIP. The API server forgets an event an hour after its last repeat, by default.
    pub fn events_about(
        &self,
        namespace: &str,
        name: &str,
        deadline: Deadline,
    ) -> Result<Vec<RecordedEvent>, KubeError> {
        let subject = format!("involvedObject.name={name},involvedObject.namespace={namespace}");
        let operation = Operation::list(Resource::Events, Some(namespace));
        // Older API servers cannot select by the reporter.
        let decode = |item: &str| Ok(Some(serde_json::from_str(item)?).filter(WireRecorded::is_ours));
        let ours = self.list(operation, &[("fieldSelector", subject)], EVENTS_PER_PAGE, deadline, decode)?;
        let mut ours: Vec<RecordedEvent> = ours.into_iter().map(Into::into).collect();
        ours.sort_by_key(|event| event.last_seen);
        Ok(ours)
    }
}

/// A function of object, reason and message, so that a repeat meets the event that is there.
fn event_name(regarding: &ObjectRef, event: &Event) -> String {
    let mut hash = Sha1::new();
    for part in [&regarding.uid, &event.reason, &event.message] {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part.as_bytes());
    }
    let digest = hash.finalize();
    let suffix: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let room = LONGEST_NAME - suffix.len() - 1;
    let object: String = regarding.name.chars().take(room).collect();
    // A name part must not end in a dot or a dash.
    format!("{}.{suffix}", object.trim_end_matches(['.', '-']))
}

fn event_object(regarding: &ObjectRef, event: &Event, name: &str, now: Timestamp) -> Value {
    let now = wire::time_text(now);
    let node = event.node.as_deref().unwrap_or_default();
    json!({
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"namespace": regarding.namespace_of_events(), "name": name},
        "involvedObject": {
            "apiVersion": regarding.api_version,
            "kind": regarding.kind,
            "namespace": regarding.namespace,
            "name": regarding.name,
            "uid": regarding.uid,
        },
        "type": if event.warning { "Warning" } else { "Normal" },
        "reason": event.reason,
        "message": shortened(&event.message),
        "source": {"component": COMPONENT, "host": node},
        "reportingComponent": COMPONENT,
        "reportingInstance": node,
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    })
}

pub(super) fn count_patch(known: &WireEvent, now: Timestamp) -> Value {
    json!({
        "metadata": {"uid": known.metadata.uid, "resourceVersion": known.metadata.resource_version},
        "count": known.count.unwrap_or(1).saturating_add(1),
        "lastTimestamp": wire::time_text(now),
    })
}

/// At most 1024 bytes, ending in an ellipsis if something was cut.
fn shortened(message: &str) -> String {
    const ELLIPSIS: &str = "…";
    if message.len() <= LONGEST_MESSAGE {
        return message.into();
    }
    let mut end = LONGEST_MESSAGE - ELLIPSIS.len();
    while !message.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}{ELLIPSIS}", &message[..end])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regarding(uid: &str) -> ObjectRef {
        ObjectRef {
            api_version: "v1".into(),
            kind: "Pod".into(),
            namespace: "shop".into(),
            name: "web-0".into(),
            uid: uid.into(),
        }
    }

    fn event(reason: &str, message: &str) -> Event {
        Event { warning: true, reason: reason.into(), message: message.into(), node: Some("n-1".into()) }
    }

    #[test]
    fn the_name_is_a_function_of_object_reason_and_message() {
        let name = event_name(&regarding("u1"), &event("EIPFailed", "no quota"));
        assert_eq!(name, event_name(&regarding("u1"), &event("EIPFailed", "no quota")));
        assert!(name.starts_with("web-0.") && name.len() == "web-0.".len() + 16, "{name}");
        assert_ne!(name, event_name(&regarding("u2"), &event("EIPFailed", "no quota")));
        assert_ne!(name, event_name(&regarding("u1"), &event("EIPFaile", "dno quota")));
        let normal = Event { warning: false, node: None, ..event("EIPFailed", "no quota") };
        assert_eq!(name, event_name(&regarding("u1"), &normal));
    }

    #[test]
    fn a_count_at_its_end_stays_there() {
        let body = format!(r#"{{"metadata":{{"name":"e","uid":"u"}},"count":{}}}"#, u64::MAX);
        let known = serde_json::from_str(&body).unwrap();
        assert_eq!(count_patch(&known, Timestamp::UNIX_EPOCH)["count"], u64::MAX);
    }

    #[test]
    fn the_longest_pod_name_still_makes_a_name() {
        let long = ObjectRef { name: format!("{}.{}", "a".repeat(235), "b".repeat(17)), ..regarding("u1") };
        let name = event_name(&long, &event("R", "m"));
        assert!(name.len() <= LONGEST_NAME && !name.contains(".."), "{name}");
    }

    #[test]
    fn the_object_names_us_and_the_subject() {
        let now: Timestamp = "2024-03-01T10:00:07.9Z".parse().unwrap();
        let object = event_object(&regarding("u1"), &event("EIPFailed", "no quota"), "web-0.1", now);
        assert_eq!(object["involvedObject"]["uid"], "u1");
        assert_eq!(object["source"], json!({"component": "podeip", "host": "n-1"}));
        assert_eq!((&object["type"], &object["count"]), (&json!("Warning"), &json!(1)));
        assert_eq!(object["lastTimestamp"], "2024-03-01T10:00:07Z");
    }

    #[test]
    fn long_messages_are_cut_between_characters() {
        let text = "地".repeat(400);
        let cut = shortened(&text);
        assert!(cut.len() <= 1024 && cut.len() > 1018 && cut.ends_with("地…"), "{}", cut.len());
        assert_eq!(shortened(&"a".repeat(1024)).len(), 1024);
        assert_eq!(shortened(&"a".repeat(1025)).len(), 1024);
    }
}
