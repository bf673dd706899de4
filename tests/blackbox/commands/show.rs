//! `podeip show`: every way to name a pod, what the four sides say of it, and what is said of their differences.

use std::fs;
use std::net::Ipv4Addr;

use podeip_sim::calls::ServiceKind;
use podeip_sim::cloud::{EipView, UserEip, defaults};
use podeip_sim::faults::{Effect, Rule, ServiceMatch};
use podeip_sim::kube::{Owner, PodSpec};
use serde_json::{Value, json};

use super::{added, assert_refused, bare, cells, state};
use crate::scene::{NODE, Sandbox, Scene, WITH_EIP};

const IP: [u8; 4] = [10, 219, 0, 5];
const ADDRESS_KEY: &str = "k8s.aliyun.com/allocated-eipAddress";
const ENI_KEY: &str = "network.alibabacloud.com/allocated-eni-id";

/// A pod in its sandbox, with its EIP in place.
fn healthy() -> (Scene, Sandbox, EipView) {
    let scene = Scene::new();
    let pod = added(&scene, scene.pod("web-0", IP, &[WITH_EIP]));
    let eip = scene.assert_served(&pod);
    (scene, pod, eip)
}

/// What `podeip show` prints; it succeeds and says nothing on stderr.
#[track_caller]
fn shown(scene: &Scene, named: &str) -> String {
    let answer = scene.podeip(&["show", named]);
    assert_eq!((answer.code, answer.stderr.as_str()), (Some(0), ""), "{answer:?}");
    answer.stdout
}

#[track_caller]
fn as_json(scene: &Scene, named: &str) -> Value {
    let answer = scene.podeip(&["show", named, "-o", "json"]);
    assert_eq!((answer.code, answer.stderr.as_str()), (Some(0), ""), "{answer:?}");
    serde_json::from_str(&answer.stdout).unwrap()
}

/// The cells of one line that stand after its first, or after its mark and `fact`.
#[track_caller]
fn row(printed: &str, fact: &str) -> Vec<String> {
    let rows = cells(printed);
    let at = |row: &[String]| row.iter().take(2).position(|cell| cell == fact);
    let row = rows.iter().find_map(|row| at(row).map(|at| row[at + 1..].to_vec()));
    row.unwrap_or_else(|| panic!("no row {fact} in\n{printed}"))
}

/// The facts that are marked, in order.
fn marked(printed: &str) -> Vec<String> {
    let rows = cells(printed);
    rows.iter().filter(|row| row.len() > 2 && row[0] == "!").map(|row| row[1].clone()).collect()
}

/// The sentences about differences.
fn sentences(printed: &str) -> Vec<&str> {
    printed
        .lines()
        .filter_map(|line| line.strip_prefix("! "))
        .map(str::trim)
        .filter(|it| it.starts_with("the"))
        .collect()
}

/// Nothing is marked and nothing is said to differ.
#[track_caller]
fn assert_agreed(printed: &str) {
    assert_eq!((marked(printed), sentences(printed)), (vec![], vec![]), "{printed}");
    assert!(printed.contains("no differences"), "{printed}");
}

/// Exactly these facts are marked, and exactly this is said.
#[track_caller]
fn assert_differs(printed: &str, facts: &[&str], said: &[&str]) {
    assert_eq!((marked(printed), sentences(printed)), (facts.iter().map(|it| it.to_string()).collect(), said.to_vec()));
}

