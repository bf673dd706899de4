//! Refusals in an ADD: it succeeds in spite of them, or fails with the right code, the cloud's own words and a remedy.

use std::collections::BTreeSet;

use podeip_sim::cloud::defaults;

use super::refusals::{self, PROSE, Refusal};
use super::{Cell, IP, Span, assert_refused, configure, ends, leaves_nothing, play, recovers};
use crate::scene::{Sandbox, Scene, WITH_EIP};

const PACKAGE: (&str, &str) = ("k8s.aliyun.com/eip-common-bandwidth-package-id", defaults::PACKAGE);

/// Each refusal once, and those that a verb repeats also without end.
fn cells(action: &'static str, wanted: impl Fn(&Refusal) -> bool) -> Vec<Cell<'static>> {
    let mut cells = Vec::new();
    for refusal in refusals::of(action).into_iter().filter(wanted) {
        let endless = refusal.clone();
        let name = refusal.name();
        // Nothing was bought with an EIP that is gone for good: that is another story, of another EIP.
        if refusal.first && passes(&refusal) && !matches!(refusal.class, "Gone" | "AlreadyInPackage") {
            cells.push(Cell::new(format!("{name} for good"), move || refused(&endless, Span::ForGood)));
        }
        // The first look asks who is on the address. The next ones see an EIP that is being bound.
        if refusal.first && action == "DescribeEipAddresses" && !passes(&refusal) {
            let later = refusal.clone();
            cells.push(Cell::new(format!("{name} later"), move || refused(&later, Span::Later)));
        }
        let once = move || if passes(&refusal) { outlived(&refusal) } else { refused(&refusal, Span::Once) };
        cells.push(Cell::new(name, once));
    }
    cells
}

/// Whether one refusal of this kind is got over within the verb.
fn passes(refusal: &Refusal) -> bool {
    let by_a_new_token = match refusal.action {
        "AllocateEipAddress" => &["Conflict", "TokenMisuse"][..],
        // A new EIP may not be visible yet.
        "AssociateEipAddress" => &["Conflict", "TokenMisuse", "Gone"],
        "AddCommonBandwidthPackageIp" => &["Conflict", "TokenMisuse", "Gone", "AlreadyInPackage"],
        _ => &["Conflict"],
    };
    refusal.same_again() || by_a_new_token.contains(&refusal.class)
}

fn pod(scene: &Scene, action: &str) -> Sandbox {
    let package = (action == "AddCommonBandwidthPackageIp").then_some(PACKAGE);
    let annotations: Vec<(&str, &str)> = [Some(WITH_EIP), package].into_iter().flatten().collect();
    scene.pod("web-0", IP, &annotations)
}

fn outlived(refusal: &Refusal) {
    let scene = Scene::new();
    let pod = pod(&scene, refusal.action);
    let true_afterwards = refusal.class == "AlreadyInPackage";
    let effect = if true_afterwards { refusal.effect_afterwards() } else { refusal.effect() };
    let rule = scene.world.faults.add(Span::Once.rule(refusal.action, effect));
    scene.add(&pod).assert_added(&pod);
    assert_eq!(scene.world.faults.hits(rule), 1);
    scene.assert_served(&pod);
    if scene.world.calls.named(refusal.action)[0].parameters.contains_key("ClientToken") && !true_afterwards {
        let tokens = tokens(&scene, refusal.action);
        assert_eq!(tokens.len(), if refusal.same_again() { 1 } else { 2 }, "{tokens:?}");
    }
    ends(&scene, &pod);
}

fn refused(refusal: &Refusal, span: Span) {
    let scene = Scene::new();
    configure(&scene, span);
    let pod = pod(&scene, refusal.action);
    scene.world.faults.add(span.rule(refusal.action, refusal.effect()));
    let answer = scene.add(&pod);
    let (code, remedy) = refusal.ending();
    if (refusal.action, refusal.class) == ("DescribeNetworkInterfaces", "TargetGone") {
        assert_refused(&scene, &answer, code, &[remedy, "10.219.0.5"]);
    } else {
        assert_refused(&scene, &answer, code, &[refusal.action, refusal.code, PROSE, "RequestId", remedy]);
    }
    let told = scene.events(&pod, "EIPFailed");
    assert!(told.iter().any(|event| event.contains(remedy)), "{told:?}");
    assert!(scene.on(pod.ip).is_empty(), "a failed ADD leaves nothing bound");
    if !refusal.first {
        // The first of the class has shown how the pod goes on.
        return leaves_nothing(&scene, &pod);
    }
    let before = tokens(&scene, refusal.action);
    recovers(&scene, &pod);
    if refusal.action == "AllocateEipAddress" {
        let all = tokens(&scene, refusal.action);
        // Turned away unread: the token still stands for the same purchase. Answered: it is spent.
        let unread = refusal.same_again() || refusal.class.starts_with("Credential");
        assert_eq!(all == before, unread, "{before:?} {all:?}");
    }
}

fn tokens(scene: &Scene, action: &str) -> BTreeSet<String> {
    let calls = scene.world.calls.named(action);
    calls.iter().filter_map(|call| call.parameters.get("ClientToken").cloned()).collect()
}

fn all(_: &Refusal) -> bool {
    true
}

/// What a try with other parameters, another account or another place would not meet.
fn of_the_request(refusal: &Refusal) -> bool {
    matches!(refusal.class, "BadCall" | "Unfit")
}

#[test]
fn refusals_of_an_allocation() {
    play("refusals of AllocateEipAddress", 80, &cells("AllocateEipAddress", all));
}

#[test]
fn refusals_of_an_association_as_it_is_asked_for() {
    play("refusals of AssociateEipAddress, for its parameters", 40, &cells("AssociateEipAddress", of_the_request));
}

#[test]
fn refusals_of_an_association_as_things_are() {
    let others = |refusal: &Refusal| !of_the_request(refusal);
    play("refusals of AssociateEipAddress, for anything else", 50, &cells("AssociateEipAddress", others));
}

#[test]
fn refusals_of_a_look() {
    let actions = ["DescribeEipAddresses", "DescribeNetworkInterfaces"];
    let cells: Vec<Cell> = actions.into_iter().flat_map(|action| cells(action, all)).collect();
    play("refusals of the Describe actions", 75, &cells);
}

#[test]
fn refusals_of_a_bandwidth_package() {
    play("refusals of AddCommonBandwidthPackageIp", 50, &cells("AddCommonBandwidthPackageIp", all));
}
