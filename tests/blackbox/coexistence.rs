//! Beside another EIP feature of the cluster: who is refused, who goes on, and what the operator can say about it.

use std::fs;

use podeip_sim::cloud::{UserEip, defaults};
use serde_json::{Value, json};

use crate::agent::Agent;
use crate::scene::{NODE, OTHER_NODE, Scene, WITH_EIP, await_true};

impl Scene {
    /// As the agent leaves word of it.
    fn note_rival(&self, who: &str, how: &str) {
        let rival = json!({ "who": who, "how": how, "since": "2026-05-04T03:02:01Z" });
        fs::write(self.state_dir().join("rival.json"), rival.to_string()).unwrap();
    }

    fn rival(&self, node: &str) -> Option<Value> {
        let note = fs::read(self.state_dir_of(node).join("rival.json")).ok()?;
        Some(serde_json::from_slice(&note).unwrap())
    }

    /// One round of the agent of each node, each of which sweeps.
    fn look(&self) {
        self.agent_once();
        self.agent_once_on(OTHER_NODE);
    }
}

/// What its sandbox shows in the cluster: a workload of its name with one container.
fn workload(kind: &str, name: &str, container: &Value) -> Value {
    let labels = json!({"app": name});
    json!({
        "apiVersion": "apps/v1", "kind": kind, "metadata": {"name": name, "namespace": "kube-system"},
        "spec": {
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [container]}},
        },
    })
}

#[test]
fn beside_a_rival_no_pod_is_bought_an_eip() {
    let scene = Scene::new();
    // One that has its EIP already, which also makes the state directory.
    let earlier = scene.pod("earlier-0", [10, 219, 0, 4], &[WITH_EIP]);
    scene.add(&earlier).assert_added(&earlier);
    let held = scene.assert_served(&earlier);
    scene.del(&earlier);

    let asking = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    let rivals = [
        ("Terway", "enable_eip_pool is true", "kube-system/eni-config"),
        ("ack-extend-network-controller", "PodEIPs of its own", "switch off the EIP feature"),
    ];
    for (who, how, remedy) in rivals {
        scene.note_rival(who, how);
        let words = ["default/web-0", who, how, "2026-05-04T03:02:01Z", remedy, "\"coexistence\"", "\"ignore\""];
        scene.add(&asking).assert_error(101, &words);
        let told = scene.events(&asking, "EIPFailed");
        assert!(told.iter().any(|event| event.contains(who) && event.contains(remedy)), "{told:?}");
    }
    let bought: Vec<String> = scene.ever_ours().into_iter().map(|eip| eip.id).collect();
    assert_eq!(bought, std::slice::from_ref(&held.id), "nothing was allocated");
    assert_eq!(scene.world.calls.named("AllocateEipAddress").len(), 1);
    assert!(scene.pod_eip(&asking).is_none());
    assert!(!scene.records().iter().any(|record| record["pod"]["name"] == "web-0"), "{:?}", scene.records());

    // Nor is what the rival keeps for a pod of the name taken from it.
    let theirs = scene.world.cloud.create_user_eip(UserEip::default());
    let pod_eip = json!({
        "apiVersion": "alibabacloud.com/v1beta1", "kind": "PodEIP",
        "metadata": {"name": "fixed-0", "namespace": "default"},
        "spec": {"allocationID": theirs, "allocationType": {"type": "Auto", "releaseStrategy": "Never"}},
    });
    scene.world.cluster.create(pod_eip).unwrap();
    let fixed = scene.pod("fixed-0", [10, 219, 0, 9], &[WITH_EIP]);
    let before = scene.pod_eip(&fixed);
    scene.add(&fixed).assert_error(101, &["default/fixed-0", "ack-extend-network-controller"]);
    assert_eq!((scene.pod_eip(&fixed), scene.on(fixed.ip).len()), (before, 0));

    // Whoever is not bought anything goes on: a sandbox restart, a named EIP, a plain pod.
    let earlier = earlier.restarted();
    scene.add(&earlier).assert_added(&earlier);
    assert_eq!(scene.assert_served(&earlier).id, held.id);
    let named = [("k8s.aliyun.com/pod-eip-instanceid", defaults::USER_EIP)];
    let named = scene.pod("named-0", [10, 219, 0, 6], &named);
    scene.add(&named).assert_added(&named);
    scene.assert_served(&named);
    let plain = scene.pod("plain-0", [10, 219, 0, 7], &[]);
    scene.add(&plain).assert_added(&plain);

    // A note that says nothing is not taken for none.
    fs::write(scene.state_dir().join("rival.json"), "{").unwrap();
    scene.add(&asking).assert_error(108, &["rival.json", "remove it"]);
    assert_eq!(scene.world.calls.named("AllocateEipAddress").len(), 1);

    scene.note_rival("Terway", "enable_eip_pool is true");
    scene.configure(|settings| settings["coexistence"] = Value::from("ignore"));
    for pod in [&asking, &fixed] {
        scene.add(pod).assert_added(pod);
        scene.assert_served(pod);
    }

    // Without the note, the default serves again.
    scene.configure(|_| {});
    fs::remove_file(scene.state_dir().join("rival.json")).unwrap();
    let later = scene.pod("later-0", [10, 219, 0, 8], &[WITH_EIP]);
    scene.add(&later).assert_added(&later);
    scene.assert_served(&later);
}

