//! The four views of one pod's EIP (the node's record, the PodEIP, the pod, the cloud), asked for at once.
//!
//! A side that cannot be asked is [`View::Unknown`] with its reason and spoils no other.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::fmt;
use std::time::Duration;

use crate::cloud::{Cloud, Eip, EipFilter, EipStatus};
use crate::deadline::Deadline;
use crate::eip::failure::Failure;
use crate::eip::node::{Node, Paths, panicked};
use crate::eip::owner;
use crate::kube::{Kube, KubeError, Pod, PodEip, RecordedEvent};
use crate::names::EipId;
use crate::state::format::Attachment;

/// One look at one side. A person waits for it, up to twice where one look leads to the next, and a
/// side that needs longer is as good as down.
const LOOK_TIME: Duration = Duration::from_secs(3);

/// What one side says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum View<T> {
    Known(T),
    /// It was asked and has none.
    Absent,
    /// It did not say, for this reason.
    Unknown(String),
}

impl<T> View<T> {
    pub fn known(&self) -> Option<&T> {
        match self {
            View::Known(it) => Some(it),
            View::Absent | View::Unknown(_) => None,
        }
    }

    pub fn is_absent(&self) -> bool {
        matches!(self, View::Absent)
    }

    fn from_answer(answer: Result<Option<T>, Failure>) -> Self {
        match answer {
            Ok(Some(it)) => View::Known(it),
            Ok(None) => View::Absent,
            Err(failure) => View::Unknown(failure.to_string()),
        }
    }
}

/// A pod's name, whichever instance has it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamespacedName {
    pub namespace: String,
    pub name: String,
}

impl fmt::Display for NamespacedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// What is to be looked at, and what is known of it already.
#[derive(Clone, Debug)]
pub struct Subject {
    /// `None`: an EIP that no pod of this cluster claims.
    pub pod: Option<NamespacedName>,
    pub record: View<Attachment>,
    /// The cloud's view, where it led to the pod.
    pub eip: Option<Eip>,
}

/// What each side says of one pod's EIP.
#[derive(Clone, Debug)]
pub struct Views {
    pub name: Option<NamespacedName>,
    pub record: View<Attachment>,
    pub pod_eip: View<PodEip>,
    pub pod: View<Pod>,
    pub cloud: View<Eip>,
    /// Further EIPs with the pod's owner tags; looked for only where nothing names its EIP.
    pub more_eips: Vec<EipId>,
    /// podeip's events about this pod instance and its PodEIP, oldest first.
    pub events: View<Vec<RecordedEvent>>,
}

/// The API server and the cloud; either may be out of reach from the start.
pub struct Remote {
    node: Result<Node, Failure>,
    kube: Result<Kube, Failure>,
}

impl Remote {
    /// Reads settings and kubeconfig, and asks nobody. A fault in one leaves the other usable.
    pub fn open(paths: &Paths) -> Self {
        Self { node: Node::open(paths), kube: Kube::from_kubeconfig(&paths.kubeconfig).map_err(Failure::from) }
    }

    /// The settings' `cluster_id`, if they can be read and have one.
    pub fn cluster(&self) -> Option<&str> {
        self.node.as_ref().ok()?.settings.cluster_id.as_deref()
    }

    /// The settings' `custom_stateful_workload_kinds`.
    pub fn stateful_kinds(&self) -> &[String] {
        self.node.as_ref().map_or(&[], |node| &node.settings.custom_stateful_workload_kinds)
    }

    fn node(&self) -> Result<&Node, Failure> {
        self.node.as_ref().map_err(Clone::clone)
    }

    fn cloud(&self) -> Result<&Cloud, Failure> {
        self.node()?.cloud()
    }

    fn ask_kube<T>(&self, ask: impl Fn(&Kube, Deadline) -> Result<T, KubeError>) -> Result<T, Failure> {
        let kube = self.kube.as_ref().map_err(Clone::clone)?;
        Ok(ask(kube, Deadline::after(LOOK_TIME))?)
    }
}

