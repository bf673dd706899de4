//! Looking for another EIP feature in the cluster, and what gives it away.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::deadline::Deadline;
use crate::eip::failure::Failure;
use crate::kube::{Kube, PodEip, Resource};
use crate::state::{RivalSystem, Sighting};

/// Both systems run there, as ACK's components do.
pub const NAMESPACE: &str = "kube-system";
pub const SETTINGS_MAP: &str = "eni-config";
pub const ACK_EXTEND: &str = "ack-extend-network-controller";
/// Terway's, by its versions and modes.
pub const TERWAYS: [&str; 3] = ["terway-eniip", "terway-eni", "terway"];

/// The first release without an EIP feature.
const TERWAY_WITHOUT: (u32, u32) = (1, 7);

/// A controller that is alive writes all its PodEIPs every few minutes; one that was ended is forgotten
/// soon enough for whoever migrates.
const FRESH: SignedDuration = SignedDuration::from_mins(10);

/// One object, answered in milliseconds by a healthy API server.
const ASK_TIME: Duration = Duration::from_secs(5);

/// The rival that is active, if one is. `pod_eips` are all of the cluster.
///
/// # Errors
/// The API server does not say.
pub fn look(kube: &Kube, pod_eips: &[PodEip], deadline: Deadline) -> Result<Option<Sighting>, Failure> {
    if let Some(how) = fresh_writing(pod_eips, kube.now()) {
        return Ok(Some(Sighting { who: RivalSystem::AckExtend, how }));
    }
    if let Some(how) = ask(kube, Resource::Deployments, ACK_EXTEND, deadline)?.as_ref().and_then(ack_extend) {
        return Ok(Some(Sighting { who: RivalSystem::AckExtend, how }));
    }
    look_for_terway(kube, deadline)
}

/// As [`look`], for one who has just ended ack-extend-network-controller: what its Deployment says when it is
/// there counts more than what its last round has written.
///
/// # Errors
/// The API server does not say.
pub fn look_again(kube: &Kube, pod_eips: &[PodEip], deadline: Deadline) -> Result<Option<Sighting>, Failure> {
    let deployment = ask(kube, Resource::Deployments, ACK_EXTEND, deadline)?;
    match deployment.map(|deployment| ack_extend(&deployment)) {
        None => look(kube, pod_eips, deadline),
        Some(Some(how)) => Ok(Some(Sighting { who: RivalSystem::AckExtend, how })),
        Some(None) => look_for_terway(kube, deadline),
    }
}

fn ask(kube: &Kube, resource: Resource, name: &str, deadline: Deadline) -> Result<Option<Value>, Failure> {
    Ok(kube.object(resource, NAMESPACE, name, deadline.within(ASK_TIME))?)
}

fn look_for_terway(kube: &Kube, deadline: Deadline) -> Result<Option<Sighting>, Failure> {
    let ask = |resource, name| ask(kube, resource, name, deadline);
    if !ask(Resource::ConfigMaps, SETTINGS_MAP)?.as_ref().is_some_and(switched_on) {
        return Ok(None);
    }
    for name in TERWAYS {
        if let Some(how) = ask(Resource::DaemonSets, name)?.as_ref().and_then(|found| terway(name, found)) {
            return Ok(Some(Sighting { who: RivalSystem::Terway, how }));
        }
    }
    Ok(None)
}

/// A PodEIP that podeip has not written says that its pod was seen just now.
fn fresh_writing(pod_eips: &[PodEip], now: Timestamp) -> Option<String> {
    let seen = |it: &PodEip| it.status.as_ref().and_then(|status| status.pod_last_seen);
    let fresh = |it: &&PodEip| it.pod_uid().is_none() && seen(it).is_some_and(|seen| now.duration_since(seen) < FRESH);
    let found = pod_eips.iter().find(fresh)?;
    Some(format!("it keeps PodEIP {}/{} up to date", found.namespace, found.name))
}

/// A Deployment that is scaled to nothing and has come to it, or whose arguments name controllers without
/// `eip`, does nothing to EIPs.
fn ack_extend(deployment: &Value) -> Option<String> {
    let replicas = |of: &str| deployment.pointer(of).and_then(Value::as_u64);
    if replicas("/spec/replicas") == Some(0) && replicas("/status/replicas").unwrap_or(0) == 0 {
        return None;
    }
    let containers = deployment.pointer("/spec/template/spec/containers").and_then(Value::as_array);
    let words = |key| containers.into_iter().flatten().filter_map(move |it| it[key].as_array()).flatten();
    let mut named = words("command").chain(words("args")).filter_map(Value::as_str);
    let controllers = named.find(|word| word.to_lowercase().contains("controllers="));
    let without_eip = controllers.is_some_and(|list| !list.contains("eip") && !list.ends_with('*'));
    (!without_eip).then(|| format!("its Deployment {NAMESPACE}/{ACK_EXTEND} runs"))
}

