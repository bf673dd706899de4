//! `state.json` as this version writes it, searched and changed record by record: a node with thousands of attachments
//! reads and writes the one that a verb is about, and leaves the bytes of the others alone.
//!
//! Whatever does not look as this version writes it gives `None`, and is parsed as a whole.

use std::ops::Range;

use memchr::memmem;
use serde::Deserialize;
use serde_json::Deserializer;

use super::format::{Attachment, VERSION};
use crate::names::ContainerId;

/// How every record begins. Nothing else can: within a text its quotes would be escaped, and no other object has the key.
const RECORD: &[u8] = br#"{"containerId":"#;

const END: &[u8] = b"]}";

/// The whole file.
#[derive(Clone, Copy)]
pub(super) struct Records<'a> {
    content: &'a [u8],
    /// Before the first record.
    start: usize,
}

impl<'a> Records<'a> {
    pub fn of(content: &'a [u8]) -> Option<Self> {
        let head = format!("{{\"version\":{VERSION},\"attachments\":[");
        let whole = content.starts_with(head.as_bytes()) && content.ends_with(END) && content.len() >= head.len() + 2;
        whole.then_some(Self { content, start: head.len() })
    }

    pub fn is_empty(self) -> bool {
        self.start == self.end()
    }

    /// Those in which some value is `text`.
    pub fn naming(self, text: &str) -> Option<Vec<Attachment>> {
        // Another writer could have escaped any letter; serde_json escapes only what it must.
        if memmem::find(self.content, b"\\u").is_some() {
            return None;
        }
        let needle = serde_json::to_string(text).ok()?;
        let (mut from, mut found) = (self.start, Vec::new());
        while let Some(at) = memmem::find(&self.content[from..], needle.as_bytes()).map(|at| from + at) {
            let start = from + memmem::rfind(&self.content[from..at], RECORD)?;
            let (record, end) = first::<Attachment>(&self.content[start..])?;
            from = start + end;
            if from <= at {
                return None;
            }
            found.push(record);
        }
        Some(found)
    }

    pub fn has(self, container_id: &ContainerId, ifname: &str) -> Option<bool> {
        self.place(container_id, ifname).map(|place| place.is_some())
    }

    /// The parts of the file with `record` in the place of the one of this key, or behind all others.
    pub fn with(self, record: &'a [u8], container_id: &ContainerId, ifname: &str) -> Option<[&'a [u8]; 4]> {
        let (before, comma, after): (_, &[u8], _) = match self.place(container_id, ifname)? {
            Some(place) => (place.start, b"", place.end),
            None if self.is_empty() => (self.start, b"", self.end()),
            None => (self.end(), b",", self.end()),
        };
        Some([&self.content[..before], comma, record, &self.content[after..]])
    }

    /// The parts of the file without the record of this key; all of it when there is none.
    pub fn without(self, container_id: &ContainerId, ifname: &str) -> Option<[&'a [u8]; 2]> {
        let Some(Range { start, end }) = self.place(container_id, ifname)? else { return Some([self.content, b""]) };
        // One comma goes with it: that behind it, or else that before it.
        let (start, end) = match (self.content[end], self.content[start - 1]) {
            (b',', _) => (start, end + 1),
            (_, b',') => (start - 1, end),
            _ => (start, end),
        };
        Some([&self.content[..start], &self.content[end..]])
    }

    /// Where the record of this key is.
    fn place(self, container_id: &ContainerId, ifname: &str) -> Option<Option<Range<usize>>> {
        let id = serde_json::to_string(container_id.as_str()).ok()?;
        let mut others = 0;
        for start in memmem::find_iter(self.content, &[RECORD, id.as_bytes()].concat()) {
            let (interface, length) = first::<Interface>(&self.content[start..])?;
            if interface.ifname == ifname {
                return Some(Some(start..start + length));
            }
            others += 1;
        }
        // Somebody else may have written the keys in another order, or the id in other letters.
        let certain = memmem::find(self.content, b"\\u").is_none()
            && memmem::find_iter(self.content, id.as_bytes()).count() == others;
        certain.then_some(None)
    }

    /// Behind the last record.
    fn end(self) -> usize {
        self.content.len() - END.len()
    }
}

#[derive(Deserialize)]
struct Interface {
    ifname: String,
}

