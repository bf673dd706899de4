//! Objects, the revision that counts their changes, and the history that watches and paged lists read.

use std::collections::{BTreeMap, VecDeque};

use serde_json::Value;

use super::object;
use super::watch::Watcher;

/// Where an object lives. The version of its API is not part of it: all versions show one object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    pub group: String,
    pub plural: String,
    pub namespace: String,
    pub name: String,
}

/// One change: `before` is absent when the object was created, `after` when it was removed.
#[derive(Clone, Debug)]
pub struct Change {
    pub revision: u64,
    pub key: Key,
    pub before: Option<Value>,
    pub after: Option<Value>,
}

/// The real server keeps about five minutes of changes; this many are more than any test makes.
const REMEMBERED_CHANGES: usize = 10_000;

#[derive(Debug, Default)]
pub struct Store {
    objects: BTreeMap<Key, Value>,
    revision: u64,
    history: VecDeque<Change>,
    /// Changes up to this revision are forgotten.
    forgotten: u64,
    pub watchers: Vec<Watcher>,
}

/// The asked revision lies before what is remembered.
#[derive(Clone, Copy, Debug)]
pub struct Forgotten;

impl Store {
    pub fn revision(&self) -> u64 {
        self.revision
    }

    pub fn get(&self, key: &Key) -> Option<&Value> {
        self.objects.get(key)
    }

    pub fn all(&self) -> impl Iterator<Item = (&Key, &Value)> {
        self.objects.iter()
    }

    /// The objects of one resource, without a look at all the others.
    pub fn of(&self, group: &str, plural: &str) -> impl Iterator<Item = (&Key, &Value)> {
        let first = Key { group: group.into(), plural: plural.into(), namespace: String::new(), name: String::new() };
        let (group, plural) = (first.group.clone(), first.plural.clone());
        self.objects.range(first..).take_while(move |(key, _)| key.group == group && key.plural == plural)
    }

    /// Stores an object under the next revision, writes that into it, and tells the watches.
    pub fn put(&mut self, key: Key, mut value: Value) -> Value {
        self.revision += 1;
        object::set_metadata(&mut value, "resourceVersion", self.revision.to_string());
        let before = self.objects.insert(key.clone(), value.clone());
        self.record(Change { revision: self.revision, key, before, after: Some(value.clone()) });
        value
    }

    /// Removes an object; what comes back carries the revision of the removal.
    pub fn remove(&mut self, key: &Key) -> Option<Value> {
        let before = self.objects.remove(key)?;
        self.revision += 1;
        let mut last = before.clone();
        object::set_metadata(&mut last, "resourceVersion", self.revision.to_string());
        self.record(Change { revision: self.revision, key: key.clone(), before: Some(before), after: None });
        Some(last)
    }

    fn record(&mut self, change: Change) {
        self.watchers.retain(|watcher| watcher.tell(&change));
        self.history.push_back(change);
        if self.history.len() > REMEMBERED_CHANGES
            && let Some(oldest) = self.history.pop_front()
        {
            self.forgotten = oldest.revision;
        }
    }

    /// The changes after a revision, oldest first.
    pub fn changes_after(&self, revision: u64) -> Result<impl Iterator<Item = &Change>, Forgotten> {
        if revision < self.forgotten {
            return Err(Forgotten);
        }
        Ok(self.history.iter().filter(move |change| change.revision > revision))
    }

    /// The objects of one resource as they were at a revision.
    pub fn at(&self, revision: u64, group: &str, plural: &str) -> Result<BTreeMap<&Key, &Value>, Forgotten> {
        let of_resource = |change: &&Change| change.key.group == group && change.key.plural == plural;
        let later: Vec<&Change> = self.changes_after(revision)?.filter(of_resource).collect();
        let mut objects: BTreeMap<&Key, &Value> = self.of(group, plural).collect();
        for change in later.into_iter().rev() {
            match &change.before {
                Some(before) => drop(objects.insert(&change.key, before)),
                None => drop(objects.remove(&change.key)),
            }
        }
        Ok(objects)
    }

    /// Forgets all changes, as a compaction does: older watches and continue tokens are answered with 410.
    pub fn compact(&mut self) {
        self.history.clear();
        self.forgotten = self.revision;
    }
}
