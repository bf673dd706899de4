//! The story that a seed stands for: what clusters do in their usual order, cut through by deaths, losses and outages.

use std::time::Duration;

use fastrand::Rng;
use podeip_sim::gates::Moment;

use super::places::{NODES, PLAIN, SLOTS};
use super::step::{Death, Loss, Quirk, Step, Verb, Weather};

/// Calls whose answer is lost, and calls at which podeip dies.
const CALLS_OF_ADD: [&str; 6] = [
    "AllocateEipAddress",
    "AssociateEipAddress",
    "DescribeEipAddresses",
    "create podeips",
    "patch podeips/status",
    "patch pods/status",
];
const CALLS_OF_AN_END: [&str; 5] =
    ["UnassociateEipAddress", "ReleaseEipAddress", "DescribeEipAddresses", "get podeips", "delete podeips"];

const QUIRKS: [Quirk; 6] = [
    Quirk::IgnoresTags,
    Quirk::RepeatIsDuplicate,
    Quirk::OneOperationPerEni,
    Quirk::BusyIsWrongStatus,
    Quirk::ChecksTarget,
    Quirk::RemembersRefusals,
];

const LOSSES: [Loss; 6] = [
    Loss::BeforeEffect,
    Loss::AfterEffect,
    Loss::Truncated,
    Loss::Gateway,
    Loss::Refused(503, "ServiceUnavailable"),
    Loss::Refused(400, "QuotaExceeded.Eip"),
];
/// Of the cluster.
const REFUSALS: [Loss; 3] =
    [Loss::Refused(409, "Conflict"), Loss::Refused(403, "Forbidden"), Loss::Refused(429, "TooManyRequests")];

#[cfg(feature = "crash-points")]
const POINTS_OF_ADD: [&str; 6] = [
    "record: Intent has become Intent",
    "record: Intent has become Allocated",
    "record: Allocated has become Binding",
    "record: Binding has become Bound",
    "record: Bound has become Bound",
    "state.json: renamed",
];

#[cfg(feature = "crash-points")]
const POINTS_OF_AN_END: [&str; 4] = [
    "record: Bound has become Unbinding",
    "record: Unbinding has become Held",
    "record: Held has become Releasing",
    "state.json: renamed",
];

/// The steps of the story of this seed: about so many.
pub fn story(seed: u64, length: usize) -> Vec<Step> {
    let mut dice = Rng::with_seed(seed);
    // A story about few pods says more of each.
    let mut cast = dice.choose_multiple(0..SLOTS.len(), 3);
    if dice.bool() {
        cast[0] = PLAIN;
    }
    let nodes = if dice.u8(0..3) == 0 { NODES } else { 1 };
    let mut plot = Plot { dice, cast, nodes, steps: Vec::new() };
    if plot.one_in(3) {
        let quirk = QUIRKS[plot.dice.usize(0..QUIRKS.len())];
        plot.steps.push(Step::Weather(Weather::Quirk(quirk)));
    }
    while plot.steps.len() < length {
        plot.scene();
    }
    plot.steps
}

struct Plot {
    dice: Rng,
    cast: Vec<usize>,
    nodes: usize,
    steps: Vec<Step>,
}

impl Plot {
    fn slot(&mut self) -> usize {
        self.cast[self.dice.usize(0..self.cast.len())]
    }

    fn node(&mut self) -> usize {
        self.dice.usize(0..self.nodes)
    }

    fn one_in(&mut self, count: u8) -> bool {
        self.dice.u8(0..count) == 0
    }

    /// Something that hangs together.
    fn scene(&mut self) {
        let slot = self.slot();
        match self.dice.u8(0..100) {
            0..22 => self.begin(slot),
            22..26 => self.outlive(slot),
            26..40 => self.restart(slot),
            40..52 => self.end(slot),
            52..62 => self.replace(slot),
            62..68 => self.inherit(slot),
            68..78 => {
                let verb = self.verb();
                self.call(verb);
            }
            78..90 => self.person_or_weather(slot),
            90..94 => self.steps.push(Step::Settle),
            _ => {
                let node = self.node();
                let lives = self.dice.bool();
                self.steps.push(Step::Agent(node, lives));
            }
        }
    }

    /// A pod comes to be and its runtime tries until it has it.
    fn begin(&mut self, slot: usize) {
        let node = self.node();
        self.steps.push(Step::Create(slot, node));
        self.call(Verb::Add(slot));
        if self.one_in(3) {
            self.call(Verb::Del(slot));
            self.call(Verb::Add(slot));
        } else if self.one_in(4) {
            self.call(Verb::Add(slot));
        }
    }

    /// Its sandbox goes and it gets another one, in either order.
    fn restart(&mut self, slot: usize) {
        self.begin(slot);
        if self.dice.bool() {
            self.steps.push(Step::Die(slot));
            self.call(Verb::Add(slot));
            self.call(Verb::Del(slot));
        } else {
            self.call(Verb::Del(slot));
            self.call(Verb::Add(slot));
        }
    }

    fn end(&mut self, slot: usize) {
        if self.dice.bool() {
            let end = if self.one_in(4) { Step::Finish(slot) } else { Step::Terminate(slot) };
            self.steps.push(end);
            self.call(Verb::Del(slot));
            self.steps.push(Step::Remove(slot));
        } else {
            self.steps.push(Step::Remove(slot));
            self.call(Verb::Del(slot));
        }
        if self.one_in(3) {
            self.call(Verb::DelAgain(slot));
        }
    }

