//! Pods that run with the EIPs of another system, and `podeip migrate`, which makes them podeip's or hands them back.

mod killed;
mod peers;
mod release;

use std::collections::BTreeMap;

use podeip_sim::cloud::{EipView, UserEip, defaults};
use podeip_sim::kube::PodSpec;
use serde_json::{Value, json};

use crate::scene::{Answer, OTHER_NODE, Scene, WITH_EIP};
use peers::{End, Served, ack_extend, living, outliving, serve, terway};

fn migrate(scene: &Scene, arguments: &[&str]) -> Answer {
    scene.podeip(&[&["migrate"], arguments].concat())
}

/// What `-o json` says of each pod: plan, and result if there is one.
fn told(answer: &Answer) -> BTreeMap<String, (String, String)> {
    let rows: Vec<Value> = serde_json::from_str(&answer.stdout).unwrap_or_else(|_| panic!("{answer:?}"));
    let text = |row: &Value, key: &str| row[key].as_str().unwrap_or_default().to_owned();
    rows.iter().map(|row| (text(row, "pod"), (text(row, "plan"), text(row, "result")))).collect()
}

fn why(answer: &Answer, pod: &str) -> String {
    let rows: Vec<Value> = serde_json::from_str(&answer.stdout).unwrap();
    rows.iter().find(|row| row["pod"] == pod).unwrap()["why"].as_str().unwrap_or_default().to_owned()
}

/// Where every EIP is bound.
fn bindings(scene: &Scene) -> Vec<String> {
    let shown = |eip: &EipView| format!("{} {:?} {:?}", eip.id, eip.status, eip.binding);
    scene.world.cloud.eips().iter().map(shown).collect()
}

#[track_caller]
fn assert_nothing_was_bound_or_bought(scene: &Scene) {
    for call in ["AssociateEipAddress", "UnassociateEipAddress", "AllocateEipAddress", "ReleaseEipAddress"] {
        assert!(scene.world.calls.named(call).is_empty(), "{call}");
    }
}

#[track_caller]
fn assert_managed(scene: &Scene, pod: &Served) {
    let eip = scene.assert_served(&pod.sandbox);
    assert_eq!(eip.id, pod.eip);
    let uid = (pod.kind == "Auto").then_some(pod.sandbox.uid.as_str());
    assert_eq!(eip.tag("podeip-uid"), uid, "{}", pod.sandbox.name);
    let object = scene.pod_eip(&pod.sandbox).unwrap();
    assert_eq!(object["metadata"]["annotations"]["podeip/pod-uid"], pod.sandbox.uid);
    assert_eq!(object["metadata"]["finalizers"], json!(["podeip-controller.alibabacloud.com/finalizer"]));
    let wanted = &object["spec"]["allocationType"];
    assert_eq!((&wanted["type"], pod.strategy_in(wanted)), (&json!(pod.kind), true), "{}: {wanted}", pod.sandbox.name);
}

/// Twenty pods and what each has: most of a Deployment, some fixed, some with an EIP of the user's.
fn twenty(scene: &Scene, make: fn(&Scene, &str, u8, End) -> Served) -> Vec<Served> {
    let end = |nth: u8| match nth {
        0..14 => End::Follows,
        14..17 => End::Fixed,
        _ => End::Users,
    };
    (0..20).map(|nth| make(scene, &format!("pod-{nth}"), 10 + nth, end(nth))).collect()
}

