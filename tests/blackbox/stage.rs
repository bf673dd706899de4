//! The worlds in which podeip is killed, and what has to be true in each of them afterwards.

use std::time::Duration;

use podeip_sim::cloud::{EipView, RepeatCode, Status, defaults};
use podeip_sim::kube::{Owner, PodSpec};
use serde_json::{Value, json};

use crate::scene::{Sandbox, Scene, WITH_EIP};

pub const ADDRESS: [u8; 4] = [10, 219, 0, 5];
pub const OTHER_ADDRESS: [u8; 4] = [10, 219, 0, 6];

const NAMED: (&str, &str) = ("network.alibabacloud.com/pod-eip-instanceid", defaults::USER_EIP);
const PACKAGED: (&str, &str) = ("network.alibabacloud.com/eip-common-bandwidth-package-id", defaults::PACKAGE);
const LASTING: (&str, &str) = ("network.alibabacloud.com/pod-eip-release-strategy", "10m");

/// How long a lagging cloud hides a change from its readers.
const LAG: Duration = Duration::from_secs(1);

/// What is special about a world or its pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Case {
    Plain,
    /// Credentials of the node's RAM role, from instance metadata.
    RamRole,
    /// The pod names an EIP of the user's.
    Named,
    /// The EIP joins a bandwidth package.
    Packaged,
    /// The endpoint ignores the tags of an allocation.
    Untagged,
    /// A StatefulSet's pod whose EIP outlives it.
    Lasting,
    /// A repeated association is answered as one that hit another EIP.
    Duplicated,
    /// What was written is not seen for a while.
    Lagging,
}

/// A scene with the pod that the sweep is about.
pub struct Stage {
    pub scene: Scene,
    pub pod: Sandbox,
    case: Case,
}

impl Stage {
    /// The pod's sandbox exists; ADD has not been called.
    pub fn new(case: Case) -> Self {
        let scene = Scene::new();
        match case {
            Case::RamRole => scene.use_ram_role(),
            Case::Untagged => scene.world.cloud.set(|settings| settings.ignore_tags_on_allocate = true),
            Case::Duplicated => scene.world.cloud.set(|settings| settings.repeat_code = RepeatCode::Duplicated),
            Case::Lagging => scene.world.cloud.set(|settings| {
                settings.new_eip_lag = LAG;
                settings.change_lag = LAG;
            }),
            Case::Plain | Case::Named | Case::Packaged | Case::Lasting => {}
        }
        let pod = create(&scene, case);
        Self { scene, pod, case }
    }

    /// ADD is over; DEL has not been called.
    pub fn added(case: Case) -> Self {
        let stage = Self::new(case);
        stage.add(&stage.pod);
        stage
    }

    /// As [`Stage::added`], and the pod is out of the API server.
    pub fn deleted(case: Case) -> Self {
        let stage = Self::added(case);
        stage.scene.delete_pod(&stage.pod);
        stage
    }

    /// As [`Stage::added`], and the pod is being deleted.
    pub fn terminating(case: Case) -> Self {
        let stage = Self::added(case);
        stage.scene.world.cluster.begin_pod_deletion(&stage.pod.namespace, &stage.pod.name);
        stage
    }

    /// The next pod of the same name.
    pub fn successor(&self) -> Sandbox {
        create(&self.scene, self.case)
    }

    /// ADD, which has to succeed.
    pub fn add(&self, sandbox: &Sandbox) {
        let answer = self.scene.add(sandbox);
        assert_eq!(answer.code, Some(0), "{answer:?}\n{}", self.scene.log());
        answer.assert_added(sandbox);
    }

    /// `sandbox` has its EIP, it is the only one there ever was, and everybody agrees about it.
    pub fn assert_served(&self, sandbox: &Sandbox) {
        let eip = self.assert_bound(sandbox);
        let ever: Vec<String> = self.scene.ever_ours().into_iter().map(|eip| eip.id).collect();
        match self.case {
            Case::Named => assert_eq!((ever, eip.id.as_str()), (Vec::new(), defaults::USER_EIP)),
            _ => assert_eq!(ever, [eip.id], "{}", self.scene.log()),
        }
        assert_eq!(self.scene.world.cluster.list("podeips").len(), 1);
        assert_eq!(self.scene.records().len(), 1, "{:?}", self.scene.records());
    }

