//! What is to become of a PodEIP, decided from facts alone.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::eip::request::{self, Source};
use crate::kube::{Pod, PodEip};
use crate::strategy::Strategy;

/// Whoever made an object that names no pod instance may still be at work on its end. One that
/// nobody has ended for this long is an orphan of a tool that is gone.
const FOREIGN_PATIENCE: Duration = Duration::from_secs(10 * 60);

/// The decision, with its reason in plain words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All is as it should be, or it is not ours to judge.
    Leave,
    /// It is being deleted, and its pod lives: it goes when the pod goes.
    Wait,
    /// It outlives its pod: nothing stays bound where the pod was.
    Unbind(String),
    /// Nobody will want it any more: unbind, release if it is ours, and let it go.
    End(String),
}

/// Whether a PodEIP is worth a look at its pod. Its node says every period that the pod lives, so
/// one that was seen within `fresh` is in good hands.
pub fn is_suspect(pod_eip: &PodEip, now: Timestamp, fresh: Duration) -> bool {
    let patience = match pod_eip.spec.strategy {
        Strategy::After(span) => fresh.min(span.0),
        _ => fresh,
    };
    pod_eip.deleting || (pod_eip.pod_uid().is_some() && unseen_for(pod_eip, now) > patience)
}

/// Judges a suspect whose name `pod` has now.
pub fn judge(pod_eip: &PodEip, pod: Option<&Pod>, now: Timestamp) -> Verdict {
    let living = pod.filter(|pod| !pod.finished());
    // Objects that other tools made name no instance: any pod of the name counts.
    let own = living.filter(|pod| pod_eip.pod_uid().is_none_or(|uid| pod.is_instance(&uid)));
    match (pod_eip.deleting, own) {
        (true, Some(_)) => return Verdict::Wait,
        (true, None) if pod_eip.pod_uid().is_none() && !is_abandoned(pod_eip, now) => return Verdict::Leave,
        (true, None) => return Verdict::End("it is being deleted".into()),
        (false, Some(_)) => return Verdict::Leave,
        (false, None) if pod_eip.pod_uid().is_none() => return Verdict::Leave,
        (false, None) => {}
    }
    // Its ADD takes the EIP over, from wherever it is bound.
    if living.is_some_and(asks_for_any) {
        return Verdict::Leave;
    }
    let gone = if pod.is_some_and(|pod| pod_eip.pod_uid().is_some_and(|uid| pod.is_instance(&uid))) {
        "the pod has finished"
    } else {
        "the pod is gone"
    };
    match pod_eip.spec.strategy {
        Strategy::Follow => Verdict::End(gone.into()),
        Strategy::Never => unbind(pod_eip, gone),
        Strategy::After(span) if unseen_for(pod_eip, now) > span.0 => {
            Verdict::End(format!("{gone}, and was last seen more than {span} ago"))
        }
        Strategy::After(_) => unbind(pod_eip, gone),
    }
}

fn is_abandoned(pod_eip: &PodEip, now: Timestamp) -> bool {
    let span = pod_eip.deleting_since.map(|since| now.duration_since(since));
    span.and_then(|span| Duration::try_from(span).ok()).is_some_and(|span| span >= FOREIGN_PATIENCE)
}

fn unbind(pod_eip: &PodEip, why: &str) -> Verdict {
    let bound = pod_eip.status.as_ref().is_some_and(|status| status.private_ip_address.is_some());
    if bound { Verdict::Unbind(why.into()) } else { Verdict::Leave }
}

fn asks_for_any(pod: &Pod) -> bool {
    let requested = request::read(&pod.annotations);
    matches!(requested, Ok(Some(requested)) if matches!(requested.wish.source, Source::Allocate(_)))
}

