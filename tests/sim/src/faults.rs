//! Rules that disturb calls, and the gates that stop them. Both are looked up once, on arrival.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::calls::ServiceKind;
use crate::gates::{Gate, Moment, Stop};

/// Which services a rule looks at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ServiceMatch {
    #[default]
    Any,
    /// VPC, ECS and STS.
    Cloud,
    Vpc,
    Ecs,
    Sts,
    Metadata,
    Kube,
}

impl ServiceMatch {
    fn covers(self, service: ServiceKind) -> bool {
        match self {
            Self::Any => true,
            Self::Cloud => service.is_cloud(),
            Self::Vpc => service == ServiceKind::Vpc,
            Self::Ecs => service == ServiceKind::Ecs,
            Self::Sts => service == ServiceKind::Sts,
            Self::Metadata => service == ServiceKind::Metadata,
            Self::Kube => service == ServiceKind::Kube,
        }
    }
}

/// On which side of its effect a call is disturbed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum When {
    /// The service never sees the request.
    #[default]
    BeforeEffect,
    /// The service carries it out; its answer is withheld.
    AfterEffect,
}

/// What happens to a call that a rule hits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", tag = "kind")]
pub enum Effect {
    /// The call waits this long before its effect. Several rules add up.
    Latency { millis: u64 },
    /// An error in the service's own shape.
    Error {
        status: u16,
        code: String,
        message: String,
        #[serde(default)]
        when: When,
    },
    /// A gateway's answer: this status and a body that is HTML.
    Gateway {
        status: u16,
        #[serde(default)]
        when: When,
    },
    /// The service never sees the request; the client is sent to `location`.
    Redirect { status: u16, location: String },
    /// The connection is closed without an answer.
    Cut {
        #[serde(default)]
        when: When,
    },
    /// No answer, until the client closes the connection.
    Hang {
        #[serde(default)]
        when: When,
    },
    /// After the effect: status 200 and bytes that are no JSON.
    Garbage,
    /// After the effect: the true answer's headers, half of its body, then the connection closes.
    Truncated,
}

/// Which calls are disturbed, and how. `call` is a call name in which `*` stands for any text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Rule {
    #[serde(default)]
    pub service: ServiceMatch,
    #[serde(default = "any_call")]
    pub call: String,
    /// Matching calls that pass unharmed first.
    #[serde(default)]
    pub skip: u32,
    /// Matching calls after those that are hit; all of them when absent.
    #[serde(default)]
    pub times: Option<u32>,
    pub effect: Effect,
}

fn any_call() -> String {
    "*".into()
}

impl Rule {
    /// A rule for all calls of this name, without end.
    pub fn on(call: impl Into<String>, effect: Effect) -> Self {
        Self { service: ServiceMatch::Any, call: call.into(), skip: 0, times: None, effect }
    }

    pub fn service(self, service: ServiceMatch) -> Self {
        Self { service, ..self }
    }

    pub fn skip(self, skip: u32) -> Self {
        Self { skip, ..self }
    }

    pub fn times(self, times: u32) -> Self {
        Self { times: Some(times), ..self }
    }

    pub fn once(self) -> Self {
        self.times(1)
    }
}

impl Effect {
    pub fn latency(span: Duration) -> Self {
        Self::Latency { millis: u64::try_from(span.as_millis()).unwrap_or(u64::MAX) }
    }

    /// An error in the service's own shape, instead of the effect.
    pub fn error(status: u16, code: &str, message: &str) -> Self {
        Self::Error { status, code: code.into(), message: message.into(), when: When::BeforeEffect }
    }
}

/// A rule's name, for [`Faults::remove`] and [`Faults::hits`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RuleId(pub u64);

/// The rules and gates in force.
#[derive(Debug, Default)]
pub struct Faults(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    rules: Vec<Armed>,
    gates: Vec<ArmedGate>,
    /// Gates of [`Moment::AfterAnswer`] whose call is past its effect: new calls wait at them.
    closed: Vec<Arc<Stop>>,
    next: u64,
}

