//! The verbs as a runtime calls them: what a pod that asks for nothing costs, and where the work begins.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::deadline::Deadline;
use crate::eip::attach::{Time, Told, attach};
use crate::eip::collect;
use crate::eip::detach;
use crate::eip::failure::{Failure, Kind};
use crate::eip::guard;
use crate::eip::journal::STATE_LOCK_WAIT;
use crate::eip::node::{Node, Paths};
use crate::eip::publish;
use crate::eip::request::{self, Requested};
use crate::eip::sandbox::{POD_INTERFACE, Sandbox};
use crate::eip::upkeep;
use crate::kube::{Kube, Pod};
use crate::measure::Measured;
use crate::names::{ContainerId, PodRef, PodUid};
use crate::net;
use crate::settings::Settings;
use crate::state::format::{Attachment, Phase};
use crate::state::measures::{Verb, VerbMeasures};
use crate::state::{StateError, Store};

/// Kept from DEL's time for telling the pod's events about a failure.
const TELL_TIME: Duration = Duration::from_secs(2);

/// The Kubernetes pod that a runtime names; old runtimes do not give the UID.
#[derive(Clone, Debug)]
pub struct PodName {
    pub namespace: String,
    pub name: String,
    pub uid: Option<PodUid>,
}

impl PodName {
    /// The instance, if the runtime or the API server gave its UID.
    fn instance(&self, known: Option<&Pod>) -> Option<PodRef> {
        let uid = self.uid.clone().or_else(|| known.map(|pod| PodUid::new(&pod.uid)))?;
        Some(PodRef { namespace: self.namespace.clone(), name: self.name.clone(), uid })
    }
}

/// What a pod asks for, and its object if that had to be read.
type Wished = (Requested, Option<Pod>);

/// One call of the runtime about one sandbox interface.
pub struct Called<'a> {
    pub paths: &'a Paths,
    pub container_id: &'a ContainerId,
    pub ifname: &'a str,
    /// Empty or dangling on DEL.
    pub netns: &'a str,
    /// `None` outside Kubernetes.
    pub pod: Option<PodName>,
    /// `None` when the runtime does not pass annotations.
    pub annotations: Option<&'a BTreeMap<String, String>>,
    /// Reads the pod's IPv4 from the primary plugin's result, where that names one.
    pub result_ip: &'a dyn Fn() -> Option<Ipv4Addr>,
}

/// ADD. A pod that asks for nothing costs one read of the state file.
pub fn add(called: &Called) -> Result<(), Failure> {
    let requested = called.annotations.map(request::read);
    match (called.served_pod(), requested) {
        (None, _) | (Some(_), Some(Ok(None))) => add_plain(called, None),
        (Some(pod), requested) => add_asking(called, pod, requested),
    }
}

/// A pod without an EIP: only an earlier pod's EIP on its address is any business of ours. `work`
/// is what is left of the verb's time, where some of it was spent already.
fn add_plain(called: &Called, work: Option<Deadline>) -> Result<(), Failure> {
    let stale = match stale_bindings(called, None) {
        Ok(stale) => stale,
        // Nobody can tell what an unreadable file says, and this pod asked for nothing.
        Err(failure) => {
            log::error!("the state of this node cannot be read, so nothing was checked: {failure}");
            return Ok(());
        }
    };
    if stale.is_empty() {
        return Ok(());
    }
    let node = Node::open(called.paths)?;
    let span = node.recovery_time();
    guard::clear(&node, &stale, work.map_or(Deadline::after(span), |work| work.within(span)))
}

/// What earlier pods left on this sandbox's address; the pod instance `own` takes up its own.
fn stale_bindings(called: &Called, own: Option<&PodUid>) -> Result<Vec<Attachment>, Failure> {
    let store = Store::open(&called.paths.state_directory)?;
    let address = match (called.result_ip)() {
        // A result without an IPv4 sends us into the pod's netns, on nodes with EIPs only.
        None if store.is_empty()? => None,
        None => called.netns_address(),
        given => given,
    };
    let Some(address) = address else { return Ok(Vec::new()) };
    let mut stale = guard::stale_on(&store.attachments_naming(&address.to_string())?, called.container_id, address);
    stale.retain(|record| Some(&record.pod.uid) != own);
    Ok(stale)
}

