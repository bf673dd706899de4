//! An agent's care for its node: finish what was interrupted, keep what runs as it should be.
//!
//! A [`round`](Upkeep::round) looks at everything; [`settle`](Upkeep::settle) alone is what a change
//! of the state file calls for, and both may run at the same time. Neither holds a pod's lock while
//! it waits.

mod doubt;
mod drift;
pub mod late;
mod live;
mod pods;
mod rebuild;
mod reports;
mod served;
mod settle;

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;

use crate::deadline::Deadline;
use crate::eip::failure::Failure;
use crate::eip::node::Node;
use crate::eip::request::Notice;
use crate::names::PodRef;
use crate::state::StateError;
use crate::state::format::Attachment;

use doubt::Doubts;
use pods::Pods;
use rebuild::rebuild;
pub use rebuild::{outliving, rebuilt_id, unsandboxed};
use reports::Reports;
use settle::Identity;
pub use settle::{Scope, Settled, Unfinished};

/// For finishing what was interrupted, within one round. What takes longer goes on in the next.
const SETTLE_TIME: Duration = Duration::from_secs(30);

/// Listing the pods of one node, answered within a second by a healthy API server.
const LIST_TIME: Duration = Duration::from_secs(20);

/// What one agent knows of its node from round to round.
pub struct Upkeep<'a> {
    node: &'a Node,
    /// `spec.nodeName` of this node's pods.
    node_name: String,
    reports: Reports,
    /// One pass at a time: a pass that finds another one running would only repeat its steps.
    settling: Mutex<Settling>,
    stopping: AtomicBool,
}

/// What is remembered from one pass to the next.
#[derive(Debug, Default)]
struct Settling {
    doubts: Doubts,
    /// As of which writing each attachment was settled.
    settled: BTreeMap<Identity, Timestamp>,
}

impl<'a> Upkeep<'a> {
    pub fn new(node: &'a Node, node_name: impl Into<String>) -> Self {
        Self {
            node,
            node_name: node_name.into(),
            reports: Reports::default(),
            settling: Mutex::default(),
            stopping: AtomicBool::new(false),
        }
    }

    /// Has rounds and passes that run end at their next step.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }

    /// One look at everything on this node, and what that calls for.
    ///
    /// # Errors
    /// Only when the state cannot be read; what was not finished is in the result.
    pub fn round(&self, until: Deadline) -> Result<Settled, Failure> {
        // A file that does not parse is reported once and set aside; from then on it is a lost one.
        if let Err(error @ StateError::Corrupt { .. }) = self.node.store.attachments() {
            log::error!("{error}");
        }
        let listed = self.list_pods(until);
        let mut ours = None;
        let mut late = Vec::new();
        if let Some(pods) = listed.as_ref().filter(|_| self.node.settings.enabled)
            && !self.is_misnamed(pods, until)?
        {
            // What could not be looked up may be there.
            if self.rebuild_lost(pods, until)? {
                late = self.see_late(pods, until)?;
            }
            ours = Some(pods);
        }
        let mut pass = self.settle(Scope::All, listed.as_ref(), until.within(SETTLE_TIME))?;
        pass.unfinished.extend(late);
        let Some(pods) = ours else { return Ok(pass) };
        let mut tended = self.tend(pods, until)?;
        if tended.rebinding {
            let bound = self.settle(Scope::Changed, Some(pods), until.within(SETTLE_TIME))?;
            pass.pending |= bound.pending;
            pass.unfinished.extend(bound.unfinished);
            // What the pods show of their EIP has changed meanwhile.
            tended = self.tend(self.list_pods(until).as_ref().unwrap_or(pods), until)?;
        }
        pass.unfinished.extend(tended.unfinished);
        Ok(pass)
    }

    /// Rebuilds what the state file has lost, for an operator who has no agent.
    ///
    /// # Errors
    /// What kept it from looking.
    pub fn rebuild(&self, until: Deadline) -> Result<(), Failure> {
        let pods = Pods::of_node(self.node, &self.node_name, until.within(LIST_TIME))?;
        rebuild(self.node, &pods, until).map(drop)
    }

    fn list_pods(&self, until: Deadline) -> Option<Pods> {
        Pods::of_node(self.node, &self.node_name, until.within(LIST_TIME))
            .inspect_err(|failure| {
                log::warn!("the pods of node {} are unknown in this round: {failure}", self.node_name);
            })
            .ok()
    }

    /// Whether all that is lost could be looked for.
    fn rebuild_lost(&self, pods: &Pods, until: Deadline) -> Result<bool, Failure> {
        let rebuilt = match rebuild(self.node, pods, until) {
            Ok(rebuilt) => rebuilt,
            Err(failure) => {
                log::warn!("looking for lost records of this node: {failure}");
                return Ok(false);
            }
        };
        for record in rebuilt {
            let Some(pod) = pods.instance(&record.pod) else { continue };
            let notice = Notice {
                reason: "EIPRecordRebuilt",
                message: "this node's record of the pod's EIP was lost and is rebuilt".into(),
                warning: true,
            };
            self.reports.tell(self.node.kube()?, &[pod.reference()], &self.node_name, &[notice], until);
        }
        Ok(true)
    }

    /// Whether the pods that were set up here are another node's in the cluster. Then the listed pods
    /// are that node's, or nobody's, and no business of ours.
    fn is_misnamed(&self, pods: &Pods, until: Deadline) -> Result<bool, Failure> {
        let records = self.node.store.attachments()?;
        let set_up_here =
            |record: &&Attachment| record.binding.is_some() && record.container_id != rebuilt_id(&record.pod.uid);
        let own: Vec<&PodRef> = records.iter().filter(set_up_here).map(|record| &record.pod).collect();
        if own.iter().any(|pod| pods.instance(pod).is_some()) {
            return Ok(false);
        }
        let kube = self.node.kube()?;
        for pod in own {
            let found = kube.pod(&pod.namespace, &pod.name, until.within(LIST_TIME)).ok().flatten();
            let node = found.filter(|found| found.is_instance(&pod.uid)).and_then(|found| found.node);
            if let Some(node) = node.filter(|node| *node != self.node_name) {
                log::warn!(
                    "pod {pod} has its EIP here and is on node {node}, but this agent goes by {}, so nothing but what \
                     is left of earlier pods is looked after: set NODE_NAME to the pods' spec.nodeName",
                    self.node_name
                );
                return Ok(true);
            }
        }
        Ok(false)
    }
}
