//! One request's way through the world: log, gates, faults, the service, and out again.

use std::sync::Arc;

use crate::calls::{CallLog, Ending, ServiceKind, answered};
use crate::exchange::{Body, Reply, Request, Service};
use crate::faults::{Effect, Faults, Plan, When};
use crate::gates::{Moment, Outcome, Stop};
use crate::refusal;

/// What all passages of one world share.
#[derive(Clone)]
pub(crate) struct Passage {
    pub calls: Arc<CallLog>,
    pub faults: Arc<Faults>,
}

/// What the server does with the connection now.
pub(crate) enum Verdict {
    Answer(Reply),
    /// Headers of the whole answer, half of its body, then the end.
    Truncated(Reply),
    Cut,
    Hang,
}

/// To be called once the answer's last byte is on its way to the client.
pub(crate) struct Delivery {
    seq: u64,
    calls: Arc<CallLog>,
    gates: Vec<Arc<Stop>>,
}

impl Delivery {
    pub fn done(self) {
        self.calls.delivered(self.seq);
        for gate in self.gates {
            gate.reach(self.seq);
        }
    }
}

impl Passage {
    /// Runs to its end even when the client is gone by then: a request that arrived is a request
    /// that the real service would carry out.
    pub async fn pass(
        self,
        kind: ServiceKind,
        service: Arc<dyn Service>,
        request: Request,
        connection: u64,
    ) -> (Verdict, Delivery) {
        let name = service.call_name(&request);
        let mut plan = self.faults.plan(kind, &name);
        let seq = self.calls.begin(connection, kind, name, &request);
        let verdict = self.carry_out(seq, kind, service, request, &mut plan).await;
        self.calls.end(seq, ending(&verdict));
        let gates = gates_of(&plan, Moment::AfterAnswer);
        match verdict {
            // Closed before the answer leaves, or a fast client's next call could slip through.
            Verdict::Answer(_) => gates.iter().for_each(|gate| self.faults.close(gate.clone())),
            _ => gates.iter().for_each(|gate| gate.reach(seq)),
        }
        (verdict, Delivery { seq, calls: self.calls, gates })
    }

    async fn carry_out(
        &self,
        seq: u64,
        kind: ServiceKind,
        service: Arc<dyn Service>,
        request: Request,
        plan: &mut Plan,
    ) -> Verdict {
        for gate in &plan.held_by {
            if gate.wait_open().await == Outcome::Cut {
                return Verdict::Cut;
            }
        }
        if stopped(plan, Moment::BeforeEffect, seq).await == Outcome::Cut {
            return Verdict::Cut;
        }
        tokio::time::sleep(plan.latency).await;
        if let Some(verdict) = disturbed(plan.disturbance.as_ref(), When::BeforeEffect, kind, &request) {
            return verdict;
        }
        self.calls.reached_service(seq);
        let asked = request.clone();
        let reply = tokio::task::spawn_blocking(move || service.answer(&asked)).await;
        let reply = reply.unwrap_or_else(|panic| Reply::text(500, format!("the simulated service failed: {panic}")));
        if stopped(plan, Moment::AfterEffect, seq).await == Outcome::Cut {
            return Verdict::Cut;
        }
        match plan.disturbance.take() {
            Some(Effect::Garbage) => Verdict::Answer(Reply::text(200, "\u{1}\u{2}<not the answer you asked for")),
            Some(Effect::Truncated) => Verdict::Truncated(reply),
            other => disturbed(other.as_ref(), When::AfterEffect, kind, &request).unwrap_or(Verdict::Answer(reply)),
        }
    }
}

fn gates_of(plan: &Plan, moment: Moment) -> Vec<Arc<Stop>> {
    plan.gates.iter().filter(|(at, _)| *at == moment).map(|(_, stop)| stop.clone()).collect()
}

async fn stopped(plan: &Plan, moment: Moment, seq: u64) -> Outcome {
    for gate in gates_of(plan, moment) {
        if gate.stop(seq).await == Outcome::Cut {
            return Outcome::Cut;
        }
    }
    Outcome::Continue
}

/// The verdict of a disturbance that strikes on this side of the effect.
fn disturbed(effect: Option<&Effect>, now: When, kind: ServiceKind, request: &Request) -> Option<Verdict> {
    match effect? {
        Effect::Error { status, code, message, when } if *when == now => {
            Some(Verdict::Answer(refusal::shaped(kind, request, *status, code, message)))
        }
        Effect::Gateway { status, when } if *when == now => {
            let body = format!("<html><head><title>{status}</title></head><body><h1>{status}</h1></body></html>");
            let body = Body::Whole(body.into_bytes());
            Some(Verdict::Answer(Reply { status: *status, content_type: "text/html".into(), location: None, body }))
        }
        Effect::Redirect { status, location } if now == When::BeforeEffect => {
            Some(Verdict::Answer(Reply { location: Some(location.clone()), ..Reply::text(*status, "") }))
        }
        Effect::Cut { when } if *when == now => Some(Verdict::Cut),
        Effect::Hang { when } if *when == now => Some(Verdict::Hang),
        _ => None,
    }
}

fn ending(verdict: &Verdict) -> Ending {
    match verdict {
        Verdict::Answer(reply) | Verdict::Truncated(reply) => answered(reply),
        Verdict::Cut => Ending::Cut,
        Verdict::Hang => Ending::Hung,
    }
}
