//! Taking over the EIPs of running pods from the systems that podeip replaces, and handing them back. Not one
//! binding changes.
//!
//! Records are of one node, and so is a migration: each node takes its own pods over. What no node has, the
//! PodEIPs that outlive their pods, is taken over by the first.

mod hand_back;
mod plan;
mod survey;
mod take_over;

use std::fmt;
use std::time::Duration;

pub use hand_back::{Handover, hand_back, plan_hand_back};
pub use plan::Decision;
pub use survey::{Step, survey};
pub use take_over::carry_out;

use crate::deadline::Deadline;
use crate::eip::coexist;
use crate::eip::failure::{Failure, Kind};
use crate::eip::node::Node;
use crate::kube::PodEip;
use crate::settings::Coexistence;
use crate::state::{RivalSystem, Sighting};

/// A whole listing, page by page.
const LISTING_TIME: Duration = Duration::from_secs(60);

/// One pod: a few calls, each of which may be repeated.
const STEP_TIME: Duration = Duration::from_secs(30);

/// The system that gave the pods their EIPs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Peer {
    Terway,
    AckExtend,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Peer::Terway => RivalSystem::Terway,
            Peer::AckExtend => RivalSystem::AckExtend,
        }
        .fmt(f)
    }
}

/// Another EIP feature that is at work would go on with what is podeip's from now on.
///
/// # Errors
/// One is, unless the settings say that it does not matter; or the API server does not say.
fn refuse_beside_rival(node: &Node, pod_eips: &[PodEip]) -> Result<(), Failure> {
    let rival = coexist::look_again(node.kube()?, pod_eips, Deadline::after(LISTING_TIME))?;
    let Some(Sighting { who, how }) = rival else { return Ok(()) };
    if node.settings.coexistence == Coexistence::Ignore {
        log::warn!("{who} is active ({how}); \"coexistence\" is \"ignore\", so that is not minded");
        return Ok(());
    }
    let end_it = match who {
        RivalSystem::Terway => {
            "set \"enable_eip_migrate\" to \"true\" (Terway 1.6), or \"enable_eip_pool\" to \"false\", in ConfigMap \
             kube-system/eni-config and restart Terway"
        }
        RivalSystem::AckExtend => {
            "run `kubectl -n kube-system scale deployment ack-extend-network-controller --replicas 0`; where it has no \
             Deployment, ten minutes after its end nothing of it is fresh any more"
        }
    };
    let message = format!("nothing is taken over while {who} is active: {how}");
    Err(Failure::new(Kind::Configuration, message).hinting(format!("{end_it}; pods keep their EIPs meanwhile")))
}
