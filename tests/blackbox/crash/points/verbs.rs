//! ADD, DEL and gc die, and the node goes on in each of the ways it can.

use std::fs;
use std::process::Command;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::super::{add_again, collected, del_again, new_sandbox_elsewhere, pod_deleted_and_collected};
use super::{AT_ONCE, Deaths, Recovery, assert_has};
use crate::stage::{ADDRESS, Case, Stage};

fn verb(verb: &'static str) -> impl Fn(&Stage) -> (Command, Value) {
    move |stage| (stage.scene.command(verb, &stage.pod), stage.scene.stdin(&stage.pod, Some(stage.pod.result())))
}

fn collection(stage: &Stage) -> (Command, Value) {
    (stage.scene.operator(&["gc"]), Value::Null)
}

fn next_pod_of_that_name(stage: &Stage) {
    let next = stage.successor().alive();
    stage.add(&next);
    stage.assert_bound(&next);
    stage.scene.del(&stage.pod);
    stage.scene.gc();
    stage.assert_bound(&next);
    stage.finish(&next);
}

fn the_agent_comes(stage: &Stage) {
    stage.scene.agent_once();
    stage.scene.gc();
    stage.assert_ended();
}

/// The node's clock was wrong by so much when the process died, and has been set right since.
fn clock_was_off(stage: &Stage, by: SignedDuration) {
    let moved = |part: &str| part.parse::<Timestamp>().map_or_else(|_| part.to_owned(), |at| (at + by).to_string());
    let Ok(entries) = fs::read_dir(stage.scene.state_dir()) else { return };
    let files = entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension() == Some("json".as_ref()));
    for file in files {
        let text = fs::read_to_string(&file).unwrap();
        fs::write(&file, text.split('"').map(moved).collect::<Vec<_>>().join("\"")).unwrap();
    }
}

fn was_fast(stage: &Stage) {
    clock_was_off(stage, SignedDuration::from_hours(1));
}

fn was_slow(stage: &Stage) {
    clock_was_off(stage, SignedDuration::from_hours(-1));
}

fn deaths<'a>(
    name: &'static str,
    prepare: &'a (dyn Fn() -> Stage + Sync),
    process: &'a (dyn Fn(&Stage) -> (Command, Value) + Sync),
    recoveries: &'a [Recovery<'a, Stage>],
) -> Deaths<'a, Stage> {
    Deaths { name, at_once: AT_ONCE, scene: |stage| &stage.scene, prepare, process, recoveries }
}

#[test]
fn add() {
    let points = deaths(
        "ADD",
        &|| Stage::new(Case::Plain),
        &verb("ADD"),
        &[
            ("the same ADD", &add_again),
            ("DEL and a new ADD", &new_sandbox_elsewhere),
            ("the pod is deleted, and gc", &pod_deleted_and_collected),
            ("the clock was fast, and a new sandbox", &|stage| {
                was_fast(stage);
                new_sandbox_elsewhere(stage);
            }),
            ("the clock was slow, and the same ADD", &|stage| {
                was_slow(stage);
                add_again(stage);
            }),
        ],
    )
    .sweep();
    assert_has(
        &points,
        &[
            "state directory: made",
            "pod lock: taken",
            "state.json: temporary file made",
            "state.json: renamed",
            "record: to become Intent",
            "record: to become Binding",
            "record: has become Bound",
            "pod lock: removed",
        ],
    );
}

#[test]
fn del() {
    let points = deaths(
        "DEL",
        &|| Stage::deleted(Case::Plain),
        &verb("DEL"),
        &[
            ("the same DEL", &del_again),
            ("the next pod of that name", &next_pod_of_that_name),
            ("gc", &collected),
            ("the clock was fast, and gc", &|stage| {
                was_fast(stage);
                collected(stage);
            }),
            ("the clock was slow, and the same DEL", &|stage| {
                was_slow(stage);
                del_again(stage);
            }),
        ],
    )
    .sweep();
    assert_has(&points, &["record: to become Unbinding", "record: to become Releasing", "record: Releasing forgotten"]);
}

#[test]
fn del_of_a_sandbox_whose_pod_lives() {
    let with_the_same_address = |stage: &Stage| super::super::new_sandbox(stage, ADDRESS);
    deaths(
        "DEL of a living pod's sandbox",
        &|| Stage::added(Case::Plain),
        &verb("DEL"),
        &[
            ("a new sandbox elsewhere", &new_sandbox_elsewhere),
            ("a new sandbox at the same address", &with_the_same_address),
            ("the pod is deleted, and gc", &pod_deleted_and_collected),
        ],
    )
    .sweep();
}

#[test]
fn gc() {
    let points = deaths(
        "gc",
        &|| Stage::deleted(Case::Plain),
        &collection,
        &[("gc", &collected), ("DEL", &del_again), ("the agent", &the_agent_comes)],
    )
    .sweep();
    assert_has(&points, &["record: Releasing forgotten"]);
}

#[test]
fn add_with_the_nodes_ram_role() {
    let points = deaths(
        "ADD with the RAM role",
        &|| Stage::new(Case::RamRole),
        &verb("ADD"),
        &[("DEL and a new ADD", &new_sandbox_elsewhere)],
    )
    .sweep();
    assert_has(&points, &["credentials.json: renamed"]);
}

#[test]
fn del_of_an_eip_that_is_kept() {
    deaths(
        "DEL of a lasting EIP",
        &|| Stage::deleted(Case::Lasting),
        &verb("DEL"),
        &[("the same DEL", &del_again), ("gc", &collected)],
    )
    .sweep();
}
