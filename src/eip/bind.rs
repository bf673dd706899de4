//! Putting an EIP on a private IP and taking it off again, whatever state the cloud is in.

use std::time::Duration;

use crate::cloud::{Class, Cloud, CloudError, Eip, EipFilter, EipStatus};
use crate::deadline::Deadline;
use crate::eip::failure::{Failure, Kind};
use crate::eip::polls::Polls;
use crate::measure::{Stage, Tally};
use crate::names::{ClientToken, EipId, EniId};
use crate::state::format::{Binding, Phase};
use crate::state::{Change, LookNote, Moment, PaceNote};

/// How long a change that was accepted may stay invisible: until then `Available` after an
/// accepted association means "not yet", and an unknown id may be an EIP allocated a moment ago.
pub(super) const READ_LAG: Duration = Duration::from_secs(2);

/// How long the cloud takes: what is known of it, and what this process measures.
pub struct Timing<'a> {
    pub pace: PaceNote,
    pub tally: &'a Tally,
    /// What is kept of the verb's time for seeing that the EIP is bound. A binding that is accepted later is undone again,
    /// and the account may bind only so often in a minute.
    pub kept: Duration,
}

/// Whether the cloud shows `eip` on exactly this ENI and private IP.
pub fn sits_on(eip: &Eip, binding: &Binding) -> bool {
    eip.instance_id.as_deref() == Some(binding.eni.as_str()) && is_address(eip, binding)
}

fn is_address(eip: &Eip, binding: &Binding) -> bool {
    match eip.private_ip {
        Some(address) => address == binding.private_ip,
        None => binding.primary,
    }
}

/// What the cloud knows of an EIP, as a sentence's end: `bound to eni-1 (10.0.0.5)`.
pub fn whereabouts(eip: &Eip) -> String {
    let place = match (&eip.instance_id, eip.private_ip) {
        (Some(instance), Some(address)) => format!("bound to {instance} ({address})"),
        (Some(instance), None) => format!("bound to {instance}"),
        (None, _) => eip.status.to_string(),
    };
    match (eip.tags.get(super::owner::TAG_NAMESPACE), eip.tags.get(super::owner::TAG_POD)) {
        (Some(namespace), Some(pod)) => format!("{place}, allocated for pod {namespace}/{pod}"),
        _ => place,
    }
}

/// How a bind ended.
#[derive(Debug)]
pub enum Bound {
    /// The cloud shows it `InUse` on the binding.
    Yes(Box<Eip>),
    /// The EIP does not exist.
    Vanished,
    /// The EIP is on something else.
    Elsewhere(Box<Eip>),
    /// Another EIP is on the private IP.
    Occupied(Box<Eip>),
    /// Every call was refused, so nothing of this bind can still come about.
    Refused(Failure),
}

/// Binds `id` to `binding` and waits until the cloud shows it. `fresh` says that the EIP was
/// allocated a moment ago, so that an unknown id means "not visible yet". `observe` sees the EIP
/// as soon as the cloud shows it, while the binding is still under way.
///
/// # Errors
/// Only what no look at the cloud could settle before the deadline.
pub fn bind(
    cloud: &Cloud,
    id: &EipId,
    binding: &Binding,
    fresh: bool,
    deadline: Deadline,
    observe: &mut dyn FnMut(&Eip),
    Timing { pace, tally, kept }: &Timing,
) -> Result<Bound, Failure> {
    let ask_by = deadline.keeping(*kept);
    let visible_by = Deadline::after(if fresh { READ_LAG } else { Duration::ZERO });
    let mut polls = Polls::new();
    let mut in_doubt = false;
    let mut token = ClientToken::random();
    let mut refused: Option<CloudError> = None;
    loop {
        let associate = || cloud.associate_eip(id, &binding.eni, binding.private_ip, &token, ask_by);
        let asked = tally.time(Stage::Associate, associate);
        in_doubt |= asked.as_ref().map_or_else(CloudError::outcome_unknown, |()| true);
        renew_if_answered(&mut token, &asked);
        let mut see_bound = || tally.time(Stage::Wait, || wait_bound(cloud, id, binding, pace, deadline, observe));
        let ended = match asked {
            Ok(()) => see_bound()?,
            Err(error) if error.class() == Class::Gone => Step::Gone,
            Err(error) if worth_a_look(&error) => {
                tally.time(Stage::Wait, || look(cloud, id, binding, error, deadline))?
            }
            Err(error) if !in_doubt => return Ok(Bound::Refused(error.or_else_said(refused).into())),
            // Too late to ask again may be in time to see what came of it.
            Err(error) => match ask_by.passed().then(see_bound) {
                Some(Ok(Step::Done(bound))) => return Ok(bound),
                _ => return Err(error.or_else_said(refused).into()),
            },
        };
        refused = match ended {
            Step::Done(bound) => return Ok(bound),
            Step::Gone if visible_by.passed() => return Ok(Bound::Vanished),
            Step::Unsettled(error) => Some(error),
            Step::Gone | Step::Again => None,
        };
        if !polls.pause(deadline) {
            return Err(refused.map_or_else(|| late(id, "bound", binding), Failure::from));
        }
    }
}