#[test]
fn a_healthy_pod_side_by_side() {
    let (scene, pod, eip) = healthy();
    let before = (state(&scene), scene.world.calls.mark());
    let printed = shown(&scene, "default/web-0");
    assert_agreed(&printed);
    assert_eq!(printed.lines().next(), Some("pod default/web-0"));
    assert_eq!(row(&printed, "FACT"), ["RECORD", "PODEIP", "POD", "CLOUD"]);
    let address = eip.address.to_string();
    for (fact, cells) in [
        ("EIP-ID", [eip.id.as_str(); 4]),
        ("ADDRESS", [&address; 4]),
        ("STATUS", ["Bound", "InUse", "Pending", "InUse"]),
        ("PRIVATE-IP", ["10.219.0.5", "10.219.0.5", "-", "10.219.0.5"]),
        ("ENI", [defaults::POD_ENI; 4]),
        ("TYPE", ["Auto", "Auto", "-", "-"]),
        ("STRATEGY", ["Follow", "Follow", "Follow", "-"]),
        ("BANDWIDTH", ["5", "-", "5", "5"]),
        ("POD-UID", [&pod.uid; 4]),
        ("NODE", ["-", NODE, NODE, NODE]),
    ] {
        assert_eq!(row(&printed, fact), cells, "{fact}");
    }
    assert!(printed.contains(&format!("container: {}\nlast error: none\n", pod.container_id)), "{printed}");
    let event = row(&printed, "1");
    assert_eq!(event, ["EIPBound", &format!("EIP {address} ({}) is bound on {}", eip.id, defaults::POD_ENI)]);

    assert_eq!(state(&scene), before.0, "looking changes nothing");
    let calls: Vec<String> = scene.world.calls.since(before.1).into_iter().map(|call| call.name).collect();
    for looked in ["get pods", "get podeips", "list events", "DescribeEipAddresses"] {
        assert_eq!(calls.iter().filter(|call| *call == looked).count(), 1, "{looked} in {calls:?}");
    }
    assert_eq!(calls.len(), 4, "{calls:?}");
}

#[test]
fn every_way_to_name_a_pod_of_this_node() {
    let (scene, pod, eip) = healthy();
    added(&scene, scene.pod("web-1", [10, 219, 0, 6], &[WITH_EIP]));
    let expected = as_json(&scene, "default/web-0");
    assert_eq!(expected["record"]["podUid"], pod.uid);
    let prefix = &pod.container_id[..pod.container_id.trim_end_matches('0').len()];
    let (address, ip) = (eip.address.to_string(), pod.ip.to_string());
    for named in ["web-0", &eip.id, &address, &ip, &pod.container_id] {
        assert_eq!(as_json(&scene, named), expected, "{named}");
    }
    // Container ids of these tests begin alike; this one shall not.
    let unique = format!("beef{}", &prefix[4..]);
    let records = String::from_utf8(state(&scene)).unwrap().replace(&pod.container_id, &unique);
    fs::write(scene.state_dir().join("state.json"), records).unwrap();
    assert_eq!(as_json(&scene, "beef")["record"]["containerId"], unique);
    assert_refused(&scene.podeip(&["show", "bee"]), &["nothing is known of bee", "pod default/bee", "NAMESPACE/NAME"]);
}

#[test]
fn an_ambiguous_name_lists_what_it_may_mean() {
    let (scene, pod, eip) = healthy();
    let other = added(&scene, scene.pod_with(PodSpec::new("shop", "web-0"), [10, 219, 0, 6], &[WITH_EIP]));
    for named in ["web-0", &pod.container_id[..8]] {
        let answer = scene.podeip(&["show", named]);
        assert_eq!((answer.code, answer.stdout.as_str()), (Some(1), ""), "{answer:?}");
        let first = format!("podeip: {named} means 2 attachments of this node; choose one by what it has alone:");
        let lines = cells(&answer.stderr);
        assert_eq!(lines[0], [first]);
        assert_eq!(lines[1], ["POD", "EIP-ID", "EIP", "PRIVATE-IP", "PHASE", "CONTAINER"]);
        let address = eip.address.to_string();
        assert_eq!(lines[2], ["default/web-0", &eip.id, &address, "10.219.0.5", "Bound", &pod.container_id]);
        assert_eq!((lines.len(), lines[3][0].as_str()), (4, "shop/web-0"));
    }
    assert_eq!(as_json(&scene, "shop/web-0")["record"]["podUid"], other.uid);
}

