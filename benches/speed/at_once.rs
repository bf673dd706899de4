//! Many pods that start on one node at the same moment, beside one.

use std::time::{Duration, Instant};

use podeip_sim::faults::{Effect, Rule, ServiceMatch};
use serde_json::{Value, json};

use crate::measured::{median, millis, ratio};
use crate::scene::{Sandbox, Scene, WITH_EIP};

const PODS: [usize; 4] = [10, 50, 100, 200];
const ALONE: usize = 5;

/// As seen of the real cloud: some hundred milliseconds for a call, and two seconds until an EIP is bound.
const CALL: Duration = Duration::from_millis(250);
const BINDING: Duration = Duration::from_secs(2);

pub fn measure() -> Value {
    let scene = Scene::new();
    scene.world.cloud.set(|settings| settings.associate_delay = BINDING);
    for service in [ServiceMatch::Vpc, ServiceMatch::Ecs] {
        scene.world.faults.add(Rule::on("*", Effect::latency(CALL)).service(service));
    }
    let mut names = 0..;
    let mut pods = |count: usize| -> Vec<Sandbox> { names.by_ref().take(count).map(|nth| pod(&scene, nth)).collect() };
    let one_by_one = pods(ALONE);
    let alone = median(one_by_one.iter().map(|pod| add_all(&scene, std::slice::from_ref(pod))).collect());
    // Their addresses come again.
    end_all(&scene, &one_by_one);
    let rows: Vec<Value> = PODS
        .iter()
        .map(|count| {
            let pods = pods(*count);
            let together = add_all(&scene, &pods);
            for pod in &pods {
                scene.assert_served(pod);
            }
            end_all(&scene, &pods);
            json!({ "pods": count, "wall_ms": millis(together), "ratio": ratio(together, alone) })
        })
        .collect();
    json!({ "alone_ms": millis(alone), "rows": rows })
}

fn pod(scene: &Scene, nth: usize) -> Sandbox {
    let nth_address = u8::try_from(nth % 200).unwrap() + 20;
    scene.pod(&format!("web-{nth}"), [10, 219, 0, nth_address], &[WITH_EIP]).alive()
}

fn add_all(scene: &Scene, pods: &[Sandbox]) -> Duration {
    let started = Instant::now();
    let children: Vec<_> = pods.iter().map(|pod| (pod, scene.spawn("ADD", pod))).collect();
    for (pod, child) in children {
        crate::scene::Answer::from(child.wait_with_output().unwrap()).assert_added(pod);
    }
    started.elapsed()
}

fn end_all(scene: &Scene, pods: &[Sandbox]) {
    pods.iter().for_each(|pod| scene.delete_pod(pod));
    let children: Vec<_> = pods.iter().map(|pod| scene.spawn("DEL", pod)).collect();
    for child in children {
        assert!(child.wait_with_output().unwrap().status.success());
    }
    scene.gc();
}
