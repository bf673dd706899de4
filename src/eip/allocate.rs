//! Buying one EIP for a pod, once: whatever is lost or killed, a repeat finds the same EIP.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::cloud::{Allocated, Allocation, Class, Cloud, CloudError, Eip, EipFilter};
use crate::deadline::Deadline;
use crate::eip::failure::{Failure, Kind};
use crate::eip::journal::{self, Journal};
use crate::eip::owner;
use crate::eip::request::{Notice, Parameters};
use crate::names::{EipKind, PodRef};
use crate::state::format::{AttachedEip, Phase};

/// Pause after the cloud said that too many purchases of this account overlap.
const CONFLICT_PAUSE: Duration = Duration::from_secs(1);

/// As the API counts characters.
pub(super) const LONGEST_NAME: usize = 128;
pub(super) const LONGEST_DESCRIPTION: usize = 256;

/// The parameters of an allocation for `pod`, owner tags included.
pub fn allocation(parameters: &Parameters, cluster: &str, pod: &PodRef, node: &str) -> Allocation {
    let mut tags = owner::tags(cluster, pod, node);
    tags.extend(parameters.tags.clone());
    Allocation {
        bandwidth: parameters.bandwidth,
        internet_charge_type: parameters.internet_charge_type.as_str().into(),
        isp: parameters.isp.map(|isp| isp.as_str().into()),
        name: parameters.name.clone(),
        description: parameters.description.clone(),
        resource_group_id: parameters.resource_group.clone(),
        public_ip_address_pool_id: parameters.address_pool.clone(),
        security_protection_types: parameters.security_protection.clone(),
        tags,
    }
}

/// Allocates the EIP of the journal's attachment, or finds the one that an earlier try allocated.
///
/// The intent with its token is on disk before the call. A repeat sends what the record says, even
/// if the pod asks for something else by now.
///
/// # Errors
/// After an answered refusal the record's generation has moved on, so that the next try is a new
/// operation; after an unknown outcome it has not, so that the next try is the same one.
pub fn allocate(
    cloud: &Cloud,
    cluster: &str,
    journal: &mut Journal,
    wanted: Allocation,
    deadline: Deadline,
    notices: &mut Vec<Notice>,
) -> Result<(), Failure> {
    let mut sending = match recorded(journal)? {
        Some(earlier) => earlier,
        None => {
            journal.save(|record| {
                record.phase = Phase::Intent;
                record.allocation = serde_json::to_value(&wanted).ok();
            })?;
            wanted
        }
    };
    let mut token_renewed = false;
    let mut refused = None;
    loop {
        let token = journal.record().client_token.clone();
        let error = match cloud.allocate_eip(&sending, &token, deadline) {
            Ok(allocated) => {
                allocated_now(journal, allocated);
                return Ok(());
            }
            Err(error) => error,
        };
        if repeat_is_the_same(&error) {
            return Err(error.or_else_said(refused).into());
        }
        if error.class() == Class::TokenMisuse
            && let Some(eip) = allocated_before(cloud, cluster, &journal.record().pod, deadline)?
        {
            notices.push(adopted(&eip));
            return adopt(journal, &eip);
        }
        let again = match plain_texts(&sending, &error) {
            Some(plain) => {
                notices.push(plainer(&error));
                Some(plain)
            }
            None if error.class() == Class::TokenMisuse && !std::mem::replace(&mut token_renewed, true) => {
                Some(sending)
            }
            None if error.class() == Class::Conflict && deadline.sleep(CONFLICT_PAUSE) => Some(sending),
            None => None,
        };
        begin_anew(cluster, journal, again.as_ref(), &error)?;
        match again {
            Some(next) => (sending, refused) = (next, Some(error)),
            None => return Err(error.into()),
        }
    }
}

/// The allocation that an earlier try sent, or was about to send.
pub fn recorded(journal: &Journal) -> Result<Option<Allocation>, Failure> {
    let Some(value) = journal.record().allocation.clone() else { return Ok(None) };
    serde_json::from_value(value).map(Some).map_err(|error| {
        Failure::new(
            Kind::TryAgain,
            format!("the recorded allocation of pod {} is unreadable: {error}", journal.record().pod),
        )
        .hinting("remove the pod's attachment from state.json, and look for its EIP by the tag podeip-uid")
    })
}

/// Whether nobody knows what became of the call, or it was turned away unread: the same token again.
fn repeat_is_the_same(error: &CloudError) -> bool {
    error.outcome_unknown() || error.class().leaves_token()
}