#[test]
fn what_is_no_name_is_refused_with_2() {
    for named in ["a/b/c", "/web-0", "web 0", "", "x,involvedObject.uid=1"] {
        let answer = bare(&["show", named]);
        assert_eq!((answer.code, answer.stdout.as_str()), (Some(2), ""), "{answer:?}");
        assert!(answer.stderr.contains("neither NAMESPACE/NAME nor the name of"), "{answer:?}");
    }
    assert_eq!(bare(&["show"]).code, Some(2));
}

#[test]
fn an_eip_that_was_taken_off_by_hand() {
    let (scene, _, eip) = healthy();
    scene.world.cloud.unbind_by_hand(&eip.id).unwrap();
    let believed = format!("but the record and the PodEIP say it is bound on {} (10.219.0.5)", defaults::POD_ENI);
    let place = ["STATUS", "PRIVATE-IP", "ENI"];
    let said = format!("the cloud shows {} unbound, {believed}", eip.id);
    assert_differs(&shown(&scene, "web-0"), &place, &[&said]);

    scene.world.cloud.bind_by_hand(&eip.id, defaults::PRIMARY_ENI, defaults::PRIMARY_IP.parse().unwrap()).unwrap();
    let said = format!("the cloud shows {} bound on {}, {believed}", eip.id, defaults::PRIMARY_ENI);
    let printed = shown(&scene, "web-0");
    assert_differs(&printed, &place[1..], &[&said]);
    assert_eq!(row(&printed, "PRIVATE-IP")[3], "primary");

    scene.world.cloud.release_by_hand(&eip.id).unwrap();
    let said = format!("the cloud has no {}, {believed}", eip.id);
    let printed = shown(&scene, "web-0");
    assert_differs(&printed, &place, &[&said]);
    assert!(printed.contains("the cloud has no EIP of it"), "{printed}");
    assert_eq!(as_json(&scene, "web-0")["cloud"], Value::Null);
}

#[test]
fn a_pod_eip_that_was_edited_or_removed() {
    let (scene, pod, eip) = healthy();
    let edit = |change: Value| drop(scene.world.cluster.merge("podeips", "default", "web-0", &change).unwrap());
    edit(json!({"spec": {"allocationType": {"releaseStrategy": "Never"}}}));
    let said = "the PodEIP says strategy Never, but the record and the pod say Follow";
    assert_differs(&shown(&scene, "web-0"), &["STRATEGY"], &[said]);

    edit(json!({"spec": {"allocationID": "eip-other", "allocationType": {"releaseStrategy": "Follow"}}}));
    let said = format!("the PodEIP says EIP id eip-other, but the record, the cloud and the pod say {}", eip.id);
    assert_differs(&shown(&scene, "web-0"), &["EIP-ID"], &[&said]);

    edit(json!({"spec": {"allocationID": eip.id}, "status": {"privateIPAddress": "10.219.0.9"}}));
    let eni = defaults::POD_ENI;
    let said = format!(
        "the PodEIP says {} is bound on {eni} (10.219.0.9), but the record and the cloud say it is bound on {eni} \
         (10.219.0.5)",
        eip.id
    );
    assert_differs(&shown(&scene, "web-0"), &["PRIVATE-IP"], &[&said]);

    scene.world.cluster.remove("podeips", &pod.namespace, &pod.name).unwrap();
    let said = format!("there is no PodEIP default/web-0, but the record says that {} is published in one", eip.id);
    let printed = shown(&scene, "web-0");
    assert_differs(&printed, &["EIP-ID"], &[&said]);
    assert_eq!(row(&printed, "EIP-ID")[1], "-");
}

#[test]
fn annotations_that_were_removed_or_changed() {
    let (scene, _, eip) = healthy();
    let annotate = |key: &str, value: Value| {
        let change = json!({"metadata": {"annotations": {key: value}}});
        scene.world.cluster.merge("pods", "default", "web-0", &change).unwrap();
    };
    annotate(ADDRESS_KEY, Value::Null);
    let said = format!("the pod does not carry {} in its annotations {ADDRESS_KEY}", eip.id);
    assert_differs(&shown(&scene, "web-0"), &["ADDRESS"], &[&said]);
    annotate(ADDRESS_KEY, json!("198.51.100.1"));
    let (address, other) = (eip.address.to_string(), "198.51.100.1");
    let said =
        format!("the pod says address {other}, {address}, but the record, the PodEIP and the cloud say {address}");
    assert_differs(&shown(&scene, "web-0"), &["ADDRESS"], &[&said]);
    annotate(ADDRESS_KEY, json!(address));
    annotate(ENI_KEY, json!("eni-other"));
    let said = format!("the pod says ENI eni-other, but {} is on {}", eip.id, defaults::POD_ENI);
    assert_differs(&shown(&scene, "web-0"), &["ENI"], &[&said]);
}

