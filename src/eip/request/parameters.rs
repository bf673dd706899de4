//! How a new EIP is to be, and the values that the API takes.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::quoted;
use crate::names::{BandwidthPackageId, Mbps};

/// The API takes 20 tags an EIP; five are ours (the owner).
pub(super) const MOST_USER_TAGS: usize = 20 - 5;

/// Longest tag key and value, in characters.
const LONGEST_TAG: usize = 128;

/// The only value the API knows; without it an EIP has the basic protection.
pub(super) const SECURITY_PROTECTION_TYPES: [&str; 1] = ["AntiDDoS_Enhanced"];

/// How traffic is paid for (the API's `InternetChargeType`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum InternetChargeType {
    #[default]
    PayByTraffic,
    PayByBandwidth,
}

impl InternetChargeType {
    pub(super) const ALL: [Self; 2] = [Self::PayByTraffic, Self::PayByBandwidth];

    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PayByTraffic => "PayByTraffic",
            Self::PayByBandwidth => "PayByBandwidth",
        }
    }

    pub(super) fn highest_bandwidth(self) -> u32 {
        match self {
            Self::PayByTraffic => 200,
            Self::PayByBandwidth => 500,
        }
    }
}

/// The line type (the API's `ISP`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Isp {
    #[serde(rename = "BGP")]
    Bgp,
    #[serde(rename = "BGP_PRO")]
    BgpPro,
    ChinaTelecom,
    ChinaUnicom,
    ChinaMobile,
    #[serde(rename = "ChinaTelecom_L2")]
    ChinaTelecomL2,
    #[serde(rename = "ChinaUnicom_L2")]
    ChinaUnicomL2,
    #[serde(rename = "ChinaMobile_L2")]
    ChinaMobileL2,
    #[serde(rename = "BGP_FinanceCloud")]
    BgpFinanceCloud,
}

impl Isp {
    pub(super) const ALL: [Self; 9] = [
        Self::Bgp,
        Self::BgpPro,
        Self::ChinaTelecom,
        Self::ChinaUnicom,
        Self::ChinaMobile,
        Self::ChinaTelecomL2,
        Self::ChinaUnicomL2,
        Self::ChinaMobileL2,
        Self::BgpFinanceCloud,
    ];

    /// As the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Bgp => "BGP",
            Self::BgpPro => "BGP_PRO",
            Self::ChinaTelecom => "ChinaTelecom",
            Self::ChinaUnicom => "ChinaUnicom",
            Self::ChinaMobile => "ChinaMobile",
            Self::ChinaTelecomL2 => "ChinaTelecom_L2",
            Self::ChinaUnicomL2 => "ChinaUnicom_L2",
            Self::ChinaMobileL2 => "ChinaMobile_L2",
            Self::BgpFinanceCloud => "BGP_FinanceCloud",
        }
    }

    pub(super) fn single_line(self) -> bool {
        !matches!(self, Self::Bgp | Self::BgpPro | Self::BgpFinanceCloud)
    }
}

/// How a new EIP is to be. What is `None` or empty is not sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Parameters {
    pub bandwidth: Mbps,
    /// Always sent: the API's default is the other one.
    pub internet_charge_type: InternetChargeType,
    pub isp: Option<Isp>,
    pub bandwidth_package: Option<BandwidthPackageId>,
    /// `pippool-…`
    pub address_pool: Option<String>,
    /// `rg-…`
    pub resource_group: Option<String>,
    /// As given; the API may refuse its characters.
    pub name: Option<String>,
    /// As given; the API may refuse its characters.
    pub description: Option<String>,
    pub security_protection: Vec<String>,
    /// The user's tags, without ours.
    pub tags: BTreeMap<String, String>,
}

/// What the API, or we, would not have in this tag.
pub(super) fn tag_problem(key: &str, value: &str) -> Option<String> {
    let reserved = |prefix: &&str| key.starts_with(*prefix) || (*prefix != "podeip-" && value.starts_with(*prefix));
    if let Some(prefix) = ["aliyun", "acs:", "podeip-"].iter().find(|prefix| reserved(prefix)) {
        let part = if key.starts_with(prefix) { "tag key" } else { "the value of tag" };
        return Some(format!("{part} {} must not start with {prefix}", quoted(key)));
    }
    let length = 1..=LONGEST_TAG;
    if !length.contains(&key.chars().count()) {
        return Some(format!("tag key {} must have 1 to {LONGEST_TAG} characters", quoted(key)));
    }
    if !length.contains(&value.chars().count()) {
        return Some(format!("the value of tag {} must have 1 to {LONGEST_TAG} characters", quoted(key)));
    }
    let url = ["http://", "https://"].into_iter().any(|scheme| key.contains(scheme) || value.contains(scheme));
    url.then(|| format!("tag {} must contain neither http:// nor https://", quoted(key)))
}