/// From the first look to the last DEL.
fn migrates(from: &str, pods: &[Served], scene: &Scene) {
    let before = (bindings(scene), scene.world.cluster.dump(), scene.world.cloud.state());
    let dry = migrate(scene, &["--from", from, "--dry-run", "-o", "json"]);
    assert_eq!((dry.code, dry.stderr.as_str()), (Some(0), ""), "{dry:?}");
    assert!(told(&dry).len() == 20 && told(&dry).values().all(|row| *row == ("takeOver".into(), String::new())));
    assert_eq!((bindings(scene), scene.world.cluster.dump(), scene.world.cloud.state()), before, "a dry run");
    assert!(scene.records().is_empty());

    let done = migrate(scene, &["--from", from]);
    assert_eq!((done.code, done.stderr.as_str()), (Some(0), ""), "{done:?}");
    let words = |word: &str| done.stdout.lines().filter(|line| line.contains(word)).count();
    assert_eq!((words("take over"), words("taken over"), words("RESULT")), (20, 20, 1), "{}", done.stdout);
    assert_eq!(bindings(scene), before.0);
    pods.iter().for_each(|pod| assert_managed(scene, pod));
    let list = scene.podeip(&["list"]);
    assert_eq!(list.stdout.lines().filter(|line| line.contains("   Bound   ")).count(), 20, "{list:?}");
    assert!(scene.gc().stdout.lines().skip(1).all(|line| line.contains("in use")));

    let (files, mark) = (scene.records(), scene.world.calls.mark());
    let again = migrate(scene, &["--from", from, "-o", "json"]);
    assert!(told(&again).values().all(|row| *row == ("ours".into(), "left".into())), "{again:?}");
    assert_eq!(scene.records(), files);
    let calls = scene.world.calls.since(mark);
    assert!(!calls.iter().any(|call| ["patch", "create", "Tag"].iter().any(|it| call.name.starts_with(it))));
    scene.agent_once();
    pods.iter().for_each(|pod| assert_eq!(scene.events(&pod.sandbox, "AppliesAtCreation"), [""; 0]));
    assert_nothing_was_bound_or_bought(scene);

    let deletions: Vec<_> = pods
        .iter()
        .map(|pod| {
            scene.delete_pod(&pod.sandbox);
            scene.spawn("DEL", &pod.sandbox)
        })
        .collect();
    for del in deletions {
        let answer = Answer::from(del.wait_with_output().unwrap());
        assert_eq!(answer.code, Some(0), "{answer:?}\n{}", scene.log());
    }
    assert_eq!(scene.records(), [] as [Value; 0]);
    pods.iter().for_each(|pod| pod.assert_ended(scene));
}

#[test]
fn twenty_pods_of_terway() {
    let scene = Scene::new();
    let pods = twenty(&scene, terway);
    migrates("terway", &pods, &scene);
}

#[test]
fn twenty_pods_of_ack_extend() {
    let scene = Scene::new();
    let pods = twenty(&scene, ack_extend);
    // Switched off a moment ago: what it wrote is fresh.
    scene.world.cluster.create(peers::controller(0)).unwrap();
    migrates("ack-extend", &pods, &scene);
}

