//! What ADD has to know before it acts, asked for side by side.

use crate::cloud::Eip;
use crate::deadline::Deadline;
use crate::eip::bind;
use crate::eip::failure::{Failure, Kind};
use crate::eip::node::{Node, panicked};
use crate::eip::sandbox::Sandbox;
use crate::kube::{Pod, PodEip};
use crate::measure::Stage;
use crate::state::format::Binding;

/// The cluster's and the cloud's view of a sandbox that wants an EIP.
pub struct Surroundings {
    pub pod: Pod,
    pub pod_eip: Option<PodEip>,
    pub binding: Binding,
    /// The EIP that is already on the private IP; asked for only when one is about to be bought.
    pub occupant: Option<Eip>,
}

impl Surroundings {
    /// Asks the API server, the credential source, the kernel and the cloud at the same time.
    pub fn read(
        node: &Node,
        sandbox: &Sandbox,
        known_pod: Option<Pod>,
        buying: bool,
        deadline: Deadline,
    ) -> Result<Self, Failure> {
        let cloud = node.cloud()?;
        std::thread::scope(|scope| {
            let cluster_view = scope.spawn(|| cluster_view(node, sandbox, known_pod, deadline));
            let credentials = scope.spawn(|| node.tally.time(Stage::Credentials, || cloud.prepare(deadline)));
            let located = node.tally.time(Stage::Eni, || sandbox.locate_eni(cloud, deadline));
            let cloud_view = located.and_then(|binding| {
                let note = node.store.look_note();
                let seen = buying.then(|| bind::occupant_seen_together(cloud, &note, &binding, deadline));
                let occupant = seen.transpose()?.flatten();
                Ok((binding, occupant))
            });
            let credentials = credentials.join().map_err(|_| panicked("reading the credentials"))?;
            let (pod, pod_eip) = cluster_view.join().map_err(|_| panicked("reading the pod"))??;
            // Without credentials every later call fails too, and this is the error that says why.
            credentials?;
            let (binding, occupant) = cloud_view?;
            Ok(Self { pod, pod_eip, binding, occupant })
        })
    }
}

fn cluster_view(
    node: &Node,
    sandbox: &Sandbox,
    known_pod: Option<Pod>,
    deadline: Deadline,
) -> Result<(Pod, Option<PodEip>), Failure> {
    let kube = node.kube()?;
    let wanted = &sandbox.pod;
    let pod = match known_pod {
        Some(pod) => pod,
        None => kube.pod(&wanted.namespace, &wanted.name, deadline)?.ok_or_else(|| {
            Failure::new(Kind::TryAgain, format!("the API server has no pod {wanted}"))
                .hinting("it was deleted, or the API server has not seen it yet")
        })?,
    };
    if !pod.is_instance(&wanted.uid) {
        return Err(Failure::new(
            Kind::TryAgain,
            format!(
                "pod {wanted} is another instance in the API server (uid {}) than this sandbox's (uid {})",
                pod.uid, wanted.uid
            ),
        ));
    }
    let pod_eip = kube.pod_eip(&wanted.namespace, &wanted.name, deadline)?;
    Ok((pod, pod_eip))
}
