//! Beside another EIP feature of the cluster: no pod is bought a second EIP.

mod look;

use crate::eip::failure::{Failure, Kind};
use crate::eip::node::Node;
use crate::names::PodRef;
use crate::settings::Coexistence;
use crate::state::{Rival, RivalSystem, Sighting};

pub use look::{ACK_EXTEND, NAMESPACE, SETTINGS_MAP, TERWAYS, look, look_again};

/// Refuses to buy `pod` an EIP while the agent's note names a rival. Only for a pod that has none:
/// what it holds already costs nothing more.
pub fn refuse_beside_rival(node: &Node, pod: &PodRef) -> Result<(), Failure> {
    if node.settings.coexistence == Coexistence::Ignore {
        return Ok(());
    }
    match node.store.rival_note().read()? {
        Some(rival) => Err(refusal(pod, &rival)),
        None => Ok(()),
    }
}

fn refusal(pod: &PodRef, rival: &Rival) -> Failure {
    let message = format!("no EIP is allocated for pod {pod}: {}", told(rival));
    Failure::new(Kind::Configuration, message).hinting(remedy(rival.sighting.who))
}

/// That it is active, as people are told.
pub fn told(Rival { sighting: Sighting { who, how }, since }: &Rival) -> String {
    format!("{who} allocates EIPs in this cluster too ({how}, since {since})")
}

/// What the operator can do about it.
pub fn remedy(who: RivalSystem) -> String {
    let switch_off = match who {
        RivalSystem::AckExtend => "switch off the EIP feature of ack-extend-network-controller",
        RivalSystem::Terway => {
            "set \"enable_eip_pool\" to \"false\" in ConfigMap kube-system/eni-config, and podeip's own to \"true\" in \
             ConfigMap kube-system/podeip"
        }
    };
    format!(
        "{switch_off}; the agent's next round then clears this; or set \"coexistence\" to \"ignore\" if {who} does not \
         serve the pods that podeip serves"
    )
}
