//! The words of a story: what a cluster, its people and its clouds do to podeip, one step at a time.

use std::fmt;
use std::time::Duration;

use podeip_sim::gates::Moment;

use super::places::{SLOTS, Wish};

/// Something that happens. Each says by itself whether it is possible, so that a story stays one when a step of it is
/// left out.
#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// The pod of this name comes to be, on this node.
    Create(usize, usize),
    /// It is being deleted.
    Terminate(usize),
    /// Its containers have ended for good; it stays in the API server.
    Finish(usize),
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
    /// The node lives on, and its state file is gone.
    LoseState(usize),
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
    Collect(usize),
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
    Lose {
        call: &'static str,
        loss: Loss,
    },
    /// The next association falls back.
    FailAssociation,
    /// Something that the cloud's documents leave open, for the rest of the story.
    Quirk(Quirk),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Quirk {
    IgnoresTags,
    RepeatIsDuplicate,
    OneOperationPerEni,
    BusyIsWrongStatus,
    ChecksTarget,
    RemembersRefusals,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Loss {
    BeforeEffect,
    AfterEffect,
    /// The answer ends in its middle.
    Truncated,
    /// A gateway answers, before the effect.
    Gateway,
    /// The service refuses it.
    Refused(u16, &'static str),
}

/// Where podeip dies.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Death {
    /// At its `nth` call of this name; `*` is any.
    Call(&'static str, u32, Moment),
    /// At its next call of this name, which is on its way then, and takes effect while others are at work.
    Late(&'static str),
    /// At a named point between two effects.
    #[cfg(feature = "crash-points")]
    Point(&'static str, u32),
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Step::Create(slot, node) => write!(f, "pod {} ({}) is created on node {node}", name(*slot), wish(*slot)),
            Step::Terminate(slot) => write!(f, "pod {} is being deleted", name(*slot)),
            Step::Finish(slot) => write!(f, "pod {} has finished", name(*slot)),
            Step::Remove(slot) => write!(f, "pod {} is gone from the API server", name(*slot)),
            Step::Die(slot) => write!(f, "the sandbox of pod {} is killed", name(*slot)),
            Step::Forget(slot) => write!(f, "the runtime forgets a killed sandbox of pod {}", name(*slot)),
            Step::Call(verb) => write!(f, "{verb}"),
            Step::Both(one, other) => write!(f, "at the same moment: {one}; {other}"),
            Step::Killed(verb, death) => write!(f, "{verb}, killed at {death}"),
            Step::Agent(node, true) => write!(f, "an agent lives on node {node}"),
            Step::Agent(node, false) => write!(f, "no agent lives on node {node}"),
            Step::LoseNode(node) => write!(f, "node {node} is lost with its pods, and an empty one takes its name"),
            Step::LoseState(node) => write!(f, "node {node} loses its state file"),
            Step::UnbindByHand(slot) => write!(f, "somebody unbinds the EIP of pod {}", name(*slot)),
            Step::DeletePodEip(slot) => write!(f, "somebody deletes the PodEIP of pod {}", name(*slot)),
            Step::Weather(weather) => write!(f, "{weather}"),
            Step::Wait(span) => write!(f, "{} minutes pass", span.as_secs() / 60),
            Step::Settle => {
                write!(f, "the weather clears up, agents make their rounds, unserved pods get new sandboxes")
            }
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
            Verb::Collect(node) => write!(f, "the verb GC on node {node}"),
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
            Weather::Lose { call, loss } => write!(f, "the next {call:?} fails ({loss:?})"),
            Weather::Quirk(quirk) => write!(f, "from now on the cloud has a quirk: {quirk:?}"),
            Weather::FailAssociation => write!(f, "the next association falls back"),
        }
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Death::Call(call, nth, moment) => write!(f, "call {nth} of {call:?} ({moment:?})"),
            Death::Late(call) => write!(f, "its {call:?}, which takes effect a little later"),
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
