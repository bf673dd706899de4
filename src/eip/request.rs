//! What a pod asks for: its annotations, read and checked before anything is allocated.

use std::collections::BTreeMap;
use std::fmt;

use crate::names::{BandwidthPackageId, EipId, Mbps};
use crate::strategy::Strategy;

mod parameters;

pub use parameters::{InternetChargeType, Isp, Parameters};
use parameters::{MOST_USER_TAGS, SECURITY_PROTECTION_TYPES, tag_problem};

/// One parameter's annotation keys, in the order in which they are asked; the first one with a
/// text wins.
type Keys = &'static [&'static str];

macro_rules! keys {
    ($name:literal $(, $compatible:literal)?) => {
        &[concat!("network.alibabacloud.com/", $name), concat!("k8s.aliyun.com/", $name) $(, $compatible)?]
    };
}

const WITH_EIP: Keys = keys!("pod-with-eip", "k8s.aliyun.com/eci-with-eip");
const INSTANCE_ID: Keys = keys!("pod-eip-instanceid", "k8s.aliyun.com/eci-eip-instanceid");
const RELEASE_STRATEGY: Keys = keys!("pod-eip-release-strategy");
const BANDWIDTH: Keys = keys!("eip-bandwidth");
const INTERNET_CHARGE_TYPE: Keys = keys!("eip-internet-charge-type", "k8s.aliyun.com/eip-charge-type");
const INSTANCE_CHARGE_TYPE: Keys = keys!("eip-instance-charge-type");
const ISP: Keys = keys!("eip-isp");
const BANDWIDTH_PACKAGE: Keys = keys!("eip-common-bandwidth-package-id");
const ADDRESS_POOL: Keys = keys!("eip-public-ip-address-pool-id");
const RESOURCE_GROUP: Keys = keys!("eip-resource-group-id");
const NAME: Keys = keys!("eip-name");
const DESCRIPTION: Keys = keys!("eip-description");
const SECURITY_PROTECTION: Keys = keys!("eip-security-protection-types");
const TAGS: Keys = keys!("eip-tags");

/// What matters only when an EIP is created.
const CREATION: [Keys; 11] = [
    BANDWIDTH,
    INTERNET_CHARGE_TYPE,
    INSTANCE_CHARGE_TYPE,
    ISP,
    BANDWIDTH_PACKAGE,
    ADDRESS_POOL,
    RESOURCE_GROUP,
    NAME,
    DESCRIPTION,
    SECURITY_PROTECTION,
    TAGS,
];

/// Event reason: two annotations of one parameter disagree.
pub const ANNOTATION_CONFLICT: &str = "AnnotationConflict";
/// Event reason: annotations that a named EIP makes meaningless.
pub const PARAMETERS_IGNORED: &str = "ParametersIgnored";

/// The API's own default, sent all the same.
const DEFAULT_BANDWIDTH: Mbps = Mbps(5);

/// A pod's wish, and what its owner should be told about how it was understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requested {
    pub wish: Wish,
    pub notices: Vec<Notice>,
}

/// An EIP for this pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wish {
    pub source: Source,
    /// As asked for. Whether the pod's owner allows a lasting one is not known here.
    pub strategy: Strategy,
}

/// Where the EIP comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// This one, which the user owns.
    Named(EipId),
    /// A new one.
    Allocate(Parameters),
}

/// An event for the pod that does not stop it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// The event's reason, in one word.
    pub reason: &'static str,
    pub message: String,
    /// Type Warning, else Normal.
    pub warning: bool,
}

/// An annotation that breaks a rule. Nothing may be allocated for its pod.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("annotation {key}: {} is refused: {rule}", quoted(value))]
pub struct Refusal {
    pub key: &'static str,
    pub value: String,
    /// What is allowed, as a clause.
    pub rule: String,
}

/// Reads the wish from all annotations of a pod. `None`: nothing is asked for, and then nothing
/// but the two switches was looked at.
///
/// # Errors
/// The first annotation that breaks a rule.
pub fn read(annotations: &BTreeMap<String, String>) -> Result<Option<Requested>, Refusal> {
    let mut reader = Reader { annotations, notices: Vec::new() };
    let switch = reader.choose(WITH_EIP);
    let on = match switch {
        None => false,
        Some(Choice { value: "true", .. }) => true,
        Some(Choice { value: "false", .. }) => false,
        Some(other) => return Err(other.refused("allowed is \"true\" or \"false\"")),
    };
    let source = match reader.choose(INSTANCE_ID) {
        Some(named) => Source::Named(reader.named(named, switch.filter(|_| !on))?),
        None if on => Source::Allocate(reader.parameters()?),
        None => return Ok(None),
    };
    let strategy = reader.strategy()?;
    Ok(Some(Requested { wish: Wish { source, strategy }, notices: reader.notices }))
}

