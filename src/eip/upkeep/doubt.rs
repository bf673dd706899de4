//! How long nothing is believed of what the cloud shows of an interrupted attachment.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::Timestamp;

use crate::deadline::Deadline;
use crate::eip::bind;
use crate::state::format::Attachment;

/// The process that wrote `Binding` or `Unbinding` into a record may have died with its request
/// still under way. From the moment the agent first sees such a record, the cloud's view is
/// believed only after [`READ_LAG`](bind::READ_LAG).
#[derive(Debug, Default)]
pub struct Doubts(BTreeMap<(String, String), Doubt>);

#[derive(Debug)]
struct Doubt {
    /// Of which writing of the record.
    written: Timestamp,
    until: Deadline,
}

impl Doubts {
    /// Whether what the cloud shows of this record's EIP can be believed by now.
    pub fn believed(&mut self, record: &Attachment) -> bool {
        let fresh = || Doubt { written: record.updated_at, until: bind::in_doubt_until(record.phase) };
        let doubt = self.0.entry(key(record)).or_insert_with(fresh);
        if doubt.written != record.updated_at {
            *doubt = fresh();
        }
        doubt.until.passed()
    }

    /// The agent itself made the request behind this record. If it was answered there is nothing
    /// to doubt; otherwise the doubt begins anew.
    pub fn asked(&mut self, record: &Attachment, answered: bool) {
        let until = if answered { Deadline::after(Duration::ZERO) } else { bind::in_doubt_until(record.phase) };
        self.0.insert(key(record), Doubt { written: record.updated_at, until });
    }

    /// Forgets everything but `records`.
    pub fn keep(&mut self, records: &[Attachment]) {
        let kept: BTreeSet<_> = records.iter().map(key).collect();
        self.0.retain(|key, _| kept.contains(key));
    }
}

fn key(record: &Attachment) -> (String, String) {
    (record.container_id.to_string(), record.ifname.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::format::{Phase, StateFile};

    fn record(phase: Phase) -> Attachment {
        let file: StateFile = serde_json::from_str(include_str!("../../../tests/fixtures/state/guard.json")).unwrap();
        Attachment { phase, ..file.attachments[0].clone() }
    }

    #[test]
    fn an_interrupted_request_is_doubted_once_and_our_own_answered_one_never() {
        let mut doubts = Doubts::default();
        assert!(doubts.believed(&record(Phase::Bound)));
        let mut interrupted =
            Attachment { updated_at: "2026-01-01T00:00:00Z".parse().unwrap(), ..record(Phase::Unbinding) };
        assert!(!doubts.believed(&interrupted) && !doubts.believed(&interrupted));
        doubts.asked(&interrupted, true);
        assert!(doubts.believed(&interrupted));
        doubts.asked(&interrupted, false);
        assert!(!doubts.believed(&interrupted));
        doubts.asked(&interrupted, true);
        interrupted.updated_at = "2026-01-01T00:00:01Z".parse().unwrap();
        assert!(!doubts.believed(&interrupted), "another process wrote it");
        doubts.keep(&[]);
        assert!(doubts.0.is_empty());
    }
}
