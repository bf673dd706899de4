//! A cluster whose pods all start at the same moment, each with a kubelet that repeats what fails, beside the least time
//! that the account's limits allow.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use podeip_sim::clock::Clock;
use podeip_sim::cloud::EniSpec;
use podeip_sim::faults::{Effect, Rule, ServiceMatch};
use podeip_sim::kube::PodSpec;
use podeip_sim::world::Options;
use serde_json::{Value, json};

use crate::scene::{Answer, Sandbox, Scene, WITH_EIP};

/// As seen of the real cloud: some hundred milliseconds for a call, and two seconds until an EIP is bound.
const CALL: Duration = Duration::from_millis(250);
const BINDING: Duration = Duration::from_secs(2);

/// The account's: EIPs bought, and bound, in any 60 s.
const WINDOW: Duration = Duration::from_secs(60);

/// One machine plays all nodes and their API server: it cannot start the processes of a hundred at the same instant.
const STARTS_PER_SECOND: f64 = 50.0;

/// What a killed process lived for: most of what an ADD does that is not throttled.
const LIFE: Range<f64> = 0.0..5.0;

/// How many DELs run at once at the end, in which nothing is measured.
const HANDS: usize = 16;

/// Who starts, and under which limits.
#[derive(Clone, Debug)]
pub struct Plan {
    pub nodes: u8,
    pub pods_per_node: u8,
    /// Which share of the ADDs is killed.
    pub killed: f64,
    /// What kubelet waits after a failed sandbox, in seconds.
    pub kubelet: Range<f64>,
    /// EIPs that can be bought in 60 s; those that can be bound are as many, and five times as many looks.
    pub rate: usize,
    /// How much faster than the machine's the cloud's clock runs.
    pub faster: u32,
    pub seed: u64,
}

impl Plan {
    /// The limits of a real account and a real kubelet's patience, in real time.
    pub fn real(nodes: u8, pods_per_node: u8, killed: f64) -> Self {
        Self { nodes, pods_per_node, killed, kubelet: 10.0..15.0, rate: 120, faster: 1, seed: 2026 }
    }

    pub fn pods(&self) -> usize {
        usize::from(self.nodes) * usize::from(self.pods_per_node)
    }

    /// In the machine's time: until the last pod has started, or the whole windows that have to pass, and one ADD. It looks,
    /// allocates, binds, and sees that.
    pub fn floor(&self) -> Duration {
        let windows = (self.pods() - 1) / self.rate;
        let limits = WINDOW / self.faster * u32::try_from(windows).unwrap();
        limits.max(start(self.pods() - 1)) + CALL * 4 + BINDING
    }
}

fn start(nth: usize) -> Duration {
    Duration::from_secs_f64(nth as f64 / STARTS_PER_SECOND)
}

/// What came of it.
#[derive(Debug)]
pub struct Outcome {
    pub wall: Duration,
    pub floor: Duration,
    /// When each pod had its EIP.
    pub bound: Vec<Duration>,
    pub adds: usize,
    pub killed: usize,
    /// By what they said: code 11 asks kubelet to try again.
    pub failed: BTreeMap<u64, usize>,
    /// Made and throttled, by action.
    pub calls: BTreeMap<String, (usize, usize)>,
    /// EIPs that were bought beyond one for each pod.
    pub bought_twice: usize,
    /// EIPs, PodEIPs and records that were left when all pods were gone.
    pub left: usize,
}

impl Outcome {
    pub fn ratio(&self) -> f64 {
        self.wall.as_secs_f64() / self.floor.as_secs_f64()
    }

    pub fn json(&self, plan: &Plan) -> Value {
        let calls: BTreeMap<_, _> = self
            .calls
            .iter()
            .map(|(action, (made, throttled))| (action, json!({ "made": made, "throttled": throttled })))
            .collect();
        json!({
            "nodes": plan.nodes, "pods": plan.pods(), "killed_share": plan.killed,
            "wall_s": self.wall.as_secs_f64(), "floor_s": self.floor.as_secs_f64(), "ratio": self.ratio(),
            "half_bound_s": self.bound[self.bound.len() / 2].as_secs_f64(),
            "adds": self.adds, "killed": self.killed,
            "failed": self.failed.iter().map(|(code, count)| (code.to_string(), *count)).collect::<BTreeMap<_, _>>(),
            "calls": calls, "bought_twice": self.bought_twice, "left": self.left,
        })
    }
}