enum Step {
    Done(Bound),
    Gone,
    /// Accepted, and without effect.
    Again,
    /// The call failed so, and the look that followed settled nothing.
    Unsettled(CloudError),
}

/// Only an answer ends a token: a request that may still be at work must not get a second one beside it.
fn renew_if_answered(token: &mut ClientToken, asked: &Result<(), CloudError>) {
    if !asked.as_ref().is_err_and(|error| error.class().leaves_token()) {
        *token = ClientToken::random();
    }
}

/// Errors after which the cloud's own view decides: the state was wrong, the target is taken, or
/// nobody knows whether the call had its effect.
fn worth_a_look(error: &CloudError) -> bool {
    error.outcome_unknown()
        || matches!(error.class(), Class::Conflict | Class::AlreadyBound | Class::TargetGone | Class::TokenMisuse)
}

fn wait_bound(
    cloud: &Cloud,
    id: &EipId,
    binding: &Binding,
    pace: &PaceNote,
    deadline: Deadline,
    observe: &mut dyn FnMut(&Eip),
) -> Result<Step, Failure> {
    let shown_by = Deadline::after(READ_LAG);
    let mut polls = Polls::expecting(pace.expected(Change::Bind));
    loop {
        if !polls.pause(deadline) {
            return Err(late(id, "bound", binding));
        }
        let Some(eip) = cloud.eip(id, deadline)? else {
            // The association was accepted, so it exists: only its answer to another one can say
            // that it does not. A listing that lags must not make us buy a second EIP.
            if shown_by.passed() {
                return Ok(Step::Again);
            }
            continue;
        };
        observe(&eip);
        match eip.status {
            EipStatus::InUse if sits_on(&eip, binding) => {
                if let Some(span) = polls.learnt() {
                    pace.expect(Change::Bind, span);
                }
                return Ok(Step::Done(Bound::Yes(Box::new(eip))));
            }
            // What it was on before may be shown for a while.
            EipStatus::InUse if shown_by.passed() => return Ok(Step::Done(Bound::Elsewhere(Box::new(eip)))),
            // Accepted and then fallen back: ask again.
            EipStatus::Available if shown_by.passed() => return Ok(Step::Again),
            EipStatus::Releasing => return Ok(Step::Done(Bound::Vanished)),
            _ => {}
        }
    }
}

/// After an answer that leaves the outcome open: what does the cloud show?
fn look(cloud: &Cloud, id: &EipId, binding: &Binding, error: CloudError, deadline: Deadline) -> Result<Step, Failure> {
    let seen = match cloud.eip(id, deadline) {
        // The call that took all the time says more than the look that had none.
        Err(unseen) if unseen.class().leaves_token() || deadline.passed() => return Err(error.into()),
        seen => seen?,
    };
    let Some(eip) = seen else {
        // This answer was not that the EIP does not exist, so it may only not be visible yet. Asking
        // again tells, unless it is the target that is gone.
        return if error.class() == Class::TargetGone { Err(error.into()) } else { Ok(Step::Unsettled(error)) };
    };
    match eip.status {
        EipStatus::InUse if sits_on(&eip, binding) => Ok(Step::Done(Bound::Yes(Box::new(eip)))),
        EipStatus::InUse => Ok(Step::Done(Bound::Elsewhere(Box::new(eip)))),
        EipStatus::Available if error.class() == Class::AlreadyBound => match occupant(cloud, binding, deadline)? {
            Some(other) => Ok(Step::Done(Bound::Occupied(Box::new(other)))),
            None => Err(error.into()),
        },
        EipStatus::Available if error.class() == Class::TargetGone => Err(error.into()),
        _ => Ok(Step::Unsettled(error)),
    }
}