/// Whether the pod names an EIP of its user's, however wrong its annotations may be otherwise.
pub fn names_eip(annotations: &BTreeMap<String, String>) -> bool {
    Reader { annotations, notices: Vec::new() }.texts(INSTANCE_ID).next().is_some()
}

/// Which parameters that have a default were asked for by an annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Present {
    pub bandwidth: bool,
    pub internet_charge_type: bool,
    pub strategy: bool,
}

/// See [`Present`].
pub fn present(annotations: &BTreeMap<String, String>) -> Present {
    let reader = Reader { annotations, notices: Vec::new() };
    Present {
        bandwidth: reader.texts(BANDWIDTH).next().is_some(),
        internet_charge_type: reader.texts(INTERNET_CHARGE_TYPE).next().is_some(),
        strategy: reader.texts(RELEASE_STRATEGY).next().is_some(),
    }
}

/// The annotation that decides a parameter. Its value is not empty.
#[derive(Clone, Copy)]
struct Choice<'a> {
    key: &'static str,
    value: &'a str,
}

impl<'a> Choice<'a> {
    fn refused(self, rule: impl Into<String>) -> Refusal {
        Refusal { key: self.key, value: self.value.to_owned(), rule: rule.into() }
    }

    /// The value, if it is an id with this prefix. Its tail is opaque.
    fn id(self, prefix: &str) -> Result<&'a str, Refusal> {
        let tail = self.value.strip_prefix(prefix).unwrap_or_default();
        if !tail.is_empty() && tail.len() <= 64 && tail.chars().all(|c| c.is_ascii_alphanumeric() || c == '-') {
            return Ok(self.value);
        }
        Err(self.refused(format!("allowed is an id such as {prefix}bp1xxxxxxxxxxxxxxxxxx")))
    }

    /// The value, if it is one of `all`.
    fn one_of<T: Copy>(self, all: &[T], spelling: impl Fn(T) -> &'static str) -> Result<T, Refusal> {
        let found = all.iter().copied().find(|one| spelling(*one) == self.value);
        found.ok_or_else(|| {
            let allowed: Vec<_> = all.iter().map(|one| spelling(*one)).collect();
            self.refused(format!("allowed is {}", alternatives(&allowed)))
        })
    }
}

struct Reader<'a> {
    annotations: &'a BTreeMap<String, String>,
    notices: Vec<Notice>,
}

impl<'a> Reader<'a> {
    fn texts(&self, keys: Keys) -> impl Iterator<Item = Choice<'a>> + use<'a> {
        let annotations = self.annotations;
        let choice = move |key: &&'static str| Some(Choice { key, value: annotations.get(*key)? });
        keys.iter().filter_map(choice).filter(|choice| !choice.value.is_empty())
    }

