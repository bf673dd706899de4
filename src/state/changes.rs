//! Changes of `state.json`: one read and at most one write each, under its lock.

use super::format::Attachment;
use super::lock::FileLock;
use super::records::Records;
use super::store::STATE_FILE;
use super::{StateError, Store};
use crate::crash;
use crate::deadline::Deadline;
use crate::durable;
use crate::names::ContainerId;

impl Store {
    /// Changes the attachments and returns what `change` returned; nothing is written if nothing changed. The caller holds
    /// the lock.
    pub(super) fn change_all<R>(&self, change: impl FnOnce(&mut Vec<Attachment>) -> R) -> Result<R, StateError> {
        let (before, mut file) = self.load()?;
        let outcome = change(&mut file.attachments);
        let nothing_yet = before.is_empty() && file.attachments.is_empty();
        let after = serde_json::to_vec(&file).map_err(|error| self.write_error(STATE_FILE, error.into()))?;
        if !nothing_yet && after != before {
            self.write(&[&after])?;
        }
        Ok(outcome)
    }

    fn bytes_of(&self, record: &Attachment) -> Result<Vec<u8>, StateError> {
        serde_json::to_vec(record).map_err(|error| self.write_error(STATE_FILE, error.into()))
    }

    fn write(&self, parts: &[&[u8]]) -> Result<(), StateError> {
        durable::replace_by_parts(&self.path(STATE_FILE), parts, 0o600)
            .map_err(|source| self.write_error(STATE_FILE, source))
    }

    /// Records `record` in the place of the attachment of its container and interface, or as a new one. The others
    /// are not parsed, and their bytes stay as they are. When this returns `Ok` the change is on the disk; after an error
    /// the file has its old content.
    ///
    /// `deadline` bounds the wait for the lock; a free lock is taken even after it.
    ///
    /// # Errors
    /// Those of [`Store::attachments`], [`StateError::Locked`], [`StateError::Lock`] and [`StateError::Write`] (a full
    /// disk, for one).
    pub fn put(&self, deadline: Deadline, record: &Attachment) -> Result<(), StateError> {
        self.put_in_place_of(deadline, (&record.container_id, &record.ifname), record)
    }

    /// As [`Store::put`], in the place of the attachment of another container and interface: no reader sees both, or
    /// neither.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub fn put_in_place_of(
        &self,
        deadline: Deadline,
        (container_id, ifname): (&ContainerId, &str),
        record: &Attachment,
    ) -> Result<(), StateError> {
        let bytes = self.bytes_of(record)?;
        let _lock = self.lock_to_write(deadline)?;
        let before = self.read()?.unwrap_or_default();
        let is_new = |records: &Records| records.has(&record.container_id, &record.ifname) == Some(false);
        let records = Records::of(&before).filter(|records| record.is(container_id, ifname) || is_new(records));
        if let Some(parts) = records.and_then(|records| records.with(&bytes, container_id, ifname)) {
            return self.write(&parts);
        }
        self.change_all(|all| {
            all.retain(|other| !other.is(container_id, ifname) || other.is(&record.container_id, &record.ifname));
            match all.iter_mut().find(|other| other.is(&record.container_id, &record.ifname)) {
                Some(place) => *place = record.clone(),
                None => all.push(record.clone()),
            }
        })
    }

    /// Changes the attachment of this container and interface as it is by then, if there is one.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub fn amend(
        &self,
        deadline: Deadline,
        (container_id, ifname): (&ContainerId, &str),
        change: impl Fn(&mut Attachment),
    ) -> Result<(), StateError> {
        let _lock = self.lock_to_write(deadline)?;
        let before = self.read()?.unwrap_or_default();
        let records = Records::of(&before);
        if let Some(Some(record)) = records.and_then(|records| records.record(container_id, ifname)) {
            let mut changed = record.clone();
            change(&mut changed);
            if changed == record {
                return Ok(());
            }
            let bytes = self.bytes_of(&changed)?;
            if let Some(parts) = records.and_then(|records| records.with(&bytes, container_id, ifname)) {
                return self.write(&parts);
            }
        }
        self.change_all(|all| all.iter_mut().filter(|other| other.is(container_id, ifname)).for_each(change))
    }

    /// Forgets the attachment of this container and interface, if there is one.
    ///
    /// # Errors
    /// As [`Store::put`].
    pub fn remove(&self, deadline: Deadline, container_id: &ContainerId, ifname: &str) -> Result<(), StateError> {
        let _lock = self.lock_to_write(deadline)?;
        let before = self.read()?.unwrap_or_default();
        match Records::of(&before).and_then(|records| records.without(container_id, ifname)) {
            Some([all, []]) if all.len() == before.len() => Ok(()),
            Some(parts) => self.write(&parts),
            None => self.change_all(|all| all.retain(|other| !other.is(container_id, ifname))),
        }
    }

    pub(super) fn lock_to_write(&self, deadline: Deadline) -> Result<FileLock, StateError> {
        let lock = self.lock(deadline)?;
        crash::point(format_args!("state lock: taken"));
        durable::sweep_leftovers(self.directory());
        Ok(lock)
    }
}
