//! SIGKILL at every remote call of a migration; the next run finishes it, whatever the agent does between the two.

use std::process::Child;

use super::peers::{End, Served, ack_extend, controller, outliving};
use super::{assert_managed, assert_nothing_was_bound_or_bought, bindings, migrate};
use crate::crash::sweep::{Prepared, Sweep};
use crate::scene::Scene;

/// Each point does little but wait for processes to start.
const AT_ONCE: usize = 12;

struct Site {
    scene: Scene,
    pods: Vec<Served>,
    kept: String,
    back: bool,
    placed: Vec<String>,
}

impl Site {
    fn new(back: bool) -> Self {
        let scene = Scene::new();
        let pods = [(End::Fixed, 10), (End::Users, 11)]
            .map(|(end, last)| ack_extend(&scene, &format!("pod-{last}"), last, end));
        let kept = outliving(&scene, "kept-0", "Never");
        scene.world.cluster.create(controller(0)).unwrap();
        scene.world.clock.advance(std::time::Duration::from_secs(60));
        let placed = bindings(&scene);
        let site = Self { scene, pods: pods.into(), kept, back, placed };
        if back {
            site.go(&["--from", "ack-extend"]);
            site.scene.configure(|settings| settings["enable_eip_pool"] = "false".into());
        }
        site
    }

    fn go(&self, arguments: &[&str]) {
        let answer = migrate(&self.scene, arguments);
        assert_eq!(answer.code, Some(0), "{answer:?}");
    }

    fn arguments(&self) -> [&'static str; 2] {
        if self.back { ["--to", "ack-extend"] } else { ["--from", "ack-extend"] }
    }

    fn recover(&self) {
        self.scene.agent_once();
        self.go(&self.arguments());
        assert_eq!(bindings(&self.scene), self.placed);
        assert_nothing_was_bound_or_bought(&self.scene);
        if !self.back {
            self.pods.iter().for_each(|pod| assert_managed(&self.scene, pod));
            let kept = self.scene.world.cloud.eip(&self.kept).unwrap();
            assert!(kept.tag("podeip-uid").is_some());
            return;
        }
        assert!(self.scene.records().is_empty());
        let text = format!("{:?}", self.scene.world.cluster.list("podeips"));
        assert!(!text.contains("podeip/pod-uid"), "{text}");
        assert!(
            self.scene
                .world
                .cloud
                .eips()
                .iter()
                .all(|eip| eip.tag("podeip-cluster").is_none_or(|it| it == "handed-back"))
        );
    }
}

impl Prepared for Site {
    fn scene(&self) -> &Scene {
        &self.scene
    }

    fn spawn(&self, _: &str) -> Child {
        self.scene.operator(&[&["migrate"][..], &self.arguments()].concat()).spawn().unwrap()
    }
}

#[test]
fn taking_over() {
    let swept = Sweep::kill("migrate", &|| Site::new(false), &Site::recover).at_once(AT_ONCE).run();
    swept.assert_covers(3 * 12, &["TagResources", "patch podeips", "patch podeips/status", "patch pods/status"]);
}

#[test]
fn handing_back() {
    let swept = Sweep::kill("migrate", &|| Site::new(true), &Site::recover).at_once(AT_ONCE).run();
    swept.assert_covers(3 * 6, &["TagResources", "patch podeips"]);
}