#[test]
fn a_side_that_is_down_says_why_and_spoils_no_other() {
    let (scene, _, eip) = healthy();
    scene.world.take_down(ServiceKind::Vpc);
    let printed = shown(&scene, "web-0");
    assert_agreed(&printed);
    assert_eq!(row(&printed, "EIP-ID"), [&eip.id, &eip.id, &eip.id, "?"]);
    let reason = format!("the cloud is unknown: DescribeEipAddresses {}: could not reach the service", eip.id);
    assert!(printed.contains(&reason) && printed.contains("EIPBound"), "{printed}");
    scene.world.bring_up(ServiceKind::Vpc);

    scene.world.take_down(ServiceKind::Kube);
    let printed = shown(&scene, "web-0");
    assert_agreed(&printed);
    assert_eq!(row(&printed, "EIP-ID"), [&eip.id, "?", "?", &eip.id]);
    for call in ["PodEIP is unknown: get podeips", "pod is unknown: get pods", "events are unknown: list events"] {
        assert!(printed.contains(&format!("the {call}")), "{call} in {printed}");
    }
    let object = as_json(&scene, "web-0");
    for side in ["podEip", "pod", "events"] {
        let reason = object[side]["unknown"].as_str().unwrap();
        assert!(reason.contains(&scene.world.kube_url), "{side}: {reason}");
    }
    assert_eq!((&object["differences"], &object["cloud"]["eipId"]), (&json!([]), &json!(eip.id)));
}

#[test]
fn what_is_down_does_not_keep_the_rest_from_being_found() {
    let (scene, pod, eip) = healthy();
    fs::remove_dir_all(scene.state_dir()).unwrap();
    scene.world.take_down(ServiceKind::Kube);
    // The tags name the pod.
    let object = as_json(&scene, &eip.id);
    assert_eq!((&object["record"], &object["cloud"]["tags"]["podeip-uid"]), (&Value::Null, &json!(pod.uid)));

    scene.world.take_down(ServiceKind::Vpc);
    let answer = scene.podeip(&["show", "web-0"]);
    let words = ["nothing is known of web-0", "no record", "the PodEIP is unknown", "the cloud is unknown"];
    assert_refused(&answer, &words);
    let words = ["nothing is known of eip-1", "no record", "the cloud is unknown", "the PodEIPs are unknown"];
    assert_refused(&scene.podeip(&["show", "eip-1"]), &words);
}

#[test]
fn sides_that_hang_do_not_hold_it_up() {
    let (scene, _, eip) = healthy();
    let hang = || Effect::Hang { when: podeip_sim::faults::When::BeforeEffect };
    scene.world.faults.add(Rule::on("*", hang()).service(ServiceMatch::Kube));
    scene.world.faults.add(Rule::on("*", hang()).service(ServiceMatch::Cloud));
    let object = as_json(&scene, "web-0");
    assert_eq!(object["record"]["eipId"], eip.id);
    assert!(object["cloud"]["unknown"].as_str().unwrap().contains("not answered"), "{object}");
    assert!(object["pod"]["unknown"].as_str().unwrap().contains("no answer"), "{object}");
}

