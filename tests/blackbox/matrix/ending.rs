//! Refusals in a DEL: it succeeds whatever the cloud says, and what it could not finish is recorded and finished later.

use podeip_sim::cloud::defaults;

use super::refusals::{self, Refusal};
use super::{Cell, IP, Span, configure, ends, play};
use crate::scene::{Sandbox, Scene, WITH_EIP};

const PACKAGE: (&str, &str) = ("k8s.aliyun.com/eip-common-bandwidth-package-id", defaults::PACKAGE);

fn cells(action: &'static str) -> Vec<Cell<'static>> {
    let mut cells = Vec::new();
    for refusal in refusals::of(action) {
        let endless = refusal.clone();
        let name = refusal.name();
        if refusal.first && passes(&refusal) && !is_done(&refusal) && refusal.class != "TargetGone" {
            cells.push(Cell::new(format!("{name} for good"), move || left_over(&endless, Span::ForGood)));
        }
        let once = move || if passes(&refusal) { outlived(&refusal) } else { left_over(&refusal, Span::Once) };
        cells.push(Cell::new(name, once));
    }
    cells
}

/// What is to be taken away is gone already, says the cloud.
fn is_done(refusal: &Refusal) -> bool {
    matches!(
        (refusal.action, refusal.class),
        ("ReleaseEipAddress", "Gone") | ("RemoveCommonBandwidthPackageIp", "NotInPackage")
    )
}

/// Whether one refusal of this kind is got over within the verb.
fn passes(refusal: &Refusal) -> bool {
    let by_a_look = match refusal.action {
        "UnassociateEipAddress" => &["Conflict", "TokenMisuse", "TargetGone", "Gone"][..],
        "RemoveCommonBandwidthPackageIp" => &["Conflict", "TokenMisuse", "TargetGone"],
        _ => &["Conflict"],
    };
    refusal.same_again() || is_done(refusal) || by_a_look.contains(&refusal.class)
}

fn served(scene: &Scene, action: &str) -> Sandbox {
    let package = (action == "RemoveCommonBandwidthPackageIp").then_some(PACKAGE);
    let annotations: Vec<(&str, &str)> = [Some(WITH_EIP), package].into_iter().flatten().collect();
    let pod = scene.pod("web-0", IP, &annotations);
    scene.add(&pod).assert_added(&pod);
    pod
}

fn outlived(refusal: &Refusal) {
    let scene = Scene::new();
    let pod = served(&scene, refusal.action);
    let effect = if is_done(refusal) { refusal.effect_afterwards() } else { refusal.effect() };
    let rule = scene.world.faults.add(Span::Once.rule(refusal.action, effect));
    scene.delete_pod(&pod);
    scene.del(&pod);
    assert_eq!(scene.world.faults.hits(rule), 1);
    scene.assert_nothing_left();
}

fn left_over(refusal: &Refusal, span: Span) {
    let scene = Scene::new();
    let pod = served(&scene, refusal.action);
    configure(&scene, span);
    let rule = scene.world.faults.add(span.rule(refusal.action, refusal.effect()));
    scene.delete_pod(&pod);
    scene.del(&pod);
    assert!(scene.world.faults.hits(rule) > 0);
    let records = scene.records();
    assert_eq!(records.len(), 1, "what is not finished stays recorded\n{}", scene.log());
    let words = [refusal.action, refusal.code, "RequestId"];
    let told = records[0]["lastError"].as_str().unwrap_or_default();
    for word in words {
        assert!(told.contains(word), "{word} is not in {told:?}");
    }
    scene.world.faults.clear();
    if refusal.action == "UnassociateEipAddress" {
        // Whoever gets the address does not get the EIP with it.
        let heir = scene.pod("next-0", IP, &[]);
        scene.add(&heir).assert_added(&heir);
        assert!(scene.on(heir.ip).is_empty());
    }
    scene.gc();
    ends(&scene, &pod);
}

#[test]
fn refusals_of_an_unbinding() {
    play("refusals of UnassociateEipAddress", 45, &cells("UnassociateEipAddress"));
}

#[test]
fn refusals_of_a_release() {
    play("refusals of ReleaseEipAddress", 35, &cells("ReleaseEipAddress"));
}

#[test]
fn refusals_of_leaving_a_package() {
    play("refusals of RemoveCommonBandwidthPackageIp", 40, &cells("RemoveCommonBandwidthPackageIp"));
}

#[test]
fn refusals_of_a_look_at_what_ends() {
    play("refusals of DescribeEipAddresses in DEL", 35, &cells("DescribeEipAddresses"));
}