/// Starts all pods at once and waits until each is bound; ends them afterwards, unthrottled.
pub fn run(plan: &Plan) -> Outcome {
    let scene = Scene::with(Options { clock: Clock::running(plan.faster), ..Options::default() });
    limit(&scene, plan);
    let pods = pods(&scene, plan);
    let counters = Counters::default();
    let started = Instant::now();
    let told: Vec<Told> = thread::scope(|scope| {
        let kubelets: Vec<_> = pods
            .iter()
            .enumerate()
            .map(|(nth, pod)| {
                let (scene, counters) = (&scene, &counters);
                scope.spawn(move || kubelet(scene, plan, nth, pod, started, counters))
            })
            .collect();
        kubelets.into_iter().map(|kubelet| kubelet.join().unwrap()).collect()
    });
    let calls =
        calls(&scene, &["AllocateEipAddress", "AssociateEipAddress", "UnassociateEipAddress", "DescribeEipAddresses"]);
    let mut bound: Vec<Duration> = told.iter().map(|it| it.bound).collect();
    bound.sort();
    let sandboxes: Vec<Sandbox> = told.iter().map(|it| it.sandbox.clone()).collect();
    assert_served(&scene, &sandboxes);
    let bought_twice = scene.ever_ours().len() - pods.len();
    let mut failed = BTreeMap::new();
    told.iter().flat_map(|it| &it.failed).for_each(|code| *failed.entry(*code).or_default() += 1);
    Outcome {
        wall: bound[bound.len() - 1],
        floor: plan.floor(),
        bound,
        adds: counters.adds.into_inner(),
        killed: counters.killed.into_inner(),
        failed,
        calls,
        bought_twice,
        left: end(&scene, plan, &sandboxes),
    }
}

#[derive(Default)]
struct Counters {
    adds: AtomicUsize,
    killed: AtomicUsize,
}

struct Told {
    sandbox: Sandbox,
    bound: Duration,
    failed: Vec<u64>,
}

fn limit(scene: &Scene, plan: &Plan) {
    let looks = plan.rate * 5;
    scene.world.cloud.set(|settings| {
        settings.throttling = true;
        settings.quota = 2 * plan.pods();
        settings.associate_delay = BINDING * plan.faster;
        settings.unassociate_delay = BINDING * plan.faster;
        settings.rates = [
            ("AllocateEipAddress", plan.rate),
            ("AssociateEipAddress", plan.rate),
            ("UnassociateEipAddress", plan.rate),
            ("DescribeEipAddresses", looks),
            ("ReleaseEipAddress", looks),
        ]
        .map(|(action, rate)| (action.to_string(), rate))
        .into();
    });
    for service in [ServiceMatch::Vpc, ServiceMatch::Ecs] {
        scene.world.faults.add(Rule::on("*", Effect::latency(CALL)).service(service));
    }
}

/// Each node has an ENI with two addresses for each pod: a pod's next sandbox gets the other one.
fn pods(scene: &Scene, plan: &Plan) -> Vec<Sandbox> {
    let mut pods = Vec::new();
    for node in 1..=plan.nodes {
        scene.world.cloud.add_eni(EniSpec {
            id: format!("eni-bp1fleet{node:012}"),
            mac: format!("00:16:3f:00:00:{node:02x}"),
            primary_ip: Ipv4Addr::new(10, 220, node, 1),
            private_ips: (10..10 + 2 * plan.pods_per_node).map(|last| Ipv4Addr::new(10, 220, node, last)).collect(),
            instance_id: Some(format!("i-bp1fleet{node:012}")),
            ..EniSpec::default()
        });
        for nth in 0..plan.pods_per_node {
            let spec =
                PodSpec { node: format!("node-{node}"), ..PodSpec::new("default", &format!("web-{node}-{nth}")) };
            pods.push(scene.pod_with(spec, [10, 220, node, 10 + 2 * nth], &[WITH_EIP]).alive());
        }
    }
    pods
}

