//! Pods that come and go as they should, alone and many at once.

use std::io::{self, Read, Write};
use std::net::{IpAddr, Ipv4Addr, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

use podeip_sim::cloud::{Status, UserEip, defaults};

use super::{PATIENCE, Stage, on_stage};
use crate::chain::GATEWAY;
use crate::containerd::NEEDS;
use crate::node::on_node;
use crate::scene::{Scene, WITH_EIP};

const BANDWIDTH_5: (&str, &str) = ("k8s.aliyun.com/eip-bandwidth", "5");

/// A server on the node that a pod's first process asks, and the command with which it does.
fn server_on_the_node() -> (TcpListener, String) {
    let listener = TcpListener::bind("0.0.0.0:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let ask = format!("wget -q -O - http://{GATEWAY}:{}/", listener.local_addr().unwrap().port());
    (listener, ask)
}

/// The next client, and its address.
fn accept(listener: &TcpListener) -> (TcpStream, Ipv4Addr) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match listener.accept() {
            Ok((client, peer)) => {
                client.set_nonblocking(false).unwrap();
                let IpAddr::V4(address) = peer.ip() else { panic!("{peer} is no IPv4 client") };
                return (client, address);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                assert!(Instant::now() < deadline, "the pod's first process has not called");
                thread::sleep(Duration::from_millis(5));
            }
            Err(error) => panic!("{error}"),
        }
    }
}

fn answer(mut client: TcpStream, text: &str) {
    let _ = client.read(&mut [0; 1024]).unwrap();
    write!(client, "HTTP/1.0 200 OK\r\nContent-Length: {}\r\n\r\n{text}", text.len()).unwrap();
}

#[test]
fn when_a_pods_first_process_runs_its_eip_is_bound_and_published() {
    on_node(&NEEDS, |node| {
        let (listener, ask) = server_on_the_node();
        let scene = Scene::new();
        // Were ADD to return before the cloud is done, the first process would run in this time.
        scene.world.cloud.set(|settings| settings.associate_delay = Duration::from_millis(800));
        let stage = Stage::start(node, scene, |setup| setup.first_process = ask);
        let pod = stage.pod("web-0", &[WITH_EIP, BANDWIDTH_5]);

        let (sandbox, seen) = thread::scope(|scope| {
            let witness = scope.spawn(|| {
                let (client, address) = accept(&listener);
                let eip = stage.scene.assert_served(&pod.at(address.octets()));
                assert_eq!(eip.bandwidth, 5);
                assert!(eip.is_bound_to(defaults::POD_ENI, address));
                answer(client, &eip.address.to_string());
                eip
            });
            (stage.run(&pod).unwrap(), witness.join().unwrap())
        });
        assert_eq!(stage.containerd.first_process_output(&sandbox), seen.address.to_string());

        stage.delete(&pod, &sandbox);
        stage.scene.assert_nothing_left();
        assert_eq!(stage.scene.ever_ours().len(), 1);
    });
}

#[test]
fn a_pod_that_asks_for_nothing_starts_without_a_remote_call() {
    on_stage(|stage| {
        let plain = stage.pod("plain", &[]);
        let annotated = stage.pod("annotated", &[("example.com/team", "a")]);
        for pod in [plain, annotated] {
            let sandbox = stage.run(&pod).unwrap();
            assert_eq!(stage.containerd.first_process_output(&sandbox), "");
            stage.delete(&pod, &sandbox);
        }
        assert_eq!(stage.containerd.recorder.commands(), ["ADD", "DEL", "DEL", "ADD", "DEL", "DEL"]);
        assert!(stage.scene.world.calls.all().is_empty(), "{:?}", stage.scene.world.calls.all());
        assert!(!stage.scene.state_dir().join("state.json").exists());
    });
}

#[test]
fn a_named_eip_is_bound_and_stays_the_users() {
    on_stage(|stage| {
        let id = stage.scene.world.cloud.create_user_eip(UserEip { name: "mine".into(), ..UserEip::default() });
        let pod = stage.pod("web-0", &[("network.alibabacloud.com/pod-eip-instanceid", &id)]);
        let sandbox = stage.run(&pod).unwrap();
        let eip = stage.scene.assert_served(&stage.placed(&pod, &sandbox));
        assert_eq!(eip.id, id);
        stage.delete(&pod, &sandbox);
        stage.scene.assert_nothing_left();
        assert_eq!(stage.scene.world.cloud.eip(&id).unwrap().status, Status::Available);
        assert!(stage.scene.ever_ours().is_empty());
    });
}

