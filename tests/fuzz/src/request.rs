//! A pod's annotations.

use std::collections::BTreeMap;

use libfuzzer_sys::Corpus;
use podeip::eip::request::{Parameters, Source, Wish, names_eip, present, read};
use podeip::strategy::Strategy;

/// The API takes no more than this.
const HIGHEST_BANDWIDTH: u32 = 500;

/// A refusal becomes an event, which holds 1 KiB.
const LONGEST_REFUSAL: usize = 1024;

/// The annotations as the JSON that a runtime passes.
pub fn annotations(data: &[u8]) -> Corpus {
    let Ok(annotations) = serde_json::from_slice::<BTreeMap<String, String>>(data) else { return Corpus::Reject };
    let _ = present(&annotations);
    match read(&annotations) {
        Ok(None) => assert!(!names_eip(&annotations), "an EIP is named, and nothing is asked for"),
        Ok(Some(requested)) => {
            let named = matches!(requested.wish.source, Source::Named(_));
            assert_eq!(named, names_eip(&annotations));
            let again = read(&written(&requested.wish)).map(|again| again.map(|again| again.wish));
            assert_eq!(again, Ok(Some(requested.wish)));
            requested.notices.iter().for_each(|notice| check_line(&notice.message));
        }
        Err(refusal) => {
            assert_eq!(annotations.get(refusal.key), Some(&refusal.value), "another annotation is blamed");
            check_line(&refusal.to_string());
        }
    }
    Corpus::Keep
}

fn check_line(text: &str) {
    assert!(text.len() <= LONGEST_REFUSAL, "{} bytes: {text}", text.len());
    assert!(!text.chars().any(char::is_control), "{text:?}");
}

/// The annotations that ask for this.
fn written(wish: &Wish) -> BTreeMap<String, String> {
    let mut pairs = vec![("pod-eip-release-strategy", wish.strategy.to_string())];
    if let Strategy::After(span) = wish.strategy {
        assert!(!span.0.is_zero());
    }
    match &wish.source {
        Source::Named(id) => pairs.push(("pod-eip-instanceid", id.to_string())),
        Source::Allocate(parameters) => pairs.extend(asked(parameters)),
    }
    pairs.into_iter().map(|(key, value)| (format!("k8s.aliyun.com/{key}"), value)).collect()
}

fn asked(parameters: &Parameters) -> Vec<(&'static str, String)> {
    assert!((1..=HIGHEST_BANDWIDTH).contains(&parameters.bandwidth.0));
    let tags = (!parameters.tags.is_empty()).then(|| serde_json::json!(parameters.tags).to_string());
    let protection = parameters.security_protection.join(",");
    let optional = [
        ("eip-isp", parameters.isp.map(|isp| isp.as_str().to_owned())),
        ("eip-common-bandwidth-package-id", parameters.bandwidth_package.as_ref().map(ToString::to_string)),
        ("eip-public-ip-address-pool-id", parameters.address_pool.clone()),
        ("eip-resource-group-id", parameters.resource_group.clone()),
        ("eip-name", parameters.name.clone()),
        ("eip-description", parameters.description.clone()),
        ("eip-security-protection-types", Some(protection).filter(|types| !types.is_empty())),
        ("eip-tags", tags),
    ];
    let given = optional.into_iter().filter_map(|(key, value)| Some((key, value?)));
    let always = [
        ("pod-with-eip", "true".to_owned()),
        ("eip-bandwidth", parameters.bandwidth.to_string()),
        ("eip-internet-charge-type", parameters.internet_charge_type.as_str().to_owned()),
    ];
    always.into_iter().chain(given).collect()
}
