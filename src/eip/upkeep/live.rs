//! Annotations that changed while the pod runs: what becomes true at once, and what comes too late.
//!
//! An annotation that is there says how the EIP is to be, whatever it was when the EIP was bought.
//! One that is not there asks for nothing, so a value set by hand in the console stays. The one
//! exception is the bandwidth package: taking its annotation away takes the EIP out of it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use super::settle::{STEP_TIME, locked};
use crate::cloud::{Cloud, CloudError, Eip, EipChange};
use crate::deadline::Deadline;
use crate::eip::allocate::{LONGEST_DESCRIPTION, LONGEST_NAME, plain_text, plainer, refuses_text};
use crate::eip::failure::{Failure, Kind};
use crate::eip::journal::Journal;
use crate::eip::node::Node;
use crate::eip::package;
use crate::eip::request::{Notice, Parameters, Present};
use crate::names::{BandwidthPackageId, EipId, Mbps};
use crate::state::format::Attachment;

/// Event reasons.
pub const CHANGED: &str = "EIPChanged";
pub const CHANGE_FAILED: &str = "EIPChangeFailed";
pub const TOO_LATE: &str = "AppliesAtCreation";

/// Between two tries to join a package while the EIP still leaves another one.
const LEAVING_PAUSE: Duration = Duration::from_millis(500);

/// One thing about an EIP that its pod wants otherwise. Each is a request of its own, so that one
/// that is refused does not keep the others from coming true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    Bandwidth {
        from: Option<Mbps>,
        to: Mbps,
    },
    Name(String),
    Description(String),
    /// Those that differ.
    Tags(BTreeMap<String, String>),
    Package(PackageMove),
}

/// Out of which package and into which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PackageMove {
    pub leave: Option<BandwidthPackageId>,
    pub join: Option<BandwidthPackageId>,
}

/// In words, such as `bandwidth 5 → 20 Mbit/s`.
impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Bandwidth { from: Some(from), to } => write!(f, "bandwidth {from} → {to} Mbit/s"),
            Change::Bandwidth { from: None, to } => write!(f, "bandwidth → {to} Mbit/s"),
            Change::Name(_) => f.write_str("name"),
            Change::Description(_) => f.write_str("description"),
            Change::Tags(tags) => {
                let keys: Vec<&str> = tags.keys().map(String::as_str).collect();
                write!(f, "tags {}", keys.join(", "))
            }
            Change::Package(PackageMove { leave, join }) => {
                let name = |id: &Option<BandwidthPackageId>| id.as_ref().map_or("none".into(), ToString::to_string);
                write!(f, "bandwidth package {} → {}", name(leave), name(join))
            }
        }
    }
}

/// What of `wanted` the cloud can change on `eip`, our own.
pub fn changes(record: &Attachment, eip: &Eip, wanted: &Parameters, present: Present) -> Vec<Change> {
    let to = wanted.bandwidth;
    let bandwidth = present.bandwidth && eip.bandwidth != Some(to);
    let mut tags = wanted.tags.clone();
    tags.retain(|key, value| eip.tags.get(key) != Some(value));
    let changes = [
        bandwidth.then_some(Change::Bandwidth { from: eip.bandwidth, to }),
        text(&wanted.name, &eip.name, LONGEST_NAME).map(Change::Name),
        text(&wanted.description, &eip.description, LONGEST_DESCRIPTION).map(Change::Description),
        Some(Change::Tags(tags)).filter(|change| !matches!(change, Change::Tags(tags) if tags.is_empty())),
        package_move(record, eip, wanted.bandwidth_package.as_ref()).map(Change::Package),
    ];
    changes.into_iter().flatten().collect()
}

/// The API may have refused the characters before; then plain ones are what was agreed upon.
fn text(wanted: &Option<String>, shown: &Option<String>, longest: usize) -> Option<String> {
    let agreed =
        |wanted: &String| shown.as_ref().is_some_and(|shown| shown == wanted || *shown == plain_text(wanted, longest));
    wanted.clone().filter(|wanted| !agreed(wanted))
}

fn package_move(record: &Attachment, eip: &Eip, wanted: Option<&BandwidthPackageId>) -> Option<PackageMove> {
    let present = eip.bandwidth_package.as_ref();
    match wanted {
        Some(_) if present == wanted => None,
        Some(_) => Some(PackageMove { leave: present.cloned(), join: wanted.cloned() }),
        // One that podeip never had it join was somebody's own doing. One that it was refused is only
        // forgotten.
        None => {
            let ours = record.bandwidth_package.clone().filter(|ours| present.is_none_or(|other| other == ours))?;
            Some(PackageMove { leave: Some(ours), join: None })
        }
    }
}

