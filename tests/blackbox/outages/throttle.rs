//! Throttling, and what the podeip processes of one node tell each other about it.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use podeip_sim::calls::Call;
use podeip_sim::faults::{Effect, Rule};
use serde_json::{Value, json};

use super::impatient;
use crate::scene::{Answer, Scene, WITH_EIP};

const ALLOCATE: &str = "AllocateEipAddress";

fn note(scene: &Scene) -> Option<Value> {
    serde_json::from_slice(&fs::read(scene.state_dir().join("throttle.json")).ok()?).ok()
}

fn throttled() -> Rule {
    Rule::on(ALLOCATE, Effect::error(400, "Throttling.User", "Request was denied due to user flow control."))
}

#[test]
fn one_process_is_throttled_and_the_other_holds_back() {
    let scene = Scene::new();
    let first = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    let second = scene.pod("web-1", [10, 219, 0, 6], &[WITH_EIP]);
    scene.world.faults.add(throttled().once());
    let ahead = scene.spawn("ADD", &first);
    let patience = Instant::now() + Duration::from_secs(10);
    while note(&scene).is_none() {
        assert!(Instant::now() < patience, "no note was written: {}", scene.log());
        thread::sleep(Duration::from_millis(2));
    }
    let until: Timestamp = note(&scene).unwrap()[ALLOCATE]["until"].as_str().unwrap().parse().unwrap();
    let mode = fs::metadata(scene.state_dir().join("throttle.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    scene.add(&second).assert_added(&second);
    Answer::from(ahead.wait_with_output().unwrap()).assert_added(&first);
    let is_seconds = |call: &&Call| call.parameters.values().any(|value| value == "web-1");
    let calls = scene.world.calls.named(ALLOCATE);
    let asked = calls.iter().find(is_seconds).unwrap().began;
    assert!(asked >= until, "the second asked at {asked}, in the pause until {until}");
    scene.assert_served(&first);
    scene.assert_served(&second);
    assert_eq!(calls.len(), 3);
}

#[test]
fn an_old_broken_or_future_note_delays_nobody() {
    let scene = Scene::new();
    fs::create_dir(scene.state_dir()).unwrap();
    let far = json!({ ALLOCATE: { "until": "2999-01-01T00:00:00Z", "lengthMs": 5000 } });
    let past = json!({ ALLOCATE: { "until": "2020-01-01T00:00:00Z", "lengthMs": 5000 } });
    for (nth, content) in [far.to_string(), past.to_string(), "{".into()].into_iter().enumerate() {
        fs::write(scene.state_dir().join("throttle.json"), content).unwrap();
        let pod = scene.pod(&format!("web-{nth}"), [10, 219, 0, 5 + u8::try_from(nth).unwrap()], &[WITH_EIP]);
        let began = Instant::now();
        scene.add(&pod).assert_added(&pod);
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    }
}

#[test]
fn throttled_without_end_is_code_11_in_time_and_bought_once_later() {
    let scene = impatient(false);
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    scene.world.faults.add(throttled());
    super::add(&scene, &pod).assert_error(11, &[ALLOCATE, "Throttling.User", "RequestId", "Quota Center"]);
    super::del(&scene, &pod);
    scene.world.faults.clear();
    let next = pod.restarted();
    scene.add(&next).assert_added(&next);
    scene.assert_served(&next);
    assert_eq!(scene.ever_ours().len(), 1);
    let tokens: Vec<_> =
        scene.world.calls.named(ALLOCATE).iter().map(|call| call.parameters["ClientToken"].clone()).collect();
    assert!(tokens.iter().all(|token| *token == tokens[0]), "{tokens:?}");
}