#[test]
fn what_cannot_be_read_on_the_node_is_one_side_too() {
    let (scene, pod, eip) = healthy();
    scene.write("eni_conf", "{");
    let printed = shown(&scene, "web-0");
    assert_eq!(row(&printed, "STATUS"), ["Bound", "InUse", "Pending", "?"]);
    assert!(printed.contains("the cloud is unknown: the settings in"), "{printed}");
    scene.configure(|_| {});

    fs::remove_file(scene.path("kubeconfig")).unwrap();
    let printed = shown(&scene, "web-0");
    assert_eq!(row(&printed, "EIP-ID"), [&eip.id, "?", "?", &eip.id]);
    scene.write("kubeconfig", &scene.world.kubeconfig());

    fs::write(scene.state_dir().join("state.json"), r#"{"version":7,"attachments":"new"}"#).unwrap();
    let object = as_json(&scene, "web-0");
    let reason = object["record"]["unknown"].as_str().unwrap();
    assert!(reason.contains("has version 7") && reason.contains("install the newer podeip"), "{reason}");
    assert_eq!((&object["pod"]["uid"], &object["cloud"]["eipId"]), (&json!(pod.uid), &json!(eip.id)));
}

#[test]
fn nothing_is_known_of_a_pod_that_does_not_exist() {
    let scene = Scene::new();
    let words = ["nothing is known of shop/web-0", "this node has no record of it", "there is no PodEIP"];
    assert_refused(&scene.podeip(&["show", "shop/web-0"]), &words);
    for (named, absent) in [("eip-none", "the cloud has no such EIP"), ("10.0.0.1", "no PodEIP names it")] {
        assert_refused(&scene.podeip(&["show", named]), &["nothing is known of", named, absent]);
    }
    assert!(!scene.state_dir().join("state.json").exists(), "looking records nothing");
}

#[test]
fn a_pod_that_asks_for_nothing_and_one_that_got_nothing() {
    let scene = Scene::new();
    scene.pod("plain", IP, &[]);
    let printed = shown(&scene, "plain");
    assert_agreed(&printed);
    for line in ["this node has no record of it", "there is no PodEIP", "the pod asks for no EIP"] {
        assert!(printed.lines().any(|it| it == line), "{line} in {printed}");
    }
    scene.pod("left-out", IP, &[WITH_EIP]);
    let said = "the pod asks for an EIP, but neither this node, a PodEIP nor the cloud has one";
    assert_differs(&shown(&scene, "left-out"), &["EIP-ID"], &[said]);
}

#[test]
fn a_pod_of_another_node_and_every_way_to_name_it() {
    let (scene, pod, eip) = healthy();
    fs::remove_dir_all(scene.state_dir()).unwrap();
    let expected = as_json(&scene, "default/web-0");
    assert_eq!((&expected["record"], &expected["differences"]), (&Value::Null, &json!([])));
    assert_eq!((&expected["pod"]["uid"], &expected["cloud"]["eipId"]), (&json!(pod.uid), &json!(eip.id)));
    let (address, ip) = (eip.address.to_string(), pod.ip.to_string());
    for named in ["web-0", &eip.id, &address, &ip] {
        assert_eq!(as_json(&scene, named), expected, "{named}");
    }
    // Only the tags say whose it is.
    scene.world.cluster.remove("podeips", "default", "web-0").unwrap();
    let said = format!(
        "the cloud shows {} allocated for pod default/web-0, but neither a record of this node nor a PodEIP claims it",
        eip.id
    );
    for named in ["web-0", &eip.id, &address] {
        assert_differs(&shown(&scene, named), &["EIP-ID"], &[&said]);
    }
    assert_refused(&scene.podeip(&["show", &ip]), &["nothing is known of 10.219.0.5"]);
}

#[test]
fn an_eip_of_the_users_own() {
    let scene = Scene::new();
    let named = [("k8s.aliyun.com/pod-eip-instanceid", defaults::USER_EIP)];
    added(&scene, scene.pod("web-0", IP, &named));
    assert_agreed(&shown(&scene, "web-0"));
    // It has no owner tags, but its PodEIP names it.
    fs::remove_dir_all(scene.state_dir()).unwrap();
    let printed = shown(&scene, defaults::USER_EIP);
    assert_agreed(&printed);
    assert_eq!(row(&printed, "TYPE"), ["-", "Static", "Static", "-"]);
}

#[test]
fn an_eip_that_no_pod_claims() {
    let scene = Scene::new();
    let tags = [("podeip-cluster", "c2"), ("podeip-namespace", "shop"), ("podeip-pod", "web-0"), ("podeip-uid", "u")];
    let tags = tags.map(|(key, value)| (key.to_string(), value.to_string())).into();
    let foreign = scene.world.cloud.create_user_eip(UserEip { tags, ..UserEip::default() });
    for (eip, owner) in [(foreign.as_str(), "shop/web-0 of cluster c2"), (defaults::USER_EIP, "")] {
        let printed = shown(&scene, eip);
        assert_agreed(&printed);
        assert_eq!(printed.lines().next(), Some("an EIP that no pod of this cluster claims"));
        assert_eq!(row(&printed, "STATUS"), ["-", "-", "-", "Available"]);
        assert!(owner.is_empty() || row(&printed, "POD")[3] == owner, "{printed}");
    }
}

#[test]
fn more_eips_than_one_of_a_pod() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", IP, &[WITH_EIP]);
    let owner = [
        ("podeip-cluster", defaults::CLUSTER),
        ("podeip-namespace", "default"),
        ("podeip-pod", "web-0"),
        ("podeip-uid", &pod.uid),
    ];
    let tagged = || owner.map(|(key, value)| (key.to_string(), value.to_string())).into();
    let eip = || scene.world.cloud.create_user_eip(UserEip { tags: tagged(), ..UserEip::default() });
    let (idle, bound) = (eip(), eip());
    scene.world.cloud.bind_by_hand(&bound, defaults::POD_ENI, Ipv4Addr::from(IP)).unwrap();
    let object = as_json(&scene, "web-0");
    assert_eq!((&object["cloud"]["eipId"], &object["cloud"]["more"]), (&json!(bound), &json!([idle])));
    let said = format!("the cloud shows more EIPs that were allocated for pod default/web-0: {idle}");
    assert_eq!(object["differences"][0]["message"], said);
}

