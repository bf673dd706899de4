//! What an agent has told lately, so that a state that lasts is not an event in every round.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::deadline::Deadline;
use crate::eip::publish;
use crate::eip::request::Notice;
use crate::kube::{Kube, ObjectRef};

/// After this an event that still holds is counted up: the API server forgets events after an hour.
const REPEAT: Duration = Duration::from_secs(20 * 60);

/// Which events were recorded when, by object, reason and what they say.
#[derive(Debug, Default)]
pub struct Reports(Mutex<BTreeMap<(String, &'static str, String), Instant>>);

impl Reports {
    /// Records `notices` as events of each of `objects` (best effort), unless that was done lately.
    pub fn tell(&self, kube: &Kube, objects: &[ObjectRef], node: &str, notices: &[Notice], deadline: Deadline) {
        for object in objects {
            for notice in notices.iter().filter(|notice| self.is_due(object, notice, Instant::now())) {
                publish::record(kube, object, notice, Some(node), deadline);
            }
        }
    }

    fn is_due(&self, object: &ObjectRef, notice: &Notice, now: Instant) -> bool {
        let mut told = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        told.retain(|_, at| now.saturating_duration_since(*at) < REPEAT);
        let mut first = false;
        told.entry((object.uid.clone(), notice.reason, gist(&notice.message))).or_insert_with(|| {
            first = true;
            now
        });
        first
    }
}

/// A message without what differs every time the cloud refuses the same: the RequestId.
fn gist(message: &str) -> String {
    message.split("RequestId").next().unwrap_or_default().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lasting_state_is_told_again_only_after_a_while() {
        let reports = Reports::default();
        let object = |uid: &str| ObjectRef {
            api_version: "v1".into(),
            kind: "Pod".into(),
            namespace: "shop".into(),
            name: "web-0".into(),
            uid: uid.into(),
        };
        let notice = |message: &str| Notice { reason: "EIPDrifted", message: message.into(), warning: true };
        let now = Instant::now();
        assert!(reports.is_due(&object("1"), &notice("a"), now));
        assert!(!reports.is_due(&object("1"), &notice("a"), now + REPEAT / 2));
        assert!(reports.is_due(&object("2"), &notice("a"), now));
        assert!(reports.is_due(&object("1"), &notice("b"), now));
        assert!(reports.is_due(&object("1"), &notice("a"), now + REPEAT));
        assert!(reports.is_due(&object("1"), &notice("refused (RequestId 1, 1 try)"), now));
        assert!(!reports.is_due(&object("1"), &notice("refused (RequestId 2, 1 try)"), now));
    }
}
