//! `state.json` as this version writes it, searched and changed record by record: a node with thousands of attachments
//! reads and writes the one that a verb is about, and leaves the bytes of the others alone.
//!
//! Whatever does not look as this version writes it gives `None`, and is parsed as a whole.

use std::ops::Range;

use memchr::memmem;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Deserializer;

pub(super) use self::absence::surely_lacks;
use super::format::{Attachment, VERSION};
use crate::names::ContainerId;

mod absence;

/// How every record begins, and what else may: an object within one, such as the tags that a pod asks for. It is told apart
/// by what stands before it, and an array within a record by what it lacks: it does not parse as an attachment.
const RECORD: &[u8] = br#"{"containerId":"#;

/// Between two records, with the beginning of the second.
const NEXT_RECORD: &[u8] = br#"},{"containerId":"#;

const END: &[u8] = b"]}";

/// The records of the last few dozen verbs.
const TAIL: usize = 64 << 10;

/// How the file begins.
fn head() -> Vec<u8> {
    format!("{{\"version\":{VERSION},\"attachments\":[").into_bytes()
}

/// The whole file.
#[derive(Clone, Copy)]
pub(super) struct Records<'a> {
    content: &'a [u8],
    /// Before the first record.
    start: usize,
}

impl<'a> Records<'a> {
    pub fn of(content: &'a [u8]) -> Option<Self> {
        let head = head();
        let whole = content.starts_with(&head) && content.ends_with(END) && content.len() >= head.len() + END.len();
        whole.then_some(Self { content, start: head.len() })
    }

    pub fn is_empty(self) -> bool {
        self.start == self.end()
    }

    /// Those with one of `needles` in them: texts with their quotes.
    pub fn naming(self, needles: &[String]) -> Option<Vec<Attachment>> {
        if escapes_letters(self.content) {
            return None;
        }
        let mut hits: Vec<_> =
            needles.iter().map(|needle| memmem::find_iter(self.content, needle).peekable()).collect();
        let (mut from, mut found) = (self.start, Vec::new());
        loop {
            let next = hits.iter_mut().filter_map(|hits| {
                while hits.next_if(|at| *at < from).is_some() {}
                hits.peek().copied()
            });
            let Some(at) = next.min() else { return Some(found) };
            let start = self.record_before(from, at);
            let (record, length) = first::<Attachment>(&self.content[start..])?;
            from = start + length;
            if from <= at {
                return None;
            }
            found.push(record);
        }
    }

    /// Where the record begins that `at` is in, if it is one: the last before it, or the one that `from` is at.
    fn record_before(self, from: usize, at: usize) -> usize {
        // Behind a record, `from` is at the comma.
        let comma = usize::from(self.content[from] == b',');
        match memmem::rfind(&self.content[from - 1..at], NEXT_RECORD) {
            Some(end) => from - 1 + end + b"},".len(),
            None => from + comma,
        }
    }

    pub fn has(self, container_id: &ContainerId, ifname: &str) -> Option<bool> {
        self.place(container_id, ifname).map(|place| place.is_some())
    }

    /// The record of this key.
    pub fn record(self, container_id: &ContainerId, ifname: &str) -> Option<Option<Attachment>> {
        let Some(place) = self.place(container_id, ifname)? else { return Some(None) };
        first(&self.content[place]).map(|(record, _)| Some(record))
    }

    /// The parts of the file with `record` in the place of the one of this key, or behind all others.
    pub fn with(self, record: &'a [u8], container_id: &ContainerId, ifname: &str) -> Option<[&'a [u8]; 4]> {
        let (before, comma, after): (_, &[u8], _) = match self.place(container_id, ifname)? {
            Some(place) => (place.start, b"", place.end),
            None if self.is_empty() => (self.start, b"", self.end()),
            None if self.ends_with_a_record() => (self.end(), b",", self.end()),
            None => return None,
        };
        Some([&self.content[..before], comma, record, &self.content[after..]])
    }

    /// The parts of the file without the record of this key; all of it when there is none.
    pub fn without(self, container_id: &ContainerId, ifname: &str) -> Option<[&'a [u8]; 2]> {
        let Some(Range { start, end }) = self.place(container_id, ifname)? else { return Some([self.content, b""]) };
        // One comma goes with it: that behind it, or else that before it.
        let (start, end) = match (*self.content.get(end)?, self.content[start - 1]) {
            (b',', _) => (start, end + 1),
            (_, b',') => (start - 1, end),
            (b']', b'[') => (start, end),
            _ => return None,
        };
        Some([&self.content[..start], &self.content[end..]])
    }

    /// Where the record of this key is. Verbs mostly look for one that was written a moment ago, behind all others.
    fn place(self, container_id: &ContainerId, ifname: &str) -> Option<Option<Range<usize>>> {
        let id = serde_json::to_string(container_id.as_str()).ok()?;
        let tail = self.content.len().saturating_sub(TAIL);
        match self.place_behind(tail, &id, ifname) {
            Some(Some(place)) => Some(Some(place)),
            _ => self.place_behind(0, &id, ifname),
        }
    }

    fn place_behind(self, from: usize, id: &str, ifname: &str) -> Option<Option<Range<usize>>> {
        // Somebody else may have written the keys in another order, or the id in other letters.
        let mut certain = true;
        for at in memmem::find_iter(&self.content[from..], id).map(|at| from + at) {
            let Some(start) = self.record_with_id_at(at) else {
                certain = false;
                continue;
            };
            let (record, length) = first::<Attachment>(&self.content[start..])?;
            if record.ifname == ifname {
                return Some(Some(start..start + length));
            }
        }
        (certain && !escapes_letters(&self.content[from..])).then_some(None)
    }

    /// Where the record begins of which this is the container's id.
    fn record_with_id_at(self, at: usize) -> Option<usize> {
        let before = self.content[..at].strip_suffix(RECORD)?;
        (before.ends_with(b"[") || before.ends_with(b",")).then_some(before.len())
    }

    /// Somebody else may have left a space there, or another array.
    fn ends_with_a_record(self) -> bool {
        let start = self.record_before(self.start, self.end());
        first::<IgnoredAny>(&self.content[start..]).is_some_and(|(_, length)| start + length == self.end())
    }

    /// Behind the last record.
    fn end(self) -> usize {
        self.content.len() - END.len()
    }
}

/// Whether some letter may stand there as `\u` and its number, as other writers could write any. serde_json does so with
/// control characters alone, and no id, address or name has one. A text's own backslash is doubled.
pub(super) fn escapes_letters(content: &[u8]) -> bool {
    memmem::find_iter(content, br"\u").any(|at| {
        let before = content[..at].iter().rev().take_while(|byte| **byte == b'\\').count();
        let control = [b"000", b"001"].iter().any(|digits| content[at + 2..].starts_with(*digits));
        // What is cut off there tells nothing.
        (before % 2 == 0 || before == at) && !control
    })
}

/// The value that `content` begins with, and its length.
fn first<'a, T: Deserialize<'a>>(content: &'a [u8]) -> Option<(T, usize)> {
    let mut values = Deserializer::from_slice(content).into_iter::<T>();
    let value = values.next()?.ok()?;
    Some((value, values.byte_offset()))
}

#[cfg(test)]
mod tests;