/// Looks at every side at the same time; only the cloud waits for the PodEIP where nothing else
/// names the EIP.
pub fn look(remote: &Remote, subject: Subject) -> Views {
    let Subject { pod: name, record, eip } = subject;
    let named = name.as_ref();
    let recorded = record.known().and_then(|record| record.eip.as_ref()).map(|eip| &eip.id);
    let (pod_eip, pod, events, (cloud, more_eips)) = std::thread::scope(|scope| {
        let pod_eip = scope.spawn(move || of_name(named, |name| pod_eip_of(remote, name)));
        let pod = scope.spawn(move || of_name(named, |name| pod_of(remote, name)));
        let events = scope.spawn(move || of_name(named, |name| events_about(remote, name)));
        let asked = recorded.map(|id| scope.spawn(move || eip_of_id(remote, id)));
        let pod_eip = pod_eip.join().unwrap_or_else(|_| broken_off("reading the PodEIP"));
        let cloud = match (eip, asked) {
            (Some(eip), _) => (View::Known(eip), Vec::new()),
            (None, Some(asked)) => (asked.join().unwrap_or_else(|_| broken_off("asking for the EIP")), Vec::new()),
            (None, None) => eip_of_pod(remote, named, &pod_eip),
        };
        let pod = pod.join().unwrap_or_else(|_| broken_off("reading the pod"));
        (pod_eip, pod, events.join().unwrap_or_else(|_| broken_off("reading the events")), cloud)
    });
    let events = of_instance(events, &pod, &pod_eip);
    Views { name, record, pod_eip, pod, cloud, more_eips, events }
}

fn broken_off<T>(doing: &str) -> View<T> {
    View::Unknown(panicked(doing).to_string())
}

fn of_name<T>(name: Option<&NamespacedName>, ask: impl FnOnce(&NamespacedName) -> View<T>) -> View<T> {
    name.map_or(View::Absent, ask)
}

fn pod_eip_of(remote: &Remote, name: &NamespacedName) -> View<PodEip> {
    View::from_answer(remote.ask_kube(|kube, deadline| kube.pod_eip(&name.namespace, &name.name, deadline)))
}

fn pod_of(remote: &Remote, name: &NamespacedName) -> View<Pod> {
    View::from_answer(remote.ask_kube(|kube, deadline| kube.pod(&name.namespace, &name.name, deadline)))
}

fn events_about(remote: &Remote, name: &NamespacedName) -> View<Vec<RecordedEvent>> {
    let events = remote.ask_kube(|kube, deadline| kube.events_about(&name.namespace, &name.name, deadline));
    View::from_answer(events.map(Some))
}

/// Without those about earlier objects of the name, and what was told of both once.
fn of_instance(events: View<Vec<RecordedEvent>>, pod: &View<Pod>, pod_eip: &View<PodEip>) -> View<Vec<RecordedEvent>> {
    let View::Known(mut events) = events else { return events };
    let present = [pod.known().map(|pod| &pod.uid), pod_eip.known().map(|pod_eip| &pod_eip.uid)];
    if present.iter().any(Option::is_some) {
        events.retain(|event| present.contains(&Some(&event.regarding_uid)));
    }
    let mut told = BTreeSet::new();
    events.retain(|event| told.insert((event.reason.clone(), event.message.clone())));
    View::Known(events)
}

fn eip_of_id(remote: &Remote, id: &EipId) -> View<Eip> {
    let eip = || Ok(remote.cloud()?.eip(id, Deadline::after(LOOK_TIME))?);
    View::from_answer(eip())
}

/// The EIP that the PodEIP names, or else those that carry the pod's owner tags.
fn eip_of_pod(remote: &Remote, name: Option<&NamespacedName>, pod_eip: &View<PodEip>) -> (View<Eip>, Vec<EipId>) {
    let claimed = pod_eip.known().map(|it| &it.spec.allocation_id).filter(|id| !id.as_str().is_empty());
    match (claimed, name) {
        (Some(id), _) => (eip_of_id(remote, id), Vec::new()),
        (None, Some(name)) => match tagged_for(remote, name) {
            Ok(eips) => {
                let mut eips = eips.into_iter();
                (eips.next().map_or(View::Absent, View::Known), eips.map(|eip| eip.id).collect())
            }
            Err(failure) => (View::Unknown(failure.to_string()), Vec::new()),
        },
        (None, None) => (View::Absent, Vec::new()),
    }
}

