//! Annotations that changed while the pod runs: what becomes true at once, and what comes too late.
//!
//! An annotation that is there says how the EIP is to be, whatever it was when the EIP was bought.
//! One that is not there asks for nothing, so a value set by hand in the console stays. The one
//! exception is the bandwidth package: taking its annotation away takes the EIP out of it.

use std::collections::BTreeMap;

use crate::cloud::{Cloud, Eip, EipChange};
use crate::deadline::Deadline;
use crate::eip::allocate::{LONGEST_DESCRIPTION, LONGEST_NAME, plain_text};
use crate::eip::failure::Failure;
use crate::eip::journal::Journal;
use crate::eip::package;
use crate::eip::request::{Notice, Parameters, Present};
use crate::names::{BandwidthPackageId, EipId};
use crate::state::format::Attachment;

/// Event reasons.
pub const CHANGED: &str = "EIPChanged";
pub const CHANGE_FAILED: &str = "EIPChangeFailed";
pub const TOO_LATE: &str = "AppliesAtCreation";

/// Out of which package and into which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageMove {
    pub leave: Option<BandwidthPackageId>,
    pub join: Option<BandwidthPackageId>,
}

/// What has to change in the cloud so that an EIP is as its pod asks.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    pub attributes: EipChange,
    pub package: Option<PackageMove>,
    pub tags: BTreeMap<String, String>,
    /// Each change in words, such as `bandwidth 5 → 20 Mbit/s`.
    pub said: Vec<String>,
}

impl Changes {
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// What of `wanted` the cloud can change on `eip`, our own.
    pub fn of(record: &Attachment, eip: &Eip, wanted: &Parameters, present: Present) -> Self {
        let mut changes = Self::default();
        if present.bandwidth && eip.bandwidth != Some(wanted.bandwidth) {
            let before = eip.bandwidth.map(|mbps| mbps.to_string()).unwrap_or("?".into());
            changes.said.push(format!("bandwidth {before} → {} Mbit/s", wanted.bandwidth));
            changes.attributes.bandwidth = Some(wanted.bandwidth);
        }
        changes.attributes.name = text(&wanted.name, &eip.name, LONGEST_NAME, "name", &mut changes.said);
        changes.attributes.description =
            text(&wanted.description, &eip.description, LONGEST_DESCRIPTION, "description", &mut changes.said);
        changes.package = package_move(record, eip, wanted.bandwidth_package.as_ref());
        if let Some(PackageMove { leave, join }) = &changes.package {
            let name = |id: &Option<BandwidthPackageId>| id.as_ref().map_or("none".into(), ToString::to_string);
            changes.said.push(format!("bandwidth package {} → {}", name(leave), name(join)));
        }
        changes.tags = wanted.tags.clone();
        changes.tags.retain(|key, value| eip.tags.get(key) != Some(value));
        changes.said.extend(changes.tags.keys().map(|key| format!("tag {key}")));
        changes
    }

    /// Carries attributes and tags out: requests that may be repeated, so they need no record.
    pub fn apply(&self, cloud: &Cloud, id: &EipId, deadline: Deadline) -> Result<(), Failure> {
        if self.attributes != EipChange::default() {
            cloud.modify_eip(id, &self.attributes, deadline)?;
        }
        if !self.tags.is_empty() {
            cloud.tag_eips(std::slice::from_ref(id), &self.tags, deadline)?;
        }
        Ok(())
    }
}

impl PackageMove {
    /// Leaves and joins. The caller holds the pod's lock: the record says which package has to be
    /// left before the release.
    pub fn carry_out(
        &self,
        cloud: &Cloud,
        journal: &mut Journal,
        id: &EipId,
        deadline: Deadline,
    ) -> Result<(), Failure> {
        if let Some(old) = &self.leave {
            package::leave(cloud, old, id, deadline)?;
        }
        journal.save(|record| record.bandwidth_package = self.join.clone())?;
        if let Some(new) = &self.join {
            package::join(cloud, new, id, deadline)?;
        }
        Ok(())
    }
}

/// The API may have refused the characters at creation; then plain ones are what was agreed upon.
fn text(
    wanted: &Option<String>,
    shown: &Option<String>,
    longest: usize,
    what: &str,
    said: &mut Vec<String>,
) -> Option<String> {
    let wanted = wanted.as_ref()?;
    let agreed = shown.as_ref().is_some_and(|shown| shown == wanted || *shown == plain_text(wanted, longest));
    if agreed {
        return None;
    }
    said.push(what.into());
    Some(wanted.clone())
}

fn package_move(record: &Attachment, eip: &Eip, wanted: Option<&BandwidthPackageId>) -> Option<PackageMove> {
    let present = eip.bandwidth_package.as_ref();
    // One that podeip never had it join was somebody's own doing.
    let ours = present.is_some() && present == record.bandwidth_package.as_ref();
    let moves = match wanted {
        Some(_) => present != wanted,
        None => ours,
    };
    moves.then(|| PackageMove { leave: present.cloned(), join: wanted.cloned() })
}

