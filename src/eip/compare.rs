//! Where record, PodEIP, pod and cloud agree about one pod's EIP, and where not. Pure.
//!
//! `says` reads out of each view what it says, fact by fact; `place` compares where they say that the
//! EIP is bound, and `lacking` finds what should be there and is not.

use std::fmt;

use serde::Serialize;

use crate::eip::views::Views;

mod lacking;
mod place;
mod says;

use says::Says;
pub use says::phase_text;

/// One of the four views. The order is that of trust: what the others say is measured by the first
/// of them that says anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Side {
    Record,
    PodEip,
    Cloud,
    Pod,
}

impl Side {
    pub const ALL: [Side; 4] = [Side::Record, Side::PodEip, Side::Cloud, Side::Pod];
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Side::Record => "record",
            Side::PodEip => "PodEIP",
            Side::Cloud => "cloud",
            Side::Pod => "pod",
        })
    }
}

/// What a view may say of an EIP, in the order in which people read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Fact {
    Pod,
    EipId,
    Address,
    /// How far it is, in each side's own words.
    Status,
    PrivateIp,
    Eni,
    Type,
    Strategy,
    Bandwidth,
    BandwidthPackage,
    ChargeType,
    Isp,
    Name,
    PodUid,
    Node,
    /// When the pod was last known to live, or the record last written.
    LastSeen,
}

impl Fact {
    pub const ALL: [Fact; 16] = [
        Fact::Pod,
        Fact::EipId,
        Fact::Address,
        Fact::Status,
        Fact::PrivateIp,
        Fact::Eni,
        Fact::Type,
        Fact::Strategy,
        Fact::Bandwidth,
        Fact::BandwidthPackage,
        Fact::ChargeType,
        Fact::Isp,
        Fact::Name,
        Fact::PodUid,
        Fact::Node,
        Fact::LastSeen,
    ];

    /// Whether the sides use the same words for it, so that different words are a difference. Where
    /// the EIP is (status, private IP and ENI together) takes more than words.
    fn literal(self) -> bool {
        !matches!(self, Fact::Status | Fact::PrivateIp | Fact::Eni | Fact::LastSeen)
    }
}

/// As in a sentence: `the cloud shows bandwidth 10`.
impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Fact::Pod => "pod",
            Fact::EipId => "EIP id",
            Fact::Address => "address",
            Fact::Status => "status",
            Fact::PrivateIp => "private IP",
            Fact::Eni => "ENI",
            Fact::Type => "type",
            Fact::Strategy => "strategy",
            Fact::Bandwidth => "bandwidth",
            Fact::BandwidthPackage => "bandwidth package",
            Fact::ChargeType => "charge type",
            Fact::Isp => "line type",
            Fact::Name => "name",
            Fact::PodUid => "pod UID",
            Fact::Node => "node",
            Fact::LastSeen => "last seen",
        })
    }
}

/// One fact as each side has it; `None` where a side says nothing of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Row {
    pub fact: Fact,
    pub record: Option<String>,
    pub pod_eip: Option<String>,
    pub pod: Option<String>,
    pub cloud: Option<String>,
    /// Whether a [`Difference`] is about it.
    pub differs: bool,
}

/// One disagreement.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Difference {
    /// What it is about.
    pub facts: Vec<Fact>,
    /// Who contradicts the most trusted side, or lacks what should be there.
    pub sides: Vec<Side>,
    /// A plain sentence, without a full stop.
    pub message: String,
}

/// The rows that tell anything, and the differences among them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Comparison {
    pub rows: Vec<Row>,
    pub differences: Vec<Difference>,
}

/// What of the settings a comparison depends on.
#[derive(Clone, Copy, Debug, Default)]
pub struct Settings<'a> {
    /// `None`: unknown, and then the cloud's tags are believed to be of this cluster.
    pub cluster: Option<&'a str>,
    /// Owner kinds, besides StatefulSet, whose pods may keep an EIP.
    pub stateful_kinds: &'a [String],
}

/// Compares the views, as far as they are known.
pub fn compare(views: &Views, settings: &Settings) -> Comparison {
    let says = Side::ALL.map(|side| (side, says::of(side, views, settings)));
    let mut differences = lacking::objects(views, settings);
    differences.extend(place::compare(views));
    differences.extend(Fact::ALL.into_iter().filter(|fact| fact.literal()).flat_map(|fact| literal(fact, &says)));
    differences.extend(lacking::publication(views));
    differences.extend(lacking::sense(views));
    let rows = Fact::ALL.into_iter().map(|fact| row(fact, &says, &differences)).filter(Row::tells).collect();
    Comparison { rows, differences }
}

impl Row {
    fn tells(&self) -> bool {
        self.differs || [&self.record, &self.pod_eip, &self.pod, &self.cloud].iter().any(|cell| cell.is_some())
    }
}

fn row(fact: Fact, says: &[(Side, Says); 4], differences: &[Difference]) -> Row {
    let cell = |wanted| says.iter().find(|(side, _)| *side == wanted).and_then(|(_, says)| says.get(&fact)).cloned();
    Row {
        fact,
        record: cell(Side::Record),
        pod_eip: cell(Side::PodEip),
        pod: cell(Side::Pod),
        cloud: cell(Side::Cloud),
        differs: differences.iter().any(|difference| difference.facts.contains(&fact)),
    }
}

/// The sides that say the same, the most trusted first.
struct Group<T> {
    sides: Vec<Side>,
    value: T,
}

/// The sides by what they say; the most trusted group comes first.
fn grouped<T: PartialEq>(claims: impl IntoIterator<Item = (Side, T)>) -> Vec<Group<T>> {
    let mut groups: Vec<Group<T>> = Vec::new();
    for (side, value) in claims {
        match groups.iter_mut().find(|group| group.value == value) {
            Some(group) => group.sides.push(side),
            None => groups.push(Group { sides: vec![side], value }),
        }
    }
    groups
}

fn literal(fact: Fact, says: &[(Side, Says); 4]) -> Vec<Difference> {
    let claims = says.iter().filter_map(|(side, says)| Some((*side, says.get(&fact)?)));
    let mut groups = grouped(claims).into_iter();
    let Some(trusted) = groups.next() else { return Vec::new() };
    let difference = |other: Group<&String>| Difference {
        facts: vec![fact],
        message: format!(
            "{} {fact} {}, but {} {}",
            speakers(&other.sides),
            other.value,
            speakers(&trusted.sides),
            trusted.value
        ),
        sides: other.sides,
    };
    groups.map(difference).collect()
}

/// Subject and verb: `the cloud shows`, `the pod says`, `the record and the PodEIP say`.
fn speakers(sides: &[Side]) -> String {
    let verb = match sides {
        [Side::Cloud] => "shows",
        [_] => "says",
        _ => "say",
    };
    let named: Vec<String> = sides.iter().map(|side| format!("the {side}")).collect();
    match named.as_slice() {
        [rest @ .., last] if !rest.is_empty() => format!("{} and {last} {verb}", rest.join(", ")),
        _ => format!("{} {verb}", named.concat()),
    }
}

#[cfg(test)]
mod tests;