#[test]
fn the_agent_tells_who_is_active_and_that_it_is_no_more() {
    let scene = Scene::new();
    let cluster = &scene.world.cluster;
    let asking = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    let noted = || [NODE, OTHER_NODE].map(|node| scene.rival(node).map(|it| it["who"].as_str().unwrap().to_owned()));
    scene.look();
    assert_eq!(noted(), [None, None]);

    let terway = |tag: &str| json!({"name": "terway", "image": format!("registry.example.com/acs/terway:{tag}")});
    let conf = |conf: &str| json!({"data": {"eni_conf": conf}});
    let mut map = conf(r#"{"enable_eip_pool": "true"}"#);
    map["kind"] = "ConfigMap".into();
    map["apiVersion"] = "v1".into();
    map["metadata"] = json!({"name": "eni-config", "namespace": "kube-system"});
    cluster.create(map).unwrap();
    cluster.create(workload("DaemonSet", "terway-eniip", &terway("v1.7.2"))).unwrap();
    scene.look();
    assert_eq!(noted(), [None, None], "a Terway that has no such feature");

    let old = json!({"spec": {"template": {"spec": {"containers": [terway("v1.6.4-g1")]}}}});
    cluster.merge("daemonsets", "kube-system", "terway-eniip", &old).unwrap();
    let doctor = scene.podeip(&["doctor", "coexistence"]);
    assert_eq!(doctor.code, Some(1), "{doctor:?}");
    assert!(doctor.stdout.contains("DaemonSet terway-eniip is Terway 1.6"), "{doctor:?}");
    // The one that holds the Lease looks, and leaves word in it.
    let agent = Agent::start(&scene);
    await_true("the agent's look", || scene.rival(NODE).is_some());
    let mark = scene.world.calls.mark();
    scene.agent_once_on(OTHER_NODE);
    let asked = scene.world.calls.since(mark).iter().filter(|call| call.name.starts_with("get daemonsets")).count();
    assert_eq!(asked, 0);
    agent.stop();
    assert_eq!(noted(), [Some("Terway".to_owned()), Some("Terway".to_owned())]);
    scene.add(&asking).assert_error(101, &["Terway 1.6", "kube-system/eni-config", "ConfigMap kube-system/podeip"]);

    // An API server that does not say changes nothing.
    cluster.deny("get", "configmaps");
    scene.look();
    assert_eq!(noted()[0].as_deref(), Some("Terway"));
    cluster.allow_all();
    let migrating = conf(r#"{"enable_eip_pool": "true", "enable_eip_migrate": "true"}"#);
    cluster.merge("configmaps", "kube-system", "eni-config", &migrating).unwrap();
    scene.look();
    assert_eq!(noted(), [None, None]);
    scene.add(&asking).assert_added(&asking);

    let controller = json!({"name": "controller", "image": "r/ack-extend:v0.13.0", "args": ["--v=4"]});
    let mut deployment = workload("Deployment", "ack-extend-network-controller", &controller);
    deployment["spec"]["replicas"] = json!(1);
    cluster.create(deployment).unwrap();
    scene.look();
    assert_eq!(noted()[1].as_deref(), Some("ack-extend-network-controller"));
    let ended = json!({"spec": {"replicas": 0}});
    cluster.merge("deployments", "kube-system", "ack-extend-network-controller", &ended).unwrap();
    scene.look();
    assert_eq!(noted(), [None, None]);

    let theirs = json!({
        "apiVersion": "alibabacloud.com/v1beta1", "kind": "PodEIP",
        "metadata": {"name": "theirs-0", "namespace": "default"},
        "spec": {"allocationID": defaults::USER_EIP, "allocationType": {"type": "Static", "releaseStrategy": "Follow"}},
    });
    cluster.create(theirs).unwrap();
    let seen = json!({"status": {"podLastSeen": scene.world.clock.now()}});
    cluster.merge("podeips", "default", "theirs-0", &seen).unwrap();
    scene.look();
    let how = scene.rival(NODE).unwrap()["how"].as_str().unwrap().to_owned();
    assert_eq!(how, "it keeps PodEIP default/theirs-0 up to date");
    scene.world.clock.advance(std::time::Duration::from_secs(11 * 60));
    scene.look();
    assert_eq!(noted(), [None, None]);
}
