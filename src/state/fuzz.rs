//! What the fuzzer calls: the decoders of the files, without the directory around them.

use std::path::Path;

use jiff::Timestamp;

use super::format::{Attachment, StateFile};
use super::measures::{Position, newest_half, parse, unread};
use super::records::Records;
use super::rival::Rival;
use super::store::{Store, Unusable};
use super::throttle::Pauses;

/// The state file as a verb reads it, or why it cannot.
///
/// # Errors
/// The reason that people are told.
pub fn state_file(content: &[u8]) -> Result<StateFile, String> {
    let store = Store::open(Path::new("/nonexistent/podeip")).map_err(|refusal| refusal.to_string())?;
    store.parse(content).map_err(|unusable| match unusable {
        Unusable::Newer(refusal) => refusal.to_string(),
        Unusable::Corrupt(reason) => reason,
    })
}

/// The records that a look-up of `text` finds without reading all.
pub fn named(content: &[u8], text: &str) -> Option<Vec<Attachment>> {
    Records::of(content)?.naming(&[serde_json::Value::from(text).to_string()])
}

/// The file with this record in its place, and without it, changed without reading all.
pub fn changed(content: &[u8], record: &Attachment) -> Option<[Vec<u8>; 2]> {
    let bytes = serde_json::to_vec(record).ok()?;
    let records = Records::of(content)?;
    let with = records.with(&bytes, &record.container_id, &record.ifname)?.concat();
    Some([with, records.without(&record.container_id, &record.ifname)?.concat()])
}

/// The measures behind a position, twice: in the file, and in what is left when it is halved.
pub fn measures(content: &[u8]) -> (usize, usize) {
    let mut position = Position::default();
    let lines = parse(unread(content, &mut position)).len();
    let half = newest_half(content);
    (lines, parse(unread(&half, &mut Position::default())).len())
}

/// How long a note of throttled calls makes one wait.
pub fn throttle(content: &[u8]) -> Option<std::time::Duration> {
    let mut pauses: Pauses = serde_json::from_slice(content).ok()?;
    let now = Timestamp::UNIX_EPOCH;
    let wait = pauses.wait("AllocateEipAddress", now, 0.5);
    pauses.lengthen("AllocateEipAddress", now);
    Some(wait)
}

/// The note of a rival.
pub fn rival(content: &[u8]) -> Option<Rival> {
    serde_json::from_slice(content).ok()
}
