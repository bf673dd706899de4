//! Refusals of what credentials and the node's place come from: STS, the service account's token, instance metadata.

use podeip_sim::faults::{Effect, Rule, ServiceMatch};

use super::{Cell, IP, Span, assert_refused, ends, play};
use crate::outages::rrsa::{ASK, ASSUME, with_rrsa};
use crate::scene::{Scene, WITH_EIP};

const PROSE: &str = "played by the matrix";

/// HTTP status, code, whether the next try within the verb gets over it, a word of the remedy.
type Row = (u16, &'static str, bool, &'static str);

const STS: [Row; 13] = [
    (401, "AuthenticationFail.NoPermission", false, "trust policy"),
    (401, "AuthenticationFail.OIDCToken.AudienceNotMatch", false, "sts.aliyuncs.com"),
    (401, "AuthenticationFail.OIDCToken.Expired", true, ""),
    (401, "AuthenticationFail.OIDCToken.Invalid", false, "trust policy"),
    (401, "AuthenticationFail.OIDCToken.InvalidSignature", false, "trust policy"),
    (401, "AuthenticationFail.OIDCToken.HttpsUrlInvalid", false, "trust policy"),
    (400, "InvalidParameter", false, "rrsa_role_name"),
    (400, "MissingParameter", false, "rrsa_role_name"),
    (404, "InvalidAction.NotFound", false, "rrsa_role_name"),
    (400, "InvalidTimeStamp.Expired", true, ""),
    (400, "Throttling.User", true, ""),
    (500, "InternalError", true, ""),
    (503, "ServiceUnavailable", true, ""),
];

const TOKENS: [Row; 9] = [
    (400, "BadRequest", false, ""),
    (401, "Unauthorized", false, ""),
    (403, "Forbidden", false, ""),
    (404, "NotFound", false, ""),
    (409, "Conflict", false, ""),
    (422, "Invalid", false, ""),
    (429, "TooManyRequests", true, ""),
    (500, "InternalError", true, ""),
    (503, "ServiceUnavailable", true, ""),
];

fn of_rrsa(call: &str, (status, code, passes, remedy): Row) {
    let scene = with_rrsa();
    let pod = scene.pod("web-0", IP, &[WITH_EIP]);
    let rule = scene.world.faults.add(Span::Once.rule(call, Effect::error(status, code, PROSE)));
    let answer = scene.add(&pod);
    assert_eq!(scene.world.faults.hits(rule), 1);
    if !passes {
        // What STS does not understand is no missing permission.
        let number = if call == ASSUME && status != 401 { 106 } else { 102 };
        assert_refused(&scene, &answer, number, &[code, PROSE, remedy]);
        scene.del(&pod);
    }
    let next = if passes { pod.clone() } else { pod.restarted() };
    if passes { answer } else { scene.add(&next) }.assert_added(&next);
    scene.assert_served(&next);
    ends(&scene, &next);
}

fn metadata_calls() -> Vec<String> {
    let scene = Scene::new();
    scene.use_ram_role();
    let pod = scene.pod("web-0", IP, &[WITH_EIP]);
    scene.add(&pod).assert_added(&pod);
    let mut names: Vec<String> =
        scene.world.calls.all().into_iter().filter(is_metadata).map(|call| call.name).collect();
    names.sort();
    names.dedup();
    names
}

fn is_metadata(call: &podeip_sim::calls::Call) -> bool {
    call.service == podeip_sim::calls::ServiceKind::Metadata
}

/// The CNI code of an ADD that meets this status, and a word of the remedy; `None`: it is got over.
fn end_of_metadata(call: &str, status: u16) -> Option<(u64, &'static str)> {
    match status {
        // Old services have no token, and say so in their own ways.
        _ if call == "put token" => None,
        400 => Some((106, "nothing stands between podeip and the ECS metadata service")),
        404 if call.contains("security-credentials") => Some((102, "attach a RAM role to the node")),
        404 => Some((11, "set it in eni_conf")),
        _ => None,
    }
}

fn of_metadata(call: &str, status: u16) {
    let scene = Scene::new();
    scene.use_ram_role();
    let pod = scene.pod("web-0", IP, &[WITH_EIP]);
    let rule = Rule::on(call, Effect::error(status, "", "")).once().service(ServiceMatch::Metadata);
    let rule = scene.world.faults.add(rule);
    let answer = scene.add(&pod);
    assert_eq!(scene.world.faults.hits(rule), 1);
    let served = match end_of_metadata(call, status) {
        None => {
            answer.assert_added(&pod);
            pod
        }
        Some((code, remedy)) => {
            assert_refused(&scene, &answer, code, &[remedy]);
            scene.del(&pod);
            let next = pod.restarted();
            scene.add(&next).assert_added(&next);
            next
        }
    };
    scene.assert_served(&served);
    ends(&scene, &served);
}

#[test]
fn refusals_of_sts_and_of_the_service_account() {
    let rows = STS.map(|row| (ASSUME, row)).into_iter().chain(TOKENS.map(|row| (ASK, row)));
    let cells: Vec<Cell> =
        rows.map(|(call, row)| Cell::new(format!("{call} {} {}", row.0, row.1), move || of_rrsa(call, row))).collect();
    play("refusals of STS and of the service account", 22, &cells);
}

#[test]
fn refusals_of_instance_metadata() {
    let calls = metadata_calls();
    let mut cells = Vec::new();
    for call in &calls {
        for status in [400, 401, 403, 404, 429, 500, 503] {
            cells.push(Cell::new(format!("{call} {status}"), move || of_metadata(call, status)));
        }
    }
    play("refusals of instance metadata", 25, &cells);
}
