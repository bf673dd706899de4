//! Whose an EIP is: the owner tags it carries and the token that allocates it only once.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use sha1::{Digest, Sha1};

use crate::cloud::{Allocation, Cloud, Eip, EipStatus};
use crate::deadline::Deadline;
use crate::kube::PodEip;
use crate::names::{ClientToken, EipId, EipKind, PodRef, PodUid};
use crate::state::format::Attachment;

pub const TAG_CLUSTER: &str = "podeip-cluster";
pub const TAG_NAMESPACE: &str = "podeip-namespace";
pub const TAG_POD: &str = "podeip-pod";
pub const TAG_UID: &str = "podeip-uid";
pub const TAG_NODE: &str = "podeip-node";

/// In [`TAG_CLUSTER`] of an EIP that was handed to another system. No cluster has such an id, so that nobody
/// takes the EIP for podeip's, and the value can be set where tags cannot be taken off.
pub const HANDED_BACK: &str = "handed-back";

/// The tags that say whose an EIP is; sent with its allocation. `node` is `spec.nodeName`.
pub fn tags(cluster: &str, pod: &PodRef, node: &str) -> BTreeMap<String, String> {
    BTreeMap::from([
        (TAG_CLUSTER.into(), cluster.into()),
        (TAG_NAMESPACE.into(), pod.namespace.clone()),
        (TAG_POD.into(), pod.name.clone()),
        (TAG_UID.into(), pod.uid.to_string()),
        (TAG_NODE.into(), node.into()),
    ])
}

/// Whether `eip` was allocated by podeip in this cluster.
pub fn is_ours(eip: &Eip, cluster: &str) -> bool {
    eip.tags.get(TAG_CLUSTER).is_some_and(|owner| owner == cluster) && eip.tags.contains_key(TAG_UID)
}

/// Whether `eip` was allocated by podeip for this pod instance.
pub fn belongs_to(eip: &Eip, cluster: &str, uid: &PodUid) -> bool {
    is_ours(eip, cluster) && eip.tags.get(TAG_UID).is_some_and(|owner| owner == uid.as_str())
}

/// Those that podeip allocated in this cluster and that neither a PodEIP nor a record names.
pub fn unclaimed<'e>(eips: &'e [Eip], cluster: &str, pod_eips: &[PodEip], records: &[Attachment]) -> Vec<&'e Eip> {
    let mut named: BTreeSet<&EipId> = pod_eips.iter().map(|it| &it.spec.allocation_id).collect();
    named.extend(records.iter().filter_map(|record| record.eip.as_ref()).map(|eip| &eip.id));
    let loose = |eip: &&Eip| is_ours(eip, cluster) && !named.contains(&eip.id) && eip.status != EipStatus::Releasing;
    eips.iter().filter(loose).collect()
}

/// The token of one allocation: the same for every repeat of the same generation, on any node and
/// after any loss of state, so that a repeated allocation yields the EIP of the first.
pub fn client_token(cluster: &str, uid: &PodUid, ifname: &str, generation: u32) -> ClientToken {
    let mut hash = Sha1::new();
    for part in [cluster, uid.as_str(), ifname] {
        hash.update(part.as_bytes());
        hash.update([0]);
    }
    hash.update(generation.to_be_bytes());
    let hex: String = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
    ClientToken::new(format!("podeip-{hex}"))
}

/// Tagging goes on beside the binding and is no reason to miss the verb's deadline.
const TAG_TIME: Duration = Duration::from_secs(3);

/// Tags are refused while the EIP's binding changes, so the end of it gets a try of its own.
const TAG_TRIES: u32 = 2;

/// The owner tags an EIP must carry, checked against what the cloud shows of it: endpoints of
/// before July 2025 ignore tags that come with the allocation.
pub struct OwnerTags {
    wanted: BTreeMap<String, String>,
    tries_left: u32,
}

impl OwnerTags {
    /// The tags of `record`'s EIP; none for an EIP that is not ours.
    pub fn wanted(record: &Attachment, cluster: &str, node: &str) -> Self {
        let mut wanted = BTreeMap::new();
        if record.eip.as_ref().is_some_and(|eip| eip.kind == EipKind::Auto) {
            if let Some(sent) = record.allocation.clone().and_then(|it| serde_json::from_value::<Allocation>(it).ok()) {
                wanted.extend(sent.tags);
            }
            wanted.extend(tags(cluster, &record.pod, node));
        }
        Self { wanted, tries_left: TAG_TRIES }
    }

    /// Tags `eip` with what it lacks; called again, it repeats a try that failed. An EIP without
    /// tags still has its record and its PodEIP, so a refusal is reported and does not fail the pod.
    pub fn mend(&mut self, cloud: &Cloud, eip: &Eip, deadline: Deadline) {
        let mut missing = self.wanted.clone();
        missing.retain(|key, value| eip.tags.get(key) != Some(value));
        if missing.is_empty() || self.tries_left == 0 {
            return;
        }
        self.tries_left -= 1;
        match cloud.tag_eips(std::slice::from_ref(&eip.id), &missing, deadline.within(TAG_TIME)) {
            Ok(()) => self.tries_left = 0,
            Err(error) => log::error!("{} lacks owner tags, so the sweep cannot recognise it: {error}", eip.id),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_differ_in_every_part_and_fit_the_api() {
        let uid = PodUid::new("1f3a");
        let first = client_token("c1", &uid, "eth0", 0);
        assert_eq!(first, client_token("c1", &uid, "eth0", 0));
        assert!(first.as_str().len() <= 64 && first.as_str().is_ascii());
        for other in [
            client_token("c2", &uid, "eth0", 0),
            client_token("c1", &PodUid::new("1f3b"), "eth0", 0),
            client_token("c1", &uid, "eth1", 0),
            client_token("c1", &uid, "eth0", 1),
        ] {
            assert_ne!(first, other);
        }
    }
}
