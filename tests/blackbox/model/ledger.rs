//! What must be true by now of the story's pods and sandboxes: the model that the real code is held against.

use podeip_sim::cloud::EipView;

use super::places::{ADDRESSES, SLOTS, address};
use crate::scene::Sandbox;

/// A pod in the API server.
#[derive(Clone)]
pub struct Living {
    /// Its sandboxes are made after this one.
    pub mould: Sandbox,
    pub node: usize,
    pub terminating: bool,
}

/// A sandbox as its runtime knows it.
pub struct Placed {
    pub slot: usize,
    pub node: usize,
    pub sandbox: Sandbox,
    /// Its netns is there.
    pub runs: bool,
    pub holds_address: bool,
    /// DEL was called and ended, so often.
    pub ended: u32,
    /// Its last ADD has succeeded, so containers run in it.
    pub started: bool,
    /// As it was when ADD succeeded. From then on nobody may touch it, until something happens to the pod.
    pub served: Option<EipView>,
}

#[derive(Default)]
pub struct Ledger {
    pub pods: [Option<Living>; SLOTS.len()],
    pub placed: Vec<Placed>,
    /// PodEIPs that somebody deletes, by slot.
    pub doomed: [bool; SLOTS.len()],
}

impl Ledger {
    /// The sandbox that runs for the living pod of this slot.
    pub fn running(&self, slot: usize) -> Option<usize> {
        let uid = &self.pods[slot].as_ref()?.mould.uid;
        let own = |placed: &Placed| placed.slot == slot && placed.runs && placed.ended == 0;
        self.placed.iter().rposition(|placed| own(placed) && placed.sandbox.uid == *uid)
    }

    /// An address that the primary plugin may hand out.
    pub fn free_address(&self, node: usize) -> Option<[u8; 4]> {
        let taken =
            |ip: &[u8; 4]| self.placed.iter().any(|placed| placed.holds_address && placed.sandbox.ip.octets() == *ip);
        (0..ADDRESSES).map(|nth| address(node, nth)).find(|ip| !taken(ip))
    }

    /// The promise to this pod's sandboxes is over: what happens to their EIP from now on is right.
    pub fn release(&mut self, slot: usize) {
        self.placed.iter_mut().filter(|placed| placed.slot == slot).for_each(|placed| placed.served = None);
    }

    /// The pod instance `uid` stands in the API server and is not being deleted.
    pub fn wanted(&self, uid: &str) -> bool {
        self.pods.iter().flatten().any(|pod| pod.mould.uid == uid && !pod.terminating)
    }
}