    /// Time passes after a pod's end, and the next of its name may come.
    fn outlive(&mut self, slot: usize) {
        self.begin(slot);
        self.end(slot);
        let (span, node) = (self.span(), self.node());
        self.steps.extend([Step::Wait(span), Step::Call(Verb::Round(node))]);
        if self.dice.bool() {
            self.begin(slot);
        }
    }

    fn span(&mut self) -> Duration {
        Duration::from_secs(60 * [1, 6, 11][self.dice.usize(0..3)])
    }

    /// The next pod of the name is there before the last one's DEL.
    fn replace(&mut self, slot: usize) {
        self.steps.push(Step::Remove(slot));
        self.begin(slot);
        self.call(Verb::Del(slot));
        if self.one_in(3) {
            self.call(Verb::DelAgain(slot));
        }
    }

    /// A sandbox goes without a word, or its DEL fails, and another pod gets its address.
    fn inherit(&mut self, slot: usize) {
        self.begin(slot);
        if self.dice.bool() {
            self.steps.extend([Step::Die(slot), Step::Forget(slot), Step::Remove(slot)]);
        } else {
            self.steps.push(Step::Remove(slot));
            self.steps.push(Step::Weather(Weather::VpcDown(true)));
            self.steps.push(Step::Call(Verb::Del(slot)));
            self.steps.push(Step::Weather(Weather::VpcDown(false)));
        }
        let heir = if self.dice.bool() { PLAIN } else { self.slot() };
        self.begin(heir);
    }

    fn person_or_weather(&mut self, slot: usize) {
        match self.dice.u8(0..12) {
            0 => self.steps.push(Step::UnbindByHand(slot)),
            1 => self.steps.push(Step::DeletePodEip(slot)),
            2 => {
                let node = self.node();
                self.steps.push(if self.dice.bool() { Step::LoseNode(node) } else { Step::LoseState(node) });
            }
            3..6 => {
                let (span, node) = (self.span(), self.node());
                self.steps.push(Step::Wait(span));
                self.call(Verb::Round(node));
            }
            6 => {
                let lags = self.dice.bool();
                self.steps.push(Step::Weather(Weather::Lag(lags)));
            }
            7 => {
                let throttled = self.dice.bool();
                self.steps.push(Step::Weather(Weather::Throttle(throttled)));
            }
            8 => self.steps.push(Step::Weather(Weather::FailAssociation)),
            _ => {
                let outage = if self.dice.bool() { Weather::KubeDown } else { Weather::VpcDown };
                let verb = self.verb();
                let steps = [Step::Weather(outage(true)), Step::Call(verb), Step::Weather(outage(false))];
                self.steps.extend(steps);
            }
        }
    }

    fn verb(&mut self) -> Verb {
        let (slot, node) = (self.slot(), self.node());
        match self.dice.u8(0..100) {
            0..34 => Verb::Add(slot),
            34..60 => Verb::Del(slot),
            60..66 => Verb::DelAgain(slot),
            66..76 => Verb::Gc(node),
            76..82 => Verb::Collect(node),
            _ => Verb::Round(node),
        }
    }

    /// The verb comes to its end, or dies, or loses an answer, or meets another one.
    fn call(&mut self, verb: Verb) {
        match self.dice.u8(0..100) {
            0..50 => self.steps.push(Step::Call(verb)),
            50..78 => {
                let death = self.death(verb);
                self.steps.push(Step::Killed(verb, death));
            }
            78..89 => {
                let call = self.call_of(verb);
                let of_cluster = call.contains(' ') && self.dice.bool();
                let losses: &[Loss] = if of_cluster { &REFUSALS } else { &LOSSES };
                let loss = losses[self.dice.usize(0..losses.len())];
                self.steps.push(Step::Weather(Weather::Lose { call, loss }));
                self.steps.push(Step::Call(verb));
            }
            _ => {
                let other = self.verb();
                self.steps.push(Step::Both(verb, other));
            }
        }
    }

    fn death(&mut self, verb: Verb) -> Death {
        #[cfg(feature = "crash-points")]
        if self.dice.bool() {
            let points: &[&str] = if matches!(verb, Verb::Add(_)) { &POINTS_OF_ADD } else { &POINTS_OF_AN_END };
            let nth = if self.one_in(5) { 2 } else { 1 };
            return Death::Point(points[self.dice.usize(0..points.len())], nth);
        }
        if matches!(verb, Verb::Add(_)) && self.one_in(4) {
            return Death::Late(["AllocateEipAddress", "AssociateEipAddress"][usize::from(!self.one_in(4))]);
        }
        let moments = [Moment::BeforeEffect, Moment::AfterEffect, Moment::AfterAnswer];
        let moment = moments[self.dice.usize(0..moments.len())];
        if self.dice.bool() {
            return Death::Call(self.call_of(verb), 1, moment);
        }
        // Few make more calls.
        let calls = if matches!(verb, Verb::Add(_)) { 12 } else { 6 };
        Death::Call("*", self.dice.u32(1..=calls), moment)
    }

    fn call_of(&mut self, verb: Verb) -> &'static str {
        let calls: &[&str] = if matches!(verb, Verb::Add(_)) { &CALLS_OF_ADD } else { &CALLS_OF_AN_END };
        calls[self.dice.usize(0..calls.len())]
    }
}
