//! A pod's whole way: ADD, what cloud and cluster then show, DEL, and that nothing is left.

use podeip_sim::cloud::defaults;
use serde_json::json;

use crate::scene::{Sandbox, Scene, WITH_EIP};

#[test]
fn a_pod_gets_its_eip_and_loses_it() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP, ("k8s.aliyun.com/eip-bandwidth", "7")]);
    scene.add(&pod).assert_added(&pod);
    let eip = scene.assert_served(&pod);
    assert_eq!((eip.bandwidth, eip.internet_charge_type.as_str()), (7, "PayByTraffic"));
    for (key, value) in [
        ("podeip-cluster", defaults::CLUSTER),
        ("podeip-namespace", "default"),
        ("podeip-pod", "web-0"),
        ("podeip-uid", &pod.uid),
        ("podeip-node", "node-1"),
    ] {
        assert_eq!(eip.tag(key), Some(value), "{key}");
    }
    let pod_eip = scene.pod_eip(&pod).unwrap();
    assert_eq!(pod_eip["spec"]["allocationType"], json!({"type": "Auto", "releaseStrategy": "Follow"}));
    assert_eq!(pod_eip["metadata"]["finalizers"], json!(["podeip-controller.alibabacloud.com/finalizer"]));
    assert_eq!(scene.events(&pod, "EIPBound").len(), 1);

    scene.delete_pod(&pod);
    scene.del(&pod);
    scene.del(&pod.without_netns());
    scene.assert_nothing_left();
    assert_eq!(scene.ever_ours().len(), 1);
}

#[test]
fn tags_that_look_like_the_record_of_another_pod_are_tags() {
    let scene = Scene::new();
    let victim = scene.pod("victim", [10, 219, 0, 5], &[WITH_EIP]);
    let tags = json!({ "containerId": victim.container_id, "ifname": "eth0" }).to_string();
    let posing = scene.pod("posing", [10, 219, 0, 6], &[WITH_EIP, ("k8s.aliyun.com/eip-tags", &tags)]);
    for pod in [&posing, &victim] {
        scene.add(pod).assert_added(pod);
        scene.assert_served(pod);
    }
    let record = |pod: &Sandbox| scene.records().into_iter().find(|it| it["containerId"] == pod.container_id).unwrap();
    let own_tags = record(&posing)["allocation"]["tags"].clone();
    assert_eq!((&own_tags["ifname"], record(&victim)["phase"].as_str()), (&json!("eth0"), Some("Bound")));
    scene.delete_pod(&victim);
    scene.del(&victim);
    assert_eq!(record(&posing)["allocation"]["tags"], own_tags);
    assert_eq!(scene.records().len(), 1);
    scene.assert_served(&posing);
    scene.delete_pod(&posing);
    scene.del(&posing);
    scene.assert_nothing_left();
}