#[derive(Debug)]
struct Armed {
    id: RuleId,
    rule: Rule,
    matches: u32,
    hits: u32,
}

#[derive(Debug)]
struct ArmedGate {
    service: ServiceMatch,
    call: String,
    /// Matching calls still to pass before the one that stops.
    ahead: u32,
    moment: Moment,
    stop: Arc<Stop>,
}

/// What the rules say about one call.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    /// Closed gates of earlier calls.
    pub held_by: Vec<Arc<Stop>>,
    pub gates: Vec<(Moment, Arc<Stop>)>,
    pub latency: Duration,
    /// The first matching rule's effect other than latency.
    pub disturbance: Option<Effect>,
}

impl Faults {
    pub fn add(&self, rule: Rule) -> RuleId {
        let mut inner = self.lock();
        inner.next += 1;
        let id = RuleId(inner.next);
        inner.rules.push(Armed { id, rule, matches: 0, hits: 0 });
        id
    }

    /// Permanent latency for calls of this name (`*` allowed).
    pub fn slow(&self, call: &str, span: Duration) -> RuleId {
        self.add(Rule::on(call, Effect::latency(span)))
    }

    pub fn remove(&self, id: RuleId) {
        self.lock().rules.retain(|armed| armed.id != id);
    }

    /// Removes all rules. Gates stay: their owners release them.
    pub fn clear(&self) {
        self.lock().rules.clear();
    }

    /// How many calls this rule has hit.
    pub fn hits(&self, id: RuleId) -> u32 {
        self.lock().rules.iter().find(|armed| armed.id == id).map_or(0, |armed| armed.hits)
    }

    pub fn rules(&self) -> Vec<(RuleId, Rule)> {
        self.lock().rules.iter().map(|armed| (armed.id, armed.rule.clone())).collect()
    }

    /// Stops the `k`-th call (1 is the next) over all services, counted from now on in the order
    /// of arrival. The control endpoint's own requests do not count.
    pub fn gate(&self, k: u32, moment: Moment) -> Gate {
        self.gate_on(ServiceMatch::Any, "*", k, moment)
    }

    /// Stops the `k`-th call (1 is the next) of this service and name (`*` allowed).
    pub fn gate_on(&self, service: ServiceMatch, call: &str, k: u32, moment: Moment) -> Gate {
        let stop = Arc::new(Stop::default());
        let ahead = k.saturating_sub(1);
        self.lock().gates.push(ArmedGate { service, call: call.into(), ahead, moment, stop: stop.clone() });
        Gate(stop)
    }

    /// Counts an arriving call against every rule and gate.
    pub(crate) fn plan(&self, service: ServiceKind, name: &str) -> Plan {
        let mut inner = self.lock();
        inner.closed.retain(|stop| !stop.is_open());
        let mut plan = Plan { held_by: inner.closed.clone(), ..Plan::default() };
        inner.gates.retain_mut(|gate| !gate.catches(service, name, &mut plan));
        for armed in &mut inner.rules {
            armed.apply(service, name, &mut plan);
        }
        plan
    }

    /// From now on arriving calls wait at this gate.
    pub(crate) fn close(&self, stop: Arc<Stop>) {
        self.lock().closed.push(stop);
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().expect("no holder of this lock panics")
    }
}

impl ArmedGate {
    /// True when the gate is used up: it caught this call, or its owner let it go.
    fn catches(&mut self, service: ServiceKind, name: &str, plan: &mut Plan) -> bool {
        if self.stop.is_open() {
            return true;
        }
        if !self.service.covers(service) || !fits(&self.call, name) {
            return false;
        }
        if self.ahead > 0 {
            self.ahead -= 1;
            return false;
        }
        plan.gates.push((self.moment, self.stop.clone()));
        true
    }
}

