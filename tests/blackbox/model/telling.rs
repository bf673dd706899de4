//! Telling one story: each step changes the model and the world, and then the promises are looked at.

use std::sync::atomic::Ordering;
use std::time::Duration;

use podeip::deadline::Deadline;
use podeip::state::{AgentLock, Store};
use podeip_sim::calls::ServiceKind;
use podeip_sim::cloud::{BusyCode, RepeatCode};
use podeip_sim::faults::{Effect, Rule, When};
use serde_json::json;

use super::Counts;
use super::field::{Deed, Field, Outcome};
use super::ledger::{Ledger, Living, Placed};
use super::places::{NODES, SLOTS, Wish, create};
use super::rules::{self, Seen};
use super::step::{Death, Loss, Quirk, Step, Verb, Weather};

/// The limits of a minute begin anew.
pub(super) const MINUTE: Duration = Duration::from_secs(61);

/// How long a lagging cloud hides a change.
const LAG: Duration = Duration::from_millis(700);

/// A story that is being told.
pub(super) struct Telling<'a> {
    pub(super) counts: &'a Counts,
    pub(super) field: Field,
    pub(super) ledger: Ledger,
    agents: [Option<AgentLock>; NODES],
    /// Nodes that have lost their records.
    pub(super) exposed: [bool; NODES],
    pub(super) seen: Seen,
}

pub(super) type Told = Result<(), String>;

/// Tells the story to its end: at the last everything is cleared away, and nothing may be left that must not stay.
pub fn tell(steps: &[Step], counts: &Counts) -> Told {
    let field = Field::new();
    let seen = Seen::take(&field);
    let mut telling =
        Telling { counts, field, ledger: Ledger::default(), agents: [None, None], exposed: [false; NODES], seen };
    for (at, step) in steps.iter().enumerate() {
        telling.step(step).map_err(|broken| format!("after step {} ({step}): {broken}", at + 1))?;
    }
    telling.end().map_err(|broken| format!("at the end: {broken}"))
}

