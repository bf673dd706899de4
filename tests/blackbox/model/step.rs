//! The words of a story: what a cluster, its people and its clouds do to podeip, one step at a time.

use std::fmt;
use std::time::Duration;

use podeip_sim::gates::Moment;

use super::places::{NODES, SLOTS, Wish};

/// Calls whose answer is lost, and calls at which podeip dies. `*` is any.
const CALLS: [&str; 8] = [
    "AllocateEipAddress",
    "AssociateEipAddress",
    "UnassociateEipAddress",
    "ReleaseEipAddress",
    "DescribeEipAddresses",
    "* podeips",
    "patch podeips/status",
    "patch pods",
];

/// Something that happens. Each says by itself whether it is possible, so that a story stays one when a step of it is
/// left out.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// The pod of this name comes to be, on this node.
    Create(usize, usize),
    /// It is being deleted.
    Terminate(usize),
    /// It is gone from the API server.
    Remove(usize),
    /// Its sandbox is killed.
    Die(usize),
    /// The runtime forgets a killed sandbox without a DEL.
    Forget(usize),
    Call(Verb),
    /// At the same moment.
    Both(Verb, Verb),
    Killed(Verb, Death),
    /// From now on, or no more: DEL leaves the rest to an agent.
    Agent(usize, bool),
    /// The machine is gone with all that was on it; an empty one takes its name.
    LoseNode(usize),
    UnbindByHand(usize),
    DeletePodEip(usize),
    Weather(Weather),
    Wait(Duration),
    /// The weather clears up, the agents make their rounds, and every living pod has what it asks for.
    Settle,
}

/// One run of podeip.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verb {
    /// ADD for the pod's sandbox, which is made if it has none that runs.
    Add(usize),
    /// DEL of the oldest sandbox of this name that had none.
    Del(usize),
    /// DEL of one that had its DEL, without a netns.
    DelAgain(usize),
    Gc(usize),
    /// The CNI verb, with the sandboxes that run.
    GcVerb(usize),
    /// One round of a node's agent, and one sweep.
    Round(usize),
}

/// What the clouds do from now on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Weather {
    Throttle(bool),
    /// What was changed is seen late.
    Lag(bool),
    KubeDown(bool),
    VpcDown(bool),
    /// The next call of this name gets no answer.
    Lose { call: &'static str, loss: Loss },
    /// The next association falls back.
    FailAssociation,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    BeforeEffect,
    AfterEffect,
    /// The answer ends in its middle.
    Truncated,
    /// A gateway answers, before the effect.
    Gateway,
}

/// Where podeip dies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Death {
    /// At its `nth` call of this name.
    Call(&'static str, u32, Moment),
    /// At a named point between two effects.
    #[cfg(feature = "crash-points")]
    Point(&'static str, u32),
}

#[cfg(feature = "crash-points")]
const POINTS: [&str; 11] = [
    "record: Intent to become Intent",
    "record: Intent has become Intent",
    "record: Intent has become Allocated",
    "record: Allocated has become Binding",
    "record: Held has become Binding",
    "record: Binding has become Bound",
    "record: Bound has become Bound",
    "record: Bound has become Unbinding",
    "record: Unbinding has become Held",
    "record: Held has become Releasing",
    "state.json: renamed",
];

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Create(slot, node) => write!(f, "pod {} ({}) is created on node {node}", name(*slot), wish(*slot)),
            Step::Terminate(slot) => write!(f, "pod {} is being deleted", name(*slot)),
            Step::Remove(slot) => write!(f, "pod {} is gone from the API server", name(*slot)),
            Step::Die(slot) => write!(f, "the sandbox of pod {} is killed", name(*slot)),
            Step::Forget(slot) => write!(f, "the runtime forgets a killed sandbox of pod {}", name(*slot)),
            Step::Call(verb) => write!(f, "{verb}"),
            Step::Both(one, other) => write!(f, "at the same moment: {one}; {other}"),
            Step::Killed(verb, death) => write!(f, "{verb}, killed at {death}"),
            Step::Agent(node, true) => write!(f, "an agent lives on node {node}"),
            Step::Agent(node, false) => write!(f, "no agent lives on node {node}"),
            Step::LoseNode(node) => write!(f, "node {node} is lost with its pods, and an empty one takes its name"),
            Step::UnbindByHand(slot) => write!(f, "somebody unbinds the EIP of pod {}", name(*slot)),
            Step::DeletePodEip(slot) => write!(f, "somebody deletes the PodEIP of pod {}", name(*slot)),
            Step::Weather(weather) => write!(f, "{weather}"),
            Step::Wait(span) => write!(f, "{} minutes pass", span.as_secs() / 60),
            Step::Settle => write!(f, "the weather clears up, agents make their rounds, unserved pods get new sandboxes"),
        }
    }
}

