//! How a story comes to rest: good weather in which everybody is served, and the end at which all pods go.

use std::sync::atomic::Ordering;
use std::time::Duration;

use podeip_sim::cloud::defaults;
use serde_json::{Value, json};

use super::field::Deed;
use super::places::{NODES, SLOTS, Wish};
use super::step::{Verb, Weather};
use super::telling::{MINUTE, Telling, Told};

/// Longer than any EIP of these stories is kept for a time, and than a Lease lasts.
const LONG: Duration = Duration::from_secs(15 * 60);

/// How often a pod's sandbox may fail in good weather: its address may be cleared only by then, or its PodEIP go.
const TRIES: usize = 3;

impl Telling<'_> {
    fn clear_up(&mut self) {
        self.field.quieten();
        for calm in [Weather::Throttle(false), Weather::Lag(false), Weather::KubeDown(false), Weather::VpcDown(false)] {
            self.change_weather(calm);
        }
        let world = &self.field.scene.world;
        world.faults.clear();
        world.cloud.set(|settings| settings.failing_associations = 0);
        // The limits of the last minute are over, and a killed sweeper's Lease.
        world.clock.advance(MINUTE * 3);
        self.field.hurry(false);
    }

    fn rounds(&mut self) -> Vec<String> {
        (0..NODES).map(|node| self.field.perform(&Deed::Round(node))).filter(|it| !it.ok).map(|it| it.text).collect()
    }

    /// Everybody who lives has what he asks for.
    pub(super) fn settle(&mut self) -> Told {
        self.clear_up();
        self.rounds();
        self.exposed = [false; NODES];
        self.look()?;
        for slot in 0..SLOTS.len() {
            self.serve(slot)?;
        }
        // What the agents do now must not touch what is served.
        let complaints = self.rounds();
        self.field.hurry(true);
        if complaints.is_empty() { Ok(()) } else { Err(format!("in good weather agents complain: {complaints:?}")) }
    }

    fn serve(&mut self, slot: usize) -> Told {
        let mut failed = Vec::new();
        for _ in 0..TRIES {
            let Some(pod) = &self.ledger.pods[slot] else { return Ok(()) };
            let running = self.ledger.running(slot).map(|at| &self.ledger.placed[at]);
            let well =
                running.is_some_and(|it| it.started && (it.served.is_some() || SLOTS[slot].wish == Wish::Nothing));
            if well || pod.terminating || self.is_taken(slot) {
                return Ok(());
            }
            let node = pod.node;
            self.end_sandboxes(slot)?;
            if self.ledger.free_address(node).is_none() {
                return Ok(());
            }
            let Some(deed) = self.plan_add(slot) else { return Ok(()) };
            let outcome = self.field.perform(&deed);
            self.note(&deed, &outcome)?;
            self.look()?;
            if !outcome.ok {
                failed.push(outcome.text);
                self.rounds();
            }
        }
        match self.ledger.running(slot).is_some_and(|at| self.ledger.placed[at].started) {
            true => Ok(()),
            false => Err(format!("in good weather pod {} gets nothing: {failed:?}", SLOTS[slot].name)),
        }
    }

    /// Another pod that lives has the EIP that this one names, if only because an agent gave it back to it.
    fn is_taken(&self, slot: usize) -> bool {
        let named = |slot: usize| SLOTS[slot].wish == Wish::Named;
        let eip = self.field.scene.world.cloud.eip(defaults::USER_EIP);
        let place = eip.and_then(|eip| eip.binding).map(|binding| binding.private_ip);
        let has = |other: usize| {
            let running = self.ledger.running(other).map(|at| self.ledger.placed[at].sandbox.ip);
            other != slot && named(other) && running.is_some() && running == place
        };
        named(slot) && (0..SLOTS.len()).any(has)
    }

    fn end_sandboxes(&mut self, slot: usize) -> Told {
        while let Some(deed) = self.plan(&Verb::Del(slot)) {
            let outcome = self.field.perform(&deed);
            self.note(&deed, &outcome)?;
        }
        Ok(())
    }

    /// All pods go. What is kept for a time, and what was to go with its pod, goes; the rest goes when somebody says so.
    pub(super) fn end(&mut self) -> Told {
        self.clear_up();
        for slot in 0..SLOTS.len() {
            self.remove(slot);
            // Some runtimes never come to call DEL.
            if slot % 2 == 0 {
                self.end_sandboxes(slot)?;
            }
        }
        self.ledger.placed.iter().for_each(|placed| self.field.unmake(&placed.sandbox));
        self.ledger.placed.clear();
        self.look()?;
        self.round_after_round()?;
        let kept = self.seen.kept();
        let never = |pod_eip: &Value| {
            pod_eip["spec"]["allocationType"]["releaseStrategy"] == "Never"
                && pod_eip["metadata"]["deletionTimestamp"].is_null()
        };
        let claims = self.field.scene.world.cluster.list("podeips");
        let claimed: Vec<String> = claims
            .iter()
            .filter(|it| never(it))
            .map(|it| it["spec"]["allocationID"].as_str().unwrap().into())
            .collect();
        if kept != claimed || claims.len() != claimed.len() {
            return Err(format!("left are {kept:?}, and PodEIPs {}", json!(claims)));
        }
        (0..SLOTS.len()).for_each(|slot| self.delete_pod_eip(slot));
        self.round_after_round()?;
        let left = (self.seen.kept(), self.field.scene.world.cluster.list("podeips"));
        if !left.0.is_empty() || !left.1.is_empty() {
            return Err(format!("left are {:?}, and PodEIPs {}", left.0, json!(left.1)));
        }
        let users = self.seen.eip(defaults::USER_EIP).unwrap();
        self.counts.released.fetch_add(self.seen.released(), Ordering::Relaxed);
        if users.binding.is_some() { Err(format!("the user's EIP is left bound: {users:?}")) } else { Ok(()) }
    }

    fn round_after_round(&mut self) -> Told {
        let mut complaints = Vec::new();
        for _ in 0..2 {
            self.field.scene.world.clock.advance(LONG);
            complaints = self.rounds();
            self.look()?;
        }
        let records: Vec<_> = (0..NODES).flat_map(|node| self.field.records(node)).collect();
        if !complaints.is_empty() || !records.is_empty() {
            return Err(format!("agents leave {} and say {complaints:?}", json!(records)));
        }
        Ok(())
    }
}