/// The EIP that is on `binding`, or on its way there or away.
fn occupant(cloud: &Cloud, binding: &Binding, deadline: Deadline) -> Result<Option<Eip>, Failure> {
    Ok(on_eni(cloud, &binding.eni, deadline)?.into_iter().find(|eip| sits_on(eip, binding)))
}

/// The same, in one look with the pods of this node that ask at the same time.
pub fn occupant_seen_together(
    cloud: &Cloud,
    note: &LookNote,
    binding: &Binding,
    deadline: Deadline,
) -> Result<Option<Eip>, Failure> {
    let _turn = note.turn(deadline);
    let began = Moment::now();
    if note.take_free(&binding.eni, binding.private_ip, binding.primary, began) {
        return Ok(None);
    }
    let eips = on_eni(cloud, &binding.eni, deadline)?;
    let occupied = eips.iter().map(|eip| eip.private_ip).chain([Some(binding.private_ip)]).collect();
    note.saw(&binding.eni, began, occupied);
    Ok(eips.into_iter().find(|eip| sits_on(eip, binding)))
}

fn on_eni(cloud: &Cloud, eni: &EniId, deadline: Deadline) -> Result<Vec<Eip>, Failure> {
    Ok(cloud.describe_eips(&EipFilter::OnEni(eni.clone()), deadline)?)
}

/// How an unbind ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Unbound {
    /// The cloud shows it `Available`.
    Free,
    /// The EIP does not exist any more.
    Gone,
    /// It sits on something that is not ours; it was not touched.
    Elsewhere(String),
}

/// Until when nothing is believed of an EIP that its record shows on its way. A process that died in
/// that phase may have sent its last request, to bind or to unbind, a moment ago, and its effect may
/// show up late; so may the EIP itself.
pub fn in_doubt_until(phase: Phase) -> Deadline {
    match phase {
        Phase::Binding | Phase::Unbinding => Deadline::after(READ_LAG),
        _ => Deadline::after(Duration::ZERO),
    }
}

/// Takes `id` off `binding` and waits until the cloud shows it free. An EIP that sits on anything
/// else is left alone. Before `in_doubt` has passed, no sight of it ends the wait: another process's
/// request may be under way behind it.
///
/// # Errors
/// What no look at the cloud could settle before the deadline; the binding may then still stand.
pub fn unbind(
    cloud: &Cloud,
    id: &EipId,
    binding: &Binding,
    in_doubt: Deadline,
    pace: Option<&PaceNote>,
    deadline: Deadline,
) -> Result<Unbound, Failure> {
    let mut polls = Polls::new();
    let mut asked = false;
    let mut accepted = false;
    let mut token = ClientToken::random();
    let mut refused: Option<CloudError> = None;
    loop {
        let seen = match cloud.eip(id, deadline) {
            // The refusal that took all the time says more than the look that had none.
            Err(error) if deadline.passed() => return Err(refused.unwrap_or(error).into()),
            Err(error) => return Err(error.or_else_said(refused).into()),
            Ok(seen) => seen,
        };
        let on_binding = seen.as_ref().is_some_and(|eip| sits_on(eip, binding));
        let believed = in_doubt.passed();
        match seen.as_ref().map(|eip| &eip.status) {
            None if believed => return Ok(Unbound::Gone),
            Some(EipStatus::Releasing) => return Ok(Unbound::Gone),
            Some(EipStatus::Available) if believed => {
                // Time spent in doubt says nothing of the cloud's.
                if let (Some(pace), Some(span)) = (pace.filter(|_| accepted), polls.learnt()) {
                    pace.expect(Change::Unbind, span);
                }
                return Ok(Unbound::Free);
            }
            // Still shown in use after an accepted call: lag, or a background failure to repeat.
            Some(EipStatus::InUse) if on_binding && std::mem::take(&mut asked) => {}
            Some(EipStatus::InUse) if on_binding => match ask_to_unbind(cloud, id, binding, &mut token, deadline) {
                Ok(Asked::Accepted) => {
                    asked = true;
                    accepted = true;
                    polls = Polls::expecting(pace.and_then(|pace| pace.expected(Change::Unbind)));
                }
                Ok(Asked::LookAgain(error)) => refused = Some(error.or_else_said(refused)),
                Err(error) => return Err(error.or_else_said(refused).into()),
            },
            Some(EipStatus::InUse) if believed => {
                return Ok(Unbound::Elsewhere(seen.as_ref().map(whereabouts).unwrap_or_default()));
            }
            _ => {}
        }
        // No look before the doubt's end would settle anything.
        let in_time = if believed { polls.pause(deadline) } else { deadline.sleep(in_doubt.left()) };
        if !in_time {
            return Err(refused.map_or_else(|| late(id, "free", binding), Failure::from));
        }
    }
}

