//! The cache of libcni: the list that each pod's network was made with.

use std::fs;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde_json::Value;

use crate::cni::stanza::PLUGIN_TYPE;

/// As far as it is of interest here.
#[derive(Deserialize)]
struct Entry {
    /// The list's own text, in base64.
    config: String,
}

/// How many networks in the cache were made with a list that names us. An entry that cannot be read says
/// nothing: libcni itself drops such a one, or fails before it calls a plugin.
pub fn networks_with_us(directory: &Path) -> usize {
    let Ok(entries) = fs::read_dir(directory) else { return 0 };
    let files = entries.filter_map(|entry| Some(entry.ok()?.path()));
    files.filter(|file| names_us(file).unwrap_or(false)).count()
}

fn names_us(file: &PathBuf) -> Option<bool> {
    let entry: Entry = serde_json::from_slice(&fs::read(file).ok()?).ok()?;
    let list: Value = serde_json::from_slice(&STANDARD.decode(entry.config).ok()?).ok()?;
    Some(list["plugins"].as_array()?.iter().any(|plugin| plugin["type"] == PLUGIN_TYPE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_the_lists_that_name_us() {
        let cache = tempfile::tempdir().unwrap();
        let entry = |name: &str, config: &str| {
            let text = format!(r#"{{"kind":"cniCacheV1","containerId":"c","config":"{config}","ifName":"eth0"}}"#);
            fs::write(cache.path().join(name), text).unwrap();
        };
        entry("ours", &STANDARD.encode(r#"{"name":"n","plugins":[{"type":"bridge"},{"type":"podeip"}]}"#));
        entry("plain", &STANDARD.encode(r#"{"name":"podeip","plugins":[{"type":"bridge"}]}"#));
        entry("single", &STANDARD.encode(r#"{"name":"n","type":"bridge"}"#));
        entry("broken", "%");
        fs::write(cache.path().join("empty"), "").unwrap();
        assert_eq!(networks_with_us(cache.path()), 1);
        assert_eq!(networks_with_us(&cache.path().join("none")), 0);
    }
}
