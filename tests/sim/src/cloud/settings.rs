//! The switches of the simulated cloud: what the documents leave open, and what a test wants worse.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::cloud::defaults;

/// What an operation on an EIP in an `-ing` state is answered; the documents allow both.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum BusyCode {
    TaskConflict,
    IncorrectEipStatus,
}

/// What binding an EIP again to where it is bound already is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum RepeatCode {
    IncorrectEipStatus,
    #[serde(rename = "InvalidAssociation.Duplicated")]
    Duplicated,
}

/// All switches. In JSON the names are camelCase and durations are whole milliseconds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Settings {
    /// PostPaid EIPs that the account may hold at once.
    pub quota: usize,
    /// Time spent in `Associating`, `Unassociating`, `Releasing`, and in joining or leaving a
    /// bandwidth package.
    #[serde(with = "millis")]
    pub associate_delay: Duration,
    #[serde(with = "millis")]
    pub unassociate_delay: Duration,
    #[serde(with = "millis")]
    pub release_delay: Duration,
    #[serde(with = "millis")]
    pub package_delay: Duration,
    /// Read-after-write lag of the Describe actions: how long a new EIP is missing, and how long
    /// any later change is not seen.
    #[serde(with = "millis")]
    pub new_eip_lag: Duration,
    #[serde(with = "millis")]
    pub change_lag: Duration,
    /// Milliseconds (of the machine's time) that an action takes before its effect, by action. A
    /// second call with its ClientToken is meanwhile answered `LastTokenProcessing`.
    pub processing: BTreeMap<String, u64>,
    /// So many of the next associations fail in the background: the EIP falls back to `Available`.
    pub failing_associations: u32,
    pub busy_code: BusyCode,
    pub repeat_code: RepeatCode,
    /// `TaskConflict` also while another EIP of the same ENI is in an `-ing` state.
    pub one_operation_per_eni: bool,
    /// Fewer EIPs per ENI than it has private IPs.
    pub eips_per_eni: Option<usize>,
    /// Older reading: AssociateEipAddress without PrivateIpAddress binds the ENI's primary IP.
    pub private_ip_optional: bool,
    /// UnassociateEipAddress compares InstanceId and PrivateIpAddress with the binding. Nothing
    /// promises that the real service does, so by default they are ignored.
    pub unassociate_checks_target: bool,
    /// ReleaseEipAddress takes EIPs that are in a bandwidth package.
    pub release_inside_package: bool,
    /// Names and descriptions: first a letter, then letters, digits, `.`, `_`, `-`.
    pub older_name_rule: bool,
    /// Tag keys and values: the same, and keys of at most 64 characters.
    pub older_tag_rule: bool,
    /// AllocateEipAddress knows no `Tag.N`, and ignores it as it ignores any unknown parameter.
    pub ignore_tags_on_allocate: bool,
    /// The account is on the white list for single-line ISPs.
    pub single_line_isps: bool,
    /// ISP values that this region offers besides those that follow from its name.
    pub extra_isps: BTreeSet<String>,
    /// The Anti-DDoS Origin service is opened.
    pub ddos_origin_opened: bool,
    pub resource_groups: BTreeSet<String>,
    pub address_pools: BTreeSet<String>,
    /// EIPs per bandwidth package.
    pub eips_per_package: usize,
    /// A ClientToken whose call was refused keeps answering that refusal.
    pub token_remembers_failure: bool,
    #[serde(with = "millis")]
    pub token_lifetime: Duration,
    /// `Throttling.User` beyond [`Settings::rates`].
    pub throttling: bool,
    /// Calls per sliding 60 s of the world's clock, by action. Others are not limited.
    pub rates: BTreeMap<String, usize>,
    /// How far a request's Timestamp may be off.
    #[serde(with = "millis")]
    pub timestamp_window: Duration,
    /// The cloud's clock minus the machine's, for that check only. The world's clock does not
    /// enter it: a client that is tested reads the machine's clock.
    pub clock_skew_seconds: i64,
    pub access_key_inactive: bool,
    /// RAM role of the instances; `None`: no role attached.
    pub role: Option<String>,
    #[serde(with = "millis")]
    pub credential_lifetime: Duration,
    /// Role credentials are replaced by new ones this long before they expire.
    #[serde(with = "millis")]
    pub credential_rotation: Duration,
    /// OIDC providers and the roles that trust them.
    pub oidc: Vec<OidcTrust>,
    /// Instance metadata: off (403), tokens demanded, and how late new private IPs show.
    pub metadata_enabled: bool,
    pub metadata_hardened_only: bool,
    #[serde(with = "millis")]
    pub metadata_private_ip_lag: Duration,
}

/// A role that trusts an OIDC provider's tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct OidcTrust {
    /// `acs:ram::<account>:oidc-provider/<name>`
    pub provider_arn: String,
    /// `acs:ram::<account>:role/<name>`
    pub role_arn: String,
    /// The token's `aud` has to hold this.
    pub audience: String,
    /// The token's `iss`, if it matters.
    pub issuer: Option<String>,
    /// The token's `sub` has to be one of these; any, when empty.
    pub subjects: Vec<String>,
}

impl Default for Settings {
    fn default() -> Self {
        let delay = Duration::from_millis(300);
        Self {
            quota: 20,
            associate_delay: delay,
            unassociate_delay: delay,
            release_delay: delay,
            package_delay: delay,
            new_eip_lag: Duration::ZERO,
            change_lag: Duration::ZERO,
            processing: BTreeMap::new(),
            failing_associations: 0,
            busy_code: BusyCode::TaskConflict,
            repeat_code: RepeatCode::IncorrectEipStatus,
            one_operation_per_eni: false,
            eips_per_eni: None,
            private_ip_optional: false,
            unassociate_checks_target: false,
            release_inside_package: false,
            older_name_rule: false,
            older_tag_rule: false,
            ignore_tags_on_allocate: false,
            single_line_isps: false,
            extra_isps: BTreeSet::new(),
            ddos_origin_opened: true,
            resource_groups: [defaults::RESOURCE_GROUP.into(), defaults::OTHER_RESOURCE_GROUP.into()].into(),
            address_pools: [defaults::ADDRESS_POOL.into()].into(),
            eips_per_package: 100,
            token_remembers_failure: false,
            token_lifetime: Duration::from_secs(24 * 3600),
            throttling: true,
            rates: defaults::RATES.iter().map(|(action, rate)| ((*action).into(), *rate)).collect(),
            timestamp_window: Duration::from_secs(31 * 60),
            clock_skew_seconds: 0,
            access_key_inactive: false,
            role: Some(defaults::ROLE.into()),
            credential_lifetime: Duration::from_secs(6 * 3600),
            credential_rotation: Duration::from_secs(30 * 60),
            oidc: vec![defaults::oidc_trust()],
            metadata_enabled: true,
            metadata_hardened_only: false,
            metadata_private_ip_lag: Duration::ZERO,
        }
    }
}

/// Durations as whole milliseconds.
mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(span: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        u64::deserialize(deserializer).map(Duration::from_millis)
    }
}