/// Sets the pod up until it works: a failed sandbox is taken down at once, and after a while there is another one.
fn kubelet(scene: &Scene, plan: &Plan, nth: usize, pod: &Sandbox, started: Instant, counters: &Counters) -> Told {
    let mut dice = fastrand::Rng::with_seed(plan.seed + nth as u64);
    let mut failed = Vec::new();
    thread::sleep(start(nth));
    for turn in 0_u8.. {
        let [a, b, c, last] = pod.ip.octets();
        let sandbox = pod.restarted().alive().at([a, b, c, last + turn % 2]);
        counters.adds.fetch_add(1, Ordering::Relaxed);
        let life = (dice.f64() < plan.killed).then(|| LIFE.start + dice.f64() * (LIFE.end - LIFE.start));
        match add(scene, &sandbox, life) {
            Some(answer) if answer.code == Some(0) => return Told { sandbox, bound: started.elapsed(), failed },
            Some(answer) => failed.push(answer.error().0),
            None => drop(counters.killed.fetch_add(1, Ordering::Relaxed)),
        }
        let down = scene.call("DEL", &sandbox);
        assert_eq!(down.code, Some(0), "{down:?}");
        let pause = plan.kubelet.start + dice.f64() * (plan.kubelet.end - plan.kubelet.start);
        thread::sleep(Duration::from_secs_f64(pause));
    }
    unreachable!("the deadline of the test comes first")
}

/// `None` when it was killed.
fn add(scene: &Scene, sandbox: &Sandbox, life: Option<f64>) -> Option<Answer> {
    let mut child = scene.spawn("ADD", sandbox);
    if let Some(life) = life {
        thread::sleep(Duration::from_secs_f64(life));
        if child.try_wait().unwrap().is_none() {
            child.kill().unwrap();
            child.wait().unwrap();
            return None;
        }
    }
    Some(child.wait_with_output().unwrap().into())
}

fn calls(scene: &Scene, actions: &[&str]) -> BTreeMap<String, (usize, usize)> {
    let count = |action: &&str| {
        let calls = scene.world.calls.named(action);
        let throttled = calls.iter().filter(|call| call.code() == Some("Throttling.User")).count();
        ((*action).to_owned(), (calls.len(), throttled))
    };
    actions.iter().map(count).collect()
}

fn assert_served(scene: &Scene, sandboxes: &[Sandbox]) {
    let of_addresses: BTreeMap<Ipv4Addr, Vec<String>> =
        scene.world.cloud.eips().into_iter().fold(BTreeMap::new(), |mut all, eip| {
            if let Some(binding) = &eip.binding {
                all.entry(binding.private_ip).or_insert_with(Vec::new).push(eip.id.clone());
            }
            all
        });
    for sandbox in sandboxes {
        let ids = of_addresses.get(&sandbox.ip).map_or(&[][..], Vec::as_slice);
        assert_eq!(ids.len(), 1, "{}: {ids:?}", sandbox.name);
        let pod_eip = scene.pod_eip(sandbox).expect("the PodEIP exists");
        assert_eq!((&pod_eip["spec"]["allocationID"], &pod_eip["status"]["status"]), (&json!(ids[0]), &json!("InUse")));
    }
    assert_eq!(
        of_addresses.values().filter(|ids| !ids.is_empty()).count(),
        sandboxes.len(),
        "one address for each pod"
    );
}

/// Ends all pods, and counts what is left of them.
fn end(scene: &Scene, plan: &Plan, sandboxes: &[Sandbox]) -> usize {
    scene.world.faults.clear();
    scene.world.cloud.set(|settings| {
        settings.throttling = false;
        settings.unassociate_delay = Duration::ZERO;
    });
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..HANDS {
            scope.spawn(|| {
                while let Some(sandbox) = sandboxes.get(next.fetch_add(1, Ordering::Relaxed)) {
                    scene.delete_pod(sandbox);
                    scene.del(sandbox);
                }
            });
        }
    });
    let nodes = (1..=plan.nodes).map(|node| format!("node-{node}"));
    scene.ours().len()
        + scene.world.cluster.list("podeips").len()
        + nodes.map(|node| scene.records_of(&node).len()).sum::<usize>()
}
