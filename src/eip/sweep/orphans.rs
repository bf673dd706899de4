//! EIPs with our cluster's tag that nothing claims: reported, given a grace period, and released.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::ending::{self, Leaving, Left, Place};
use super::lease::Hold;
use super::{Finding, LISTING_TIME, STEP_TIME, Sweeper, What};
use crate::cloud::Eip;
use crate::deadline::Deadline;
use crate::eip::bind::whereabouts;
use crate::eip::failure::{Failure, Kind};
use crate::eip::owner;
use crate::eip::publish;
use crate::eip::request::Notice;
use crate::kube::ObjectRef;
use crate::names::EipId;

/// Event reason, on the pod that the EIP was allocated for.
const UNCLAIMED: &str = "EIPUnclaimed";

/// EIPs that nothing claims, and since when.
pub(super) struct Unclaimed<'a> {
    pub eips: Vec<&'a Eip>,
    pub since: BTreeMap<EipId, Timestamp>,
    pub now: Timestamp,
}

impl<'a> Unclaimed<'a> {
    /// Continues what earlier sweeps noted; an EIP that is claimed by now is forgotten.
    pub fn new(eips: Vec<&'a Eip>, earlier: &BTreeMap<EipId, Timestamp>, now: Timestamp) -> Self {
        let since = |eip: &&Eip| (eip.id.clone(), earlier.get(&eip.id).copied().unwrap_or(now).min(now));
        Self { since: eips.iter().map(since).collect(), eips, now }
    }

    pub fn age(&self, eip: &Eip) -> Duration {
        let span = self.since.get(&eip.id).map_or(SignedDuration::ZERO, |since| self.now.duration_since(*since));
        Duration::try_from(span).unwrap_or_default()
    }
}

impl Sweeper<'_> {
    /// Reports new ones and releases those whose grace is over.
    ///
    /// # Errors
    /// The cloud does not answer, or the Lease is lost; what fails for one of them is in its finding.
    pub(super) fn release_orphans(
        &self,
        hold: &mut Hold,
        unclaimed: &Unclaimed,
        noted: &BTreeMap<EipId, Timestamp>,
        deadline: Deadline,
    ) -> Result<Vec<Finding>, Failure> {
        let grace = self.node.settings.orphan_grace;
        for eip in unclaimed.eips.iter().filter(|eip| !noted.contains_key(&eip.id)) {
            hold.keep(deadline)?;
            self.report(eip, grace, deadline);
        }
        let (due, waiting): (Vec<&Eip>, Vec<&Eip>) =
            unclaimed.eips.iter().partition(|eip| !self.report_only && unclaimed.age(eip) >= grace);
        let mut findings: Vec<Finding> =
            waiting.into_iter().map(|eip| unclaimed_finding(eip, What::Unclaimed)).collect();
        let due = self.still_unclaimed(due, deadline)?;
        let leaving: Vec<Leaving> =
            due.iter().map(|eip| Leaving { id: eip.id.clone(), from: Place::AnyInterface }).collect();
        let mut left = ending::unbind(self.node.cloud()?, hold, &leaving, |_| Ok(true), deadline)?;
        for eip in self.still_unclaimed(due, deadline)? {
            hold.keep(deadline)?;
            let left = left.remove(&eip.id);
            let what = self.release_orphan(left, deadline.within(STEP_TIME)).unwrap_or_else(What::Failed);
            findings.push(unclaimed_finding(eip, what));
        }
        Ok(findings)
    }

    /// Without those that a pod has named since the sweep began, or since it began to unbind them.
    fn still_unclaimed<'e>(&self, mut eips: Vec<&'e Eip>, deadline: Deadline) -> Result<Vec<&'e Eip>, Failure> {
        if !eips.is_empty() {
            let pod_eips = self.node.kube()?.pod_eips(None, deadline.within(LISTING_TIME))?;
            eips.retain(|eip| !pod_eips.iter().any(|it| it.spec.allocation_id == eip.id));
        }
        Ok(eips)
    }

    fn release_orphan(&self, left: Option<Left>, deadline: Deadline) -> Result<What, Failure> {
        match left {
            // What the cloud shows now counts: somebody may have taken the tags off to keep it.
            Some(Left::Free(eip)) if owner::is_ours(&eip, self.node.cluster()?) => {
                ending::release(self.node.cloud()?, &eip, deadline)?;
                Ok(What::Released)
            }
            Some(Left::Free(_)) => Ok(What::Kept("it does not carry our tags any more")),
            Some(Left::Elsewhere(place)) => Err(Failure::new(Kind::EipUnavailable, format!("it is {place}"))
                .hinting("unbind it there, or take its podeip-cluster tag off to keep it")),
            Some(Left::NotYet(failure)) => Err(failure),
            Some(Left::Overtaken) => Ok(What::Kept("a pod has named it meanwhile")),
            Some(Left::Gone) | None => Ok(What::Gone),
        }
    }

    /// Before anything is released: an event where its owner looks, and a line in the log.
    fn report(&self, eip: &Eip, grace: Duration, deadline: Deadline) {
        let fate = if self.report_only {
            "it is only reported".to_string()
        } else {
            format!("it is released in {} minutes unless something claims it", grace.as_secs() / 60)
        };
        let address = eip.address.map(|address| address.to_string()).unwrap_or_default();
        let message =
            format!("no PodEIP, pod or record claims {} ({address}), which is {}; {fate}", eip.id, whereabouts(eip));
        log::warn!("{message}");
        let notice = Notice { reason: UNCLAIMED, message, warning: true };
        if let (Some(pod), Ok(kube)) = (owner_of(eip), self.node.kube()) {
            publish::record(kube, &pod, &notice, None, deadline);
        }
    }
}

/// The pod that the tags name. It is gone, but its namespace is where its owner looks.
fn owner_of(eip: &Eip) -> Option<ObjectRef> {
    let tag = |key: &str| eip.tags.get(key).cloned();
    Some(ObjectRef {
        api_version: "v1".into(),
        kind: "Pod".into(),
        namespace: tag(owner::TAG_NAMESPACE)?,
        name: tag(owner::TAG_POD)?,
        uid: tag(owner::TAG_UID)?,
    })
}

fn unclaimed_finding(eip: &Eip, what: What) -> Finding {
    let tag = |key: &str| eip.tags.get(key).cloned().unwrap_or_default();
    Finding {
        namespace: tag(owner::TAG_NAMESPACE),
        name: tag(owner::TAG_POD),
        eip: eip.id.clone(),
        address: eip.address,
        what,
        why: "no PodEIP, pod or record claims it".into(),
    }
}
