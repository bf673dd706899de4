//! ADD and DEL beside the least that cloud and cluster let them take: the calls that must follow one another, and the
//! time in which the cloud binds and unbinds.

use std::time::{Duration, Instant};

use podeip_sim::faults::{Effect, Rule, ServiceMatch};
use serde_json::{Value, json};

use crate::measured::{median, millis, ratio};
use crate::scene::{Scene, WITH_EIP};

/// What one call takes, to the cloud and to the API server.
const CLOUD_CALL: Duration = Duration::from_millis(120);
const KUBE_CALL: Duration = Duration::from_millis(15);

/// Between the answer of a call that binds or unbinds and the end of that.
const BINDINGS: [u64; 6] = [400, 800, 1300, 2000, 3100, 5000];

/// For each of them. The first pods of a node teach it how long its cloud takes.
const PODS: u8 = 9;

/// The look at the pod and its EIP's surroundings, the allocation, the association and the look that shows its end are
/// in each other's way, and so are the two writes that publish it.
fn least_add(binding: Duration) -> Duration {
    CLOUD_CALL * 4 + binding + KUBE_CALL
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
        adds.push(timed(|| scene.add(&pod).assert_added(&pod)));
        describes += scene.world.calls.since(mark).iter().filter(|call| call.name == "DescribeEipAddresses").count();
        scene.assert_served(&pod);
        scene.delete_pod(&pod);
        dels.push(timed(|| scene.del(&pod)));
    }
    let row = |spans: Vec<Duration>, least: Duration| {
        let (first, typical) = (spans[0], median(spans));
        json!({
            "least_ms": millis(least),
            "median_ms": millis(typical),
            "ratio": ratio(typical, least),
            "first_ratio": ratio(first, least),
        })
    };
    json!({
        "binding_ms": millis(binding),
        "describes_per_add": describes as f64 / f64::from(PODS),
        "add": row(adds, least_add(binding)),
        "del": row(dels, least_del(binding)),
    })
}

fn timed(work: impl FnOnce()) -> Duration {
    let started = Instant::now();
    work();
    started.elapsed()
}
