//! Pods that ask for an EIP and run without: they started before podeip was there (setting `late_attach`).

use std::time::Duration;

use super::Upkeep;
use super::pods::Pods;
use super::rebuild::rebuilt_id;
use crate::deadline::Deadline;
use crate::eip::at_once;
use crate::eip::attach::{Time, Told, attach};
use crate::eip::failure::{Failure, Kind};
use crate::eip::guard;
use crate::eip::publish;
use crate::eip::request::{self, Notice};
use crate::eip::sandbox::{POD_INTERFACE, Sandbox};
use crate::kube::{Pod, PodEip};
use crate::names::PodRef;
use crate::net;
use crate::settings::LateAttach;
use crate::state::format::Attachment;

/// Event reason.
const MISSING: &str = "EIPMissing";

/// For one pod, answered in milliseconds by a healthy API server.
const LOOK_TIME: Duration = Duration::from_secs(5);

/// Whether `pod` runs and asks for an EIP. One that does not run yet is being served, or its events say why
/// it is not; on the host's network podeip is not called.
pub fn runs_and_asks(pod: &Pod) -> bool {
    pod.phase == "Running"
        && !pod.terminating
        && !pod.host_network
        && matches!(request::read(&pod.annotations), Ok(Some(_)))
}

/// Whether it has an EIP, or shows that it has one from somebody else, for `podeip migrate` to take over.
pub fn is_served(pod: &Pod, records: &[Attachment], pod_eip: Option<&PodEip>) -> bool {
    let recorded = records.iter().any(|record| record.eip.is_some() && pod.is_instance(&record.pod.uid));
    recorded
        || publish::is_terways(pod)
        || pod_eip.is_some_and(|it| it.pod_uid().is_none_or(|uid| pod.is_instance(&uid)))
}

impl Upkeep<'_> {
    /// Does what the settings say about each of them; returns those that still have none, and why.
    ///
    /// # Errors
    /// Only when the state cannot be read.
    pub(super) fn see_late(&self, pods: &Pods, until: Deadline) -> Result<Vec<(PodRef, Failure)>, Failure> {
        let records = self.node.store.attachments()?;
        let mode = self.node.settings.late_attach;
        let asking = |pod: &&Pod| runs_and_asks(pod) && !is_served(pod, &records, None);
        let late: Vec<&Pod> = pods.iter().filter(|_| mode != LateAttach::Off).filter(asking).collect();
        let outcomes = at_once::each(&late, |pod| match self.is_stopping() {
            true => Ok(()),
            false => self.see_late_one(pod, mode == LateAttach::Attach, until),
        });
        let failed = late.into_iter().zip(outcomes).filter_map(|(pod, outcome)| Some((instance(pod), outcome.err()?)));
        Ok(failed.collect())
    }

    fn see_late_one(&self, pod: &Pod, attach: bool, until: Deadline) -> Result<(), Failure> {
        let kube = self.node.kube()?;
        let pod_eip = kube.pod_eip(&pod.namespace, &pod.name, until)?;
        if is_served(pod, &[], pod_eip.as_ref()) {
            log::debug!("pod {}/{} has an EIP that is not of this node's doing", pod.namespace, pod.name);
            return Ok(());
        }
        if attach {
            return self.attach_late(pod);
        }
        let notice = Notice {
            reason: MISSING,
            message:
                "this pod asks for an EIP and was started before podeip served this node, so it has none: create it \
                      again, or set \"late_attach\" to \"attach\" in eni_conf"
                    .into(),
            warning: true,
        };
        self.reports.tell(kube, &[pod.reference()], &self.node_name, &[notice], until);
        Ok(())
    }

    /// As an ADD does, for the sandbox that is there. Its container id is not known to anybody who can be
    /// asked, so the record is like one that was rebuilt: a DEL finds it by the pod's UID and address.
    fn attach_late(&self, listed: &Pod) -> Result<(), Failure> {
        let instance = instance(listed);
        // The listing may be a minute old, and the pod's address another pod's by now.
        let pod = self.node.kube()?.pod(&listed.namespace, &listed.name, Deadline::after(LOOK_TIME))?;
        let Some(pod) = pod.filter(|pod| pod.is_instance(&instance.uid) && runs_and_asks(pod)) else { return Ok(()) };
        let Ok(Some(requested)) = request::read(&pod.annotations) else { return Ok(()) };
        let Some(private_ip) = pod.ips.first().copied() else { return Ok(()) };
        let sandbox = Sandbox {
            container_id: rebuilt_id(&instance.uid),
            ifname: POD_INTERFACE.into(),
            netns: String::new(),
            had_netns: false,
            pod: instance,
            private_ip,
        };
        let time = Time::of(&self.node.settings);
        let named = self.node.store.attachments_naming(&private_ip.to_string())?;
        let mut stale = guard::stale_on(&named, &sandbox.container_id, private_ip);
        stale.retain(|record| record.pod.uid != sandbox.pod.uid);
        if let Some(other) = stale.iter().find(|record| net::netns_exists(&record.netns)) {
            let message = format!("{private_ip}, which pod {} shows, is pod {}'s by now", sandbox.pod, other.pod);
            return Err(Failure::new(Kind::TryAgain, message));
        }
        if !stale.is_empty() {
            guard::clear(self.node, &stale, time.work.within(self.node.recovery_time()))?;
        }
        attach(self.node, &sandbox, requested, Some(pod.clone()), time).map_err(|(failure, told)| {
            if told == Told::NotYet
                && let Ok(kube) = self.node.kube()
            {
                let warning = publish::warning(publish::FAILED, &failure);
                self.reports.tell(kube, &[pod.reference()], &self.node_name, &[warning], time.verb);
            }
            failure
        })
    }
}

fn instance(pod: &Pod) -> PodRef {
    PodRef { namespace: pod.namespace.clone(), name: pod.name.clone(), uid: pod.runtime_uid() }
}