impl fmt::Display for Verb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Verb::Add(slot) => write!(f, "ADD for pod {}", name(*slot)),
            Verb::Del(slot) => write!(f, "DEL of the oldest sandbox of pod {}", name(*slot)),
            Verb::DelAgain(slot) => write!(f, "DEL again, without netns, of a sandbox of pod {}", name(*slot)),
            Verb::Gc(node) => write!(f, "podeip gc on node {node}"),
            Verb::GcVerb(node) => write!(f, "the verb GC on node {node}"),
            Verb::Round(node) => write!(f, "a round of the agent of node {node}, and a sweep"),
        }
    }
}

impl fmt::Display for Weather {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let on = |on: &bool| if *on { "from now on" } else { "no more" };
        match self {
            Weather::Throttle(is) => write!(f, "the account is throttled hard {}", on(is)),
            Weather::Lag(is) => write!(f, "changes are seen late {}", on(is)),
            Weather::KubeDown(is) => write!(f, "the API server is down {}", on(is)),
            Weather::VpcDown(is) => write!(f, "the cloud is down {}", on(is)),
            Weather::Lose { call, loss } => write!(f, "the next {call:?} is not answered ({loss:?})"),
            Weather::FailAssociation => write!(f, "the next association falls back"),
        }
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Death::Call(call, nth, moment) => write!(f, "call {nth} of {call:?} ({moment:?})"),
            #[cfg(feature = "crash-points")]
            Death::Point(point, nth) => write!(f, "point {point:?} for the {nth}. time"),
        }
    }
}

fn name(slot: usize) -> &'static str {
    SLOTS[slot].name
}

fn wish(slot: usize) -> Wish {
    SLOTS[slot].wish
}

/// The steps of the story that this seed stands for.
pub fn story(seed: u64, length: usize) -> Vec<Step> {
    let mut dice = fastrand::Rng::with_seed(seed);
    // A story about few pods says more of each.
    let cast = dice.choose_multiple(0..SLOTS.len(), 3);
    let nodes = if dice.u8(0..3) == 0 { NODES } else { 1 };
    (0..length).map(|_| step(&mut dice, &cast, nodes)).collect()
}

fn step(dice: &mut fastrand::Rng, cast: &[usize], nodes: usize) -> Step {
    let slot = cast[dice.usize(0..cast.len())];
    let node = dice.usize(0..nodes);
    match dice.u8(0..100) {
        0..16 => Step::Create(slot, node),
        16..44 => Step::Call(Verb::Add(slot)),
        44..54 => Step::Call(verb(dice, cast, nodes)),
        54..57 => Step::Terminate(slot),
        57..62 => Step::Remove(slot),
        62..65 => Step::Die(slot),
        65..67 => Step::Forget(slot),
        67..74 => Step::Both(verb(dice, cast, nodes), verb(dice, cast, nodes)),
        74..84 => Step::Killed(verb(dice, cast, nodes), death(dice)),
        84..86 => Step::Agent(node, dice.bool()),
        86 => Step::LoseNode(node),
        87 => Step::UnbindByHand(slot),
        88 => Step::DeletePodEip(slot),
        89..95 => Step::Weather(weather(dice)),
        95..97 => Step::Wait(Duration::from_secs(60 * [1, 3, 11][dice.usize(0..3)])),
        _ => Step::Settle,
    }
}

fn verb(dice: &mut fastrand::Rng, cast: &[usize], nodes: usize) -> Verb {
    let slot = cast[dice.usize(0..cast.len())];
    let node = dice.usize(0..nodes);
    match dice.u8(0..100) {
        0..40 => Verb::Add(slot),
        40..64 => Verb::Del(slot),
        64..70 => Verb::DelAgain(slot),
        70..78 => Verb::Gc(node),
        78..82 => Verb::GcVerb(node),
        _ => Verb::Round(node),
    }
}

fn call(dice: &mut fastrand::Rng) -> &'static str {
    CALLS[dice.usize(0..CALLS.len())]
}

fn weather(dice: &mut fastrand::Rng) -> Weather {
    match dice.u8(0..20) {
        0..2 => Weather::Throttle(dice.bool()),
        2..5 => Weather::Lag(dice.bool()),
        5..7 => Weather::KubeDown(dice.bool()),
        7..9 => Weather::VpcDown(dice.bool()),
        9..11 => Weather::FailAssociation,
        _ => {
            let losses = [Loss::BeforeEffect, Loss::AfterEffect, Loss::Truncated, Loss::Gateway];
            Weather::Lose { call: call(dice), loss: losses[dice.usize(0..losses.len())] }
        }
    }
}

fn death(dice: &mut fastrand::Rng) -> Death {
    #[cfg(feature = "crash-points")]
    if dice.bool() {
        return Death::Point(POINTS[dice.usize(0..POINTS.len())], dice.u32(1..3));
    }
    let moments = [Moment::BeforeEffect, Moment::AfterEffect, Moment::AfterAnswer];
    Death::Call(call(dice), dice.u32(1..3), moments[dice.usize(0..moments.len())])
}