/// A pod that may want an EIP: its annotations ask for one, are wrong, or were not passed.
fn add_asking(
    called: &Called,
    name: &PodName,
    requested: Option<Result<Option<Requested>, request::Refusal>>,
) -> Result<(), Failure> {
    let began = Instant::now();
    let had_netns = net::netns_exists(called.netns);
    let node = Node::open(called.paths).inspect_err(|failure| tell_unusable(called.paths, name, began, failure))?;
    let time = Time::of(&node.settings);
    if !node.settings.enabled {
        log::info!("pod {}/{}: enable_eip_pool is off, so it gets no EIP", name.namespace, name.name);
        return add_plain(called, None);
    }
    let wished = wish(&node, name, requested, time.work);
    let plain = matches!(wished, Ok(None));
    let pod = name.instance(wished.as_ref().ok().and_then(|wished| wished.as_ref()?.1.as_ref()));
    let outcome = wished.map_err(untold).and_then(|wished| match wished {
        None => add_plain(called, Some(time.work)).map_err(untold),
        Some(wished) => add_wished(called, &node, name, wished, had_netns, time),
    });
    let outcome = outcome.map_err(|(failure, told)| {
        log::error!("pod {}/{}: {failure}", name.namespace, name.name);
        if told == Told::NotYet
            && let Ok(kube) = node.kube()
        {
            tell(kube, &name.namespace, &name.name, publish::FAILED, &failure, time.verb);
        }
        failure
    });
    if !plain {
        note(&node.store, Verb::Add, pod, began, node.tally.take(), outcome.as_ref().err());
    }
    outcome
}

/// Settings that cannot be used do not keep the pod's events from saying so.
fn tell_unusable(paths: &Paths, name: &PodName, began: Instant, failure: &Failure) {
    log::error!("pod {}/{}: {failure}", name.namespace, name.name);
    if let Ok(kube) = Kube::from_kubeconfig(&paths.kubeconfig) {
        tell(&kube, &name.namespace, &name.name, publish::FAILED, failure, Deadline::after(TELL_TIME));
    }
    if let Ok(store) = Store::open(&paths.state_directory) {
        note(&store, Verb::Add, name.instance(None), began, Measured::default(), Some(failure));
    }
}

fn untold(failure: Failure) -> (Failure, Told) {
    (failure, Told::NotYet)
}

/// What the pod asks for, from the API server if the runtime did not tell; `None` is nothing.
fn wish(
    node: &Node,
    name: &PodName,
    requested: Option<Result<Option<Requested>, request::Refusal>>,
    deadline: Deadline,
) -> Result<Option<Wished>, Failure> {
    let mut pod = None;
    if requested.is_none() || name.uid.is_none() {
        pod = Some(read_pod(node, name, deadline)?);
    }
    let requested = match (requested, &pod) {
        (Some(requested), _) => requested,
        (None, Some(pod)) => request::read(&pod.annotations),
        (None, None) => Ok(None),
    };
    let refused = |refusal| Failure::from(refusal).during(format_args!("pod {}/{}", name.namespace, name.name));
    Ok(requested.map_err(refused)?.map(|requested| (requested, pod)))
}

fn add_wished(
    called: &Called,
    node: &Node,
    name: &PodName,
    (requested, pod): Wished,
    had_netns: bool,
    time: Time,
) -> Result<(), (Failure, Told)> {
    let sandbox = called.sandbox(name, pod.as_ref(), had_netns).map_err(untold)?;
    let stale = stale_bindings(called, Some(&sandbox.pod.uid)).map_err(untold)?;
    if !stale.is_empty() {
        guard::clear(node, &stale, time.work.within(node.recovery_time())).map_err(untold)?;
    }
    attach(node, &sandbox, requested, pod, time)
}

