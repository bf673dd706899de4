//! The editor of network configurations.

use libfuzzer_sys::Corpus;
use podeip::cni::conflist::{Wanted, chained, list_from_conf, unchained};
use serde_json::Value;
use serde_json::value::RawValue;

use crate::oracle::check_readable;

fn wanted(root: &str) -> Wanted {
    Wanted {
        config: format!("{root}/eni_conf").into(),
        kubeconfig: format!("{root}/kubeconfig").into(),
        state_dir: format!("{root}/state").into(),
    }
}

/// Our stanza in a list and out of it again.
pub fn edited(data: &[u8]) -> Corpus {
    let Ok(text) = std::str::from_utf8(data) else { return Corpus::Reject };
    // Texts that our judge cannot read: nesting beyond its limit, and numbers beyond a double.
    if serde_json::from_str::<&RawValue>(text).is_ok() && serde_json::from_str::<Value>(text).is_err() {
        return Corpus::Reject;
    }
    let bare = match unchained(text) {
        Ok(bare) => bare,
        Err(unfit) => {
            check_readable(&unfit.to_string());
            None
        }
    };
    if let Some(bare) = &bare {
        assert_eq!(ours(bare), 0, "{bare}");
        assert_eq!(unchained(bare).ok().flatten(), None, "taking out is done at once");
    }
    match chained(text, &wanted("/etc/podeip")) {
        Ok(None) => assert_eq!(ours(text), 1, "{text}"),
        Ok(Some(longer)) => check_chained(text, bare.as_deref().unwrap_or(text), &longer),
        Err(unfit) => check_readable(&unfit.to_string()),
    }
    match list_from_conf(text, &wanted("/etc/podeip")) {
        Ok(list) => {
            assert_eq!(ours(&list), 1, "{list}");
            assert_eq!(plugins(&list).len(), 2, "{list}");
        }
        Err(unfit) => check_readable(&unfit.to_string()),
    }
    Corpus::Keep
}

fn check_chained(text: &str, bare: &str, longer: &str) {
    assert_eq!(ours(longer), 1, "{text}\nbecame\n{longer}");
    assert!(!is_ours(&plugins(longer)[0]), "we are no primary plugin: {longer}");
    assert_eq!(
        unchained(longer).ok().flatten().as_deref(),
        Some(bare),
        "{text}\nis not what comes back from\n{longer}"
    );
    assert_eq!(chained(longer, &wanted("/etc/podeip")).ok(), Some(None), "once more changes nothing: {longer}");
    let others = |list: &str| plugins(list).into_iter().filter(|plugin| !is_ours(plugin)).collect::<Vec<_>>();
    assert_eq!(others(longer), others(text));
    let Ok(Some(moved)) = chained(longer, &wanted("/opt")) else { panic!("other paths change nothing: {longer}") };
    assert_eq!(unchained(&moved).ok().flatten().as_deref(), Some(bare));
}

fn plugins(list: &str) -> Vec<Value> {
    let list: Value = serde_json::from_str(list).unwrap_or_else(|cause| panic!("{cause}: {list}"));
    list["plugins"].as_array().cloned().unwrap_or_default()
}

fn ours(list: &str) -> usize {
    plugins(list).iter().filter(|plugin| is_ours(plugin)).count()
}

fn is_ours(plugin: &Value) -> bool {
    plugin["type"] == "podeip"
}
