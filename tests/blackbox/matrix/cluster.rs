//! Refusals of the API server, at every call of ADD and DEL.

use std::collections::BTreeSet;

use podeip_sim::calls::ServiceKind;
use podeip_sim::faults::{Effect, ServiceMatch};
use podeip_sim::gates::{Moment, Outcome};

use super::{Cell, IP, Span, assert_refused, configure, ends, play, recovers};
use crate::scene::{PATIENCE, Sandbox, Scene, WITH_EIP};

/// Status and reason as API servers pair them.
const REFUSALS: [(u16, &str); 10] = [
    (400, "BadRequest"),
    (401, "Unauthorized"),
    (403, "Forbidden"),
    (404, "NotFound"),
    (409, "Conflict"),
    (410, "Expired"),
    (422, "Invalid"),
    (429, "TooManyRequests"),
    (500, "InternalError"),
    (503, "ServiceUnavailable"),
];

const PROSE: &str = "played by the matrix";

/// What an ADD says of a pod that does not exist.
const NO_POD: &str = "the API server has no pod default/web-0";

/// What one refusal of this kind comes to in an ADD.
enum End {
    Served,
    /// The CNI code and a word of the remedy.
    Refused(u64, &'static str),
}

fn end_of_add(call: &str, status: u16) -> End {
    match (call, status) {
        // Nobody fails a pod for want of an event.
        ("create events", _) => End::Served,
        (_, 429 | 500 | 503) => End::Served,
        (_, 401) => End::Refused(107, "kube-system/podeip"),
        (_, 403) => End::Refused(107, "install/rbac.yaml"),
        // There is none yet, says the first look; and the second one is right.
        ("get podeips", 404) => End::Served,
        // Somebody was faster: it is read and written again.
        ("create podeips" | "patch podeips/status", 409) => End::Served,
        ("get pods", 404) => End::Refused(11, NO_POD),
        (_, 409) => End::Refused(11, ""),
        _ => End::Refused(107, ""),
    }
}

fn pod(scene: &Scene) -> Sandbox {
    scene.pod("web-0", IP, &[WITH_EIP])
}

fn rehearse() -> [BTreeSet<String>; 2] {
    let scene = Scene::new();
    let pod = pod(&scene);
    scene.add(&pod).assert_added(&pod);
    let added = scene.world.calls.mark();
    scene.delete_pod(&pod);
    scene.del(&pod);
    let calls = scene.world.calls.all();
    let of_kube = |early: bool| {
        let calls = calls.iter().filter(|call| call.service == ServiceKind::Kube && (call.seq <= added) == early);
        calls.map(|call| call.name.clone()).collect()
    };
    [of_kube(true), of_kube(false)]
}

fn in_add(call: &str, (status, reason): (u16, &'static str), span: Span) {
    let scene = Scene::new();
    configure(&scene, span);
    let pod = pod(&scene);
    let rule = span.rule(call, Effect::error(status, reason, PROSE)).service(ServiceMatch::Kube);
    let rule = scene.world.faults.add(rule);
    let answer = scene.add(&pod);
    assert!(scene.world.faults.hits(rule) > 0);
    let end = match end_of_add(call, status) {
        End::Served if span == Span::ForGood && call != "create events" => End::Refused(11, ""),
        end => end,
    };
    match end {
        End::Served => {
            answer.assert_added(&pod);
            if status == 429 && call != "create events" {
                assert_waited(&scene, call);
            }
            scene.assert_served(&pod);
            ends(&scene, &pod);
        }
        End::Refused(code, remedy) => {
            let said = format!("HTTP {status} {reason}");
            let words = if remedy == NO_POD { [remedy, "", "", ""] } else { [call, &said, PROSE, remedy] };
            assert_refused(&scene, &answer, code, &words);
            assert!(scene.on(pod.ip).is_empty(), "a failed ADD leaves nothing bound");
            recovers(&scene, &pod);
        }
    }
}

fn in_del(call: &str, (status, reason): (u16, &'static str), span: Span) {
    let scene = Scene::new();
    let pod = pod(&scene);
    scene.add(&pod).assert_added(&pod);
    configure(&scene, span);
    scene.delete_pod(&pod);
    if status == 404 && call.ends_with(" podeips") {
        del_while_it_goes(&scene, &pod, call);
    } else {
        scene.world.faults.add(span.rule(call, Effect::error(status, reason, PROSE)).service(ServiceMatch::Kube));
        scene.del(&pod);
    }
    assert!(scene.on(pod.ip).is_empty(), "the address is free whatever the API server says\n{}", scene.log());
    scene.world.faults.clear();
    scene.gc();
    ends(&scene, &pod);
}

/// The call was repeated no earlier than the API server had asked for.
fn assert_waited(scene: &Scene, call: &str) {
    let calls = scene.world.calls.named(call);
    let pause = calls[1].began.duration_since(calls[0].began);
    assert!(pause.as_millis() >= 1000, "{call} was repeated after {pause}");
}

/// DEL while somebody removes the PodEIP, just before this call: only then is it true that there is none.
fn del_while_it_goes(scene: &Scene, pod: &Sandbox, call: &str) {
    let gate = scene.world.faults.gate_on(ServiceMatch::Kube, call, 1, Moment::BeforeEffect);
    let deleting = scene.spawn("DEL", pod);
    assert!(gate.wait_reached(PATIENCE), "{}", scene.log());
    scene.world.cluster.remove("podeips", &pod.namespace, &pod.name);
    gate.release(Outcome::Continue);
    assert_eq!(deleting.wait_with_output().unwrap().status.code(), Some(0), "{}", scene.log());
}

fn cells(calls: &BTreeSet<String>, story: fn(&str, (u16, &'static str), Span)) -> Vec<Cell<'_>> {
    let mut cells = Vec::new();
    for call in calls {
        for refusal in REFUSALS {
            let name = format!("{call} {}", refusal.0);
            if matches!(refusal.0, 429 | 503) {
                cells.push(Cell::new(format!("{name} for good"), move || story(call, refusal, Span::ForGood)));
            }
            cells.push(Cell::new(name, move || story(call, refusal, Span::Once)));
        }
    }
    cells
}

#[test]
fn refusals_of_the_api_server_in_add() {
    play("refusals of the API server in ADD", 60, &cells(&rehearse()[0], in_add));
}

#[test]
fn refusals_of_the_api_server_in_del() {
    play("refusals of the API server in DEL", 30, &cells(&rehearse()[1], in_del));
}