impl Armed {
    fn apply(&mut self, service: ServiceKind, name: &str, plan: &mut Plan) {
        if !self.rule.service.covers(service) || !fits(&self.rule.call, name) {
            return;
        }
        self.matches = self.matches.saturating_add(1);
        let past = self.matches.saturating_sub(self.rule.skip);
        if past == 0 || self.rule.times.is_some_and(|times| past > times) {
            return;
        }
        match &self.rule.effect {
            Effect::Latency { millis } => plan.latency += Duration::from_millis(*millis),
            effect if plan.disturbance.is_none() => plan.disturbance = Some(effect.clone()),
            _ => return,
        }
        self.hits += 1;
    }
}

/// Does `name` fit a pattern in which `*` stands for any text, even none?
fn fits(pattern: &str, name: &str) -> bool {
    let Some((head, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(left) = name.strip_prefix(head) else { return false };
    (0..=left.len()).filter(|&at| left.is_char_boundary(at)).any(|at| fits(rest, &left[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut() -> Effect {
        Effect::Cut { when: When::BeforeEffect }
    }

    #[test]
    fn patterns() {
        for (pattern, name, expected) in [
            ("*", "", true),
            ("Allocate*", "AllocateEipAddress", true),
            ("*EipAddress", "AllocateEipAddress", true),
            ("get *", "get pods", true),
            ("get *s", "get pod", false),
            ("get pods", "get podeips", false),
            ("*a*b*", "xxaxxbxx", true),
        ] {
            assert_eq!(fits(pattern, name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn a_rule_skips_then_hits_then_is_spent() {
        let faults = Faults::default();
        let id = faults.add(Rule::on("A*", cut()).service(ServiceMatch::Cloud).skip(1).times(2));
        let hit = |service, name| faults.plan(service, name).disturbance.is_some();
        assert!(!hit(ServiceKind::Kube, "A"));
        assert!(!hit(ServiceKind::Vpc, "B"));
        assert_eq!([(); 4].map(|()| hit(ServiceKind::Vpc, "A")), [false, true, true, false]);
        assert_eq!(faults.hits(id), 2);
    }

    #[test]
    fn latencies_add_up_and_the_first_disturbance_wins() {
        let faults = Faults::default();
        faults.slow("*", Duration::from_millis(5));
        faults.slow("X", Duration::from_millis(7));
        faults.add(Rule::on("X", cut()));
        faults.add(Rule::on("X", Effect::Garbage));
        let plan = faults.plan(ServiceKind::Vpc, "X");
        assert_eq!(plan.latency, Duration::from_millis(12));
        assert_eq!(plan.disturbance, Some(cut()));
    }

    #[test]
    fn a_gate_counts_over_all_services_and_catches_once() {
        let faults = Faults::default();
        let gate = faults.gate(3, Moment::BeforeEffect);
        let caught = |service| !faults.plan(service, "x").gates.is_empty();
        assert!(!caught(ServiceKind::Metadata));
        assert!(!caught(ServiceKind::Kube));
        assert!(caught(ServiceKind::Vpc));
        assert!(!caught(ServiceKind::Vpc));
        drop(gate);
        let dropped = faults.gate(1, Moment::BeforeEffect);
        drop(dropped);
        assert!(!caught(ServiceKind::Vpc), "a dropped gate stops nothing");
    }

    #[test]
    fn rules_read_from_json() {
        let rule: Rule = serde_json::from_str(
            r#"{"service":"cloud","call":"AllocateEipAddress","times":1,
                "effect":{"kind":"error","status":400,"code":"QuotaExceeded.Eip","message":"quota"}}"#,
        )
        .unwrap();
        assert_eq!(
            rule,
            Rule::on("AllocateEipAddress", Effect::error(400, "QuotaExceeded.Eip", "quota"))
                .service(ServiceMatch::Cloud)
                .once()
        );
        assert!(serde_json::from_str::<Rule>(r#"{"calls":"x","effect":{"kind":"garbage"}}"#).is_err());
    }
}
