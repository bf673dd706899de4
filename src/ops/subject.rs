//! What a command about one pod is about: which attachment of this node, or what cluster and cloud know under
//! that name.

use std::path::Path;

use anyhow::bail;

use super::named::{Elsewhere, Named};
use super::print::{columns, or_dash};
use crate::cloud::EipFilter;
use crate::eip::compare::phase_text;
use crate::eip::failure::chain;
use crate::eip::views::{self, Found, NamespacedName, Remote, Subject, View, Views};
use crate::kube::PodEip;
use crate::state::Store;
use crate::state::format::Attachment;

/// The attachments of this node, or why they cannot be read.
pub struct Records(Result<Vec<Attachment>, String>);

impl Records {
    pub fn of_node(state_directory: &Path) -> Self {
        let records = Store::open(state_directory).and_then(|store| store.attachments());
        Self(records.map_err(|error| chain(&error)))
    }

    /// The attachment that is `named`.
    ///
    /// # Errors
    /// It means several.
    fn of(&self, named: &Named) -> anyhow::Result<View<Attachment>> {
        let records = match &self.0 {
            Ok(records) => named.among(records),
            Err(reason) => return Ok(View::Unknown(reason.clone())),
        };
        match records.as_slice() {
            [] => Ok(View::Absent),
            [record] => Ok(View::Known((*record).clone())),
            several => bail!(
                "{named} means {} attachments of this node; choose one by what it has alone:\n{}",
                several.len(),
                candidates(several)
            ),
        }
    }
}

fn candidates(records: &[&Attachment]) -> String {
    let cells = |record: &&Attachment| {
        let eip = record.eip.as_ref();
        vec![
            record.pod.to_string(),
            or_dash(eip.map(|eip| &eip.id)),
            or_dash(eip.and_then(|eip| eip.address)),
            or_dash(record.binding.as_ref().map(|binding| binding.private_ip)),
            phase_text(record.phase, record.published),
            record.container_id.to_string(),
        ]
    };
    columns(&["POD", "EIP-ID", "EIP", "PRIVATE-IP", "PHASE", "CONTAINER"], records.iter().map(cells))
}

/// Nothing of that name was found.
pub struct Unfound {
    pub why: String,
    /// All sides have answered, so there is nothing.
    pub certain: bool,
}

/// What to look at: an attachment of this node, or else what cluster and cloud know under that name.
///
/// # Errors
/// It means several.
pub fn subject(named: &Named, records: &Records, remote: &Remote) -> anyhow::Result<Result<Subject, Unfound>> {
    let record = records.of(named)?;
    if let View::Known(found) = &record {
        let pod = NamespacedName { namespace: found.pod.namespace.clone(), name: found.pod.name.clone() };
        return Ok(Ok(Subject { pod: Some(pod), record, eip: None }));
    }
    let found = match named.elsewhere() {
        Elsewhere::Pod(pod) => return Ok(Ok(Subject { pod: Some(pod), record, eip: None })),
        Elsewhere::Eip(id) => views::find(remote, &EipFilter::Ids(vec![id.clone()]), |it| it.spec.allocation_id == id),
        Elsewhere::Address(address) => {
            let has_it = |it: &PodEip| {
                let status = it.status.as_ref();
                status.is_some_and(|it| [it.eip_address, it.private_ip_address].contains(&Some(address)))
            };
            views::find(remote, &EipFilter::Addresses(vec![address]), has_it)
        }
    };
    let eip = found.eip.known().cloned();
    match found.pods(remote.cluster()).as_slice() {
        [] if eip.is_some() => Ok(Ok(Subject { pod: None, record, eip })),
        [] => Ok(Err(nowhere(&record, &found))),
        // It may be of this node and have no EIP in its record yet.
        [pod] => Ok(Ok(Subject { pod: Some(pod.clone()), record: records.of(&Named::Pod(pod.clone()))?, eip })),
        several => {
            let pods: Vec<String> = several.iter().map(NamespacedName::to_string).collect();
            bail!("{named} means the pods {}; name one of them", pods.join(" and "))
        }
    }
}

/// Why neither this node nor cloud and cluster know it.
fn nowhere(record: &View<Attachment>, found: &Found) -> Unfound {
    let unknown = [
        matches!(record, View::Unknown(_)),
        matches!(found.eip, View::Unknown(_)),
        matches!(found.claims, View::Unknown(_)),
    ];
    let record = match record {
        View::Unknown(reason) => format!("the records of this node are unknown: {reason}"),
        _ => "no record of this node has it".into(),
    };
    let cloud = match &found.eip {
        View::Unknown(reason) => format!("the cloud is unknown: {reason}"),
        _ => "the cloud has no such EIP".into(),
    };
    let claims = match &found.claims {
        View::Unknown(reason) => format!("the PodEIPs are unknown: {reason}"),
        _ => "no PodEIP names it".into(),
    };
    Unfound { why: format!("{record}; {cloud}; {claims}"), certain: !unknown.contains(&true) }
}

/// Whether every side that was asked has nothing.
pub fn is_nothing(views: &Views) -> bool {
    views.record.known().is_none()
        && views.pod_eip.known().is_none()
        && views.pod.known().is_none()
        && views.cloud.known().is_none()
}

/// Where else a name without a namespace may have been meant.
pub fn namespace_hint(named: &Named) -> String {
    match (named, named.elsewhere()) {
        (Named::Word(_), Elsewhere::Pod(pod)) => {
            format!("; it was looked for as pod {pod}, and NAMESPACE/NAME names any other")
        }
        _ => String::new(),
    }
}