/// Goes to the disk with the next change, before anything is done to the EIP: until then the intent there brings
/// the same EIP back.
fn allocated_now(journal: &mut Journal, allocated: Allocated) {
    journal.note(|record| {
        record.phase = Phase::Allocated;
        record.eip = Some(AttachedEip { id: allocated.id, address: allocated.address, kind: EipKind::Auto });
    });
}

/// Records an EIP that an earlier try allocated.
pub fn adopt(journal: &mut Journal, eip: &Eip) -> Result<(), Failure> {
    journal.save(|record| {
        record.phase = Phase::Allocated;
        record.eip = Some(AttachedEip { id: eip.id.clone(), address: eip.address, kind: EipKind::Auto });
        record.bandwidth_package = eip.bandwidth_package.clone();
    })
}

fn begin_anew(
    cluster: &str,
    journal: &mut Journal,
    allocation: Option<&Allocation>,
    error: &CloudError,
) -> Result<(), Failure> {
    let text = error.to_string();
    journal.save(|record| {
        record.generation = journal::next_generation(record.generation);
        record.client_token = owner::client_token(cluster, &record.pod.uid, &record.ifname, record.generation);
        record.last_error = Some(text);
        // Without one nothing is outstanding: the refused wish may be mended in the pod's annotations.
        record.allocation = allocation.and_then(|allocation| serde_json::to_value(allocation).ok());
    })
}

/// The EIP that carries this pod's owner tags, if there is one.
pub fn allocated_before(
    cloud: &Cloud,
    cluster: &str,
    pod: &PodRef,
    deadline: Deadline,
) -> Result<Option<Eip>, Failure> {
    let tags = BTreeMap::from([
        (owner::TAG_CLUSTER.to_string(), cluster.to_string()),
        (owner::TAG_UID.to_string(), pod.uid.to_string()),
    ]);
    let found = cloud.describe_eips(&EipFilter::Tags(tags), deadline)?;
    Ok(found.into_iter().find(|eip| owner::belongs_to(eip, cluster, &pod.uid)))
}

fn adopted(eip: &Eip) -> Notice {
    Notice {
        reason: "EIPAdopted",
        message: format!("took up {}, allocated earlier for this pod; its parameters were not changed", eip.id),
        warning: true,
    }
}

/// The same allocation with name and description reduced to characters that every rule of the API
/// allows, if the refusal is about one of them.
fn plain_texts(sent: &Allocation, error: &CloudError) -> Option<Allocation> {
    if !refuses_text(error) {
        return None;
    }
    let plain = Allocation {
        name: sent.name.as_deref().map(|text| plain_text(text, LONGEST_NAME)),
        description: sent.description.as_deref().map(|text| plain_text(text, LONGEST_DESCRIPTION)),
        ..sent.clone()
    };
    (plain != *sent).then_some(plain)
}

/// Whether the API refused a name or a description for its characters or its length.
pub(super) fn refuses_text(error: &CloudError) -> bool {
    let code = error.code().unwrap_or_default();
    let about_value = code.starts_with("InvalidParameter") || code.starts_with("IllegalParam");
    let message = error.message().unwrap_or_default();
    let about_text = ["Name", "Description"].iter().any(|field| message.contains(field) || code.contains(field));
    about_value && about_text
}

/// A letter first, then letters, digits, `.`, `_` and `-`; 2 to `longest` characters.
pub(super) fn plain_text(text: &str, longest: usize) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    let mut plain: String = text.chars().map(|c| if allowed(c) { c } else { '-' }).collect();
    if !plain.starts_with(|c: char| c.is_ascii_alphabetic()) {
        plain.insert(0, 'e');
    }
    plain.truncate(longest);
    if plain.len() < 2 {
        plain.push('-');
    }
    plain
}

/// That what a refusal was about was sent again in other words.
pub(super) fn plainer(error: &CloudError) -> Notice {
    Notice {
        reason: "EIPTextReplaced",
        message: format!("the EIP's name or description was refused and sent again in plain characters: {error}"),
        warning: true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_satisfies_the_strictest_rule() {
        assert_eq!(plain_text("default/web-0", 128), "default-web-0");
        assert_eq!(plain_text("0web", 128), "e0web");
        assert_eq!(plain_text("", 128), "e-");
        assert_eq!(plain_text("弹性", 128), "e--");
        assert_eq!(plain_text(&"x".repeat(300), 128).len(), 128);
    }
}
