//! `eni_conf` on the node: the settings of several mounted files in one.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::{Map, Value};

use super::kept::{Kept, Repair};
use super::{mounted, secret_file};
use crate::settings::Settings;

/// The rendering of `eni_conf`, and what it is made from.
pub struct RenderedSettings {
    /// JSON objects; a value of a later one wins.
    pub sources: Vec<PathBuf>,
    /// Where the add-on token is mirrored to, when it is: the rendering's `credential_path`.
    pub addon_token: Option<PathBuf>,
    pub target: PathBuf,
}

/// One object out of several: each key has the value of the last object that has one. As in the settings,
/// null and the empty text are none: templates leave them behind. Values are not looked into, so that a
/// later list or map replaces an earlier one.
fn merge(objects: impl IntoIterator<Item = Map<String, Value>>) -> Map<String, Value> {
    let given = |(_, value): &(String, Value)| !value.is_null() && value.as_str() != Some("");
    objects.into_iter().flatten().filter(given).collect()
}

impl RenderedSettings {
    /// The files that are there, and their objects.
    fn read(&self) -> anyhow::Result<Vec<(&Path, Map<String, Value>)>> {
        let read = |source| Ok(read_object(source)?.map(|object| (source, object)));
        self.sources.iter().filter_map(|source| read(source.as_path()).transpose()).collect()
    }
}

impl Kept for RenderedSettings {
    fn watched(&self) -> Vec<PathBuf> {
        let files = self.sources.iter().chain([&self.target]);
        files.filter_map(|file| file.parent()).map(Path::to_owned).collect()
    }

    fn put_right(&self) -> anyhow::Result<Repair> {
        let (files, objects): (Vec<_>, Vec<_>) = self.read()?.into_iter().unzip();
        if files.is_empty() {
            return Ok(Repair::Waiting(format!(
                "{} is not rendered: none of {} exists",
                self.target.display(),
                names(&self.sources)
            )));
        }
        let mut merged = merge(objects);
        if let Some(mirror) = &self.addon_token {
            let mirror = mirror.to_str().context("the path of the add-on token's mirror is not UTF-8; rename it")?;
            merged.insert("credential_path".into(), mirror.into());
        }
        let merged = Value::Object(merged);
        let text = format!("{merged:#}\n");
        // A rendering that every ADD would refuse must not replace one that works.
        Settings::parse(text.as_bytes(), &self.target, |_| None)
            .with_context(|| format!("{} merged from {} is not written", self.target.display(), names(&files)))?;
        let same = |old: &[u8]| serde_json::from_slice(old).is_ok_and(|old: Value| old == merged);
        if secret_file::keep(&self.target, text.as_bytes(), same)? {
            Ok(Repair::Done(format!("{} rendered from {}", self.target.display(), names(&files))))
        } else {
            Ok(Repair::Sound)
        }
    }
}

/// `None` when there is no such file. No error quotes the text, which may hold an AccessKey.
fn read_object(path: &Path) -> anyhow::Result<Option<Map<String, Value>>> {
    let shown = path.display();
    let content = mounted::read(path)
        .with_context(|| format!("cannot read the settings in {shown}; check the mounted ConfigMap"))?;
    let Some(content) = content else { return Ok(None) };
    match serde_json::from_slice(&content) {
        Ok(Value::Object(object)) => Ok(Some(object)),
        Ok(_) => bail!("the settings in {shown} are not a JSON object; write {{\"key\": value}}"),
        Err(error) => {
            bail!("the settings in {shown} are not JSON; correct line {}, column {}", error.line(), error.column())
        }
    }
}

