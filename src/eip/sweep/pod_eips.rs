//! PodEIPs that no single node can end: expired ones, deleted ones, those of nodes that are gone.

use std::collections::BTreeMap;

use super::ending::{self, Leaving, Left, Place};
use super::lease::Hold;
use super::{Finding, LISTING_TIME, STEP_TIME, Sweeper, What};
use crate::cloud::Eip;
use crate::deadline::Deadline;
use crate::eip::failure::{Failure, Kind};
use crate::eip::owner;
use crate::eip::publish;
use crate::eip::request::Notice;
use crate::kube::PodEip;
use crate::names::{EipId, EipKind};

/// Event reasons of a PodEIP that ends.
const RELEASED: &str = "EIPReleased";
const NOT_RELEASED: &str = "EIPNotReleased";

/// Why a PodEIP that was to be unbound is left alone.
const OVERTAKEN: &str = "a pod has taken it over meanwhile";

/// A PodEIP that is to be unbound, or to end.
pub(super) struct Case {
    pub pod_eip: PodEip,
    pub ends: bool,
    pub why: String,
    /// Another PodEIP names the same EIP: it is that one's now.
    pub shared: bool,
}

impl Sweeper<'_> {
    /// Carries out what was decided over PodEIPs. Those that end are marked first, each on the version
    /// that was judged: one that a pod has taken over meanwhile stays.
    ///
    /// # Errors
    /// The cloud does not answer, or the Lease is lost; what fails for one of them is in its finding.
    pub(super) fn end_pod_eips(
        &self,
        hold: &mut Hold,
        cases: Vec<Case>,
        deadline: Deadline,
    ) -> Result<Vec<Finding>, Failure> {
        let mut findings = Vec::new();
        let mut ready = Vec::new();
        for case in cases {
            hold.keep(deadline)?;
            let why = case.why.clone();
            let subject = case.pod_eip.clone();
            match self.mark(case, deadline.within(STEP_TIME)) {
                Ok(case) => ready.extend(case),
                Err(failure) => findings.push(Finding::of(&subject, What::Failed(failure), &why)),
            }
        }
        let leaving: Vec<Leaving> = ready.iter().filter(|case| !case.shared).map(leaving).collect();
        let still = |id: &EipId| self.still_stands(&ready, id, deadline.within(STEP_TIME));
        let mut left = ending::unbind(self.node.cloud()?, hold, &leaving, still, deadline)?;
        self.see_new_claims(&mut ready, deadline)?;
        for case in &ready {
            hold.keep(deadline)?;
            let left = left.remove(&case.pod_eip.spec.allocation_id);
            let outcome = self.finish(case, left, deadline.within(STEP_TIME));
            let what = outcome.unwrap_or_else(|failure| {
                self.tell(&case.pod_eip, NOT_RELEASED, true, &failure.to_string(), deadline.within(STEP_TIME));
                What::Failed(failure)
            });
            findings.push(Finding::of(&case.pod_eip, what, &case.why));
        }
        Ok(findings)
    }

    /// From here on no pod takes the EIP of a PodEIP over that ends. `None`: it is gone, or not what
    /// was judged any more.
    fn mark(&self, case: Case, deadline: Deadline) -> Result<Option<Case>, Failure> {
        if !case.ends {
            return Ok(Some(case));
        }
        match self.node.kube()?.begin_pod_eip_deletion(&case.pod_eip, deadline) {
            Ok(doomed) => Ok(doomed.map(|pod_eip| Case { pod_eip, ..case })),
            Err(moved) if moved.is_conflict() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether the EIP of a PodEIP that stays may be touched.
    fn still_stands(&self, cases: &[Case], id: &EipId, deadline: Deadline) -> Result<bool, Failure> {
        let of_eip = |case: &&Case| case.pod_eip.spec.allocation_id == *id && !case.ends;
        cases.iter().find(of_eip).map_or(Ok(true), |case| self.is_unchanged(&case.pod_eip, deadline))
    }

    /// Whether a PodEIP is as it was judged. A pod that takes it over says so there before it touches
    /// the EIP.
    fn is_unchanged(&self, judged: &PodEip, deadline: Deadline) -> Result<bool, Failure> {
        let now = self.node.kube()?.pod_eip(&judged.namespace, &judged.name, deadline)?;
        Ok(now.is_some_and(|now| now.resource_version == judged.resource_version))
    }

    /// Unbinding takes a while; meanwhile another pod may have named an EIP.
    fn see_new_claims(&self, cases: &mut [Case], deadline: Deadline) -> Result<(), Failure> {
        if cases.is_empty() {
            return Ok(());
        }
        let all = self.node.kube()?.pod_eips(None, deadline.within(LISTING_TIME))?;
        let claims = claims(&all);
        for case in cases.iter_mut().filter(|case| case.ends) {
            case.shared |= claims.contains_key(&case.pod_eip.spec.allocation_id);
        }
        Ok(())
    }

    fn finish(&self, case: &Case, left: Option<Left>, deadline: Deadline) -> Result<What, Failure> {
        let (kube, pod_eip) = (self.node.kube()?, &case.pod_eip);
        let id = &pod_eip.spec.allocation_id;
        if !case.ends {
            return self.unpublish(pod_eip, left, deadline);
        }
        if let Some(Left::NotYet(failure)) = left {
            return Err(failure);
        }
        let what = match left {
            _ if case.shared => What::Kept("another PodEIP names it"),
            Some(Left::Free(eip)) if self.may_release(pod_eip, &eip)? => {
                ending::release(self.node.cloud()?, &eip, deadline)?;
                What::Released
            }
            Some(Left::Elsewhere(place)) if self.is_bought(pod_eip) => {
                return Err(Failure::new(Kind::EipUnavailable, format!("{id} is {place}, so it is not released"))
                    .hinting("unbind it there; the next sweep then releases it"));
            }
            Some(Left::Gone) => What::Gone,
            _ if pod_eip.spec.kind == EipKind::Static => What::Kept("it was named by the pod and is never released"),
            _ => What::Kept("nothing proves that podeip allocated it"),
        };
        let (reason, warning) = match &what {
            What::Kept(_) if pod_eip.spec.kind == EipKind::Auto => (NOT_RELEASED, true),
            _ => (RELEASED, false),
        };
        self.tell(pod_eip, reason, warning, &format!("{id}: {}; {what}", case.why), deadline);
        kube.finish_pod_eip_deletion(pod_eip.clone(), deadline)?;
        Ok(what)
    }

    /// Has a PodEIP that stays say that nothing is bound.
    fn unpublish(&self, pod_eip: &PodEip, left: Option<Left>, deadline: Deadline) -> Result<What, Failure> {
        match left {
            Some(Left::Overtaken) => return Ok(What::Kept(OVERTAKEN)),
            // Freed, and bound again on the very same address.
            Some(Left::NotYet(_)) if !self.is_unchanged(pod_eip, deadline)? => return Ok(What::Kept(OVERTAKEN)),
            Some(Left::NotYet(failure)) => return Err(failure),
            _ => {}
        }
        match publish::unpublish_binding(self.node.kube()?, pod_eip, false, deadline) {
            Ok(()) => Ok(What::Unbound),
            Err(moved) if moved.is_superseded() => Ok(What::Kept(OVERTAKEN)),
            Err(error) => Err(Failure::from(error).during(publish::shown_by(pod_eip))),
        }
    }

    /// Tags prove it, or that podeip wrote the PodEIP for an EIP that it allocated.
    fn may_release(&self, pod_eip: &PodEip, eip: &Eip) -> Result<bool, Failure> {
        let tagged = owner::is_ours(eip, self.node.cluster()?);
        Ok(pod_eip.spec.kind == EipKind::Auto && (tagged || self.is_bought(pod_eip)))
    }

    fn is_bought(&self, pod_eip: &PodEip) -> bool {
        pod_eip.spec.kind == EipKind::Auto && pod_eip.pod_uid().is_some()
    }

    pub(super) fn tell(&self, pod_eip: &PodEip, reason: &'static str, warning: bool, text: &str, deadline: Deadline) {
        let notice = Notice { reason, message: text.into(), warning };
        if let Ok(kube) = self.node.kube() {
            publish::record(kube, &pod_eip.reference(), &notice, None, deadline);
        }
    }
}

fn leaving(case: &Case) -> Leaving {
    let status = case.pod_eip.status.clone().unwrap_or_default();
    let from = match (status.network_interface_id, status.private_ip_address) {
        (Some(eni), Some(private_ip)) => Place::Published { eni, private_ip },
        _ => Place::Unbound,
    };
    Leaving { id: case.pod_eip.spec.allocation_id.clone(), from }
}

/// How often each EIP is named by PodEIPs that stay.
pub(super) fn claims(all: &[PodEip]) -> BTreeMap<&EipId, usize> {
    let mut claims = BTreeMap::new();
    for pod_eip in all.iter().filter(|pod_eip| !pod_eip.deleting) {
        *claims.entry(&pod_eip.spec.allocation_id).or_insert(0) += 1;
    }
    claims
}
