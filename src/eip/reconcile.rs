//! What is to be done about one attachment, decided from facts alone.

use crate::eip::detach::Fate;
use crate::net;
use crate::state::format::{Attachment, Phase};

/// The decision, with its reason in plain words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Plan {
    /// All is as it should be, or nobody knows enough to act.
    Leave(String),
    /// A verb was interrupted, but the pod lives: unbind and hold the EIP for it.
    UnbindAndHold(String),
    /// The EIP was taken off a running pod, and putting it back was interrupted: go on with that.
    Rebind(String),
    /// The pod is over: unbind, and release or keep.
    End(String),
}

/// Whether the sandbox of `record` stands, as far as this node can tell. A record that was rebuilt
/// from the cluster does not know its sandbox; only its pod tells then.
pub fn sandbox_alive(record: &Attachment) -> bool {
    record.netns.is_empty() || net::netns_exists(&record.netns)
}

/// Whether a running sandbox has its EIP, as far as the record says.
pub fn is_served(record: &Attachment) -> bool {
    record.phase == Phase::Bound && record.published
}

/// Decides for `record`, whose pod has `fate`; `sandbox_alive` says whether its netns still stands.
/// No verb of the pod is running.
pub fn plan(record: &Attachment, fate: &Fate, sandbox_alive: bool) -> Plan {
    let served = is_served(record);
    // ADD starts with `published` off, so this was bound and shown to the pod once.
    let rebinding = record.phase == Phase::Binding && record.published;
    match fate {
        Fate::Over(reason) => Plan::End((*reason).into()),
        Fate::Terminating if served && sandbox_alive => Plan::Leave("the pod is terminating; its DEL will come".into()),
        Fate::Terminating => Plan::End("the pod is being deleted".into()),
        Fate::Unknown(_) if record.phase == Phase::Unbinding && record.binding.is_some() => {
            Plan::UnbindAndHold("unbinding was interrupted".into())
        }
        Fate::Unknown(_) => Plan::Leave("the API server did not say what became of the pod".into()),
        Fate::Wanted if served && sandbox_alive => Plan::Leave("in use".into()),
        Fate::Wanted if served => Plan::UnbindAndHold("its sandbox is gone".into()),
        Fate::Wanted if rebinding && sandbox_alive => Plan::Rebind("putting it back was interrupted".into()),
        Fate::Wanted if record.binding.is_some() => {
            Plan::UnbindAndHold(format!("interrupted in phase {:?}", record.phase))
        }
        Fate::Wanted => Plan::Leave("held for the pod's next sandbox".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::format::StateFile;

    fn record(phase: Phase, bound: bool, published: bool) -> Attachment {
        let file: StateFile = serde_json::from_str(include_str!("../../tests/fixtures/state/guard.json")).unwrap();
        let mut record = file.attachments[0].clone();
        record.phase = phase;
        record.published = published;
        if !bound {
            record.binding = None;
        }
        record
    }

    fn kind(plan: Plan) -> &'static str {
        match plan {
            Plan::Leave(_) => "leave",
            Plan::UnbindAndHold(_) => "hold",
            Plan::Rebind(_) => "rebind",
            Plan::End(_) => "end",
        }
    }

    #[test]
    fn every_phase_of_a_dead_pod_ends() {
        for phase in [Phase::Intent, Phase::Allocated, Phase::Binding, Phase::Bound, Phase::Unbinding, Phase::Held] {
            for bound in [true, false] {
                assert_eq!(kind(plan(&record(phase, bound, false), &Fate::Over("gone"), true)), "end");
            }
        }
    }

    #[test]
    fn a_living_pod_keeps_what_it_uses_and_loses_what_was_interrupted() {
        let of = |phase, bound, published, alive| kind(plan(&record(phase, bound, published), &Fate::Wanted, alive));
        assert_eq!(of(Phase::Bound, true, true, true), "leave");
        assert_eq!(of(Phase::Bound, true, true, false), "hold");
        assert_eq!(of(Phase::Bound, true, false, true), "hold");
        assert_eq!(of(Phase::Binding, true, false, true), "hold");
        assert_eq!(of(Phase::Binding, true, true, true), "rebind");
        assert_eq!(of(Phase::Binding, true, true, false), "hold");
        assert_eq!(of(Phase::Unbinding, true, false, false), "hold");
        assert_eq!(of(Phase::Held, false, false, false), "leave");
        assert_eq!(of(Phase::Intent, false, false, false), "leave");
        // The pod's next try ends that release or takes the EIP up.
        assert_eq!(of(Phase::Releasing, false, false, false), "leave");
    }

    #[test]
    fn a_terminating_pod_is_left_to_its_del_while_it_runs() {
        assert_eq!(kind(plan(&record(Phase::Bound, true, true), &Fate::Terminating, true)), "leave");
        assert_eq!(kind(plan(&record(Phase::Bound, true, true), &Fate::Terminating, false)), "end");
        assert_eq!(kind(plan(&record(Phase::Held, false, false), &Fate::Terminating, false)), "end");
    }

    #[test]
    fn nothing_is_released_on_an_unanswered_question() {
        let unknown = Fate::Unknown("timeout".into());
        for phase in [Phase::Intent, Phase::Bound, Phase::Held, Phase::Releasing] {
            assert_eq!(kind(plan(&record(phase, true, true), &unknown, false)), "leave");
        }
        assert_eq!(kind(plan(&record(Phase::Unbinding, true, false), &unknown, false)), "hold");
    }
}