#[test]
fn beside_the_rival_nothing_is_taken_over() {
    let scene = Scene::new();
    let cluster = &scene.world.cluster;
    ack_extend(&scene, "web-0", 10, End::Follows);
    let refused = |words: &[&str]| {
        let answer = migrate(&scene, &["--from", "ack-extend"]);
        assert_eq!((answer.code, answer.stdout.as_str()), (Some(1), ""), "{answer:?}");
        words.iter().for_each(|word| assert!(answer.stderr.contains(word), "{word}: {}", answer.stderr));
    };
    refused(&["keeps PodEIP default/web-0 up to date", "ten minutes after its end"]);
    cluster.create(peers::controller(1)).unwrap();
    refused(&["its Deployment kube-system/ack-extend-network-controller runs", "--replicas 0"]);
    cluster.merge("deployments", "kube-system", "ack-extend-network-controller", &json!({"spec": {"replicas": 0}}));
    cluster.create(peers::terway_settings("true")).unwrap();
    cluster.create(peers::terway_daemon_set()).unwrap();
    refused(&["enable_eip_pool", "Terway 1.6", "enable_eip_migrate", "restart Terway"]);
    assert!(scene.records().is_empty());
    assert_eq!(migrate(&scene, &["--to", "ack-extend"]).code, Some(1));

    scene.configure(|settings| settings["coexistence"] = "ignore".into());
    let answer = migrate(&scene, &["--from", "ack-extend"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(answer.stderr.contains("Terway is active"), "{answer:?}");
    assert_nothing_was_bound_or_bought(&scene);
}

#[test]
fn until_then_an_agent_takes_terways_pods_for_served() {
    for mode in ["event", "attach"] {
        let scene = Scene::new();
        scene.configure(|settings| settings["late_attach"] = mode.into());
        let pods = [terway(&scene, "web-0", 10, End::Follows), terway(&scene, "named-0", 11, End::Users)];
        let before = bindings(&scene);
        scene.agent_once();
        for pod in &pods {
            assert!(scene.world.cluster.events_for("default", &pod.sandbox.name).is_empty(), "{mode}");
        }
        assert_nothing_was_bound_or_bought(&scene);
        assert_eq!((bindings(&scene), scene.records()), (before, vec![]));
        let told = scene.podeip(&["doctor", "pods-without-eip"]).stdout;
        assert!(told.contains("every running pod of this node that asks for an EIP has one"), "{told}");
        pods.iter().for_each(|pod| assert!(!told.contains(&pod.sandbox.name), "{told}"));
    }
}

#[test]
fn doctor_does_not_pass_the_egress_of_a_sandbox_that_it_does_not_know() {
    let scene = Scene::new();
    terway(&scene, "web-0", 10, End::Follows);
    assert_eq!(migrate(&scene, &["--from", "terway"]).code, Some(0));
    let told = scene.podeip(&["doctor", "egress-route", "-o", "json"]);
    let found: Vec<Value> = serde_json::from_str(&told.stdout).unwrap();
    let finding = found.iter().find(|it| it["name"] == "egress-route").unwrap();
    assert_eq!(finding["verdict"], "skip", "{finding}");
    assert!(finding["reason"].as_str().unwrap().contains("1 of 1 pods"), "{finding}");
}

#[test]
fn what_contradicts_the_cloud_is_refused_and_what_outlives_its_pod_is_marked() {
    let scene = Scene::new();
    let (cluster, cloud) = (&scene.world.cluster, &scene.world.cloud);
    let good = ack_extend(&scene, "good", 10, End::Follows);
    let moved = ack_extend(&scene, "moved", 11, End::Follows);
    cloud.unbind_by_hand(&moved.eip).unwrap();
    cloud.bind_by_hand(&moved.eip, defaults::POD_ENI, [10, 219, 0, 99].into()).unwrap();
    let free = ack_extend(&scene, "free", 12, End::Follows);
    cloud.unbind_by_hand(&free.eip).unwrap();
    let gone = ack_extend(&scene, "gone", 13, End::Follows);
    cloud.unbind_by_hand(&gone.eip).unwrap();
    cloud.release_by_hand(&gone.eip).unwrap();
    let others = ack_extend(&scene, "others", 14, End::Follows);
    cloud.tag_by_hand(&others.eip, BTreeMap::from([("podeip-cluster".to_owned(), "another".to_owned())])).unwrap();
    // Somebody deletes it while its pod lives.
    let doomed = ack_extend(&scene, "doomed", 15, End::Follows);
    cluster.remove("podeips", "default", "doomed");
    let now = scene.world.clock.now();
    cluster
        .create(json!({"apiVersion": "alibabacloud.com/v1beta1", "kind": "PodEIP", "metadata": {"name": "doomed",
            "namespace": "default", "finalizers": ["podeip-controller.alibabacloud.com/finalizer"], "deletionTimestamp": now,
            "deletionGracePeriodSeconds": 0},
            "spec": {"allocationID": doomed.eip, "allocationType": {"type": "Auto", "releaseStrategy": "Follow"}}}))
        .unwrap();
    scene.pod_with(
        PodSpec { phase: "Running".into(), ..PodSpec::new("default", "late") },
        [10, 219, 0, 16],
        &[WITH_EIP],
    );
    // Pods of another node, and pods that are gone.
    let elsewhere = PodSpec { node: OTHER_NODE.into(), ..PodSpec::new("default", "elsewhere") };
    scene.pod_with(elsewhere, [10, 219, 0, 17], &[WITH_EIP]);
    outliving(&scene, "elsewhere", "Never");
    let kept = outliving(&scene, "kept", "Never");
    let expired = outliving(&scene, "expired", "1m");
    scene.world.clock.advance(std::time::Duration::from_secs(11 * 60));

    let answer = migrate(&scene, &["--from", "ack-extend", "-o", "json"]);
    assert_eq!(answer.code, Some(1), "{answer:?}");
    assert!(
        answer.stderr.contains("1 pod of another node") && answer.stderr.contains("4 refused, 0 failed"),
        "{answer:?}"
    );
    let row = |plan: &str, result: &str| (plan.to_owned(), result.to_owned());
    let expected = [
        ("good", "takeOver", "done"),
        ("moved", "refuse", "refused"),
        ("free", "refuse", "refused"),
        ("gone", "refuse", "refused"),
        ("others", "refuse", "refused"),
        ("doomed", "takeOver", "done"),
        ("late", "none", "left"),
        ("kept", "takeOverPodEip", "done"),
        ("expired", "takeOverPodEip", "done"),
    ];
    assert_eq!(told(&answer), expected.map(|(pod, plan, result)| (pod.to_owned(), row(plan, result))).into());
    for (pod, word) in
        [("moved", "10.219.0.99"), ("free", "Available"), ("gone", "does not exist"), ("others", "cluster another")]
    {
        assert!(why(&answer, pod).contains(word), "{}", why(&answer, pod));
    }
    assert_nothing_was_bound_or_bought(&scene);
    assert_managed(&scene, &good);

    // From here on everything goes its way: what is deleted waits for its pod, what has expired goes.
    scene.agent_once();
    assert!(scene.pod_eip(&doomed.sandbox).is_some() && scene.on(doomed.sandbox.ip).len() == 1);
    assert!(living(&scene, &expired).is_none(), "its time is over");
    assert!(living(&scene, &kept).is_some() && cluster.get("podeips", "default", "kept").is_some());
    scene.delete_pod(&doomed.sandbox);
    scene.del(&doomed.sandbox);
    assert!(scene.pod_eip(&doomed.sandbox).is_none() && living(&scene, &doomed.eip).is_none());
    let next = peers::pod(&scene, "kept", 18, "StatefulSet", &[WITH_EIP]);
    scene.add(&next).assert_added(&next);
    assert_eq!(scene.assert_served(&next).id, kept, "the next pod of the name has it");
}

#[test]
fn an_eip_that_somebody_bound_by_hand_stays_its_users() {
    let scene = Scene::new();
    let pod = peers::pod(&scene, "web-0", 10, "ReplicaSet", &[WITH_EIP]);
    let eip = scene.world.cloud.create_user_eip(UserEip { name: "the-users".into(), ..UserEip::default() });
    let served = serve(&scene, pod, eip, "Static", "Follow");
    let answer = migrate(&scene, &["--from", "terway", "-o", "json"]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    assert!(why(&answer, "web-0").contains("never released"), "{answer:?}");
    assert_managed(&scene, &served);
    scene.delete_pod(&served.sandbox);
    scene.del(&served.sandbox);
    served.assert_ended(&scene);
}

#[test]
fn handed_back_and_taken_over_again() {
    let scene = Scene::new();
    let pods: Vec<Served> = [End::Follows, End::Fixed, End::Users]
        .into_iter()
        .zip(10..)
        .map(|(end, last)| ack_extend(&scene, &format!("pod-{last}"), last, end))
        .collect();
    let kept = outliving(&scene, "kept-0", "Never");
    scene.world.cluster.create(peers::controller(0)).unwrap();
    let theirs = |scene: &Scene| -> Vec<Value> {
        let mut objects = scene.world.cluster.list("podeips");
        for object in &mut objects {
            for key in ["resourceVersion", "generation"] {
                object["metadata"][key] = Value::Null;
            }
            let annotations = object["metadata"]["annotations"].take();
            assert!(!annotations.to_string().contains("podeip/"), "{annotations}");
            object["status"]["podLastSeen"] = Value::Null;
        }
        objects
    };
    let (objects, placed) = (theirs(&scene), bindings(&scene));
    assert_eq!(migrate(&scene, &["--from", "ack-extend"]).code, Some(0));
    let refused = migrate(&scene, &["--to", "ack-extend"]);
    assert!(refused.code == Some(1) && refused.stderr.contains("podeip is switched on"), "{refused:?}");

    scene.configure(|settings| settings["enable_eip_pool"] = "false".into());
    let dry = migrate(&scene, &["--to", "ack-extend", "--dry-run", "-o", "json"]);
    assert!(told(&dry).len() == 4 && told(&dry).values().all(|(plan, _)| plan == "handBack"), "{dry:?}");
    assert_eq!(scene.records().len(), 3);
    let back = migrate(&scene, &["--to", "ack-extend"]);
    assert_eq!((back.code, back.stderr.as_str()), (Some(0), ""), "{back:?}");
    assert_eq!(theirs(&scene), objects);
    assert!(scene.records().is_empty());
    let of_ours = |eip: &EipView| eip.tag("podeip-cluster") == Some(defaults::CLUSTER);
    assert!(!scene.world.cloud.eips().iter().any(of_ours));
    let nothing = migrate(&scene, &["--to", "ack-extend"]);
    assert_eq!((nothing.code, nothing.stdout.as_str()), (Some(0), ""), "{nothing:?}");

    // An agent that is switched on again does not help itself, and pods that end are no business of podeip's.
    scene.configure(|_| {});
    scene.agent_once();
    assert!(scene.records().is_empty());
    scene.delete_pod(&pods[0].sandbox);
    scene.del(&pods[0].sandbox);
    assert_eq!(bindings(&scene), placed);
    let again = migrate(&scene, &["--from", "ack-extend", "-o", "json"]);
    assert_eq!(again.code, Some(0), "{again:?}");
    pods[1..].iter().for_each(|pod| assert_managed(&scene, pod));
    assert!(scene.world.cloud.eips().iter().any(|eip| eip.id == kept && of_ours(eip)));
    assert_eq!(bindings(&scene), placed);
    assert_nothing_was_bound_or_bought(&scene);
}
