//! Refusals of what the agent asks for while the pod runs, and of tags that an ADD has to set afterwards.

use super::refusals::{self, PROSE, Refusal};
use super::{Cell, IP, Span, ends, play};
use crate::agent::{annotate, running};
use crate::scene::{Scene, WITH_EIP};

const BANDWIDTH: &str = "network.alibabacloud.com/eip-bandwidth";
const TAGS: &str = "network.alibabacloud.com/eip-tags";

/// One change that the agent carries out with this action: an annotation, and what the cloud shows then.
fn changed(scene: &Scene, action: &str) -> bool {
    let eip = scene.ours().remove(0);
    if action == "TagResources" { eip.tag("team") == Some("b") } else { eip.bandwidth == 20 }
}

fn followed(refusal: &Refusal) {
    let scene = Scene::new();
    let pod = running(&scene, "web-0", IP, &[]);
    let wish = if refusal.action == "TagResources" { (TAGS, r#"{"team":"b"}"#) } else { (BANDWIDTH, "20") };
    annotate(&scene, &pod, &[(wish.0, Some(wish.1))]);
    let rule = scene.world.faults.add(Span::Once.rule(refusal.action, refusal.effect()));
    scene.agent_once();
    assert_eq!(scene.world.faults.hits(rule), 1);
    assert_eq!(changed(&scene, refusal.action), refusal.same_again());
    let told = scene.events(&pod, "EIPChangeFailed");
    if refusal.same_again() {
        assert!(told.is_empty(), "{told:?}");
    } else {
        let (_, remedy) = refusal.ending();
        for word in [refusal.action, refusal.code, PROSE, "RequestId", remedy] {
            assert!(told.len() == 1 && told[0].contains(word), "{word} is not in {told:?}");
        }
    }
    scene.assert_served(&pod);
    scene.agent_once();
    assert!(changed(&scene, refusal.action), "the next round makes it true");
    ends(&scene, &pod);
}

/// An endpoint of before July 2025, whose EIPs are tagged afterwards.
fn tagged_in_the_end(refusal: &Refusal) {
    let scene = Scene::new();
    scene.world.cloud.set(|settings| settings.ignore_tags_on_allocate = true);
    let pod = scene.pod("web-0", IP, &[WITH_EIP]).alive();
    let rule = scene.world.faults.add(Span::Once.rule("TagResources", refusal.effect()));
    scene.add(&pod).assert_added(&pod);
    assert_eq!(scene.world.faults.hits(rule), 1);
    scene.assert_served(&pod);
    scene.agent_once();
    assert_eq!(scene.ours()[0].tag("podeip-uid"), Some(pod.uid.as_str()), "{}", scene.log());
    ends(&scene, &pod);
}

fn cells(action: &'static str, story: fn(&Refusal)) -> Vec<Cell<'static>> {
    let cell = |refusal: Refusal| Cell::new(refusal.name(), move || story(&refusal));
    refusals::of(action).into_iter().map(cell).collect()
}

#[test]
fn refusals_of_a_change() {
    play("refusals of ModifyEipAddressAttribute", 25, &cells("ModifyEipAddressAttribute", followed));
}

#[test]
fn refusals_of_tags() {
    let cells: Vec<Cell> =
        [cells("TagResources", followed), cells("TagResources", tagged_in_the_end)].into_iter().flatten().collect();
    play("refusals of TagResources", 40, &cells);
}