/// The EIPs with the pod's owner tags, the bound ones first.
fn tagged_for(remote: &Remote, name: &NamespacedName) -> Result<Vec<Eip>, Failure> {
    let tags = BTreeMap::from([
        (owner::TAG_CLUSTER.to_string(), remote.node()?.cluster()?.to_string()),
        (owner::TAG_NAMESPACE.to_string(), name.namespace.clone()),
        (owner::TAG_POD.to_string(), name.name.clone()),
    ]);
    let mut eips = remote.cloud()?.describe_eips(&EipFilter::Tags(tags), Deadline::after(LOOK_TIME))?;
    eips.sort_by_key(|eip| eip.status != EipStatus::InUse);
    Ok(eips)
}

/// What cloud and cluster say of an EIP that this node has no record of.
pub struct Found {
    pub eip: View<Eip>,
    /// The PodEIPs that the caller recognised; empty when there are none.
    pub claims: View<Vec<PodEip>>,
}

impl Found {
    /// The pods of this cluster that the EIP's owner tags and the PodEIPs name.
    pub fn pods(&self, cluster: Option<&str>) -> Vec<NamespacedName> {
        let tagged = self.eip.known().filter(|eip| cluster.is_some_and(|cluster| owner::is_ours(eip, cluster)));
        let tagged = tagged.and_then(|eip| {
            let tag = |key| eip.tags.get(key).cloned();
            Some(NamespacedName { namespace: tag(owner::TAG_NAMESPACE)?, name: tag(owner::TAG_POD)? })
        });
        let claimed = self.claims.known().into_iter().flatten();
        let claimed = claimed.map(|it| NamespacedName { namespace: it.namespace.clone(), name: it.name.clone() });
        let mut pods: Vec<NamespacedName> = claimed.chain(tagged).collect();
        pods.sort();
        pods.dedup();
        pods
    }
}

/// Asks the cloud for the EIP of `filter` and the cluster for the PodEIPs that are `recognised`.
pub fn find(remote: &Remote, filter: &EipFilter, recognised: impl Fn(&PodEip) -> bool) -> Found {
    std::thread::scope(|scope| {
        let eip = scope.spawn(move || {
            let eips = || Ok(remote.cloud()?.describe_eips(filter, Deadline::after(LOOK_TIME))?.pop());
            View::from_answer(eips())
        });
        let claims = remote.ask_kube(|kube, deadline| kube.pod_eips(None, deadline)).map(|mut all| {
            all.retain(recognised);
            Some(all)
        });
        let eip = eip.join().unwrap_or_else(|_| broken_off("asking for the EIP"));
        Found { eip, claims: View::from_answer(claims) }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_eip_names_a_pod_of_this_cluster_only() {
        let eip: Eip = serde_json::from_value(serde_json::json!({
            "AllocationId": "eip-1", "Tags": {"Tag": [
                {"Key": "podeip-cluster", "Value": "c1"}, {"Key": "podeip-uid", "Value": "u1"},
                {"Key": "podeip-namespace", "Value": "shop"}, {"Key": "podeip-pod", "Value": "web-0"}]}
        }))
        .unwrap();
        let found = Found { eip: View::Known(eip), claims: View::Unknown("down".into()) };
        let pod = NamespacedName { namespace: "shop".into(), name: "web-0".into() };
        assert_eq!(found.pods(Some("c1")), [pod]);
        assert_eq!(found.pods(Some("c2")), []);
        assert_eq!(found.pods(None), []);
    }

    #[test]
    fn a_claim_and_the_tags_of_one_pod_are_one_pod() {
        let pod_eip = |name: &str| {
            serde_json::from_value::<PodEip>(
                serde_json::json!({"metadata": {"namespace": "shop", "name": name, "uid": "1"}}),
            )
            .unwrap()
        };
        let eip: Eip = serde_json::from_value(serde_json::json!({
            "AllocationId": "eip-1", "Tags": [
                {"Key": "podeip-cluster", "Value": "c1"}, {"Key": "podeip-uid", "Value": "u1"},
                {"Key": "podeip-namespace", "Value": "shop"}, {"Key": "podeip-pod", "Value": "web-0"}]
        }))
        .unwrap();
        let found = |claims| Found { eip: View::Known(eip.clone()), claims: View::Known(claims) };
        assert_eq!(found(vec![pod_eip("web-0")]).pods(Some("c1")).len(), 1);
        assert_eq!(found(vec![pod_eip("web-1")]).pods(Some("c1")).len(), 2);
    }
}
