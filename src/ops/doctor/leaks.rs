//! The check for EIPs that were bought on this node and that nothing knows any more.

use std::collections::BTreeMap;

use super::check::Finding;
use super::subject::Subject;
use crate::cloud::{Eip, EipFilter};
use crate::eip::bind::whereabouts;
use crate::eip::failure::{Failure, chain};
use crate::eip::owner;

pub fn leaked_eips(subject: &Subject) -> Finding {
    match unclaimed(subject) {
        Ok(leaked) if leaked.is_empty() => Finding::pass("every EIP that was bought on this node is claimed"),
        Ok(leaked) => {
            let named: Vec<String> = leaked.iter().map(|eip| format!("{} ({})", eip.id, whereabouts(eip))).collect();
            Finding::warn(
                format!("no PodEIP and no record of this node claims {}", named.join(", ")),
                "the agents' sweep releases them after eip_orphan_grace_minutes, so see that it runs; to keep one, take \
                 its podeip-cluster tag off",
            )
        }
        Err(failure) => Finding::skip(chain(&failure)),
    }
}

/// Records are read before and after, for a pod may come or go meanwhile.
fn unclaimed(subject: &Subject) -> Result<Vec<Eip>, Failure> {
    let (node, cluster) = (subject.node()?, subject.node()?.cluster()?);
    let mut records = subject.records()?;
    let tags = BTreeMap::from([
        (owner::TAG_CLUSTER.to_owned(), cluster.to_owned()),
        (owner::TAG_NODE.to_owned(), subject.identity()?.node.clone()),
    ]);
    let eips = node.cloud()?.describe_eips(&EipFilter::Tags(tags), subject.list_deadline())?;
    let pod_eips = subject.kube()?.pod_eips(None, subject.list_deadline())?;
    records.extend(subject.records()?);
    // An allocation whose answer is awaited has a record that does not name its EIP yet.
    let awaited = |eip: &&Eip| records.iter().any(|record| owner::belongs_to(eip, cluster, &record.pod.uid));
    let unclaimed = owner::unclaimed(&eips, cluster, &pod_eips, &records);
    Ok(unclaimed.into_iter().filter(|eip| !awaited(eip)).cloned().collect())
}
