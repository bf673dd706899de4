//! `install/samples`: each is accepted as it stands, and does what its comments say.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use podeip_sim::cloud::{Status, defaults};
use podeip_sim::kube::{Owner, PodSpec};
use serde_json::{Value, json};

use crate::scene::{NODE, Sandbox, Scene};

const IP: [u8; 4] = [10, 219, 0, 5];

pub fn installed(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("install").join(name)
}

fn sample(name: &str) -> Value {
    let text = fs::read_to_string(installed("samples").join(name)).unwrap();
    let mut objects: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap_or_else(|why| panic!("{name}: {why}"));
    assert_eq!(objects.len(), 1, "{name}");
    objects.remove(0)
}

/// A pod of this sample or of its template, scheduled to the node, as its runtime knows it.
fn pod(scene: &Scene, name: &str, metadata: &Value, owners: Vec<Owner>) -> Sandbox {
    let annotations = metadata["annotations"].as_object().unwrap();
    let annotations: Vec<(&str, &str)> = annotations.iter().map(|(key, it)| (&**key, it.as_str().unwrap())).collect();
    scene.pod_with(PodSpec { owners, ..PodSpec::new("default", name) }, IP, &annotations)
}

/// The pod comes and, when it is served, goes.
fn comes_and_goes(scene: &Scene, pod: &Sandbox) {
    scene.add(pod).assert_added(pod);
    scene.assert_served(pod);
    scene.delete_pod(pod);
    scene.del(pod);
    scene.agent_once();
}

#[test]
fn every_sample_is_accepted() {
    let scene = Scene::new();
    let mut count = 0;
    for entry in fs::read_dir(installed("samples")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        scene.world.cluster.create(sample(&name)).unwrap_or_else(|refusal| panic!("{name}: {refusal}"));
        count += 1;
    }
    assert!(count >= 5, "{count}");
}

#[test]
fn the_first_pods_eip_is_released_with_it() {
    let scene = Scene::new();
    comes_and_goes(&scene, &pod(&scene, "hello", &sample("pod.yaml")["metadata"], vec![]));
    assert_eq!(scene.ever_ours().len(), 1);
    scene.assert_nothing_left();
}

#[test]
fn the_statefulsets_pods_keep_their_address_for_ten_minutes() {
    let scene = Scene::new();
    let set = sample("statefulset.yaml");
    let name = format!("{}-0", set["metadata"]["name"].as_str().unwrap());
    let one = || {
        let owners = vec![Owner::new("StatefulSet", set["metadata"]["name"].as_str().unwrap())];
        pod(&scene, &name, &set["spec"]["template"]["metadata"], owners)
    };
    comes_and_goes(&scene, &one());
    let kept = scene.ours().remove(0);
    assert_eq!((kept.bandwidth, kept.status), (10, Status::Available));
    scene.world.clock.advance(std::time::Duration::from_secs(9 * 60));
    scene.agent_once();
    let next = one();
    scene.add(&next).assert_added(&next);
    assert_eq!(scene.assert_served(&next).id, kept.id);
    scene.delete_pod(&next);
    scene.del(&next);
    scene.agent_once();
    scene.world.clock.advance(std::time::Duration::from_secs(11 * 60));
    scene.agent_once();
    scene.assert_nothing_left();
}

#[test]
fn the_named_eip_is_bound_and_never_released() {
    let scene = Scene::new();
    let mut object = sample("pod-named-eip.yaml");
    let id = &mut object["metadata"]["annotations"]["network.alibabacloud.com/pod-eip-instanceid"];
    assert_eq!(*id, "eip-bp1xxxxxxxxxxxxxxxxxx", "the reader's EIP stands here");
    *id = defaults::USER_EIP.into();
    comes_and_goes(&scene, &pod(&scene, "gateway", &object["metadata"], vec![]));
    let eip = scene.world.cloud.eip(defaults::USER_EIP).unwrap();
    assert_eq!((eip.status, eip.binding), (Status::Available, None));
    scene.assert_nothing_left();
}

#[test]
fn the_bare_pods_eip_stays_until_its_podeip_is_deleted() {
    let scene = Scene::new();
    comes_and_goes(&scene, &pod(&scene, "probe", &sample("pod-never.yaml")["metadata"], vec![]));
    scene.world.clock.advance(std::time::Duration::from_secs(30 * 24 * 60 * 60));
    scene.agent_once();
    assert_eq!(scene.ours().len(), 1);
    let doomed = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    scene.world.cluster.merge("podeips", "default", "probe", &doomed).unwrap();
    scene.agent_once();
    scene.assert_nothing_left();
}

/// The keys of an object and, with dots, of the objects in it.
fn keys(object: &Value) -> BTreeSet<String> {
    let mut all = BTreeSet::new();
    for (key, value) in object.as_object().into_iter().flatten() {
        all.insert(key.clone());
        all.extend(keys(value).into_iter().map(|inner| format!("{key}.{inner}")));
    }
    all
}

#[test]
fn the_podeip_shows_what_podeip_writes() {
    let scene = Scene::new();
    let set = sample("statefulset.yaml");
    let pod = pod(&scene, "game-0", &set["spec"]["template"]["metadata"], vec![Owner::new("StatefulSet", "game")]);
    scene.add(&pod).assert_added(&pod);
    let (shown, written) = (sample("podeip.yaml"), scene.pod_eip(&pod).unwrap());
    for part in ["spec", "status"] {
        assert_eq!(keys(&shown[part]), keys(&written[part]), "{part}");
    }
    for part in ["annotations", "finalizers"] {
        assert_eq!(keys(&shown["metadata"][part]), keys(&written["metadata"][part]), "{part}");
    }
    assert_eq!(shown["metadata"]["finalizers"], written["metadata"]["finalizers"]);
    assert_eq!(shown["spec"]["allocationType"], written["spec"]["allocationType"]);
    assert_eq!((&shown["kind"], &shown["apiVersion"]), (&written["kind"], &written["apiVersion"]));
    assert_eq!(written["metadata"]["annotations"]["podeip/node"], NODE);
}
