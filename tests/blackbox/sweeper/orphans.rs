//! EIPs with our tags that nothing claims.

use std::collections::BTreeMap;

use podeip_sim::cloud::{Status, UserEip, defaults};
use serde_json::json;

use super::{IP, added, elsewhere, lease, minutes, stateful, told};
use crate::crowd::tagged_eip;
use crate::scene::{OTHER_NODE, Scene};

/// An EIP with owner tags of a pod that does not exist.
pub fn orphan(scene: &Scene, pod: &str, uid: &str) -> String {
    tagged_eip(scene, "default", pod, uid)
}

fn exists(scene: &Scene, eip: &str) -> bool {
    scene.world.cloud.eip(eip).is_some_and(|eip| !matches!(eip.status, Status::Released | Status::Releasing))
}

#[test]
fn an_orphan_is_reported_and_released_after_its_grace() {
    let scene = Scene::new();
    let id = orphan(&scene, "lost-0", "uid-0");
    assert_eq!(told(&elsewhere(&scene), &id).as_deref(), Some("unclaimed"));
    let events = scene.world.cluster.events_for("default", "lost-0");
    assert_eq!(events.len(), 1);
    assert!(events[0]["message"].as_str().unwrap().contains("released in 10 minutes"), "{events:?}");
    scene.world.clock.advance(minutes(9));
    assert_eq!(told(&elsewhere(&scene), &id).as_deref(), Some("unclaimed"));
    assert!(exists(&scene, &id));
    scene.world.clock.advance(minutes(2));
    assert_eq!(told(&elsewhere(&scene), &id).as_deref(), Some("released"));
    assert!(!exists(&scene, &id));
    assert_eq!(scene.world.cluster.events_for("default", "lost-0").len(), 1, "told once");
    elsewhere(&scene);
    assert!(!lease(&scene).to_string().contains(&id), "and forgotten");
}

#[test]
fn what_anything_claims_is_left() {
    let scene = Scene::new();
    scene.configure(|settings| settings["eip_orphan_grace_minutes"] = json!(0));
    let pod = added(&scene, stateful(&scene, IP, "Never"));
    let kept = scene.assert_served(&pod);
    // Of a pod whose ADD has failed: held for its next try.
    let trying = scene.pod("trying", [10, 219, 0, 7], &[]);
    let held = orphan(&scene, "trying", &trying.uid);
    let users = scene.world.cloud.create_user_eip(UserEip::default());
    let mut foreign = BTreeMap::from([("podeip-cluster".to_string(), "another".to_string())]);
    foreign.insert("podeip-uid".into(), "uid".into());
    let foreign = scene.world.cloud.create_user_eip(UserEip { tags: foreign, ..UserEip::default() });
    let lost = orphan(&scene, "lost-0", "uid-0");
    let answer = elsewhere(&scene);
    assert_eq!(told(&answer, &lost).as_deref(), Some("released"), "{answer:?}");
    for id in [&kept.id, &held, &users, &foreign] {
        assert!(exists(&scene, id) && told(&answer, id).is_none(), "{id}: {answer:?}");
    }
    scene.delete_pod(&trying);
    assert_eq!(told(&elsewhere(&scene), &held).as_deref(), Some("released"));
}

#[test]
fn report_only_touches_nothing() {
    let scene = Scene::new();
    scene.configure(|settings| settings["eip_orphan_grace_minutes"] = json!(0));
    let id = orphan(&scene, "lost-0", "uid-0");
    let pod = added(&scene, stateful(&scene, IP, "Follow"));
    let eip = scene.assert_served(&pod);
    scene.delete_pod(&pod);
    scene.world.clock.advance(minutes(60));
    let answer: crate::scene::Answer =
        scene.agent_of(OTHER_NODE, &["--once", "--report-only"]).output().unwrap().into();
    assert_eq!(told(&answer, &id).as_deref(), Some("unclaimed"), "{answer:?}");
    assert_eq!(told(&answer, &eip.id).as_deref(), Some("would end"), "{answer:?}");
    assert!(exists(&scene, &id) && scene.on(pod.ip)[0].id == eip.id);
}

#[test]
fn an_orphan_that_is_bound_is_unbound_first() {
    let scene = Scene::new();
    scene.configure(|settings| settings["eip_orphan_grace_minutes"] = json!(0));
    let bound = orphan(&scene, "lost-0", "uid-0");
    scene.world.cloud.bind_by_hand(&bound, defaults::POD_ENI, [10, 219, 0, 77].into()).unwrap();
    let answer = elsewhere(&scene);
    assert_eq!(told(&answer, &bound).as_deref(), Some("released"), "{answer:?}");
}
