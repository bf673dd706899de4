//! Our object in the conflist, as libcni hands it over on stdin: its keys and what they mean.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use log::LevelFilter;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use super::error::{CniError, Code};

/// The plugin's name: `type` in the conflist and the file name of the executable.
pub const PLUGIN_TYPE: &str = "podeip";

/// The capability by which a runtime passes the pod's annotations.
pub const POD_ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";

/// Keys that the specification or libcni put beside ours; so does everything from `cni.dev/`.
const FOREIGN_KEYS: [&str; 9] =
    ["type", "name", "cniVersion", "capabilities", "runtimeConfig", "prevResult", "args", "dns", "ipam"];

/// A JSON object taken apart at its first level in one pass; the values are read when asked for.
#[derive(Debug, Default)]
pub struct Keys<'a>(BTreeMap<String, &'a RawValue>);

impl<'a> Keys<'a> {
    /// # Errors
    /// When `json` is not one JSON object.
    pub fn new(json: &'a [u8]) -> serde_json::Result<Self> {
        serde_json::from_slice(json).map(Self)
    }

    /// The value of `key`; JSON null counts as absent.
    pub fn value(&self, key: &str) -> Option<&'a RawValue> {
        self.0.get(key).copied().filter(|value| value.get() != "null")
    }

    /// Whether `key` is there, be it null.
    pub fn has(&self, key: &str) -> bool {
        self.0.contains_key(key)
    }

    /// The value of `key` as a `T`, `None` when it is absent or null.
    ///
    /// # Errors
    /// When the value is there and is no `T`.
    pub fn typed<T: DeserializeOwned>(&self, key: &str) -> serde_json::Result<Option<T>> {
        self.value(key).map(|value| serde_json::from_str(value.get())).transpose()
    }
}

/// What the conflist tells us.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stanza {
    /// `config`: the file `eni_conf`.
    pub config: PathBuf,
    /// `kubeconfig`: how to reach the API server.
    pub kubeconfig: PathBuf,
    /// `stateDir`: directory of the node's lasting state.
    pub state_dir: PathBuf,
    /// `logFile`.
    pub log_file: PathBuf,
    /// `logLevel`: `off`, `error`, `warn`, `info`, `debug` or `trace`.
    pub log_level: LevelFilter,
}

impl Default for Stanza {
    fn default() -> Self {
        Self {
            config: "/etc/podeip/eni_conf".into(),
            kubeconfig: "/etc/podeip/kubeconfig".into(),
            state_dir: "/var/lib/cni/podeip".into(),
            log_file: "/var/log/podeip.log".into(),
            log_level: LevelFilter::Info,
        }
    }
}

/// A key of ours that cannot be used, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub key: &'static str,
    pub problem: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key \"{}\" {}", self.key, self.problem)
    }
}

/// A stanza as far as it can be read: defaults stand in for the keys of `faults`.
#[derive(Debug, Default)]
pub struct Reading {
    pub stanza: Stanza,
    pub faults: Vec<Fault>,
}

impl Reading {
    pub fn of(keys: &Keys) -> Self {
        let mut reading = Self::default();
        let Stanza { config, kubeconfig, state_dir, log_file, log_level } = &mut reading.stanza;
        let paths = [("config", config), ("kubeconfig", kubeconfig), ("stateDir", state_dir), ("logFile", log_file)];
        for (key, path) in paths {
            match text(keys, key).and_then(|text| text.map(absolute).transpose()) {
                Ok(Some(named)) => *path = named,
                Ok(None) => {}
                Err(problem) => reading.faults.push(Fault { key, problem }),
            }
        }
        match text(keys, "logLevel").and_then(|text| text.map(level).transpose()) {
            Ok(Some(named)) => *log_level = named,
            Ok(None) => {}
            Err(problem) => reading.faults.push(Fault { key: "logLevel", problem }),
        }
        reading
    }

    /// The stanza, if every key of ours can be used.
    ///
    /// # Errors
    /// Code 101, naming all keys at fault.
    pub fn strict(self) -> Result<Stanza, CniError> {
        self.accepting(|_| false)
    }

    /// The stanza for a command that only needs to find the state: for the other keys a default
    /// does, since an error would keep the primary plugin's DEL from running.
    ///
    /// # Errors
    /// Code 101 when `stateDir` cannot be used.
    pub fn for_state(self) -> Result<Stanza, CniError> {
        self.accepting(|fault| fault.key != "stateDir")
    }

    fn accepting(self, tolerable: impl Fn(&Fault) -> bool) -> Result<Stanza, CniError> {
        let faults: Vec<String> = self.faults.iter().filter(|fault| !tolerable(fault)).map(Fault::to_string).collect();
        if faults.is_empty() {
            return Ok(self.stanza);
        }
        let msg = format!("the podeip stanza of the conflist cannot be used: {}", faults.join("; "));
        Err(CniError::new(Code::Configuration, msg))
    }
}

/// The keys of a stanza that neither we nor libcni know: most likely misspelt. They are ignored.
pub fn unknown_keys<'k>(keys: &'k Keys) -> Vec<&'k str> {
    let ours = ["config", "kubeconfig", "stateDir", "logFile", "logLevel"];
    let known = |key: &str| ours.contains(&key) || FOREIGN_KEYS.contains(&key) || key.starts_with("cni.dev/");
    keys.0.keys().map(String::as_str).filter(|key| !known(key)).collect()
}

fn text(keys: &Keys, key: &str) -> Result<Option<String>, String> {
    keys.typed(key).map_err(|_| "must be a text".to_owned())
}