/// Since its pod was known to live; since it was made, if it never was.
fn unseen_for(pod_eip: &PodEip, now: Timestamp) -> Duration {
    let seen = pod_eip.status.as_ref().and_then(|status| status.pod_last_seen).or(pod_eip.created_at);
    let span = seen.map_or(SignedDuration::ZERO, |seen| now.duration_since(seen));
    Duration::try_from(span).unwrap_or_default() // negative: seen in the future
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const FRESH: Duration = Duration::from_secs(150);

    fn pod_eip(strategy: &str, seen: &str, change: Value) -> PodEip {
        let (name, after) = match strategy {
            "Follow" | "Never" => (strategy, ""),
            span => ("TTL", span),
        };
        let mut object = json!({
            "metadata": {"name": "web-0", "namespace": "shop", "uid": "e1", "resourceVersion": "7",
                "creationTimestamp": "2026-01-01T00:00:00Z", "annotations": {"podeip/pod-uid": "u1"}},
            "spec": {"allocationID": "eip-1",
                "allocationType": {"type": "Auto", "releaseStrategy": name, "releaseAfter": after}},
            "status": {"podLastSeen": seen, "privateIPAddress": "10.0.0.5", "networkInterfaceID": "eni-1"},
        });
        for (key, value) in change.as_object().unwrap() {
            object["metadata"][key] = value.clone();
        }
        serde_json::from_value(object).unwrap()
    }

    fn pod(uid: &str, phase: &str, asks: bool) -> Pod {
        let annotations = if asks {
            [("k8s.aliyun.com/pod-with-eip".to_string(), "true".to_string())].into()
        } else {
            Default::default()
        };
        Pod {
            namespace: "shop".into(),
            name: "web-0".into(),
            uid: uid.into(),
            resource_version: "1".into(),
            node: None,
            annotations,
            owners: vec![],
            readiness_gates: vec![],
            phase: phase.into(),
            terminating: false,
            host_network: false,
            ips: vec![],
            conditions: Default::default(),
        }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn verdict(strategy: &str, pod: Option<&Pod>, change: Value) -> &'static str {
        match judge(&pod_eip(strategy, "2026-01-01T01:00:00Z", change), pod, at("2026-01-01T01:10:00Z")) {
            Verdict::Leave => "leave",
            Verdict::Wait => "wait",
            Verdict::Unbind(_) => "unbind",
            Verdict::End(_) => "end",
        }
    }

    #[test]
    fn a_pod_that_was_seen_lately_is_not_looked_at() {
        let seen = |strategy, seen| is_suspect(&pod_eip(strategy, seen, json!({})), at("2026-01-01T01:00:00Z"), FRESH);
        assert!(!seen("Follow", "2026-01-01T00:59:00Z"));
        assert!(seen("Follow", "2026-01-01T00:57:00Z"));
        assert!(seen("30s", "2026-01-01T00:59:00Z"));
        assert!(!seen("30s", "2026-01-01T00:59:40Z"));
        assert!(!seen("Never", "2026-01-01T02:00:00Z"), "a clock was wrong");
        let foreign = |change: Value| pod_eip("Follow", "2026-01-01T00:00:00Z", change);
        let now = at("2026-01-01T01:00:00Z");
        assert!(!is_suspect(&foreign(json!({"annotations": {}})), now, FRESH), "another tool's");
        let doomed = json!({"annotations": {}, "deletionTimestamp": "2026-01-01T00:59:59Z"});
        assert!(is_suspect(&foreign(doomed), now, FRESH));
    }

    #[test]
    fn what_no_pod_wants_ends_by_its_strategy() {
        for gone in [None, Some(&pod("u2", "Running", false)), Some(&pod("u1", "Succeeded", true))] {
            assert_eq!(verdict("Follow", gone, json!({})), "end");
            assert_eq!(verdict("Never", gone, json!({})), "unbind");
            assert_eq!(verdict("11m", gone, json!({})), "unbind");
            assert_eq!(verdict("9m59s", gone, json!({})), "end");
        }
    }

    #[test]
    fn a_living_pod_keeps_it_and_so_does_the_next_of_its_name() {
        for strategy in ["Follow", "Never", "1m"] {
            assert_eq!(verdict(strategy, Some(&pod("u1", "Running", true)), json!({})), "leave");
            assert_eq!(verdict(strategy, Some(&pod("u2", "Pending", true)), json!({})), "leave");
        }
    }

    #[test]
    fn a_deleted_one_waits_for_its_own_pod_only() {
        let doomed = || json!({"deletionTimestamp": "2026-01-01T01:00:00Z"});
        assert_eq!(verdict("Never", Some(&pod("u1", "Running", true)), doomed()), "wait");
        assert_eq!(verdict("Never", Some(&pod("u2", "Pending", true)), doomed()), "end");
        assert_eq!(verdict("Never", None, doomed()), "end");
        let mut foreign = doomed();
        foreign["annotations"] = json!({});
        assert_eq!(verdict("Follow", Some(&pod("u2", "Running", true)), foreign.clone()), "wait");
        assert_eq!(verdict("Follow", None, foreign.clone()), "end");
        foreign["deletionTimestamp"] = json!("2026-01-01T01:05:00Z");
        assert_eq!(verdict("Follow", None, foreign), "leave", "its own tool may be at work");
        assert_eq!(verdict("Follow", None, json!({"annotations": {}})), "leave");
    }
}
