//! A try of ADD that failed: what it bound is unbound, and everybody who looks is told.

use super::{Attempt, Told};
use crate::deadline::Deadline;
use crate::eip::detach;
use crate::eip::failure::{Failure, Kind};
use crate::eip::journal::Journal;
use crate::eip::node::Node;
use crate::eip::publish;

impl Attempt<'_> {
    /// Unbinds what this try may have bound, keeps the EIP for the next try of the same pod, and
    /// tells meanwhile.
    pub(super) fn undo(&mut self, failure: &Failure, verb: Deadline) -> Told {
        let Self { node, sandbox, requested, journal, pod, claim, .. } = self;
        std::thread::scope(|scope| {
            let told = match (pod, node.kube()) {
                (Some(pod), Ok(kube)) => {
                    let warning = publish::warning(publish::FAILED, failure);
                    let claim = claim.clone();
                    scope.spawn(move || match &claim {
                        Some(claim) => publish::tell_both(kube, pod, claim, &warning, &requested.notices, verb),
                        None => publish::tell(kube, pod, &warning, &requested.notices, verb),
                    });
                    Told::Already
                }
                _ => Told::NotYet,
            };
            if journal.on_disk()
                && let Err(error) = undo_recorded(node, journal, failure, verb)
            {
                log::error!("pod {}: undoing the failed try: {error}", sandbox.pod);
            }
            if failure.kind == Kind::EipUnavailable
                && let Err(error) =
                    node.kube().and_then(|kube| publish::withdraw(kube, journal.record(), claim.as_ref(), verb))
            {
                log::error!("pod {}: its PodEIP names an EIP that it did not get: {error}", sandbox.pod);
            }
            told
        })
    }
}

fn undo_recorded(node: &Node, journal: &mut Journal, failure: &Failure, verb: Deadline) -> Result<(), Failure> {
    let text = failure.to_string();
    let noted = journal.save(|record| record.last_error = Some(text));
    // Not being able to note it is no reason to leave it bound.
    if journal.record().binding.is_some() {
        detach::unbind_recorded(node, journal, verb)?;
    }
    noted
}
