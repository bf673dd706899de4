//! A cluster with all that a sweep ends in it, beside all that it must leave.

use podeip_sim::cloud::{Status, defaults};
use serde_json::{Value, json};

use crate::arranged::{pod, served, served_by_name, tagged_eip};
use crate::scene::{Sandbox, Scene, WITH_EIP};
use crate::sweeper::minutes;

/// Says from now on that somebody deletes the PodEIP.
pub fn doom(scene: &Scene, pod: &Sandbox) {
    let doomed = json!({"metadata": {"deletionTimestamp": scene.world.clock.now()}});
    scene.world.cluster.merge("podeips", &pod.namespace, &pod.name, &doomed).unwrap();
}

/// As at the end of a DEL that keeps the EIP.
fn keep(scene: &Scene, pod: &Sandbox, eip: &str) {
    scene.delete_pod(pod);
    scene.world.cloud.unbind_by_hand(eip).unwrap();
    let unpublished = json!({"status": {"networkInterfaceID": null, "privateIPAddress": null, "status": "Available"}});
    scene.world.cluster.merge("podeips", &pod.namespace, &pod.name, &unpublished).unwrap();
}

pub fn status(scene: &Scene, eip: &str) -> (Status, bool) {
    let eip = scene.world.cloud.eip(eip).expect("it was there");
    (eip.status, eip.binding.is_some())
}

/// The EIPs whose release was asked for, in this order.
fn releases(scene: &Scene) -> Vec<String> {
    let calls = scene.world.calls.named("ReleaseEipAddress");
    calls.iter().map(|call| call.parameter("AllocationId").unwrap().to_string()).collect()
}

/// Every release that was asked for concerned one of `doomed`, and all of these are gone.
pub fn assert_released(scene: &Scene, doomed: &[&String]) {
    for eip in releases(scene) {
        assert!(doomed.contains(&&eip), "{eip} is claimed, and was released");
    }
    for eip in doomed {
        let gone =
            scene.world.cloud.eip(eip).is_none_or(|eip| matches!(eip.status, Status::Released | Status::Releasing));
        assert!(gone, "{eip} is still there\n{}", scene.log());
    }
}

/// All that a sweep ends, beside all that it must leave. The agent that sweeps is another node's.
pub struct Cluster {
    pub scene: Scene,
    /// Its time is over; it is still bound where its pod was.
    expired: (Sandbox, String),
    /// Kept for ever, until its PodEIP is deleted.
    deleted: (Sandbox, String),
    /// The pod named it; its PodEIP is deleted.
    deleted_named: Sandbox,
    /// Kept for ever, and still bound where its pod was.
    stranded: (Sandbox, String),
    pub lost: String,
    lost_and_bound: String,
    serving: (Sandbox, String),
    serving_named: Sandbox,
    /// Between two sandboxes of its pod.
    between: (Sandbox, String),
    /// Bought by a try of ADD that has failed since.
    held: String,
    kept: (Sandbox, String),
    named: String,
}

impl Cluster {
    pub fn new() -> Self {
        let scene = Scene::new();
        scene.configure(|settings| settings["eip_orphan_grace_minutes"] = json!(0));
        let named = scene.world.cloud.create_user_eip(Default::default());
        let lost = tagged_eip(&scene, "lost-0", "uid-of-lost", "node-9");
        let lost_and_bound = tagged_eip(&scene, "lost-1", "uid-of-bound", "node-9");
        scene.world.cloud.bind_by_hand(&lost_and_bound, defaults::POD_ENI, [10, 219, 0, 99].into()).unwrap();
        let trying = pod(&scene, "trying-0", 20, &[WITH_EIP]);
        let all = Self {
            expired: served(&scene, "expired-0", 11, "1m"),
            deleted: served(&scene, "deleted-0", 12, "Never"),
            deleted_named: served_by_name(&scene, "deleted-1", 13, defaults::USER_EIP, "Never"),
            stranded: served(&scene, "stranded-0", 14, "Never"),
            serving: served(&scene, "serving-0", 15, "Follow"),
            serving_named: served_by_name(&scene, "serving-1", 16, &named, "Follow"),
            between: served(&scene, "between-0", 17, "Follow"),
            kept: served(&scene, "kept-0", 18, "Never"),
            held: tagged_eip(&scene, "trying-0", &trying.uid, &trying.node),
            lost,
            lost_and_bound,
            named,
            scene,
        };
        let scene = &all.scene;
        for gone in [&all.expired.0, &all.deleted_named, &all.stranded.0] {
            scene.delete_pod(gone);
        }
        for (pod, eip) in [&all.deleted, &all.kept] {
            keep(scene, pod, eip);
        }
        scene.world.cloud.unbind_by_hand(&all.between.1).unwrap();
        // Longer than anyone's patience with PodEIPs of which no node says that their pods live.
        scene.world.clock.advance(minutes(4));
        doom(scene, &all.deleted.0);
        doom(scene, &all.deleted_named);
        all
    }

    pub fn assert_swept(&self) {
        let scene = &self.scene;
        assert_released(scene, &[&self.expired.1, &self.deleted.1, &self.lost, &self.lost_and_bound]);
        for ended in [&self.expired.0, &self.deleted.0, &self.deleted_named] {
            assert_eq!(scene.pod_eip(ended), None, "{}", ended.name);
        }
        let free = (Status::Available, false);
        for (what, eip) in [
            ("named by a PodEIP that is gone", defaults::USER_EIP),
            ("kept on a node that is gone", &self.stranded.1),
            ("kept", &self.kept.1),
            ("between two sandboxes", &self.between.1),
            ("held after a failed ADD", &self.held),
        ] {
            assert_eq!(status(scene, eip), free, "{what}");
        }
        for (kept, eip) in [&self.stranded, &self.kept] {
            let pod_eip = scene.pod_eip(kept).expect("it is kept");
            assert_eq!(pod_eip["spec"]["allocationID"], *eip);
            assert_eq!(pod_eip["status"]["privateIPAddress"], Value::Null);
            assert_eq!(pod_eip["metadata"]["deletionTimestamp"], Value::Null);
        }
        assert_eq!(scene.assert_served(&self.serving.0).id, self.serving.1);
        assert_eq!(scene.assert_served(&self.serving_named).id, self.named);
        assert_eq!(scene.pod_eip(&self.between.0).unwrap()["spec"]["allocationID"], self.between.1);
    }

    /// No release was asked for twice.
    pub fn assert_asked_once(&self) {
        let mut asked: Vec<String> = releases(&self.scene);
        asked.sort();
        let all = asked.len();
        asked.dedup();
        assert_eq!(asked.len(), all, "{asked:?}");
    }
}