fn absolute(text: String) -> Result<PathBuf, String> {
    // The working directory is the runtime's, so a relative path means nothing. A NUL cannot be opened.
    if Path::new(&text).is_absolute() && !text.contains('\0') {
        return Ok(text.into());
    }
    Err(format!("must be an absolute path, not \"{}\"", text.escape_debug()))
}

fn level(text: String) -> Result<LevelFilter, String> {
    let refused = |_| format!("must be off, error, warn, info, debug or trace, not \"{}\"", text.escape_debug());
    text.parse().map_err(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(json: &str) -> Reading {
        Reading::of(&Keys::new(json.as_bytes()).unwrap())
    }

    #[test]
    fn every_key_is_optional() {
        let stanza = reading(r#"{"type":"podeip","config":null}"#).strict().unwrap();
        assert_eq!(stanza, Stanza::default());
        assert_eq!(stanza.state_dir, Path::new("/var/lib/cni/podeip"));
    }

    #[test]
    fn reads_every_key() {
        let stanza = reading(
            r#"{"config":"/a","kubeconfig":"/b","stateDir":"/c","logFile":"/d","logLevel":"DEBUG","later":{"x":[]}}"#,
        );
        let expected = Stanza {
            config: "/a".into(),
            kubeconfig: "/b".into(),
            state_dir: "/c".into(),
            log_file: "/d".into(),
            log_level: LevelFilter::Debug,
        };
        assert_eq!(stanza.strict().unwrap(), expected);
    }

    #[test]
    fn names_every_key_at_fault() {
        let json = r#"{"config":"eni_conf","kubeconfig":7,"logLevel":"loud"}"#;
        let error = reading(json).strict().unwrap_err();
        assert_eq!(error.code, Code::Configuration);
        assert_eq!(
            error.msg,
            "the podeip stanza of the conflist cannot be used: key \"config\" must be an absolute path, not \"eni_conf\"; \
             key \"kubeconfig\" must be a text; key \"logLevel\" must be off, error, warn, info, debug or trace, not \"loud\""
        );
        assert_eq!(reading(json).for_state().unwrap(), Stanza::default());
        assert!(reading(r#"{"stateDir":["/x"]}"#).for_state().is_err());
    }

    #[test]
    fn a_misspelt_key_is_ignored_and_can_be_named() {
        let json =
            br#"{"type":"podeip","capabilities":{},"cni.dev/valid-attachments":[],"state_dir":"/x","LogLevel":"info"}"#;
        let keys = Keys::new(json).unwrap();
        assert_eq!(unknown_keys(&keys), ["LogLevel", "state_dir"]);
        assert_eq!(Reading::of(&keys).strict().unwrap(), Stanza::default());
    }

    /// One list of `cni-conf/`: its file's name and content.
    fn example_lists() -> Vec<(String, serde_json::Value)> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("cni-conf");
        let files = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path());
        let lists = files.filter(|path| path.extension().is_some_and(|extension| extension == "conflist"));
        lists
            .map(|path| {
                let list = serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap();
                (path.file_name().unwrap().to_string_lossy().into_owned(), list)
            })
            .collect()
    }

    #[test]
    fn the_example_lists_chain_us_after_the_primary() {
        let lists = example_lists();
        let mut names: Vec<_> = lists.iter().map(|(name, _)| name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, ["10-bridge.conflist", "10-terway-datapathv2.conflist", "10-terway-veth.conflist"]);
        for (name, list) in &lists {
            let types: Vec<_> = list["plugins"].as_array().unwrap().iter().map(|plugin| &plugin["type"]).collect();
            let primarys: &[&str] = match name.as_str() {
                "10-terway-veth.conflist" => &["terway"],
                "10-terway-datapathv2.conflist" => &["terway", "cilium-cni"],
                _ => &["bridge"],
            };
            assert!(types.iter().zip(primarys).all(|(found, expected)| *found == expected), "{name}");
            let ours: Vec<_> = (0..types.len()).filter(|at| types[*at] == PLUGIN_TYPE).collect();
            assert!(matches!(ours[..], [at] if at >= primarys.len()), "{name}");
        }
    }

    #[test]
    fn our_stanza_in_the_example_lists_is_read_as_libcni_sends_it() {
        for (name, list) in example_lists() {
            let plugins = list["plugins"].as_array().unwrap();
            let mut sent = plugins.iter().find(|plugin| plugin["type"] == PLUGIN_TYPE).unwrap().clone();
            let keys = sent.to_string();
            let keys = Keys::new(keys.as_bytes()).unwrap();
            assert_eq!(unknown_keys(&keys), [""; 0], "{name}");
            // The examples show the defaults.
            assert_eq!(Reading::of(&keys).strict().unwrap(), Stanza::default(), "{name}");

            assert_eq!(sent["capabilities"][POD_ANNOTATIONS], true);
            sent["runtimeConfig"] = serde_json::json!({ POD_ANNOTATIONS: null });
            sent["prevResult"] = serde_json::json!({});
            for key in ["cniVersion", "name"] {
                sent[key] = list[key].clone();
            }
            let variable = |name: &str| match name {
                "CNI_COMMAND" => Some("ADD".to_owned()),
                _ => Some("x".to_owned()),
            };
            let request = crate::cni::request::read(variable, &mut sent.to_string().as_bytes()).unwrap();
            assert_eq!(request.name, list["name"].as_str().unwrap());
            assert_eq!(request.stanza, Stanza::default());
        }
    }
}
