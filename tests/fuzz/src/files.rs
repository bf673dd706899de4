//! Files on the node: settings, kubeconfig, token, state and notes.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use libfuzzer_sys::Corpus;
use podeip::names::ContainerId;
use podeip::settings::Settings;
use podeip::state::format::{Attachment, StateFile};
use podeip::{cloud, kube, state};
use serde_json::{Value, json};

use crate::oracle::{chain, check_hides, check_readable, stands_elsewhere};

/// A file that a kubeconfig names counts from here, where none is.
const NOWHERE: &str = "/nonexistent/podeip/kubeconfig";

/// The settings, and what is made of their numbers.
pub fn eni_conf(data: &[u8]) -> Corpus {
    match Settings::parse(data, Path::new("/etc/podeip/eni_conf"), |_| None) {
        Ok(settings) => {
            assert!(!format!("{:?}", settings.access_key.as_ref().map(|key| &key.secret)).contains("hush-"));
            let _ = kube::fuzz::paced(settings.kube_client_qps, settings.kube_client_burst);
            let deadline = podeip::deadline::Deadline::after(settings.add_timeout);
            let _ = (deadline.left(), deadline.keeping(settings.del_timeout));
            assert!(settings.add_timeout > settings.del_timeout || !settings.add_timeout.is_zero());
            let endpoints = settings.endpoints;
            for url in [endpoints.vpc, endpoints.ecs, endpoints.sts, endpoints.metadata].into_iter().flatten() {
                assert!(url.starts_with("http://") || url.starts_with("https://"), "{url}");
                assert!(!url.contains(['@', '#', '?', ' ']), "{url}");
            }
        }
        Err(error) => {
            let at_home = ["access_secret", "access_key", "endpoints", "vpc", "ecs", "sts", "metadata"];
            let elsewhere = serde_json::from_slice(data).is_ok_and(|value: Value| stands_elsewhere(&value, &at_home));
            let text = chain(&error);
            if !elsewhere {
                check_hides(&text);
            }
            check_readable(&text);
        }
    }
    Corpus::Keep
}

/// YAML or JSON.
pub fn kubeconfig(data: &[u8]) -> Corpus {
    let Ok(text) = std::str::from_utf8(data) else { return Corpus::Reject };
    // A file that is really there is no part of the input.
    if ["/dev", "/proc", "/sys", "/run"].iter().any(|root| text.contains(root)) {
        return Corpus::Reject;
    }
    match kube::fuzz::kubeconfig(Path::new(NOWHERE), text) {
        Ok(found) => {
            assert!(found.server.starts_with("http"), "{}", found.server);
            assert!(!found.server.ends_with('/') && !found.server.contains('@'), "{}", found.server);
            if let Some(token) = found.token {
                assert!(token.bytes().all(|byte| byte.is_ascii_graphic()), "{token:?} breaks a header");
                let _ = kube::fuzz::account(&token);
            }
        }
        Err(error) => {
            let at_home = ["token", "password", "client-key-data", "client-certificate-data"];
            let document: Option<Value> = serde_saphyr::from_str(text).ok();
            if !document.is_some_and(|document| stands_elsewhere(&document, &at_home)) {
                check_hides(&chain(&error));
            }
            check_readable(&chain(&error));
        }
    }
    Corpus::Keep
}

/// PEM as an authority, and as a client's certificate and key; and a token's claims.
pub fn certificate(data: &[u8]) -> Corpus {
    let pem = STANDARD.encode(data);
    let _ = kube::fuzz::account(&format!("e30.{}.c2ln", URL_SAFE_NO_PAD.encode(data)));
    let (mut cluster, mut user) = (json!({"server": "https://10.0.0.1:6443"}), json!({"token": "t"}));
    if data.first().is_some_and(|byte| byte % 2 == 0) {
        cluster["certificate-authority-data"] = pem.as_str().into();
    } else {
        user["client-certificate-data"] = pem.as_str().into();
        user["client-key-data"] = pem.as_str().into();
    }
    let file = json!({
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "k", "user": "u"}}],
        "clusters": [{"name": "k", "cluster": cluster}],
        "users": [{"name": "u", "user": user}],
    });
    if let Err(error) = kube::fuzz::kubeconfig(Path::new(NOWHERE), &file.to_string()) {
        check_readable(&chain(&error));
        assert!(!chain(&error).contains(&pem) || pem.len() < 12, "a key is printed: {error}");
    }
    Corpus::Keep
}