#[test]
fn a_failed_add_its_error_and_its_events() {
    let scene = Scene::new();
    let refusal = Effect::error(403, "Forbidden.RAM", "not\nauthorized \u{1b}[2J");
    scene.world.faults.add(Rule::on("AssociateEipAddress", refusal));
    let pod = scene.pod("web-0", IP, &[WITH_EIP]);
    for _ in 0..2 {
        scene.add(&pod).assert_error(102, &["Forbidden.RAM"]);
    }
    let printed = shown(&scene, "web-0");
    let error = printed.lines().find_map(|line| line.strip_prefix("last error: ")).unwrap();
    assert!(error.contains("Forbidden.RAM") && error.contains(r"not\nauthorized"), "{error}");
    assert!(!printed.contains('\u{1b}'), "{printed}");
    assert_eq!(row(&printed, "STATUS")[..3], ["Held", "-", "Pending"]);
    let object = as_json(&scene, "web-0");
    let told = object["events"].as_array().unwrap();
    assert!(told.iter().all(|event| event["type"] == "Warning" && event["reason"] == "EIPFailed"), "{told:?}");
    assert_eq!(told.iter().map(|event| event["count"].as_u64().unwrap()).sum::<u64>(), 2, "{told:?}");
}

#[test]
fn events_of_others_and_of_earlier_instances_are_not_shown() {
    let scene = Scene::new();
    let of_set = || PodSpec { owners: vec![Owner::new("StatefulSet", "web")], ..PodSpec::new("default", "web-0") };
    let first = added(&scene, scene.pod_with(of_set(), IP, &[WITH_EIP]));
    scene.delete_pod(&first);
    scene.del(&first);
    let second = added(&scene, scene.pod_with(of_set(), IP, &[WITH_EIP]));
    let eip = scene.assert_served(&second);
    let foreign = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"namespace": "default", "name": "foreign"},
        "involvedObject": {"apiVersion": "v1", "kind": "Pod", "namespace": "default", "name": "web-0", "uid": second.uid},
        "type": "Normal", "reason": "Pulled", "message": "m", "source": {"component": "kubelet"}, "count": 1,
        "firstTimestamp": "2024-03-01T10:00:00Z", "lastTimestamp": "2024-03-01T10:00:00Z",
    });
    scene.world.cluster.create(foreign).unwrap();
    let events = as_json(&scene, "web-0")["events"].clone();
    assert_eq!(events.as_array().unwrap().len(), 1, "{events}");
    assert!(events[0]["message"].as_str().unwrap().contains(&eip.id), "{events}");
}

