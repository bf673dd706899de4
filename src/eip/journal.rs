//! One attachment's record on disk: every change is there before its effect.

use std::time::Duration;

use jiff::Timestamp;

use crate::crash;
use crate::deadline::Deadline;
use crate::eip::failure::Failure;
use crate::eip::owner;
use crate::eip::sandbox::Sandbox;
use crate::names::ContainerId;
use crate::state::Store;
use crate::state::format::{Attachment, Phase};
use crate::strategy::Strategy;

/// The lock is held for one synced write, but the kernel wakes its waiters in no order: of fifty
/// pods that start together on a busy node, some were seen to wait more than 5 s. Giving up makes
/// a runtime start all over, so this is as long as a whole DEL; a longer wait means a dying disk.
pub const STATE_LOCK_WAIT: Duration = Duration::from_secs(15);

/// The record of one attachment, to be held only under the lock of its pod.
pub struct Journal<'a> {
    store: &'a Store,
    record: Attachment,
    /// As the disk has it: what was noted since is not there yet.
    phase_on_disk: Option<Phase>,
}

impl<'a> Journal<'a> {
    /// Takes up a record that was read from the store.
    pub fn resume(store: &'a Store, record: Attachment) -> Self {
        let phase_on_disk = Some(record.phase);
        Self { store, record, phase_on_disk }
    }

    /// Prepares a record that reaches the disk with the first [`save`](Self::save).
    pub fn prepare(store: &'a Store, record: Attachment) -> Self {
        Self { store, record, phase_on_disk: None }
    }

    /// Whether anything of this attachment may have to be undone.
    pub fn on_disk(&self) -> bool {
        self.phase_on_disk.is_some()
    }

    /// Whether whoever finds the record, should this process end now, looks whether the EIP is bound.
    pub fn leaves_binding_open(&self) -> bool {
        matches!(self.phase_on_disk, Some(Phase::Binding | Phase::Unbinding))
    }

    pub fn record(&self) -> &Attachment {
        &self.record
    }

    /// Changes the record and returns once the change is on disk.
    pub fn save(&mut self, change: impl FnOnce(&mut Attachment)) -> Result<(), Failure> {
        let mut next = self.record.clone();
        change(&mut next);
        next.updated_at = Timestamp::now();
        crash::point(format_args!("record: to become {:?}", next.phase));
        self.store.put(Deadline::after(STATE_LOCK_WAIT), &next)?;
        crash::point(format_args!("record: has become {:?}", next.phase));
        self.phase_on_disk = Some(next.phase);
        self.record = next;
        Ok(())
    }

    /// Changes the record in memory; the next [`save`](Self::save) takes it to the disk. For what a repeat of the verb
    /// finds out again, and what nothing is done about before that.
    pub fn note(&mut self, change: impl FnOnce(&mut Attachment)) {
        change(&mut self.record);
    }

    /// Gives the record to a new sandbox of the same pod. A late DEL of the old sandbox then finds
    /// nothing. Phase and binding stay: they say what the old sandbox may have left.
    pub fn hand_over(&mut self, container_id: &ContainerId, netns: &str) -> Result<(), Failure> {
        let (old_container, ifname) = (self.record.container_id.clone(), self.record.ifname.clone());
        let mut next = self.record.clone();
        next.container_id = container_id.clone();
        next.netns = netns.to_string();
        next.published = false;
        crash::point(format_args!("record: {:?} to be handed over", next.phase));
        self.store.put_in_place_of(Deadline::after(STATE_LOCK_WAIT), (&old_container, &ifname), &next)?;
        crash::point(format_args!("record: {:?} handed over", next.phase));
        self.phase_on_disk = Some(next.phase);
        self.record = next;
        Ok(())
    }

    /// Removes the record: nothing is left to do for this attachment.
    pub fn forget(self) -> Result<(), Failure> {
        let Attachment { container_id, ifname, phase, .. } = self.record;
        crash::point(format_args!("record: {phase:?} to be forgotten"));
        self.store.remove(Deadline::after(STATE_LOCK_WAIT), &container_id, &ifname)?;
        crash::point(format_args!("record: {phase:?} forgotten"));
        Ok(())
    }
}

/// The generation after this one. Past the last, which only a damaged file has, not 0: that says that nothing was refused
/// yet. A token that brings an old EIP back is then overcome as the loss of that EIP is.
pub fn next_generation(generation: u32) -> u32 {
    generation.checked_add(1).unwrap_or(1)
}

/// A record without an EIP. `generation` must be beyond that of any EIP this pod ever had, or the
/// token would bring that one back.
pub fn new_record(cluster: &str, sandbox: &Sandbox, generation: u32) -> Attachment {
    let now = Timestamp::now();
    Attachment {
        container_id: sandbox.container_id.clone(),
        ifname: sandbox.ifname.clone(),
        netns: sandbox.netns.clone(),
        pod: sandbox.pod.clone(),
        phase: Phase::Intent,
        client_token: owner::client_token(cluster, &sandbox.pod.uid, &sandbox.ifname, generation),
        generation,
        allocation: None,
        eip: None,
        binding: None,
        strategy: Strategy::Follow,
        bandwidth_package: None,
        published: false,
        created_at: now,
        updated_at: now,
        last_error: None,
    }
}