/// Terway's own switch, which a migration away from it overrides.
fn switched_on(map: &Value) -> bool {
    let text = map.pointer("/data/eni_conf").and_then(Value::as_str).unwrap_or_default();
    let conf: Value = serde_json::from_str(text).unwrap_or_default();
    let is_on = |key: &str| conf[key] == true || conf[key].as_str().is_some_and(|it| it.eq_ignore_ascii_case("true"));
    is_on("enable_eip_pool") && !is_on("enable_eip_migrate")
}

/// An image whose tag does not tell the version may have the feature.
fn terway(name: &str, daemon_set: &Value) -> Option<String> {
    let containers = daemon_set.pointer("/spec/template/spec/containers")?.as_array()?;
    let image = containers.iter().filter_map(|it| it["image"].as_str()).find(|image| repository(image) == "terway")?;
    let version = version(image);
    if version.is_some_and(|version| version >= TERWAY_WITHOUT) {
        return None;
    }
    let version = version.map_or("of unknown version".to_owned(), |(major, minor)| format!("{major}.{minor}"));
    Some(format!(
        "\"enable_eip_pool\" is true in ConfigMap {NAMESPACE}/{SETTINGS_MAP}, and DaemonSet {name} is Terway {version}"
    ))
}

fn repository(image: &str) -> &str {
    let last = image.rsplit('/').next().unwrap_or_default();
    last.split([':', '@']).next().unwrap_or_default()
}

/// Major and minor of a tag such as `v1.6.4-g1b2c3d`.
fn version(image: &str) -> Option<(u32, u32)> {
    let (_, tag) = image.split('@').next()?.rsplit('/').next()?.split_once(':')?;
    let mut numbers = tag.strip_prefix('v').unwrap_or(tag).split(['.', '-']);
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn terway_is_told_by_its_image() {
        let of = |image: &str| {
            terway(
                "terway-eniip",
                &json!({"spec": {"template": {"spec": {"containers": [
                {"name": "policy", "image": "r/terway-policy:v1.0"}, {"name": "terway", "image": image}]}}}}),
            )
        };
        for old in ["registry.example.com:5000/acs/terway:v1.6.4-g1", "r/terway:v1.2", "terway:0.9.1"] {
            assert!(of(old).is_some_and(|how| how.contains("enable_eip_pool")), "{old}");
        }
        for unknown in ["r/terway@sha256:00", "r/terway", "r/terway:latest"] {
            assert!(of(unknown).is_some_and(|how| how.contains("unknown version")), "{unknown}");
        }
        for new in ["r/terway:v1.7.0", "r/terway:v1.10.3-aliyun.1", "r/terway:v2.0@sha256:00"] {
            assert_eq!(of(new), None, "{new}");
        }
        assert_eq!(of("r/other:v1.0"), None);
    }

    #[test]
    fn the_switch_is_as_terway_spells_it() {
        let on = |conf: &str| switched_on(&json!({"data": {"eni_conf": conf}}));
        assert!(
            on(r#"{"enable_eip_pool": "true"}"#) && on(r#"{"enable_eip_pool": true, "enable_eip_migrate": "false"}"#)
        );
        for off in
            [r#"{"enable_eip_pool": "false"}"#, "{}", "{", r#"{"enable_eip_pool": true, "enable_eip_migrate": "true"}"#]
        {
            assert!(!on(off), "{off}");
        }
        assert!(!switched_on(&json!({})));
    }

    #[test]
    fn a_deployment_that_does_nothing_to_eips_is_no_rival() {
        let of = |replicas: Value, args: Value| {
            ack_extend(&json!({"spec": {"replicas": replicas, "template": {"spec": {"containers": [{"args": args}]}}}}))
        };
        assert!(of(json!(2), json!([])).is_some());
        assert!(of(Value::Null, json!(["--v=4"])).is_some());
        assert!(of(json!(1), json!(["--enable-controllers=natgw,eip"])).is_some());
        assert_eq!(of(json!(0), json!([])), None);
        assert!(
            ack_extend(&json!({"spec": {"replicas": 0}, "status": {"replicas": 1}})).is_some(),
            "its pod still runs"
        );
        assert_eq!(of(json!(1), json!(["--enableControllers=natgw"])), None);
    }
}