#[test]
fn del_comes_twice_and_the_second_finds_nothing_to_do() {
    on_stage(|stage| {
        let pod = stage.pod("web-0", &[WITH_EIP]);
        let sandbox = stage.run(&pod).unwrap();
        stage.scene.delete_pod(&pod);
        stage.containerd.stop(&sandbox).unwrap();
        stage.scene.assert_nothing_left();
        let calls = stage.scene.world.calls.mark();
        stage.containerd.remove(&sandbox).unwrap();
        assert_eq!(stage.scene.world.calls.since(calls).len(), 0, "the second DEL asks nobody");

        let dels = stage.containerd.recorder.calls_of("DEL");
        let [stop, remove] = &dels[..] else { panic!("{} DELs", dels.len()) };
        assert!(stop.stdin.get("prevResult").is_some() && !stop.env["CNI_NETNS"].is_empty());
        assert!(remove.stdin.get("prevResult").is_none() && remove.env["CNI_NETNS"].is_empty());
        assert!(stage.containerd.sandboxes().is_empty());
    });
}

#[test]
fn a_pods_next_sandbox_gets_the_same_eip() {
    on_stage(|stage| {
        let pod = stage.pod("web-0", &[WITH_EIP]);
        let first = stage.run(&pod).unwrap();
        let eip = stage.scene.assert_served(&stage.placed(&pod, &first));

        stage.kill_process(stage.containerd.first_process(&first));
        stage.containerd.stop(&first).unwrap();
        let held = stage.scene.world.cloud.eip(&eip.id).unwrap();
        assert_eq!((held.status, held.binding), (Status::Available, None));
        assert_eq!(stage.scene.records()[0]["phase"], "Held");

        let second = stage.run_again(&pod, 1).unwrap();
        let placed = stage.placed(&pod, &second);
        assert_eq!(stage.scene.assert_served(&placed).id, eip.id);
        // kubelet removes the old sandbox when it gets to it; that is one more DEL of the old container id.
        stage.containerd.remove(&first).unwrap();
        assert_eq!(stage.scene.assert_served(&placed).id, eip.id);

        stage.delete(&pod, &second);
        stage.scene.assert_nothing_left();
        assert_eq!(stage.scene.ever_ours().len(), 1);
    });
}

/// Below 0.4.0 DEL has no prevResult, and without the capability only the pod object knows what the pod asks for.
#[test]
fn without_annotations_from_the_runtime_the_pod_object_tells() {
    on_node(&NEEDS, |node| {
        let stage = Stage::start(node, Scene::new(), |setup| {
            setup.cni_version = "0.3.1";
            setup.capability = false;
            setup.stanza.as_object_mut().unwrap().remove("capabilities");
        });
        let pod = stage.pod("web-0", &[WITH_EIP]);
        let sandbox = stage.run(&pod).unwrap();
        stage.scene.assert_served(&stage.placed(&pod, &sandbox));
        for call in stage.containerd.recorder.calls() {
            assert!(call.stdin.get("runtimeConfig").is_none());
        }
        stage.delete(&pod, &sandbox);
        stage.scene.assert_nothing_left();
    });
}

#[test]
fn ten_pods_at_once_get_ten_eips() {
    const PODS: usize = 10;
    on_stage(|stage| {
        // As the real service does it while an EIP of the same ENI is in an "-ing" state.
        stage.scene.world.cloud.set(|settings| settings.one_operation_per_eni = true);
        let pods: Vec<_> = (0..PODS).map(|nth| stage.pod(&format!("web-{nth}"), &[WITH_EIP])).collect();
        let started: Vec<_> = thread::scope(|scope| {
            let threads: Vec<_> = pods.iter().map(|pod| scope.spawn(|| stage.run(pod).unwrap())).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        let mut eips: Vec<String> = Vec::new();
        for (pod, sandbox) in pods.iter().zip(&started) {
            eips.push(stage.scene.assert_served(&stage.placed(pod, sandbox)).id);
        }
        eips.sort();
        eips.dedup();
        assert_eq!(eips.len(), PODS);
        assert_eq!(stage.scene.ever_ours().len(), PODS);

        // Ten unbindings that get in each other's way are a matter of polling, and take their time.
        stage.scene.world.cloud.set(|settings| settings.one_operation_per_eni = false);
        thread::scope(|scope| {
            for (pod, sandbox) in pods.iter().zip(&started) {
                scope.spawn(|| stage.delete(pod, sandbox));
            }
        });
        stage.scene.assert_nothing_left();
    });
}