fn read_pod(node: &Node, name: &PodName, deadline: Deadline) -> Result<Pod, Failure> {
    node.kube()?.pod(&name.namespace, &name.name, deadline)?.ok_or_else(|| {
        Failure::new(Kind::TryAgain, format!("the API server has no pod {}/{}", name.namespace, name.name))
    })
}

/// DEL. Unknown is success, and so is everything that is recorded and can be finished later.
///
/// # Errors
/// Only when the local state cannot be read or written.
pub fn del(called: &Called) -> Result<(), Failure> {
    let began = Instant::now();
    let store = Store::open(&called.paths.state_directory)?;
    let found = match recorded(&store, called) {
        Err(error @ StateError::Corrupt { .. }) => {
            log::error!("{error}");
            None
        }
        found => found?,
    };
    let Some(record) = found else { return Ok(()) };
    let node = Node::open(called.paths);
    let outcome = node.as_ref().map_err(Failure::clone).and_then(|node| {
        let timeout = node.settings.del_timeout;
        let verb = Deadline::after(timeout);
        let work = verb.keeping(TELL_TIME.min(timeout / 4));
        let end = if store.agent_alive() { detach::hand_to_agent } else { detach::detach };
        end(node, &record.container_id, called.ifname, work).inspect_err(|failure| {
            if let Ok(kube) = node.kube() {
                tell(kube, &record.pod.namespace, &record.pod.name, publish::UNBIND_FAILED, failure, verb);
            }
        })
    });
    let measured = node.map(|node| node.tally.take()).unwrap_or_default();
    note(&store, Verb::Del, Some(record.pod.clone()), began, measured, outcome.as_ref().err());
    match outcome {
        Ok(ending) => log::info!("pod {}: {ending}", record.pod),
        Err(failure) if failure.kind == Kind::LocalState => return Err(failure),
        Err(failure) => {
            log::error!("pod {}: DEL leaves its EIP for a later round: {failure}", record.pod);
            mark_unfinished(&store, &record)?;
        }
    }
    Ok(())
}

/// The record of the sandbox that was called about. One that was rebuilt does not know its sandbox:
/// there the pod's UID and the address tell, and an old sandbox of the pod has another address.
fn recorded(store: &Store, called: &Called) -> Result<Option<Attachment>, StateError> {
    let rebuilt = called.pod.as_ref().and_then(|pod| pod.uid.as_ref()).map(upkeep::rebuilt_id);
    let ids: Vec<&str> = rebuilt.iter().chain([called.container_id]).map(ContainerId::as_str).collect();
    let named = store.attachments_naming_any(&ids)?;
    let of = |id: &ContainerId| named.iter().find(|record| record.is(id, called.ifname)).cloned();
    if let Some(found) = of(called.container_id) {
        return Ok(Some(found));
    }
    let candidate = rebuilt.as_ref().and_then(of);
    let bound_to = candidate.as_ref().and_then(|record| record.binding.as_ref()).map(|binding| binding.private_ip);
    Ok(candidate.filter(|_| bound_to.is_some() && bound_to == (called.result_ip)()))
}

/// A DEL that could do nothing leaves a trace: the sandbox is over, whatever the record's phase was.
fn mark_unfinished(store: &Store, record: &Attachment) -> Result<(), Failure> {
    store.amend(Deadline::after(STATE_LOCK_WAIT), (&record.container_id, &record.ifname), |other| {
        if other.phase == Phase::Bound {
            other.phase = Phase::Unbinding;
        }
    })?;
    Ok(())
}

