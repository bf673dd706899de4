//! Every call of ADD and DEL, lost before and after its effect, slow, cut short, or answered with something else: the verb
//! gets over one of them, and whatever it was that was lost, one EIP is bought and nothing is left.

use std::collections::BTreeSet;
use std::time::Duration;

use podeip_sim::cloud::defaults;
use podeip_sim::faults::{Effect, When};
use serde_json::json;

use super::{Cell, IP, Span, ends, play};
use crate::scene::{Sandbox, Scene, WITH_EIP};

/// Longer than a round trip, shorter than any patience.
const SLOW: Duration = Duration::from_millis(300);

/// A lost call costs half of what is left, so the whole is not long.
const SECONDS: u64 = 12;

const PACKAGE: (&str, &str) = ("k8s.aliyun.com/eip-common-bandwidth-package-id", defaults::PACKAGE);

/// The ways to lose a call.
fn losses() -> Vec<(&'static str, Effect)> {
    let trouble = |when| Effect::Error { status: 500, code: "InternalError".into(), message: "trouble".into(), when };
    vec![
        ("cut before", Effect::Cut { when: When::BeforeEffect }),
        ("cut after", Effect::Cut { when: When::AfterEffect }),
        ("silent before", Effect::Hang { when: When::BeforeEffect }),
        ("silent after", Effect::Hang { when: When::AfterEffect }),
        ("bad gateway before", Effect::Gateway { status: 502, when: When::BeforeEffect }),
        ("bad gateway after", Effect::Gateway { status: 502, when: When::AfterEffect }),
        ("trouble after", trouble(When::AfterEffect)),
        ("no JSON", Effect::Garbage),
        ("truncated", Effect::Truncated),
        ("slow", Effect::latency(SLOW)),
    ]
}

/// A node with its RAM role, so that metadata is asked, and a pod that wants a bandwidth package.
fn scene() -> (Scene, Sandbox) {
    let scene = Scene::new();
    scene.use_ram_role();
    let pod = scene.pod("web-0", IP, &[WITH_EIP, PACKAGE]);
    (scene, pod)
}

/// From now on verbs give up soon.
fn hurry(scene: &Scene) {
    let role = |settings: &mut serde_json::Value| {
        let own = ["access_key", "access_secret", "region_id", "vpc_id"];
        settings.as_object_mut().unwrap().retain(|key, _| !own.contains(&key.as_str()));
        settings["eip_add_timeout_seconds"] = json!(SECONDS);
        settings["eip_del_timeout_seconds"] = json!(SECONDS);
    };
    scene.configure(role);
}

/// The calls of an undisturbed ADD and of an undisturbed DEL.
fn rehearse() -> [BTreeSet<String>; 2] {
    let (scene, pod) = scene();
    scene.add(&pod).assert_added(&pod);
    let added = scene.world.calls.mark();
    scene.delete_pod(&pod);
    scene.del(&pod);
    scene.assert_nothing_left();
    let calls = scene.world.calls.all();
    [true, false]
        .map(|early| calls.iter().filter(|call| (call.seq <= added) == early).map(|call| call.name.clone()).collect())
}

fn lost_in_add(call: &str, effect: &Effect, span: Span) {
    let (scene, pod) = scene();
    hurry(&scene);
    let rule = scene.world.faults.add(span.rule(call, effect.clone()));
    scene.add(&pod).assert_added(&pod);
    assert_eq!(scene.world.faults.hits(rule), 1);
    scene.assert_served(&pod);
    ends(&scene, &pod);
}

fn lost_in_del(call: &str, effect: &Effect, span: Span) {
    let (scene, pod) = scene();
    scene.add(&pod).assert_added(&pod);
    hurry(&scene);
    let rule = scene.world.faults.add(span.rule(call, effect.clone()));
    scene.delete_pod(&pod);
    scene.del(&pod);
    assert_eq!(scene.world.faults.hits(rule), 1);
    ends(&scene, &pod);
}

fn cells(calls: &BTreeSet<String>, wanted: Kind, story: fn(&str, &Effect, Span)) -> Vec<Cell<'_>> {
    let mut cells = Vec::new();
    for (loss, effect) in losses() {
        if Kind::of(&effect) != wanted {
            continue;
        }
        for call in calls {
            // One look is before the change, and one after it.
            let looks = [(Span::Once, ""), (Span::Later, " the second time")];
            for (span, when) in looks.into_iter().take(if call == "DescribeEipAddresses" { 2 } else { 1 }) {
                let effect = effect.clone();
                cells.push(Cell::new(format!("{call} {loss}{when}"), move || story(call, &effect, span)));
            }
        }
    }
    cells
}

/// Whether anything comes back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Nothing,
    Something,
}

impl Kind {
    fn of(effect: &Effect) -> Self {
        if matches!(effect, Effect::Cut { .. } | Effect::Hang { .. }) { Kind::Nothing } else { Kind::Something }
    }
}

#[test]
fn calls_of_add_without_an_answer() {
    play("calls of ADD without an answer", 65, &cells(&rehearse()[0], Kind::Nothing, lost_in_add));
}

#[test]
fn calls_of_add_with_another_answer() {
    play("calls of ADD with another answer", 100, &cells(&rehearse()[0], Kind::Something, lost_in_add));
}

#[test]
fn calls_of_del_without_an_answer() {
    play("calls of DEL without an answer", 45, &cells(&rehearse()[1], Kind::Nothing, lost_in_del));
}

#[test]
fn calls_of_del_with_another_answer() {
    play("calls of DEL with another answer", 65, &cells(&rehearse()[1], Kind::Something, lost_in_del));
}