#[test]
fn a_pod_that_is_gone_or_has_a_successor() {
    let (scene, pod, eip) = healthy();
    scene.delete_pod(&pod);
    let said = format!("the API server has no pod default/web-0, but the record holds {} for it", eip.id);
    assert_differs(&shown(&scene, "web-0"), &["STATUS"], &[&said]);
    let successor = scene.pod("web-0", [10, 219, 0, 6], &[WITH_EIP]);
    let said =
        format!("the pod says pod UID {}, but the record, the PodEIP and the cloud say {}", successor.uid, pod.uid);
    assert_differs(&shown(&scene, "web-0"), &["POD-UID"], &[&said]);
}

#[test]
fn the_json_object_is_made_for_scripts() {
    let (scene, pod, eip) = healthy();
    scene.world.cloud.unbind_by_hand(&eip.id).unwrap();
    let mut object = as_json(&scene, "web-0");
    let listed: Value = serde_json::from_str(&scene.podeip(&["list", "-o", "json"]).stdout).unwrap();
    assert_eq!(object["record"], listed[0]);
    object.as_object_mut().unwrap().remove("record");
    let verbs = object.as_object_mut().unwrap().remove("verbs").unwrap();
    assert_eq!((&verbs[0]["verb"], &verbs[0]["outcome"]), (&json!("ADD"), &json!("ok")));
    for stage in ["credentials", "eni", "allocate", "associate", "wait", "publish"] {
        assert!(verbs[0]["stages"][stage].as_f64().unwrap() <= verbs[0]["seconds"].as_f64().unwrap(), "{verbs}");
    }
    let table = scene.podeip(&["show", "web-0"]).stdout;
    assert!(table.contains("STAGES") && table.contains(", publish 0."), "{table}");
    for (side, key) in [("podEip", "createdAt"), ("podEip", "podLastSeen")] {
        let time = object[side].as_object_mut().unwrap().remove(key).unwrap();
        assert!(time.as_str().unwrap().ends_with('Z'), "{side}.{key}: {time}");
    }
    let time = object["events"][0].as_object_mut().unwrap().remove("lastSeen").unwrap();
    assert!(time.as_str().unwrap().ends_with('Z'), "{time}");
    let (id, address, eni) = (&eip.id, eip.address, defaults::POD_ENI);
    assert_eq!(
        object,
        json!({
            "podEip": {"namespace": "default", "name": "web-0", "podUid": pod.uid, "node": NODE,
                "eipId": id, "eipAddress": address, "type": "Auto", "strategy": "Follow", "bandwidthPackage": null,
                "status": "InUse", "privateIp": "10.219.0.5", "eni": eni, "deleting": false, "problem": null},
            "pod": {"namespace": "default", "name": "web-0", "uid": pod.uid, "node": NODE, "phase": "Pending",
                "terminating": false, "eipIds": [id], "eipAddresses": [address], "eni": eni},
            "cloud": {"eipId": id, "eipAddress": address, "status": "Available", "instanceId": null,
                "instanceType": null, "privateIp": null, "bandwidth": 5, "bandwidthPackage": null,
                "chargeType": "PayByTraffic", "isp": "BGP", "name": null, "tags": eip.tags, "locked": [], "more": []},
            "differences": [{"facts": ["status", "privateIp", "eni"], "sides": ["cloud"], "message": format!(
                "the cloud shows {id} unbound, but the record and the PodEIP say it is bound on {eni} (10.219.0.5)")}],
            "events": [{"type": "Normal", "reason": "EIPBound", "count": 1,
                "message": format!("EIP {address} ({id}) is bound on {eni}")}],
        })
    );
}
