//! Leases (`coordination.k8s.io/v1`): which process of the cluster does what only one may do.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::client::Kube;
use super::error::KubeError;
use super::request::{Format, Operation, Request, Resource, Verb};
use super::wire::{self, WireMeta};
use crate::deadline::Deadline;

/// A Lease as it was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub namespace: String,
    pub name: String,
    resource_version: String,
    /// Who holds it; `None` when it was given back.
    pub holder: Option<String>,
    /// How long after `renewed` the holder may still be at work.
    pub duration: Duration,
    pub renewed: Option<Timestamp>,
    /// How often it changed hands.
    pub transitions: u64,
    pub annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct WireLease {
    metadata: WireMeta,
    spec: Option<WireSpec>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct WireSpec {
    holder_identity: Option<String>,
    lease_duration_seconds: Option<u64>,
    renew_time: Option<String>,
    lease_transitions: Option<u64>,
}

impl<'de> Deserialize<'de> for Lease {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let WireLease { metadata, spec } = WireLease::deserialize(deserializer)?;
        let spec = spec.unwrap_or_default();
        Ok(Lease {
            namespace: metadata.namespace.unwrap_or_default(),
            name: metadata.name,
            resource_version: metadata.resource_version.unwrap_or_default(),
            holder: spec.holder_identity.filter(|holder| !holder.is_empty()),
            duration: Duration::from_secs(spec.lease_duration_seconds.unwrap_or_default()),
            renewed: spec.renew_time.as_deref().and_then(wire::time),
            transitions: spec.lease_transitions.unwrap_or_default(),
            annotations: metadata.annotations.unwrap_or_default(),
        })
    }
}

/// What a holder writes into its Lease.
#[derive(Clone, Debug)]
pub struct Holding<'a> {
    /// `None` gives the Lease back.
    pub holder: Option<&'a str>,
    pub duration: Duration,
    pub annotations: BTreeMap<&'a str, Option<&'a str>>,
}

impl Lease {
    /// Whether somebody other than `identity` may be at work under it at `now`, the server's time.
    pub fn held_by_another(&self, identity: &str, now: Timestamp) -> bool {
        let ends = self.renewed.and_then(|renewed| renewed.checked_add(self.duration).ok());
        self.holder.as_deref().is_some_and(|holder| holder != identity) && ends.is_some_and(|ends| now < ends)
    }
}

impl Kube {
    /// One Lease; `None` when there is none of that name.
    pub fn lease(&self, namespace: &str, name: &str, deadline: Deadline) -> Result<Option<Lease>, KubeError> {
        let operation = Operation::on(Verb::Get, Resource::Leases, namespace, name);
        self.find(operation, deadline, |body| serde_json::from_slice(body))
    }

    /// Creates the Lease in the hands of `holding.holder`.
    ///
    /// # Errors
    /// [`KubeError::is_already_exists`] when somebody was faster.
    pub fn create_lease(
        &self,
        namespace: &str,
        name: &str,
        holding: &Holding,
        deadline: Deadline,
    ) -> Result<Lease, KubeError> {
        let operation = Operation::on(Verb::Create, Resource::Leases, namespace, name);
        let metadata =
            json!({"namespace": namespace, "name": name, "annotations": wire::changes(&holding.annotations)});
        let body = wire::without_nulls(json!({
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": metadata,
            "spec": holding.spec(None, self.now()),
        }));
        self.call(&Request::write(operation, Format::Json, body), deadline, |body| serde_json::from_slice(body))
    }

    /// Takes, renews or gives back the Lease, on exactly the version that `current` shows.
    ///
    /// # Errors
    /// [`KubeError::is_conflict`] when somebody else wrote into it meanwhile.
    pub fn update_lease(&self, current: &Lease, holding: &Holding, deadline: Deadline) -> Result<Lease, KubeError> {
        let operation = Operation::on(Verb::Patch, Resource::Leases, &current.namespace, &current.name);
        let metadata = json!({
            "resourceVersion": current.resource_version,
            "annotations": wire::changes(&holding.annotations),
        });
        let body = json!({"metadata": metadata, "spec": holding.spec(Some(current), self.now())});
        self.call(&Request::write(operation, Format::MergePatch, body), deadline, |body| serde_json::from_slice(body))
    }
}

impl Holding<'_> {
    pub(super) fn spec(&self, current: Option<&Lease>, now: Timestamp) -> Value {
        // `MicroTime`: the API server wants exactly six digits.
        let now = now.strftime("%Y-%m-%dT%H:%M:%S.%6fZ").to_string();
        let mut spec = json!({
            "holderIdentity": self.holder.unwrap_or_default(),
            "leaseDurationSeconds": self.duration.as_secs().max(1),
            "renewTime": now,
        });
        let changes_hands = current.is_none_or(|lease| lease.holder.as_deref() != self.holder);
        if changes_hands && self.holder.is_some() {
            spec["acquireTime"] = now.into();
            spec["leaseTransitions"] = current.map_or(0, |lease| lease.transitions.saturating_add(1)).into();
        }
        spec
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str, renewed: &str) -> Lease {
        serde_json::from_value(json!({
            "metadata": {"namespace": "kube-system", "name": "podeip-sweeper", "uid": "1", "resourceVersion": "7"},
            "spec": {"holderIdentity": holder, "leaseDurationSeconds": 60, "renewTime": renewed, "leaseTransitions": 2},
        }))
        .unwrap()
    }

    #[test]
    fn a_lease_is_free_when_given_back_ours_or_run_out() {
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let held = lease("n-1", "2026-01-01T00:00:00.000000Z");
        assert!(held.held_by_another("n-2", at("2026-01-01T00:00:59Z")));
        assert!(!held.held_by_another("n-2", at("2026-01-01T00:01:00Z")));
        assert!(!held.held_by_another("n-1", at("2026-01-01T00:00:01Z")));
        assert!(!lease("", "2026-01-01T00:00:00.000000Z").held_by_another("n-2", at("2026-01-01T00:00:01Z")));
        assert!(!lease("n-1", "soon").held_by_another("n-2", at("2026-01-01T00:00:01Z")));
    }

    #[test]
    fn only_a_change_of_hands_counts() {
        let now = "2026-01-01T00:00:30Z".parse().unwrap();
        let held = lease("n-1", "2026-01-01T00:00:00.000000Z");
        let spec = |holder, current: Option<&Lease>| {
            Holding { holder, duration: Duration::from_secs(60), annotations: BTreeMap::new() }.spec(current, now)
        };
        assert_eq!(
            spec(Some("n-1"), Some(&held)),
            json!({"holderIdentity": "n-1", "leaseDurationSeconds": 60, "renewTime": "2026-01-01T00:00:30.000000Z"})
        );
        let taken = spec(Some("n-2"), Some(&held));
        assert_eq!((&taken["leaseTransitions"], &taken["acquireTime"]), (&json!(3), &taken["renewTime"]));
        let counted_out = Lease { transitions: u64::MAX, ..held.clone() };
        assert_eq!(spec(Some("n-2"), Some(&counted_out))["leaseTransitions"], u64::MAX);
        assert_eq!(spec(Some("n-1"), None)["leaseTransitions"], 0);
        assert_eq!(spec(None, Some(&held))["holderIdentity"], "");
    }
}