/// ACK's add-on token.
pub fn addon_token(data: &[u8]) -> Corpus {
    match cloud::fuzz::addon(data) {
        Ok((logged, secrets)) => {
            let shown = secrets.iter().find(|secret| secret.len() >= 8 && logged.contains(secret.as_str()));
            assert!(shown.is_none(), "a secret is logged: {logged}");
        }
        Err(error) => {
            let at_home = ["keyring", "access.key.id", "access.key.secret", "security.token", "expiration"];
            let elsewhere = serde_json::from_slice(data).is_ok_and(|value: Value| stands_elsewhere(&value, &at_home));
            if !elsewhere {
                check_hides(&chain(&error));
            }
            check_readable(&chain(&error));
        }
    }
    Corpus::Keep
}

/// The state file comes back as it was written.
pub fn state(data: &[u8]) -> Corpus {
    match state::fuzz::state_file(data) {
        Ok(file) => {
            // What was read can be written.
            let written = serde_json::to_vec(&file).unwrap();
            assert_eq!(state::fuzz::state_file(&written).as_ref(), Ok(&file));
            for record in &file.attachments {
                let id = record.container_id.as_str();
                let found = |content| state::fuzz::named(content, id).is_none_or(|named| named.contains(record));
                assert!(found(&written), "{id} is there and is not found");
                // Names of containers and pods need no escapes, so nobody writes any.
                if id.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)) {
                    assert!(found(data), "{id} is there and is not found");
                }
                check_changes(&file, record, &written);
                for (container_id, ifname) in keys_within(record.allocation.as_ref()) {
                    check_changes(&file, &Attachment { container_id, ifname, ..record.clone() }, &written);
                }
            }
        }
        Err(reason) => check_readable(&reason),
    }
    Corpus::Keep
}

/// The keys that some object within `value` would have if it were a record, as the tags of a pod may look.
fn keys_within(value: Option<&Value>) -> Vec<(ContainerId, String)> {
    let text = |object: &Value, key| object.get(key).and_then(Value::as_str).map(str::to_owned);
    let children: Vec<&Value> = match value {
        Some(Value::Object(object)) => object.values().collect(),
        Some(Value::Array(array)) => array.iter().collect(),
        _ => Vec::new(),
    };
    let own = value.and_then(|it| text(it, "containerId").map(ContainerId::new).zip(text(it, "ifname")));
    own.into_iter().chain(children.into_iter().flat_map(|child| keys_within(Some(child)))).collect()
}

/// A record that is put in or taken out by itself is the only one that changes.
fn check_changes(file: &StateFile, record: &Attachment, written: &[u8]) {
    let same = |other: &&Attachment| other.is(&record.container_id, &record.ifname);
    if file.attachments.iter().filter(same).count() > 1 {
        return;
    }
    let Some([with, without]) = state::fuzz::changed(written, record) else { return };
    let (mut more, mut fewer) = (file.clone(), file.clone());
    match more.attachments.iter_mut().find(|other| same(&&**other)) {
        Some(place) => *place = record.clone(),
        None => more.attachments.push(record.clone()),
    }
    assert_eq!(with, serde_json::to_vec(&more).unwrap());
    fewer.attachments.retain(|other| !same(&other));
    assert_eq!(without, serde_json::to_vec(&fewer).unwrap());
}

/// Measures, throttled calls, a rival.
pub fn notes(data: &[u8]) -> Corpus {
    let (lines, kept) = state::fuzz::measures(data);
    assert!(kept <= lines, "{kept} of {lines} lines are kept");
    if let Some(wait) = state::fuzz::throttle(data) {
        assert!(wait.as_secs() < 120, "a note makes everybody wait {wait:?}");
    }
    if let Some(rival) = state::fuzz::rival(data) {
        // What was read can be written.
        let written = serde_json::to_vec(&rival).unwrap();
        assert_eq!(state::fuzz::rival(&written), Some(rival));
    }
    Corpus::Keep
}
