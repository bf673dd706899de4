//! ADDs that fail: what the user reads, what containerd does next, and that the next try of the pod gets its EIP.

use std::time::Duration;

use podeip_sim::cloud::Status;
use podeip_sim::faults::{Effect, Rule, ServiceMatch};

use super::{on_stage, spec, until};
use crate::scene::WITH_EIP;

#[test]
fn a_wrong_annotation_is_told_word_by_word_and_a_corrected_one_is_served() {
    on_stage(|stage| {
        let pod = stage.pod("web-0", &[WITH_EIP, ("network.alibabacloud.com/eip-bandwidth", "lots")]);
        let refusal = stage.run(&pod).unwrap_err();
        let told = &stage.scene.events(&pod, "EIPFailed")[0];
        assert!(told.contains("network.alibabacloud.com/eip-bandwidth") && told.contains("lots"), "{told}");
        let wanted = format!(r#"plugin type="podeip" failed (add): {told}"#);
        assert!(refusal.contains(&wanted), "{wanted}\nis not in\n{refusal}");

        assert_eq!(stage.containerd.recorder.commands(), ["ADD", "DEL"]);
        assert!(stage.containerd.sandboxes().is_empty());
        stage.scene.assert_nothing_left();
        assert!(stage.scene.ever_ours().is_empty());

        let pod = stage.annotate(&pod, &[("network.alibabacloud.com/eip-bandwidth", "9")]);
        let sandbox = stage.run_again(&pod, 1).unwrap();
        assert_eq!(stage.scene.assert_served(&stage.placed(&pod, &sandbox)).bandwidth, 9);
        stage.delete(&pod, &sandbox);
        stage.scene.assert_nothing_left();
    });
}

#[test]
fn a_refusal_of_the_cloud_is_told_word_by_word_with_code_and_request_id() {
    on_stage(|stage| {
        stage.scene.world.cloud.set(|settings| settings.quota = 0);
        let pod = stage.pod("web-0", &[WITH_EIP]);
        let refusal = stage.run(&pod).unwrap_err();
        let told = &stage.scene.events(&pod, "EIPFailed")[0];
        for word in ["QuotaExceeded.Eip", "AllocateEipAddress", "RequestId"] {
            assert!(told.contains(word), "{word} is missing in: {told}");
        }
        assert!(refusal.contains(told.as_str()), "{told}\nis not in\n{refusal}");
        assert_eq!(stage.containerd.recorder.commands(), ["ADD", "DEL"]);
        assert!(stage.scene.ever_ours().is_empty());

        stage.scene.world.cloud.set(|settings| settings.quota = 20);
        let sandbox = stage.run_again(&pod, 1).unwrap();
        stage.scene.assert_served(&stage.placed(&pod, &sandbox));
        stage.delete(&pod, &sandbox);
        stage.scene.assert_nothing_left();
    });
}

#[test]
fn however_often_binding_fails_one_eip_is_bought() {
    on_stage(|stage| {
        let faults = &stage.scene.world.faults;
        let refused = Effect::error(403, "Forbidden.RAM", "not allowed");
        faults.add(Rule::on("AssociateEipAddress", refused).service(ServiceMatch::Vpc).times(2));
        let pod = stage.pod("web-0", &[WITH_EIP]);
        for attempt in 0..2 {
            let refusal = stage.run_again(&pod, attempt).unwrap_err();
            assert!(refusal.contains("Forbidden.RAM") && refusal.contains("RequestId"), "{refusal}");
            let [eip] = &stage.scene.ours()[..] else { panic!("{:?}", stage.scene.ours()) };
            assert_eq!(eip.status, Status::Available);
            assert_eq!(stage.scene.records()[0]["phase"], "Held");
        }
        let sandbox = stage.run_again(&pod, 2).unwrap();
        stage.scene.assert_served(&stage.placed(&pod, &sandbox));
        assert_eq!(stage.scene.ever_ours().len(), 1);

        let mut containers: Vec<_> =
            stage.containerd.recorder.calls_of("ADD").iter().map(|add| add.env["CNI_CONTAINERID"].clone()).collect();
        containers.dedup();
        assert_eq!(containers.len(), 3, "each try was a sandbox of its own");
        stage.delete(&pod, &sandbox);
        stage.scene.assert_nothing_left();
    });
}

/// kubelet's deadline is four minutes, but a slower cloud than that is the same to the plugin.
#[test]
fn a_plugin_killed_at_the_deadline_leaves_its_eip_to_the_next_try() {
    on_stage(|stage| {
        let hang =
            stage.scene.world.faults.add(Rule::on("AssociateEipAddress", Effect::Hang { when: Default::default() }));
        let pod = stage.pod("web-0", &[WITH_EIP]);
        let refusal = stage.containerd.run_pod_within(&spec(&pod, 0), Duration::from_secs(3)).unwrap_err();
        assert!(refusal.contains("DEADLINE_EXCEEDED"), "{refusal}");
        stage.scene.world.faults.remove(hang);
        until("containerd has sent DEL and it has ended", || {
            !stage.containerd.recorder.calls_of("DEL").is_empty() && stage.scene.records()[0]["phase"] == "Held"
        });
        let sandbox = stage.run_again(&pod, 1).unwrap();
        stage.scene.assert_served(&stage.placed(&pod, &sandbox));
        assert_eq!(stage.scene.ever_ours().len(), 1);
        stage.delete(&pod, &sandbox);
        stage.scene.assert_nothing_left();
    });
}