/// What the pod asks for now and can have only with another EIP.
pub fn too_late(eip: &Eip, wanted: &Parameters, present: Present) -> Vec<Notice> {
    let charge_type = present.internet_charge_type.then(|| wanted.internet_charge_type.as_str().to_string());
    let isp = wanted.isp.map(|isp| isp.as_str().to_string());
    let differing = [
        ("eip-internet-charge-type", charge_type, &eip.internet_charge_type),
        ("eip-isp", isp, &eip.isp),
        ("eip-public-ip-address-pool-id", wanted.address_pool.clone(), &eip.public_ip_address_pool_id),
        ("eip-resource-group-id", wanted.resource_group.clone(), &eip.resource_group_id),
    ];
    let mut notices: Vec<Notice> = differing
        .into_iter()
        .filter_map(|(key, wanted, is)| {
            let (wanted, is) = (wanted?, is.clone().unwrap_or_default());
            (wanted != is).then(|| creation_only(key, &wanted, &is))
        })
        .collect();
    let protection = wanted.security_protection.join(",");
    if !protection.is_empty() && wanted.security_protection != eip.security_protection {
        notices.push(creation_only("eip-security-protection-types", &protection, &eip.security_protection.join(",")));
    }
    notices
}

/// A wish that comes too late for the EIP that the pod has.
pub fn creation_only(key: &str, wanted: &str, is: &str) -> Notice {
    let is = if is.is_empty() { "none" } else { is };
    Notice {
        reason: TOO_LATE,
        message: format!("{key} is now {wanted:?}, but it applies only when an EIP is created; this one has {is}"),
        warning: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::eip::request::{self, Source};
    use crate::state::format::StateFile;

    fn eip() -> Eip {
        serde_json::from_str(
            r#"{"AllocationId":"eip-1","Status":"InUse","Bandwidth":"5","EipBandwidth":"5","ISP":"BGP","Name":"shop-web",
                "InternetChargeType":"PayByTraffic","ResourceGroupId":"rg-1","BandwidthPackageId":"cbwp-1",
                "Tags":{"Tag":[{"Key":"team","Value":"a"}]}}"#,
        )
        .unwrap()
    }

    fn record(package: Option<&str>) -> Attachment {
        let file: StateFile = serde_json::from_str(include_str!("../../../tests/fixtures/state/guard.json")).unwrap();
        Attachment { bandwidth_package: package.map(BandwidthPackageId::new), ..file.attachments[0].clone() }
    }

    fn wanted(annotations: &[(&str, &str)]) -> (Parameters, Present) {
        let key = |key: &str| format!("network.alibabacloud.com/{key}");
        let mut all: BTreeMap<String, String> =
            annotations.iter().map(|(name, value)| (key(name), value.to_string())).collect();
        all.insert(key("pod-with-eip"), "true".into());
        let Source::Allocate(parameters) = request::read(&all).unwrap().unwrap().wish.source else { panic!() };
        (parameters, request::present(&all))
    }

    fn said(package: Option<&str>, annotations: &[(&str, &str)]) -> Vec<String> {
        let (parameters, present) = wanted(annotations);
        Changes::of(&record(package), &eip(), &parameters, present).said
    }

    #[test]
    fn what_is_not_asked_for_stays() {
        assert!(said(None, &[]).is_empty());
        let (parameters, present) = wanted(&[]);
        assert!(Changes::of(&record(None), &eip(), &parameters, present).is_empty());
        assert!(too_late(&eip(), &parameters, present).is_empty());
    }

    #[test]
    fn what_differs_is_changed() {
        assert_eq!(said(None, &[("eip-bandwidth", "20")]), ["bandwidth 5 → 20 Mbit/s"]);
        assert!(
            said(None, &[("eip-bandwidth", "5"), ("eip-name", "shop/web")]).is_empty(),
            "agreed in plain characters"
        );
        assert_eq!(said(None, &[("eip-name", "other"), ("eip-description", "d")]), ["name", "description"]);
        assert_eq!(said(None, &[("eip-tags", r#"{"team":"b","x":"y"}"#)]), ["tag team", "tag x"]);
    }

    #[test]
    fn a_package_is_moved_and_only_our_own_is_left() {
        let package = "eip-common-bandwidth-package-id";
        assert_eq!(said(None, &[(package, "cbwp-2")]), ["bandwidth package cbwp-1 → cbwp-2"]);
        assert!(said(Some("cbwp-1"), &[(package, "cbwp-1")]).is_empty());
        assert_eq!(said(Some("cbwp-1"), &[]), ["bandwidth package cbwp-1 → none"]);
        assert!(said(Some("cbwp-0"), &[]).is_empty());
    }

    #[test]
    fn the_rest_comes_too_late() {
        let (parameters, present) = wanted(&[
            ("eip-internet-charge-type", "PayByBandwidth"),
            ("eip-isp", "BGP_PRO"),
            ("eip-resource-group-id", "rg-1"),
            ("eip-security-protection-types", "AntiDDoS_Enhanced"),
        ]);
        let messages: Vec<String> = too_late(&eip(), &parameters, present).into_iter().map(|it| it.message).collect();
        assert_eq!(messages.len(), 3, "{messages:?}");
        assert!(messages[0].contains("eip-internet-charge-type") && messages[0].ends_with("this one has PayByTraffic"));
        assert!(messages[2].ends_with("has none"));
    }
}
