//! Beside another EIP feature of the cluster: who is refused, who goes on, and what the operator can say about it.

use std::fs;

use podeip_sim::cloud::defaults;
use serde_json::{Value, json};

use crate::scene::{Scene, WITH_EIP};

impl Scene {
    /// As the agent leaves word of it.
    fn note_rival(&self, who: &str, how: &str) {
        let rival = json!({ "who": who, "how": how, "since": "2026-05-04T03:02:01Z" });
        fs::write(self.state_dir().join("rival.json"), rival.to_string()).unwrap();
    }
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
    assert_eq!(bought, [held.id.clone()], "nothing was allocated");
    assert_eq!(scene.world.calls.named("AllocateEipAddress").len(), 1);
    assert!(scene.pod_eip(&asking).is_none());
    assert!(!scene.records().iter().any(|record| record["pod"]["name"] == "web-0"), "{:?}", scene.records());

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
    scene.add(&asking).assert_added(&asking);
    scene.assert_served(&asking);

    // Without the note, the default serves again.
    scene.configure(|_| {});
    fs::remove_file(scene.state_dir().join("rival.json")).unwrap();
    let later = scene.pod("later-0", [10, 219, 0, 8], &[WITH_EIP]);
    scene.add(&later).assert_added(&later);
    scene.assert_served(&later);
}
