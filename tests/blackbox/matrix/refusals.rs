//! The table of documented refusals, and what each class means at each call.

use podeip_sim::faults::{Effect, When};

/// Action, status, class, codes. The unit test of the classes reads the same lines.
const DOCUMENTED: &str = include_str!("../../fixtures/refusals.txt");

/// What the cloud says beside the code.
pub const PROSE: &str = "played by the matrix";

/// One refusal at one action.
#[derive(Clone, Debug)]
pub struct Refusal {
    pub action: &'static str,
    pub status: u16,
    pub class: &'static str,
    pub code: &'static str,
    /// The first of its class at this action, and so the one that is also played without end.
    pub first: bool,
}

/// The refusals of `action`, those that any action may meet among them.
pub fn of(action: &'static str) -> Vec<Refusal> {
    let mut refusals: Vec<Refusal> = Vec::new();
    for line in DOCUMENTED.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let words: Vec<&'static str> = line.split_whitespace().collect();
        let [of, status, class, codes @ ..] = words.as_slice() else { panic!("{line}") };
        // What all actions share is decoded in one place, so one code of a line tells.
        let codes = match *of {
            "*" => &codes[..1],
            of if of == action => codes,
            _ => continue,
        };
        for code in codes {
            let status = status.parse().unwrap();
            if refusals.iter().any(|other| other.code == *code && other.status == status) {
                continue;
            }
            let first = !refusals.iter().any(|other| other.class == *class);
            refusals.push(Refusal { action, status, class, code, first });
        }
    }
    refusals
}

impl Refusal {
    pub fn name(&self) -> String {
        format!("{} {} {}", self.action, self.status, self.code)
    }

    pub fn effect(&self) -> Effect {
        Effect::error(self.status, self.code, PROSE)
    }

    /// The same answer to a call that was carried out: what it says is then true.
    pub fn effect_afterwards(&self) -> Effect {
        let (status, code) = (self.status, self.code.to_string());
        Effect::Error { status, code, message: PROSE.into(), when: When::AfterEffect }
    }

    /// Whether the same request is sent again within the verb, the token included.
    pub fn same_again(&self) -> bool {
        matches!(self.class, "Throttled" | "ServerTrouble" | "TokenInFlight" | "Clock")
    }

    /// The CNI code of a verb that this refusal ends, and a word of the remedy, which may be empty.
    pub fn ending(&self) -> (u64, &'static str) {
        match (self.action, self.class, self.code) {
            ("AddCommonBandwidthPackageIp", "TargetGone", _) => (106, "correct eip-common-bandwidth-package-id"),
            ("DescribeNetworkInterfaces", "TargetGone", _) => (105, "ENI"),
            (_, "Quota", "IpInstanceId.QuotaExceeded") => (103, "the bandwidth package is full"),
            (_, "Quota", "InvalidEip.EipQuotaExceeded") => (103, "this ENI carries"),
            (_, _, "OperationDenied.NotOpenDdosOriginProtectService") => (102, "Anti-DDoS"),
            (_, "Throttled", _) => (11, "Quota Center"),
            (_, "ServerTrouble", _) => (11, "the next try takes up"),
            (_, "Conflict" | "TokenInFlight" | "TokenMisuse" | "Gone", _) => (11, ""),
            (_, "TargetGone", _) => (11, "check that the ENI"),
            (_, "AlreadyBound", _) => (11, "unbind that one first"),
            (_, "Stock", _) => (11, "try later"),
            (_, "Quota", _) => (103, "raise the quota"),
            (_, "Money", _) => (103, "settle the account's balance"),
            (_, "Permission", _) => (102, "grant the action"),
            (_, "CredentialExpired", _) => (102, "the node's clock"),
            (_, "CredentialWrong", _) => (102, "access_secret"),
            (_, "Clock", _) => (102, "NTP"),
            (_, "BadCall", _) => (106, "check the value"),
            (_, "Unfit", _) => (105, "cannot carry an EIP"),
            (_, "Locked", _) => (106, "only its owner"),
            (_, "Other", _) => (106, ""),
            other => panic!("{other:?} is not decided upon"),
        }
    }
}
