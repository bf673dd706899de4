//! What happened to a running pod's EIP behind our back. Pure.

use crate::cloud::{Eip, EipStatus};
use crate::eip::bind::{sits_on, whereabouts};
use crate::eip::request::Notice;
use crate::names::EipId;
use crate::state::format::Binding;

/// Event reason: the cloud shows something else than the record of a running pod.
pub const DRIFTED: &str = "EIPDrifted";

/// How the cloud's view differs from a binding that should stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Drift {
    /// Somebody unbound it; it is free to be bound again.
    Unbound,
    /// It is bound to something else: an owner's decision, or a theft. Not ours to undo.
    Elsewhere(String),
    /// It does not exist any more. Another EIP would have another address, which the pod's clients
    /// do not know: that is the pod's next start.
    Gone,
}

impl Drift {
    /// `None`: it is where it should be, or on its way.
    pub fn judge(seen: Option<&Eip>, binding: &Binding) -> Option<Self> {
        match seen {
            None => Some(Drift::Gone),
            Some(eip) => match eip.status {
                EipStatus::Available => Some(Drift::Unbound),
                EipStatus::Releasing => Some(Drift::Gone),
                EipStatus::InUse if !sits_on(eip, binding) => Some(Drift::Elsewhere(whereabouts(eip))),
                _ => None,
            },
        }
    }

    /// For the events of the pod and its PodEIP.
    pub fn notice(&self, id: &EipId, binding: &Binding) -> Notice {
        let place = format!("{} ({})", binding.eni, binding.private_ip);
        let message = match self {
            Drift::Unbound => format!("{id} was unbound from {place} by somebody else; it is bound again"),
            Drift::Elsewhere(whereabouts) => format!(
                "{id} was taken from {place} and is {whereabouts}; podeip leaves it there: unbind it, and it comes back"
            ),
            Drift::Gone => format!(
                "{id} was released by somebody else while it was bound to {place}; delete the pod to get another EIP"
            ),
        };
        Notice { reason: DRIFTED, message, warning: true }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;
    use crate::names::EniId;

    fn eip(status: &str, eni: &str, address: &str) -> Eip {
        let text = format!(
            r#"{{"AllocationId":"eip-1","Status":"{status}","InstanceId":"{eni}","PrivateIpAddress":"{address}"}}"#
        );
        serde_json::from_str(&text).unwrap()
    }

    #[test]
    fn only_a_settled_difference_is_drift() {
        let binding = Binding { eni: EniId::new("eni-1"), private_ip: Ipv4Addr::new(10, 0, 0, 5), primary: false };
        let judge = |status, eni, address| Drift::judge(Some(&eip(status, eni, address)), &binding);
        assert_eq!(judge("InUse", "eni-1", "10.0.0.5"), None);
        assert_eq!(judge("Associating", "eni-1", "10.0.0.5"), None);
        assert_eq!(judge("Unassociating", "eni-1", "10.0.0.5"), None);
        assert_eq!(judge("Available", "", ""), Some(Drift::Unbound));
        assert_eq!(judge("InUse", "eni-1", "10.0.0.6"), Some(Drift::Elsewhere("bound to eni-1 (10.0.0.6)".into())));
        assert_eq!(judge("Releasing", "", ""), Some(Drift::Gone));
        assert_eq!(Drift::judge(None, &binding), Some(Drift::Gone));
    }
}
