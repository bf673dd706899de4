//! ADD and DEL beside the least that cloud and cluster let them take: the calls that must follow one another, and the
//! time in which the cloud binds and unbinds.

use std::time::{Duration, Instant};

use podeip_sim::faults::{Effect, Rule, ServiceMatch};
use serde_json::{Value, json};

use crate::measured::{millis, ratio};
use crate::scene::{Scene, WITH_EIP};

/// What one call takes, to the cloud and to the API server.
const CLOUD_CALL: Duration = Duration::from_millis(120);
const KUBE_CALL: Duration = Duration::from_millis(15);

/// Between the answer of a call that binds or unbinds and the end of that.
const BINDINGS: [u64; 6] = [400, 800, 1300, 2000, 3100, 5000];

/// For each of them. The first pods of a node teach it how long its cloud takes.
const PODS: u8 = 9;

/// The look-up of the ENI, the allocation, the association and the look that shows its end must follow one another, and so
/// must the two writes that publish it. `looks` says whether the ADD itself looks for an EIP on the ENI's address first, or
/// has what another one saw a moment ago.
fn least_add(binding: Duration, looks: bool) -> Duration {
    CLOUD_CALL * (4 + u32::from(looks)) + binding + KUBE_CALL * 2
}

/// The look, the unbinding and the look that shows its end. The release is asked for, and not waited for.
fn least_del(unbinding: Duration) -> Duration {
    CLOUD_CALL * 4 + unbinding + KUBE_CALL
}

pub fn measure() -> Value {
    json!({
        "cloud_call_ms": millis(CLOUD_CALL),
        "kube_call_ms": millis(KUBE_CALL),
        "rows": BINDINGS.map(|milliseconds| measure_with(Duration::from_millis(milliseconds))),
    })
}

fn measure_with(binding: Duration) -> Value {
    let scene = Scene::new();
    scene.world.cloud.set(|settings| {
        settings.associate_delay = binding;
        settings.unassociate_delay = binding;
    });
    for (service, span) in
        [(ServiceMatch::Vpc, CLOUD_CALL), (ServiceMatch::Ecs, CLOUD_CALL), (ServiceMatch::Kube, KUBE_CALL)]
    {
        scene.world.faults.add(Rule::on("*", Effect::latency(span)).service(service));
    }
    let (mut adds, mut dels) = (Vec::new(), Vec::new());
    let mut describes = 0;
    for nth in 0..PODS {
        let pod = scene.pod(&format!("web-{nth}"), [10, 219, 0, 5 + nth], &[WITH_EIP]).alive();
        let mark = scene.world.calls.mark();
        let span = timed(|| scene.add(&pod).assert_added(&pod));
        let calls = scene.world.calls.since(mark);
        let first_in_vpc = calls.iter().map(|call| &*call.name).find(|name| name.contains("EipAddress"));
        adds.push(Timed { span, least: least_add(binding, first_in_vpc == Some("DescribeEipAddresses")) });
        describes += calls.iter().filter(|call| call.name == "DescribeEipAddresses").count();
        scene.assert_served(&pod);
        scene.delete_pod(&pod);
        dels.push(Timed { span: timed(|| scene.del(&pod)), least: least_del(binding) });
    }
    json!({
        "binding_ms": millis(binding),
        "describes_per_add": describes as f64 / f64::from(PODS),
        "add": row(adds),
        "del": row(dels),
    })
}

/// How long a verb took, and the least that it could.
#[derive(Clone, Copy)]
struct Timed {
    span: Duration,
    least: Duration,
}

impl Timed {
    fn ratio(self) -> f64 {
        ratio(self.span, self.least)
    }
}

/// The one in the middle, and the ratio of the first.
fn row(mut all: Vec<Timed>) -> Value {
    let first = all[0];
    all.sort_by(|one, other| one.ratio().total_cmp(&other.ratio()));
    let typical = all[all.len() / 2];
    json!({
        "least_ms": millis(typical.least),
        "median_ms": millis(typical.span),
        "ratio": typical.ratio(),
        "first_ratio": first.ratio(),
    })
}

fn timed(work: impl FnOnce()) -> Duration {
    let started = Instant::now();
    work();
    started.elapsed()
}