    /// `sandbox` has its EIP, whatever else there is.
    pub fn assert_bound(&self, sandbox: &Sandbox) -> EipView {
        let eip = self.scene.assert_served(sandbox);
        if self.case != Case::Named {
            assert_eq!(eip.tag("podeip-uid"), Some(sandbox.uid.as_str()), "{:?}\n{}", eip.tags, self.scene.log());
        }
        let package = (self.case == Case::Packaged).then_some(defaults::PACKAGE);
        assert_eq!(eip.package.as_deref(), package, "{}", self.scene.log());
        let records = self.scene.records();
        let record = records.iter().find(|record| record["containerId"] == sandbox.container_id).unwrap();
        let told = [&record["phase"], &record["eip"]["id"], &record["binding"]["privateIp"], &record["published"]];
        assert_eq!(told, [&json!("Bound"), &json!(eip.id), &json!(sandbox.ip), &json!(true)]);
        let kind = if self.case == Case::Named { "Static" } else { "Auto" };
        assert_eq!(self.scene.pod_eip(sandbox).unwrap()["spec"]["allocationType"]["type"], kind);
        eip
    }

    /// The pod's end as containerd tells it: the object goes, DEL comes, and comes again.
    pub fn finish(&self, sandbox: &Sandbox) {
        self.scene.delete_pod(sandbox);
        self.scene.del(sandbox);
        self.scene.del(&sandbox.without_netns());
        self.assert_ended();
    }

    /// The pod is over and had its EIP: what must not stay is gone, and what must stay is there.
    pub fn assert_ended(&self) {
        if self.case == Case::Lasting {
            return self.assert_kept();
        }
        self.scene.assert_nothing_left();
        self.assert_users_eip_untouched();
    }

    /// The pod is over and never had its EIP. One that was to last may have been kept by then, but
    /// only if its PodEIP says so.
    pub fn assert_ended_early(&self) {
        if self.case == Case::Lasting && !self.scene.world.cluster.list("podeips").is_empty() {
            self.assert_kept();
        } else {
            self.scene.assert_nothing_left();
            self.assert_users_eip_untouched();
        }
    }

    fn assert_kept(&self) {
        assert_eq!(self.scene.records(), Vec::<Value>::new(), "{}", self.scene.log());
        let kept = self.scene.ours();
        assert_eq!(kept.len(), 1, "{kept:?}\n{}", self.scene.log());
        assert_eq!((kept[0].status, &kept[0].binding), (Status::Available, &None), "{}", self.scene.log());
        let pod_eip = self.scene.pod_eip(&self.pod).expect("the PodEIP stays");
        assert_eq!(pod_eip["spec"]["allocationID"], kept[0].id);
        assert_eq!(pod_eip["spec"]["allocationType"]["releaseStrategy"], "TTL");
        assert_ne!(pod_eip["status"]["status"], "InUse");
        assert_eq!(pod_eip["status"]["privateIPAddress"], Value::Null);
        assert_eq!(pod_eip["metadata"]["deletionTimestamp"], Value::Null);
    }

    fn assert_users_eip_untouched(&self) {
        let eip = self.scene.world.cloud.eip(defaults::USER_EIP).unwrap();
        assert_eq!((eip.status, &eip.binding), (Status::Available, &None), "{}", self.scene.log());
    }
}

fn create(scene: &Scene, case: Case) -> Sandbox {
    let spec = PodSpec::new("default", "web-0");
    match case {
        Case::Named => scene.pod_with(spec, ADDRESS, &[NAMED]),
        Case::Packaged => scene.pod_with(spec, ADDRESS, &[WITH_EIP, PACKAGED]),
        Case::Lasting => {
            let owners = vec![Owner::new("StatefulSet", "web")];
            scene.pod_with(PodSpec { owners, ..spec }, ADDRESS, &[WITH_EIP, LASTING])
        }
        _ => scene.pod_with(spec, ADDRESS, &[WITH_EIP]),
    }
}
