//! The check of egress: do the packets of this node's pods leave by the ENI of their EIP?

use super::check::Finding;
use super::subject::Subject;
use crate::eip::at_once;
use crate::eip::egress::{self, Egress};
use crate::eip::failure::{Failure, chain};
use crate::net;
use crate::state::format::{Attachment, Binding, Phase};

const ROUTE: &str = "let the pod's packets leave by that ENI: the primary plugin's policy rule \"from POD-IP lookup \
                     TABLE-OF-THE-ENI\" must be there and come first";

const MASQUERADE: &str = "except the pods' addresses from masquerading on this node (ip-masq-agent, kube-proxy's \
                          --masquerade-all, the primary plugin's or one's own iptables rules), and let the \
                          connections of before run out";

/// What is wrong with one pod's egress.
struct Astray {
    what: String,
    remedy: &'static str,
}

pub fn egress_route(subject: &Subject) -> Finding {
    let records = match subject.records() {
        Ok(records) => records,
        Err(failure) => return Finding::skip(chain(&failure)),
    };
    let unknown = records.iter().filter(|record| record.phase == Phase::Bound && record.netns.is_empty()).count();
    let bound: Vec<_> = records.into_iter().filter_map(bound).collect();
    let looks = at_once::each(&bound, |(record, binding)| astray(subject, record, binding));
    let mut wrong = Vec::new();
    let mut unseen = Vec::new();
    for ((record, _), look) in bound.iter().zip(looks) {
        match look {
            Ok(None) => {}
            Ok(Some(astray)) => wrong.push(astray),
            Err(failure) => unseen.push(format!("{}: {}", record.pod, chain(&failure))),
        }
    }
    let pods = bound.len();
    match (wrong.first(), unseen.first()) {
        (Some(first), _) => {
            let what: Vec<&str> = wrong.iter().map(|astray| astray.what.as_str()).collect();
            Finding::fail(what.join("; "), first.remedy)
        }
        (None, Some(first)) => Finding::skip(format!("{} of {pods} pods cannot be looked at; {first}", unseen.len())),
        (None, None) if unknown > 0 => Finding::skip(format!(
            "{unknown} of {} pods cannot be looked at: they were set up without podeip, or their records were lost, and \
             their sandboxes are not known",
            pods + unknown
        )),
        (None, None) if pods == 0 => Finding::pass("no pod of this node has an EIP bound"),
        (None, None) => Finding::pass(format!("{pods} of {pods} pods with an EIP leave by its ENI")),
    }
}

/// Sandboxes that are gone send nothing.
fn bound(record: Attachment) -> Option<(Attachment, Binding)> {
    let binding = record.binding.clone()?;
    (record.phase == Phase::Bound && net::netns_exists(&record.netns)).then_some((record, binding))
}

fn astray(subject: &Subject, record: &Attachment, binding: &Binding) -> Result<Option<Astray>, Failure> {
    let cloud = subject.node()?.cloud()?;
    let (pod, eni) = (&record.pod, &binding.eni);
    let (what, remedy) = match egress::of_pod(cloud, &record.netns, &record.ifname, binding, subject.deadline())? {
        Egress::ByItsEni => return Ok(None),
        Egress::ByOther { eni: other, how } => {
            (format!("{pod} sends by {other} ({how}), and its EIP is bound on {eni}"), ROUTE)
        }
        Egress::ByNone { how } => {
            (format!("{pod} sends by no ENI of this node ({how}), and its EIP is on {eni}"), ROUTE)
        }
        Egress::ByOtherInterface { name } => (
            format!("{pod} has its default route over {name}, and its EIP is for {}", record.ifname),
            "let the pod's default route be over the interface that podeip is chained on",
        ),
        Egress::Masqueraded { source } => {
            (format!("what {pod} sends is masqueraded as {source}, so that it does not leave with its EIP"), MASQUERADE)
        }
    };
    Ok(Some(Astray { what, remedy }))
}
