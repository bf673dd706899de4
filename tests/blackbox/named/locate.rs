//! Which ENI carries the pod's address: by the kernel and instance metadata, else by ECS.

use std::process::Command;

use podeip_sim::cloud::{EniSpec, defaults};

use crate::node::{on_node, run};
use crate::scene::{Sandbox, Scene, WITH_EIP};

const LOOK_UP: &str = "DescribeNetworkInterfaces";

fn ip(arguments: &str) {
    run(Command::new("ip").args(arguments.split(' '))).unwrap_or_else(|error| panic!("ip {arguments}: {error}"));
}

/// Serves a pod, ends it, and says how often ECS was asked for its ENI.
fn served_and_ended(scene: &Scene, pod: &Sandbox) -> usize {
    scene.add(pod).assert_added(pod);
    scene.assert_served(pod);
    scene.delete_pod(pod);
    scene.del(pod);
    scene.assert_nothing_left();
    scene.calls_of(LOOK_UP)
}

#[test]
fn ecs_knows_what_the_kernel_does_not() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
    assert_eq!(served_and_ended(&scene, &pod), 1);
}

#[test]
fn the_mac_of_the_pods_interface_names_its_eni() {
    on_node(&[], |_| {
        let scene = Scene::new();
        // As ipvlan on the ENI, or the ENI itself moved into the pod, would show it.
        ip("netns add pod");
        ip(&format!("link add host0 type veth peer name eth0 address {} netns pod", defaults::POD_ENI_MAC));
        let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
        let pod = Sandbox { netns: "/run/netns/pod".into(), ..pod };
        assert_eq!(served_and_ended(&scene, &pod), 0);
    });
}

#[test]
fn the_hosts_policy_rule_names_the_eni_of_a_veth_pod() {
    on_node(&[], |_| {
        let scene = Scene::new();
        ip("netns add pod");
        ip("link add host0 type veth peer name eth0 address aa:00:00:00:00:02 netns pod");
        ip(&format!("link add eth1 address {} type veth peer name fabric", defaults::POD_ENI_MAC));
        ip("link set eth1 up");
        ip("rule add from 10.219.0.5 lookup 1001");
        ip("route add default dev eth1 table 1001");
        let pod = scene.pod("web-0", [10, 219, 0, 5], &[WITH_EIP]);
        let pod = Sandbox { netns: "/run/netns/pod".into(), ..pod };
        assert_eq!(served_and_ended(&scene, &pod), 0);
    });
}

#[test]
fn an_address_that_no_eni_carries() {
    let scene = Scene::new();
    let pod = scene.pod("web-0", [192, 168, 7, 5], &[WITH_EIP]);
    let words = ["192.168.7.5", "looked at", LOOK_UP, "use Terway in ENI or ENIMultiIP mode"];
    scene.add(&pod).assert_error(105, &words);
    assert!(scene.ever_ours().is_empty());
    scene.del(&pod);
    scene.delete_pod(&pod);
    scene.gc();
    scene.assert_nothing_left();
}

#[test]
fn an_eni_of_the_pods_own_is_bound_by_its_primary_address() {
    let scene = Scene::new();
    let own = "eni-bp1exclusive0001";
    let address = [10, 219, 2, 7];
    scene.world.cloud.add_eni(EniSpec {
        id: own.into(),
        mac: "00:16:3e:00:00:77".into(),
        primary_ip: address.into(),
        ..EniSpec::default()
    });
    let pod = scene.pod("web-0", address, &[WITH_EIP]);
    scene.add(&pod).assert_added(&pod);
    let bound = scene.on(pod.ip);
    assert!(bound.len() == 1 && bound[0].is_bound_to(own, pod.ip), "{bound:?}");
    assert!(bound[0].binding.as_ref().unwrap().primary, "the cloud shows this binding without an address");
    let annotations = &scene.pod_object(&pod)["metadata"]["annotations"];
    assert_eq!(annotations["network.alibabacloud.com/allocated-eni-id"], own);
    // A restart, then a named EIP that finds ours there, then the end.
    scene.del(&pod);
    assert!(scene.on(pod.ip).is_empty());
    let next = pod.restarted();
    scene.add(&next).assert_added(&next);
    assert_eq!(scene.on(pod.ip)[0].id, bound[0].id);
    scene.delete_pod(&pod);
    scene.del(&next);
    scene.assert_nothing_left();
    assert_eq!(scene.ever_ours().len(), 1);

    // Somebody else's EIP there is recognised in spite of the empty address.
    scene.world.cloud.bind_by_hand(defaults::USER_EIP, own, pod.ip).unwrap();
    let heir = scene.pod("web-1", address, &[WITH_EIP]);
    scene.add(&heir).assert_error(104, &[defaults::USER_EIP, "10.219.2.7"]);
    assert_eq!(scene.ever_ours().len(), 1);
}