impl Telling<'_> {
    fn step(&mut self, step: &Step) -> Told {
        match step {
            Step::Create(slot, node) => self.create(*slot, *node),
            Step::Terminate(slot) => self.terminate(*slot),
            Step::Finish(slot) => self.finish(*slot),
            Step::Remove(slot) => self.remove(*slot),
            Step::Die(slot) => self.die(*slot),
            Step::Forget(slot) => self.forget(*slot),
            Step::Call(verb) => {
                let Some(deed) = self.plan(verb) else { return Ok(()) };
                let outcome = self.field.perform(&deed);
                self.note(&deed, &outcome)?;
            }
            Step::Both(one, other) => {
                let deeds: Vec<Deed> = [one, other].into_iter().filter_map(|verb| self.plan(verb)).collect();
                let outcomes = self.field.perform_all(&deeds);
                let mut ended: Vec<(&Deed, &Outcome)> = deeds.iter().zip(&outcomes).collect();
                // A DEL says what an ADD of the same sandbox is worth.
                ended.sort_by_key(|(deed, _)| matches!(deed, Deed::Cni { verb: "ADD", .. }));
                // One of two ADDs of a sandbox that failed has undone, perhaps, what the other did.
                let undone: Vec<usize> =
                    ended.iter().filter(|(_, it)| !it.ok).filter_map(|(it, _)| it.added()).collect();
                ended.retain(|(deed, outcome)| !outcome.ok || deed.added().is_none_or(|at| !undone.contains(&at)));
                ended.into_iter().try_for_each(|(deed, outcome)| self.note(deed, outcome))?;
            }
            Step::Killed(verb, death) => self.kill(verb, death)?,
            Step::Agent(node, lives) => self.agent(*node, *lives),
            // Where tags are ignored at first, the record alone knows an EIP for a moment.
            Step::LoseNode(_) | Step::LoseState(_) if self.ignores_tags() => {}
            Step::LoseNode(node) => self.lose_node(*node),
            Step::LoseState(node) => self.lose_state(*node),
            Step::UnbindByHand(slot) => self.unbind_by_hand(*slot),
            Step::DeletePodEip(slot) => self.delete_pod_eip(*slot),
            Step::Weather(weather) => self.change_weather(*weather),
            Step::Wait(span) => self.field.scene.world.clock.advance(*span),
            Step::Settle => self.settle()?,
        }
        self.look()
    }

    /// The promises hold.
    pub(super) fn look(&mut self) -> Told {
        let after = Seen::take(&self.field);
        rules::judge(&self.field, &self.ledger, &self.seen, &after)?;
        self.seen = after;
        Ok(())
    }

    fn create(&mut self, slot: usize, node: usize) {
        if self.ledger.pods[slot].is_none() {
            let mould = create(&self.field.scene, &SLOTS[slot], node);
            self.ledger.pods[slot] = Some(Living { mould, node, terminating: false });
        }
    }

    fn terminate(&mut self, slot: usize) {
        let Some(pod) = self.ledger.pods[slot].as_mut() else { return };
        pod.terminating = true;
        self.field.scene.world.cluster.begin_pod_deletion(&pod.mould.namespace, &pod.mould.name);
    }

    fn finish(&mut self, slot: usize) {
        let Some(pod) = self.ledger.pods[slot].as_mut() else { return };
        pod.terminating = true;
        self.field.scene.world.cluster.set_pod_phase(&pod.mould.namespace, &pod.mould.name, "Succeeded");
        self.ledger.release(slot);
    }

    pub(super) fn remove(&mut self, slot: usize) {
        let Some(pod) = self.ledger.pods[slot].take() else { return };
        self.field.scene.delete_pod(&pod.mould);
        self.ledger.release(slot);
    }

    fn die(&mut self, slot: usize) {
        let Some(at) = self.ledger.running(slot) else { return };
        let placed = &mut self.ledger.placed[at];
        self.field.unmake(&placed.sandbox);
        (placed.runs, placed.started, placed.served) = (false, false, None);
    }

    fn forget(&mut self, slot: usize) {
        let dead = |placed: &&mut Placed| placed.slot == slot && !placed.runs && placed.ended == 0;
        if let Some(placed) = self.ledger.placed.iter_mut().find(dead) {
            (placed.holds_address, placed.ended) = (false, 1);
        }
    }

    /// What the verb is about, if it can be called now.
    pub(super) fn plan(&mut self, verb: &Verb) -> Option<Deed> {
        let all = |node: usize| self.ledger.placed.iter().filter(move |it| it.node == node && it.runs && it.ended == 0);
        match *verb {
            Verb::Add(slot) => self.plan_add(slot),
            Verb::Del(slot) => {
                let at = self.ledger.placed.iter().position(|it| it.slot == slot && it.ended == 0)?;
                let placed = &mut self.ledger.placed[at];
                (placed.started, placed.served) = (false, None);
                Some(Deed::Cni { verb: "DEL", at, sandbox: placed.sandbox.clone() })
            }
            Verb::DelAgain(slot) => {
                let at = self.ledger.placed.iter().rposition(|it| it.slot == slot && it.ended > 0)?;
                Some(Deed::Cni { verb: "DEL", at, sandbox: self.ledger.placed[at].sandbox.without_netns() })
            }
            Verb::Gc(node) => Some(Deed::Gc(node)),
            Verb::Collect(node) => {
                Some(Deed::GcVerb { node, valid: all(node).map(|it| it.sandbox.container_id.clone()).collect() })
            }
            Verb::Round(node) => Some(Deed::Round(node)),
        }
    }

    pub(super) fn plan_add(&mut self, slot: usize) -> Option<Deed> {
        let pod = self.ledger.pods[slot].clone().filter(|pod| !pod.terminating)?;
        let at = match self.ledger.running(slot) {
            Some(at) => at,
            None => {
                let sandbox = self.field.sandbox(&pod.mould, self.ledger.free_address(pod.node)?);
                self.ledger.placed.push(Placed {
                    slot,
                    node: pod.node,
                    sandbox,
                    runs: true,
                    holds_address: true,
                    ended: 0,
                    started: false,
                    served: None,
                });
                self.ledger.placed.len() - 1
            }
        };
        // A try that fails takes away what an earlier one gave.
        self.ledger.release(slot);
        let placed = &mut self.ledger.placed[at];
        placed.started = false;
        Some(Deed::Cni { verb: "ADD", at, sandbox: placed.sandbox.clone() })
    }

    /// What the model makes of it.
    pub(super) fn note(&mut self, deed: &Deed, outcome: &Outcome) -> Told {
        self.counts.runs.fetch_add(1, Ordering::Relaxed);
        self.counts.killed.fetch_add(usize::from(outcome.died), Ordering::Relaxed);
        let Deed::Cni { verb, at, .. } = deed else { return Ok(()) };
        let placed = &mut self.ledger.placed[*at];
        match (*verb, outcome.died) {
            ("DEL", false) => {
                if !outcome.ok {
                    return Err(format!("DEL failed: {}", outcome.text));
                }
                self.field.unmake(&placed.sandbox);
                (placed.runs, placed.holds_address, placed.started, placed.served) = (false, false, false, None);
                placed.ended += 1;
            }
            ("ADD", false) if outcome.ok && placed.runs => {
                placed.started = !(self.exposed[placed.node] && SLOTS[placed.slot].wish == Wish::Nothing);
                let alive =
                    self.ledger.pods[placed.slot].as_ref().is_some_and(|pod| pod.mould.uid == placed.sandbox.uid);
                if placed.started && (alive || SLOTS[placed.slot].wish == Wish::Nothing) {
                    placed.served = rules::served(&self.field, placed, &Seen::take(&self.field))?;
                    self.counts.served.fetch_add(usize::from(placed.served.is_some()), Ordering::Relaxed);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn kill(&mut self, verb: &Verb, death: &Death) -> Told {
        let Some(deed) = self.plan(verb) else { return Ok(()) };
        let outcome = self.field.perform_and_die(&deed, death);
        let printed = match &deed {
            Deed::Cni { verb: "ADD", sandbox, .. } => {
                let printed = serde_json::from_str(&outcome.text).unwrap_or(json!(null));
                Outcome { ok: outcome.ok && printed == sandbox.result(), ..outcome }
            }
            _ => outcome,
        };
        self.note(&deed, &printed)
    }

    fn agent(&mut self, node: usize, lives: bool) {
        self.agents[node] = None;
        if lives {
            let store = Store::open(&self.field.state_dir(node)).unwrap();
            self.agents[node] = Some(store.lock_agent(Deadline::after(MINUTE)).unwrap());
        }
    }

    fn ignores_tags(&self) -> bool {
        self.field.scene.world.cloud.settings().ignore_tags_on_allocate
    }

    fn lose_node(&mut self, node: usize) {
        let lost = |pod: &Option<Living>| pod.as_ref().is_some_and(|pod| pod.node == node);
        for slot in 0..SLOTS.len() {
            if lost(&self.ledger.pods[slot]) {
                self.remove(slot);
            }
        }
        let gone: Vec<Placed> = self.ledger.placed.extract_if(.., |placed| placed.node == node).collect();
        gone.iter().for_each(|placed| self.field.unmake(&placed.sandbox));
        self.agent(node, false);
        let _ = std::fs::remove_dir_all(self.field.state_dir(node));
        self.field.plug_in(node);
    }

    /// Until the sweeper has seen to it, nobody here knows what earlier pods left on the addresses.
    fn lose_state(&mut self, node: usize) {
        self.exposed[node] = true;
        let _ = std::fs::remove_file(self.field.state_dir(node).join("state.json"));
    }

    fn unbind_by_hand(&mut self, slot: usize) {
        let served = self.ledger.placed.iter_mut().find_map(|it| it.served.take_if(|_| it.slot == slot));
        if let Some(eip) = served {
            self.field.scene.world.cloud.unbind_by_hand(&eip.id).unwrap();
        }
    }

    pub(super) fn delete_pod_eip(&mut self, slot: usize) {
        let scene = &self.field.scene;
        let name = SLOTS[slot].name;
        let now = json!(scene.world.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string());
        let standing = scene.world.cluster.get("podeips", "default", name);
        if standing.is_some_and(|it| it["metadata"]["deletionTimestamp"].is_null()) {
            let change = json!({"metadata": {"deletionTimestamp": now}});
            scene.world.cluster.merge("podeips", "default", name, &change);
            self.ledger.doomed[slot] = true;
        }
    }

    pub(super) fn change_weather(&mut self, weather: Weather) {
        let world = &self.field.scene.world;
        let switch = |kind, down: bool| if down { world.take_down(kind) } else { world.bring_up(kind) };
        match weather {
            Weather::Throttle(on) => world.cloud.set(|settings| {
                settings.throttling = on;
                let rates = [("AllocateEipAddress", 1), ("AssociateEipAddress", 2), ("UnassociateEipAddress", 2)];
                settings.rates = rates.map(|(action, rate)| (action.to_owned(), rate)).into();
            }),
            Weather::Lag(on) => world.cloud.set(|settings| {
                settings.change_lag = if on { LAG } else { Duration::ZERO };
                settings.new_eip_lag = settings.change_lag;
            }),
            Weather::KubeDown(down) => switch(ServiceKind::Kube, down),
            Weather::VpcDown(down) => switch(ServiceKind::Vpc, down),
            Weather::FailAssociation => world.cloud.set(|settings| settings.failing_associations = 1),
            Weather::Quirk(quirk) => world.cloud.set(|settings| match quirk {
                Quirk::IgnoresTags => settings.ignore_tags_on_allocate = true,
                Quirk::RepeatIsDuplicate => settings.repeat_code = RepeatCode::Duplicated,
                Quirk::OneOperationPerEni => settings.one_operation_per_eni = true,
                Quirk::BusyIsWrongStatus => settings.busy_code = BusyCode::IncorrectEipStatus,
                Quirk::ChecksTarget => settings.unassociate_checks_target = true,
                Quirk::RemembersRefusals => settings.token_remembers_failure = true,
            }),
            Weather::Lose { call, loss } => {
                let effect = match loss {
                    Loss::BeforeEffect => Effect::Cut { when: When::BeforeEffect },
                    Loss::AfterEffect => Effect::Cut { when: When::AfterEffect },
                    Loss::Truncated => Effect::Truncated,
                    Loss::Refused(status, code) => Effect::error(status, code, "the story wants it so"),
                    Loss::Gateway => Effect::Gateway { status: 502, when: When::BeforeEffect },
                };
                world.faults.add(Rule::on(call, effect).once());
            }
        }
    }
}