/// CHECK: the record and the result agree. Local only, because CRI-O runs it after every ADD.
///
/// # Errors
/// [`Kind::LocalState`] when the pod should have an EIP and the record does not say so.
pub fn check(called: &Called) -> Result<(), Failure> {
    let store = Store::open(&called.paths.state_directory)?;
    let missing = |what: &str| {
        Failure::new(Kind::LocalState, format!("sandbox {} ({}): {what}", called.container_id, called.ifname))
            .hinting("delete the pod so that it is set up again")
    };
    if let Some(record) = recorded(&store, called)? {
        if record.phase != Phase::Bound || !record.published {
            return Err(missing(&format!("its EIP is not in place but in phase {:?}", record.phase)));
        }
        return match ((called.result_ip)(), record.binding) {
            (Some(address), Some(binding)) if binding.private_ip != address => {
                Err(missing(&format!("its address is {address}, but its EIP is bound to {}", binding.private_ip)))
            }
            _ => Ok(()),
        };
    }
    let asks = called.annotations.is_some_and(|annotations| !matches!(request::read(annotations), Ok(None)));
    if asks && called.served_pod().is_some() && read_settings(called.paths)?.enabled {
        return Err(missing("the pod asks for an EIP and there is no record of one"));
    }
    Ok(())
}

/// GC: attachments outside `valid` whose sandbox is gone are treated as DEL.
pub fn gc(paths: &Paths, valid: &[(ContainerId, String)]) -> Result<(), Failure> {
    let began = Instant::now();
    let store = Store::open(&paths.state_directory)?;
    if store.is_empty()? {
        return Ok(());
    }
    let node = Node::open(paths);
    let outcome = node.as_ref().map_err(Failure::clone).and_then(|node| collect::collect_invalid(node, valid));
    let measured = node.map(|node| node.tally.take()).unwrap_or_default();
    note(&store, Verb::Gc, None, began, measured, outcome.as_ref().err());
    outcome
}

/// STATUS: instant and local. Runtimes mark the whole node NotReady on a failure, so it fails only
/// when no ADD could work here.
pub fn status(paths: &Paths) -> Result<(), Failure> {
    Store::open(&paths.state_directory)?.ensure_usable()?;
    // A node without `eni_conf` is not configured yet; pods without EIP start all the same.
    if paths.settings.exists() {
        read_settings(paths)?;
    }
    Ok(())
}

fn read_settings(paths: &Paths) -> Result<Settings, Failure> {
    Ok(Settings::read(&paths.settings, |name| std::env::var(name).ok())?)
}

/// One Warning event on the pod, if the API server has it; best effort.
fn tell(kube: &Kube, namespace: &str, name: &str, reason: &'static str, failure: &Failure, deadline: Deadline) {
    let deadline = deadline.within(TELL_TIME);
    if let Ok(Some(pod)) = kube.pod(namespace, name, deadline) {
        publish::tell(kube, &pod, &publish::warning(reason, failure), &[], deadline);
    }
}

/// Leaves what a verb measured for the agent.
fn note(store: &Store, verb: Verb, pod: Option<PodRef>, began: Instant, measured: Measured, failure: Option<&Failure>) {
    let outcome = failure.map_or("ok", |failure| failure.kind.name());
    store.note_measures(&VerbMeasures::now(verb, outcome, pod, began, measured));
}

impl Called<'_> {
    /// The pod that this call could give an EIP.
    fn served_pod(&self) -> Option<&PodName> {
        self.pod.as_ref().filter(|_| self.ifname == POD_INTERFACE)
    }

    /// The pod's IPv4 where the result does not say it.
    fn netns_address(&self) -> Option<Ipv4Addr> {
        net::interface_in(Path::new(self.netns), self.ifname).ok()?.ipv4.first().copied()
    }

    fn sandbox(&self, name: &PodName, pod: Option<&Pod>, had_netns: bool) -> Result<Sandbox, Failure> {
        let unknown = || Failure::new(Kind::Kubernetes, "the pod's UID is unknown");
        let pod = name.instance(pod).ok_or_else(unknown)?;
        let private_ip = (self.result_ip)().or_else(|| self.netns_address()).ok_or_else(|| {
            Failure::new(
                Kind::NetworkMode,
                format!("pod {pod} has no IPv4 address on {}, and an EIP needs one", self.ifname),
            )
            .hinting("podeip must stand after the plugin that gives the address; IPv6-only pods cannot have an EIP")
        })?;
        Ok(Sandbox {
            container_id: self.container_id.clone(),
            ifname: self.ifname.to_string(),
            netns: self.netns.to_string(),
            had_netns,
            pod,
            private_ip,
        })
    }
}