    /// The first of `keys` that has a text; others that say something else are noted.
    fn choose(&mut self, keys: Keys) -> Option<Choice<'a>> {
        let mut texts = self.texts(keys);
        let chosen = texts.next()?;
        for other in texts.filter(|other| other.value != chosen.value) {
            let (used, unused) = (quoted(chosen.value), quoted(other.value));
            self.note(
                ANNOTATION_CONFLICT,
                true,
                format!("{} is {used} and {} is {unused}: {used} is used", chosen.key, other.key),
            );
        }
        Some(chosen)
    }

    fn note(&mut self, reason: &'static str, warning: bool, message: String) {
        self.notices.push(Notice { reason, message, warning });
    }

    /// The named EIP. `off` is a switch that says "false".
    fn named(&mut self, named: Choice<'a>, off: Option<Choice<'a>>) -> Result<EipId, Refusal> {
        let id = EipId::new(named.id("eip-")?);
        if let Some(off) = off {
            let message = format!("{} is \"false\" and {} is {id}: the named EIP is bound", off.key, named.key);
            self.note(ANNOTATION_CONFLICT, true, message);
        }
        let ignored: Vec<_> = CREATION.iter().filter_map(|keys| self.texts(keys).next()).map(|text| text.key).collect();
        if !ignored.is_empty() {
            let ignored = ignored.join(", ");
            let message = format!("the pod names {id}, which is bound as it is; ignored: {ignored}");
            self.note(PARAMETERS_IGNORED, false, message);
        }
        Ok(id)
    }

    fn strategy(&mut self) -> Result<Strategy, Refusal> {
        let Some(choice) = self.choose(RELEASE_STRATEGY) else { return Ok(Strategy::Follow) };
        choice.value.parse().map_err(|reason: String| {
            choice.refused(format!("{reason}; allowed is Follow, Never or a duration above zero such as 5m30s"))
        })
    }

    fn parameters(&mut self) -> Result<Parameters, Refusal> {
        let charge_type = match self.choose(INTERNET_CHARGE_TYPE) {
            None => InternetChargeType::default(),
            Some(choice) => choice.one_of(&InternetChargeType::ALL, InternetChargeType::as_str)?,
        };
        self.instance_charge_type()?;
        Ok(Parameters {
            bandwidth: self.bandwidth(charge_type)?,
            internet_charge_type: charge_type,
            isp: self.isp(charge_type)?,
            bandwidth_package: self.id(BANDWIDTH_PACKAGE, "cbwp-")?.map(BandwidthPackageId::new),
            address_pool: self.id(ADDRESS_POOL, "pippool-")?,
            resource_group: self.id(RESOURCE_GROUP, "rg-")?,
            name: self.choose(NAME).map(|choice| choice.value.to_owned()),
            description: self.choose(DESCRIPTION).map(|choice| choice.value.to_owned()),
            security_protection: self.security_protection()?,
            tags: self.tags()?,
        })
    }

    fn instance_charge_type(&mut self) -> Result<(), Refusal> {
        match self.choose(INSTANCE_CHARGE_TYPE) {
            None | Some(Choice { value: "PostPaid", .. }) => Ok(()),
            Some(prepaid @ Choice { value: "PrePaid", .. }) => Err(prepaid.refused(
                "a subscription cannot be released with its pod nor join a bandwidth package; allowed is PostPaid",
            )),
            Some(other) => Err(other.refused("allowed is PostPaid")),
        }
    }

    fn bandwidth(&mut self, charge_type: InternetChargeType) -> Result<Mbps, Refusal> {
        let Some(choice) = self.choose(BANDWIDTH) else { return Ok(DEFAULT_BANDWIDTH) };
        // `parse` alone would take "+5".
        let digits = choice.value.chars().all(|c| c.is_ascii_digit());
        let number: Option<u32> = choice.value.parse().ok().filter(|_| digits);
        let highest = charge_type.highest_bandwidth();
        number.filter(|mbps| (1..=highest).contains(mbps)).map(Mbps).ok_or_else(|| {
            choice.refused(format!(
                "allowed is a whole number of Mbit/s from 1 to {highest} with {}",
                charge_type.as_str()
            ))
        })
    }

    fn isp(&mut self, charge_type: InternetChargeType) -> Result<Option<Isp>, Refusal> {
        let Some(choice) = self.choose(ISP) else { return Ok(None) };
        let isp = choice.one_of(&Isp::ALL, Isp::as_str)?;
        if isp.single_line() && charge_type != InternetChargeType::PayByBandwidth {
            let rule = format!("a single-line EIP needs {}: \"PayByBandwidth\"", INTERNET_CHARGE_TYPE[0]);
            return Err(choice.refused(rule));
        }
        Ok(Some(isp))
    }

    fn id(&mut self, keys: Keys, prefix: &str) -> Result<Option<String>, Refusal> {
        self.choose(keys).map(|choice| choice.id(prefix).map(str::to_owned)).transpose()
    }

    fn security_protection(&mut self) -> Result<Vec<String>, Refusal> {
        let Some(choice) = self.choose(SECURITY_PROTECTION) else { return Ok(Vec::new()) };
        let mut types: Vec<String> = Vec::new();
        for name in choice.value.split(',').map(str::trim) {
            if !SECURITY_PROTECTION_TYPES.contains(&name) {
                let allowed = alternatives(&SECURITY_PROTECTION_TYPES);
                return Err(choice.refused(format!("allowed is a comma-separated list of {allowed}")));
            }
            if !types.iter().any(|known| known == name) {
                types.push(name.to_owned());
            }
        }
        Ok(types)
    }

    fn tags(&mut self) -> Result<BTreeMap<String, String>, Refusal> {
        let Some(choice) = self.choose(TAGS) else { return Ok(BTreeMap::new()) };
        let tags: BTreeMap<String, String> = serde_json::from_str(choice.value)
            .map_err(|_| choice.refused("allowed is a JSON object of strings such as {\"team\":\"a\"}"))?;
        if tags.len() > MOST_USER_TAGS {
            let rule = format!("{} tags are too many: allowed is at most {MOST_USER_TAGS}", tags.len());
            return Err(choice.refused(rule));
        }
        match tags.iter().find_map(|(key, value)| tag_problem(key, value)) {
            Some(problem) => Err(choice.refused(problem)),
            None => Ok(tags),
        }
    }
}

/// `a`, `a or b`, `a, b or c`.
fn alternatives(names: &[&str]) -> String {
    match names {
        [rest @ .., last] if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => names.concat(),
    }
}

/// `text` in quotes, on one line and short enough for an event.
fn quoted(text: &str) -> impl fmt::Display {
    const LONGEST: usize = 80;
    let mut shown: String = text.chars().take(LONGEST).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    format!("{shown:?}")
}

#[cfg(test)]
mod tests;
