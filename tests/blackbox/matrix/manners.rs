//! What the cloud may or may not do, as its documents leave open, each with each of the losses that hurt most.

use std::time::Duration;

use podeip_sim::cloud::{BusyCode, RepeatCode, Settings};
use podeip_sim::faults::{Effect, Rule, When};

use super::{Cell, IP, ends, play};
use crate::scene::{Scene, WITH_EIP};

/// Listings that are behind by less than the second that people report.
const LAG: Duration = Duration::from_millis(700);

/// Long enough for a repeat to meet the first request at work.
const PROCESSING: u64 = 600;

type Manner = (&'static str, fn(&mut Settings));

const MANNERS: [Manner; 11] = [
    ("as it is by default", |_| {}),
    ("a new EIP is seen late", |cloud| cloud.new_eip_lag = LAG),
    ("changes are seen late", |cloud| cloud.change_lag = LAG),
    ("both are seen late", |cloud| (cloud.new_eip_lag, cloud.change_lag) = (LAG, LAG)),
    ("tags are ignored", |cloud| cloud.ignore_tags_on_allocate = true),
    ("tags are ignored and seen late", |cloud| {
        cloud.ignore_tags_on_allocate = true;
        (cloud.new_eip_lag, cloud.change_lag) = (LAG, LAG);
    }),
    ("a token remembers its refusal", |cloud| cloud.token_remembers_failure = true),
    ("requests take a while", |cloud| {
        for action in ["AllocateEipAddress", "AssociateEipAddress", "UnassociateEipAddress"] {
            cloud.processing.insert(action.into(), PROCESSING);
        }
    }),
    ("busy is IncorrectEipStatus", |cloud| cloud.busy_code = BusyCode::IncorrectEipStatus),
    ("a repeat is Duplicated", |cloud| cloud.repeat_code = RepeatCode::Duplicated),
    ("the next association falls back", |cloud| cloud.failing_associations = 1),
];

/// Calls that change something, and how they are disturbed.
fn losses() -> Vec<(String, Option<Rule>)> {
    let mut losses = vec![("nothing lost".into(), None)];
    for action in ["AllocateEipAddress", "AssociateEipAddress", "UnassociateEipAddress", "ReleaseEipAddress"] {
        let cut = |when| Effect::Cut { when };
        let busy = Effect::error(400, "TaskConflict", "busy");
        for (how, effect) in
            [("lost before", cut(When::BeforeEffect)), ("lost after", cut(When::AfterEffect)), ("refused first", busy)]
        {
            losses.push((format!("{action} {how}"), Some(Rule::on(action, effect).once())));
        }
    }
    losses
}

fn lives((_, manner): Manner, loss: Option<Rule>) {
    let scene = Scene::new();
    scene.world.cloud.set(manner);
    let rule = loss.map(|rule| scene.world.faults.add(rule));
    let pod = scene.pod("web-0", IP, &[WITH_EIP]);
    scene.add(&pod).assert_added(&pod);
    scene.assert_served(&pod);
    scene.delete_pod(&pod);
    scene.del(&pod);
    // On a busy machine a DEL may not have come so far.
    assert!(rule.is_none_or(|rule| scene.world.faults.hits(rule) == 1 || !scene.records().is_empty()));
    ends(&scene, &pod);
}

fn cells(manners: &[Manner]) -> Vec<Cell<'static>> {
    let mut cells = Vec::new();
    for &manner in manners {
        for (loss, rule) in losses() {
            cells.push(Cell::new(format!("{}, {loss}", manner.0), move || lives(manner, rule.clone())));
        }
    }
    cells
}

#[test]
fn manners_of_listings_and_tags() {
    play("manners of listings and tags", 78, &cells(&MANNERS[..6]));
}

#[test]
fn manners_of_answers() {
    play("manners of answers", 65, &cells(&MANNERS[6..]));
}