impl Change {
    /// Has the cloud make the change. The notice says what of it came out otherwise than asked for.
    ///
    /// # Errors
    /// The cloud's refusal, or that a verb of the pod is at work.
    pub fn carry_out(
        &self,
        node: &Node,
        record: &Attachment,
        id: &EipId,
        deadline: Deadline,
    ) -> Result<Option<Notice>, Failure> {
        let cloud = node.cloud()?;
        let modify = |change: EipChange| cloud.modify_eip(id, &change, deadline);
        match self {
            Change::Bandwidth { to, .. } => modify(EipChange { bandwidth: Some(*to), ..EipChange::default() })?,
            Change::Name(name) => {
                return set_text(name, LONGEST_NAME, |name| {
                    modify(EipChange { name: Some(name), ..Default::default() })
                });
            }
            Change::Description(text) => {
                return set_text(text, LONGEST_DESCRIPTION, |text| {
                    modify(EipChange { description: Some(text), ..Default::default() })
                });
            }
            Change::Tags(tags) => cloud.tag_eips(std::slice::from_ref(id), tags, deadline)?,
            Change::Package(package) => {
                let deadline = deadline.within(STEP_TIME);
                let moved = locked(node, record, |mut journal| package.carry_out(cloud, &mut journal, id, deadline))?;
                moved.ok_or_else(|| Failure::new(Kind::TryAgain, "an ADD or DEL of this pod is running"))?;
            }
        }
        Ok(None)
    }
}

/// Sends `wanted`, and once more in plain characters if the API refuses it.
fn set_text(
    wanted: &str,
    longest: usize,
    send: impl Fn(String) -> Result<(), CloudError>,
) -> Result<Option<Notice>, Failure> {
    let plain = plain_text(wanted, longest);
    match send(wanted.into()) {
        Err(error) if refuses_text(&error) && plain != wanted => {
            send(plain)?;
            Ok(Some(plainer(&error)))
        }
        outcome => Ok(outcome.map(|()| None)?),
    }
}

impl PackageMove {
    /// Leaves and joins. The caller holds the pod's lock: the record says which package has to be
    /// left before the release.
    fn carry_out(&self, cloud: &Cloud, journal: &mut Journal, id: &EipId, deadline: Deadline) -> Result<(), Failure> {
        if let Some(old) = &self.leave {
            package::leave(cloud, old, id, deadline)?;
        }
        journal.save(|record| record.bandwidth_package = self.join.clone())?;
        let Some(new) = &self.join else { return Ok(()) };
        while let Some(other) = package::join(cloud, new, id, deadline)? {
            // Leaving takes a while, and until then it counts as a member.
            if self.leave.as_ref() != Some(&other) || !deadline.sleep(LEAVING_PAUSE) {
                return Err(Failure::new(Kind::TryAgain, format!("{id} is still in bandwidth package {other}")));
            }
        }
        Ok(())
    }
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
        changes(&record(package), &eip(), &parameters, present).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn what_is_not_asked_for_stays() {
        assert!(said(None, &[]).is_empty());
        let (parameters, present) = wanted(&[]);
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
        assert_eq!(said(None, &[("eip-tags", r#"{"team":"b","x":"y"}"#)]), ["tags team, x"]);
    }

    #[test]
    fn a_package_is_moved_and_only_our_own_is_left() {
        let package = "eip-common-bandwidth-package-id";
        assert_eq!(said(None, &[(package, "cbwp-2")]), ["bandwidth package cbwp-1 → cbwp-2"]);
        assert!(said(Some("cbwp-1"), &[(package, "cbwp-1")]).is_empty());
        assert_eq!(said(Some("cbwp-1"), &[]), ["bandwidth package cbwp-1 → none"]);
        assert!(said(Some("cbwp-0"), &[]).is_empty());
        let out = Eip { bandwidth_package: None, ..eip() };
        let (parameters, present) = wanted(&[]);
        let refused = PackageMove { leave: Some(BandwidthPackageId::new("cbwp-0")), join: None };
        assert_eq!(changes(&record(Some("cbwp-0")), &out, &parameters, present), [Change::Package(refused)]);
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