/// Whether the cloud shows `id` bound to `binding`.
pub fn stands(cloud: &Cloud, id: &EipId, binding: &Binding, deadline: Deadline) -> Result<bool, Failure> {
    Ok(cloud.eip(id, deadline)?.is_some_and(|eip| eip.status == EipStatus::InUse && sits_on(&eip, binding)))
}

/// Asks to take `id` off `binding` and waits for nothing. To be asked right after a look: nobody
/// promises that the cloud compares the place that is named with where the EIP is by then.
pub fn ask_once_to_unbind(cloud: &Cloud, id: &EipId, binding: &Binding, deadline: Deadline) -> Result<(), Failure> {
    Ok(ask_to_unbind(cloud, id, binding, &mut ClientToken::random(), deadline).map(drop)?)
}

/// Asks to put `id` on `binding` and waits for nothing. A state that does not allow it now is no
/// error: the next look tells.
pub fn ask_once_to_bind(cloud: &Cloud, id: &EipId, binding: &Binding, deadline: Deadline) -> Result<(), Failure> {
    match cloud.associate_eip(id, &binding.eni, binding.private_ip, &ClientToken::random(), deadline) {
        Err(error) if error.class() != Class::Conflict => Err(error.into()),
        _ => Ok(()),
    }
}

/// Waits after a call that detaches `seen` from its holder until the cloud does not show it there
/// any more. A detachment without effect is given up soon: the caller looks again.
///
/// # Errors
/// [`Kind::TryAgain`] when it is still being detached at the deadline.
pub fn wait_detached(cloud: &Cloud, seen: &Eip, deadline: Deadline) -> Result<(), Failure> {
    let shown_by = Deadline::after(READ_LAG);
    let mut polls = Polls::new();
    loop {
        if !polls.pause(deadline) {
            return Err(Failure::new(Kind::TryAgain, format!("{} is still {}", seen.id, whereabouts(seen))));
        }
        let Some(now) = cloud.eip(&seen.id, deadline)? else { return Ok(()) };
        let there = (&now.instance_id, now.private_ip) == (&seen.instance_id, seen.private_ip);
        match now.status {
            EipStatus::Unassociating => {}
            EipStatus::InUse if there && !shown_by.passed() => {}
            _ => return Ok(()),
        }
    }
}

enum Asked {
    Accepted,
    /// The cloud's answer settles nothing.
    LookAgain(CloudError),
}

fn ask_to_unbind(
    cloud: &Cloud,
    id: &EipId,
    binding: &Binding,
    token: &mut ClientToken,
    deadline: Deadline,
) -> Result<Asked, CloudError> {
    let asked = cloud.unassociate_eip(id, &binding.eni, binding.private_ip, token, deadline);
    renew_if_answered(token, &asked);
    match asked {
        Ok(()) => Ok(Asked::Accepted),
        // `IncorrectEipStatus` also means "not bound", and what was just seen here does not vanish unseen: the next look tells.
        Err(error) if worth_a_look(&error) || error.class() == Class::Gone => Ok(Asked::LookAgain(error)),
        Err(error) => Err(error),
    }
}

fn late(id: &EipId, wanted: &str, binding: &Binding) -> Failure {
    Failure::new(
        Kind::TryAgain,
        format!("{id} is not {wanted} on {} ({}) within the time this verb has", binding.eni, binding.private_ip),
    )
    .hinting("it is recorded and taken up by the next try")
}