/// The value that `content` begins with, and its length.
fn first<'a, T: Deserialize<'a>>(content: &'a [u8]) -> Option<(T, usize)> {
    let mut values = Deserializer::from_slice(content).into_iter::<T>();
    let value = values.next()?.ok()?;
    Some((value, values.byte_offset()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::format::StateFile;

    fn file() -> StateFile {
        let mut file: StateFile = serde_json::from_str(include_str!("../../tests/fixtures/state/v1.json")).unwrap();
        file.attachments[1].last_error = Some(r#"said {"containerId":"a", "10.0.3.17"} and "]}""#.to_owned());
        file
    }

    fn bytes(file: &StateFile) -> Vec<u8> {
        serde_json::to_vec(file).unwrap()
    }

    #[test]
    fn every_single_change_is_the_same_as_one_of_the_whole() {
        let file = file();
        let content = bytes(&file);
        let records = Records::of(&content).unwrap();
        for (nth, record) in file.attachments.iter().enumerate() {
            let Attachment { container_id, ifname, .. } = record;
            let mut fewer = file.clone();
            fewer.attachments.remove(nth);
            assert_eq!(records.without(container_id, ifname).unwrap().concat(), bytes(&fewer));

            let mut changed = file.clone();
            changed.attachments[nth].last_error = Some("changed".to_owned());
            let put = serde_json::to_vec(&changed.attachments[nth]).unwrap();
            assert_eq!(records.with(&put, container_id, ifname).unwrap().concat(), bytes(&changed));
        }
        let Attachment { container_id, .. } = &file.attachments[0];
        assert_eq!(records.without(container_id, "eth9").unwrap().concat(), content);
        let Attachment { container_id, .. } = &file.attachments[2];
        assert!(
            records.without(container_id, "eth9").is_none(),
            "its pod has the same name, which is as good as a doubt"
        );
        let mut more = file.clone();
        more.attachments.push(Attachment { ifname: "eth9".to_owned(), ..file.attachments[0].clone() });
        let put = serde_json::to_vec(more.attachments.last().unwrap()).unwrap();
        let with = records.with(&put, &file.attachments[0].container_id, "eth9").unwrap().concat();
        assert_eq!(with, bytes(&more));
    }

    #[test]
    fn the_first_comes_and_the_last_goes() {
        let file = file();
        let one = StateFile { attachments: file.attachments[..1].to_vec(), ..file };
        let none = StateFile { attachments: Vec::new(), ..one.clone() };
        let Attachment { container_id, ifname, .. } = &one.attachments[0];
        let put = serde_json::to_vec(&one.attachments[0]).unwrap();
        let (empty, full) = (bytes(&none), bytes(&one));
        assert!(Records::of(&empty).unwrap().is_empty() && !Records::of(&full).unwrap().is_empty());
        assert_eq!(Records::of(&empty).unwrap().with(&put, container_id, ifname).unwrap().concat(), full);
        assert_eq!(Records::of(&full).unwrap().without(container_id, ifname).unwrap().concat(), empty);
    }

    #[test]
    fn a_search_finds_what_reading_all_finds() {
        let file = file();
        let content = bytes(&file);
        let records = Records::of(&content).unwrap();
        for text in ["10.0.3.17", "eth0", "nothing", file.attachments[2].container_id.as_str()] {
            let quoted = serde_json::to_string(text).unwrap();
            let named = |record: &&Attachment| serde_json::to_string(record).unwrap().contains(&quoted);
            let expected: Vec<Attachment> = file.attachments.iter().filter(named).cloned().collect();
            assert_eq!(records.naming(text).unwrap(), expected, "{text}");
        }
    }

    #[test]
    fn what_looks_otherwise_is_left_to_the_parser() {
        let content = String::from_utf8(bytes(&file())).unwrap();
        for other in [
            content.replace("\"version\":1", "\"version\": 1"),
            content.replace("\"version\":1", "\"version\":2"),
            content[..content.len() - 1].to_owned(),
            format!("{content}\n"),
            String::new(),
        ] {
            assert!(Records::of(other.as_bytes()).is_none(), "{other}");
        }
        let file = file();
        let Attachment { container_id, ifname, .. } = &file.attachments[0];
        let sorted = serde_json::to_value(&file.attachments).unwrap();
        let sorted = format!("{{\"version\":1,\"attachments\":{sorted}}}");
        assert!(!sorted.contains("[{\"containerId\""), "serde_json sorts the keys of a Value");
        let records = Records::of(sorted.as_bytes()).unwrap();
        assert!(records.with(b"{}", container_id, ifname).is_none() && records.without(container_id, ifname).is_none());
        assert!(records.naming(container_id.as_str()).is_none());
        let escaped = content.replace("10.0.3.17", "\\u0031\\u0030.0.3.17");
        assert!(Records::of(escaped.as_bytes()).unwrap().naming("10.0.3.17").is_none());
        let broken = content.replace("\"Unbinding\"", "\"Unbound\"");
        assert!(Records::of(broken.as_bytes()).unwrap().naming("Unbound").is_none());
    }
}
