//! How long the cloud takes, and what the podeip processes of one node tell each other about it.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use podeip_sim::cloud::Status;
use podeip_sim::faults::{Effect, Rule, When};
use serde_json::{Value, json};

use super::{ADD_TIMEOUT, impatient};
use crate::scene::{Answer, Scene, WITH_EIP};

pub fn expect(scene: &Scene, spans: &Value) {
    fs::create_dir_all(scene.state_dir()).unwrap();
    fs::write(scene.state_dir().join("pace.json"), spans.to_string()).unwrap();
}

#[test]
fn a_bad_hour_keeps_no_later_verb_from_its_end() {
    let scene = impatient(false);
    expect(&scene, &json!({ "bindMs": 90_000, "unbindMs": 40_000 }));
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    scene.add(&pod).assert_added(&pod);
    scene.assert_served(&pod);
    scene.delete_pod(&pod);
    scene.del(&pod);
    scene.assert_nothing_left();
    let learnt: Value = serde_json::from_slice(&fs::read(scene.state_dir().join("pace.json")).unwrap()).unwrap();
    for span in ["bindMs", "unbindMs"] {
        assert!(learnt[span].as_u64().unwrap() < 10_000, "{learnt}");
    }
}

#[test]
fn an_association_that_is_still_under_way_when_it_is_too_late_to_ask_again_is_seen_through() {
    let scene = impatient(false);
    expect(&scene, &json!({ "bindMs": 2000 }));
    scene.world.cloud.set(|settings| settings.associate_delay = Duration::from_secs(3));
    scene.world.faults.add(Rule::on("AssociateEipAddress", Effect::Hang { when: When::AfterEffect }));
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    scene.add(&pod).assert_added(&pod);
    scene.assert_served(&pod);
}

#[test]
fn gc_puts_an_eip_back_whatever_binding_took_once() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]).alive();
    scene.add(&pod).assert_added(&pod);
    let mut state: Value = serde_json::from_slice(&fs::read(scene.state_dir().join("state.json")).unwrap()).unwrap();
    state["attachments"][0]["phase"] = json!("Binding");
    fs::write(scene.state_dir().join("state.json"), state.to_string()).unwrap();
    let eip = scene.assert_served(&pod);
    scene.world.cloud.unbind_by_hand(&eip.id).unwrap();
    expect(&scene, &json!({ "bindMs": 20_000 }));
    scene.gc();
    scene.assert_served(&pod);
    assert_eq!(scene.records()[0]["phase"], "Bound");
}

/// The account may bind only so often in a minute: a binding that would be undone again is another pod's.
#[test]
fn who_would_not_see_its_eip_bound_in_time_does_not_bind_it() {
    let scene = impatient(false);
    expect(&scene, &json!({ "bindMs": 2000 }));
    scene.world.cloud.set(|settings| settings.associate_delay = Duration::from_secs(2));
    let throttling = Effect::error(400, "Throttling.User", "Request was denied due to user flow control.");
    let rule = scene.world.faults.add(Rule::on("AssociateEipAddress", throttling));
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    let began = Instant::now();
    let late = scene.spawn("ADD", &pod);
    thread::sleep(ADD_TIMEOUT / 2);
    scene.world.faults.remove(rule);
    Answer::from(late.wait_with_output().unwrap()).assert_error(11, &["Throttling.User"]);
    assert!(began.elapsed() < ADD_TIMEOUT, "{:?}", began.elapsed());
    scene.del(&pod);
    assert_eq!(scene.world.calls.named("UnassociateEipAddress").len(), 0, "there is nothing to be undone");
    assert_eq!(scene.ours()[0].status, Status::Available);

    let next = pod.restarted();
    scene.add(&next).assert_added(&next);
    scene.assert_served(&next);
    assert_eq!(scene.ever_ours().len(), 1);
}
