//! Nobody inherits an address or a name: what an earlier pod left there is removed first.

use std::net::Ipv4Addr;

use crate::deadline::Deadline;
use crate::eip::detach;
use crate::eip::failure::{Failure, Kind};
use crate::eip::journal::Journal;
use crate::eip::node::Node;
use crate::eip::sandbox::Sandbox;
use crate::names::ContainerId;
use crate::state::format::Attachment;

/// The attachments of other sandboxes that may still be bound on `private_ip`. The primary plugin
/// gave that address to `container_id`, so whoever had it before is gone.
pub fn stale_on(attachments: &[Attachment], container_id: &ContainerId, private_ip: Ipv4Addr) -> Vec<Attachment> {
    let stale = |record: &&Attachment| {
        record.container_id != *container_id
            && record.binding.as_ref().is_some_and(|binding| binding.private_ip == private_ip)
    };
    attachments.iter().filter(stale).cloned().collect()
}

/// Ends what stands in `stale` by `deadline`; at the least, nothing of it is bound afterwards.
///
/// # Errors
/// [`Kind::TryAgain`] when a binding still stands: the pod must not start on that address.
pub fn clear(node: &Node, stale: &[Attachment], deadline: Deadline) -> Result<(), Failure> {
    for earlier in stale {
        clear_one(node, earlier, deadline).map_err(|failure| Failure {
            kind: if failure.kind == Kind::LocalState { Kind::LocalState } else { Kind::TryAgain },
            ..failure.during(format!("an EIP of the earlier pod {} is still on this pod's address", earlier.pod))
        })?;
    }
    Ok(())
}

fn clear_one(node: &Node, earlier: &Attachment, deadline: Deadline) -> Result<(), Failure> {
    let _lock = node.store.lock_pod(&earlier.pod.namespace, &earlier.pod.name, deadline)?;
    // Not by its sandbox: while this ADD waited, one of that pod may have taken the record over.
    let same = |record: &Attachment| {
        (&record.pod.uid, &record.ifname, &record.binding) == (&earlier.pod.uid, &earlier.ifname, &earlier.binding)
    };
    let standing = || {
        let named = node.store.attachments_naming(earlier.pod.uid.as_str())?;
        Ok::<_, Failure>(named.into_iter().find(same))
    };
    let Some(record) = standing()? else { return Ok(()) };
    match detach::end(node, Journal::resume(&node.store, record), deadline) {
        Ok(_) => Ok(()),
        Err(failure) if standing()?.is_some() => Err(failure),
        // Unbound, which is all that this pod needs; the rest is for `podeip gc`.
        Err(failure) => {
            log::warn!("pod {}: unbound, but not finished: {failure}", earlier.pod);
            Ok(())
        }
    }
}

/// Finishes what a killed verb left of earlier instances of this pod's name, as far as nothing of it
/// is bound: a PodEIP that is half deleted would keep the name from its next EIP. One that is bound
/// may have a running sandbox (a pod deleted by force) and is left to its DEL. The caller holds the
/// pod's lock. What fails stays recorded for a later round.
///
/// Returns the record that this instance has already: both are found in one search.
///
/// # Errors
/// [`Kind::LocalState`] when the state cannot be read or written.
pub fn finish_namesakes(node: &Node, sandbox: &Sandbox, deadline: Deadline) -> Result<Option<Attachment>, Failure> {
    let pod = &sandbox.pod;
    let left = |record: &Attachment| record.pod.same_name(pod) && record.pod.uid != pod.uid && record.binding.is_none();
    let (earlier, others): (Vec<_>, Vec<_>) = node.store.attachments_naming(&pod.name)?.into_iter().partition(left);
    for earlier in earlier {
        let subject = earlier.pod.clone();
        match detach::end(node, Journal::resume(&node.store, earlier), deadline) {
            Ok(ending) => log::info!("pod {subject}, an earlier instance of this name: {ending}"),
            Err(failure) if failure.kind == Kind::LocalState => return Err(failure),
            Err(failure) => log::warn!("pod {subject}, an earlier instance of this name, is not finished: {failure}"),
        }
    }
    // None of these changes it.
    Ok(others.into_iter().find(|record| sandbox.is_recorded_by(record)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::format::StateFile;

    #[test]
    fn only_other_sandboxes_on_the_same_address_are_stale() {
        let file: StateFile = serde_json::from_str(include_str!("../../tests/fixtures/state/guard.json")).unwrap();
        let names = |container: &str, address: [u8; 4]| -> Vec<String> {
            let stale = stale_on(&file.attachments, &ContainerId::new(container), address.into());
            stale.into_iter().map(|record| record.container_id.to_string()).collect()
        };
        assert_eq!(names("new", [10, 0, 0, 5]), ["bound", "unbinding"]);
        assert_eq!(names("bound", [10, 0, 0, 5]), ["unbinding"]);
        assert!(names("new", [10, 0, 0, 6]).is_empty());
    }
}
