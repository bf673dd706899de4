//! The agent, the installer and the uninstaller die.

use serde_json::Value;

use super::super::agent::{self, Round};
use super::{AT_ONCE, Deaths, assert_has};
use crate::install::site::Site;

#[test]
fn an_agents_round_over_its_node() {
    let points = Deaths {
        name: "agent",
        at_once: agent::AT_ONCE,
        scene: |round: &Round| &round.scene,
        prepare: &Round::new,
        process: &|round| (round.scene.agent(&["--once"]), Value::Null),
        recoveries: &[("another round", &Round::recover)],
    }
    .sweep();
    assert_has(&points, &["record: to become Held", "record: Releasing forgotten"]);
}

fn installs(site: &Site) {
    site.assert_whole();
    site.install();
    assert_eq!(site.chain().unwrap(), ["bridge", "podeip"]);
    assert_eq!(site.install().stdout, "", "nothing is left to do");
}

fn uninstalls(site: &Site) {
    site.assert_whole();
    let answer = site.uninstall(&[]);
    assert_eq!(answer.code, Some(0), "{answer:?}");
    site.assert_gone();
}

#[test]
fn an_installation() {
    let points = Deaths {
        name: "install",
        at_once: AT_ONCE,
        scene: |site: &Site| &site.scene,
        prepare: &Site::new,
        process: &|site| (site.installing(&[]), Value::Null),
        recoveries: &[("install", &installs), ("uninstall", &uninstalls)],
    }
    .sweep();
    assert_has(
        &points,
        &["podeip: renamed", "eni_conf: renamed", "kubeconfig: renamed", "10-podnet.conflist: renamed"],
    );
}

#[test]
fn an_uninstallation() {
    let points = Deaths {
        name: "uninstall",
        at_once: AT_ONCE,
        scene: |site: &Site| &site.scene,
        prepare: &|| {
            let site = Site::with_executable();
            site.install();
            site
        },
        process: &|site| (site.uninstalling(&[]), Value::Null),
        recoveries: &[("uninstall", &uninstalls), ("install", &installs)],
    }
    .sweep();
    assert_has(&points, &["10-podnet.conflist: renamed", "kubeconfig: removed", "podeip: removed"]);
}