fn names(files: &[impl AsRef<Path>]) -> String {
    let names: Vec<_> = files.iter().map(|file| file.as_ref().display().to_string()).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::MetadataExt;

    use serde_json::json;

    use super::super::mounted::tests::Mount;
    use super::*;

    fn object(value: Value) -> Map<String, Value> {
        value.as_object().unwrap().clone()
    }

    fn rendered(settings: &RenderedSettings) -> Value {
        serde_json::from_slice(&fs::read(&settings.target).unwrap()).unwrap()
    }

    #[test]
    fn a_later_object_wins_key_by_key() {
        let terway = json!({"version": "1", "vswitches": {"a": ["1"], "b": ["2"]}, "max_pool_size": 5, "x": 1});
        let merged = merge([
            object(terway),
            object(json!({"vswitches": {"a": []}, "x": null, "cluster_id": ""})),
            object(json!({"cluster_id": "c1"})),
            object(json!({"cluster_id": "", "access_key": ""})),
        ]);
        let expected = json!({"version": "1", "vswitches": {"a": []}, "max_pool_size": 5, "x": 1, "cluster_id": "c1"});
        assert_eq!(Value::Object(merged), expected);
        assert!(merge([]).is_empty());
    }

    #[test]
    fn follows_its_sources_and_keeps_the_old_rendering_when_one_is_broken() {
        let node = tempfile::tempdir().unwrap();
        let mut terway = Mount::new(&[("eni_conf", r#"{"version": "1", "terway_only": [1], "cluster_id": "a"}"#)]);
        let ours = node.path().join("ours");
        let settings = RenderedSettings {
            sources: vec![terway.path().join("eni_conf"), ours.clone(), node.path().join("missing/file")],
            addon_token: Some("/etc/podeip/token-config".into()),
            target: node.path().join("etc/eni_conf"),
        };
        assert!(matches!(settings.put_right().unwrap(), Repair::Done(_)));
        let with = |cluster: &str| {
            json!({
                "version": "1", "terway_only": [1], "cluster_id": cluster,
                "credential_path": "/etc/podeip/token-config",
            })
        };
        assert_eq!(rendered(&settings), with("a"));
        assert_eq!(settings.target.metadata().unwrap().mode() & 0o7777, 0o600);
        assert_eq!(settings.put_right().unwrap(), Repair::Sound);

        // Other spaces and another order are the same settings.
        let compact = with("a").to_string();
        fs::write(&settings.target, &compact).unwrap();
        assert_eq!(settings.put_right().unwrap(), Repair::Sound);
        assert_eq!(fs::read_to_string(&settings.target).unwrap(), compact);

        fs::write(&ours, r#"{"cluster_id": "b"}"#).unwrap();
        assert!(matches!(settings.put_right().unwrap(), Repair::Done(_)));
        assert_eq!(rendered(&settings), with("b"));

        for broken in ["{\"access_secret\": \"hidden", "[]", "", r#"{"allow_eip_rob": "hidden"}"#] {
            fs::write(&ours, broken).unwrap();
            let error = format!("{:#}", settings.put_right().unwrap_err());
            assert!(error.contains(ours.to_str().unwrap()), "{error}");
            assert_eq!(rendered(&settings), with("b"), "{broken}");
        }
        let error = settings_error(&settings, &ours, "{\"access_secret\": \"hidden");
        assert!(!error.contains("hidden"), "{error}");

        fs::remove_file(&ours).unwrap();
        terway.renew(&[("eni_conf", r#"{"version": "1", "terway_only": [1], "cluster_id": "c"}"#)]);
        assert!(matches!(settings.put_right().unwrap(), Repair::Done(_)));
        assert_eq!(rendered(&settings), with("c"));

        terway.renew(&[]);
        assert!(matches!(settings.put_right().unwrap(), Repair::Waiting(_)));
        assert_eq!(rendered(&settings), with("c"));
        assert!(settings.watched().contains(&terway.path().to_owned()));
    }

    fn settings_error(settings: &RenderedSettings, source: &Path, text: &str) -> String {
        fs::write(source, text).unwrap();
        format!("{:#}", settings.put_right().unwrap_err())
    }
}
