//! A CNI plugin that writes down what the runtime hands it and then becomes the plugin under test.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// The name the conflist calls the plugin by.
pub const PLUGIN_TYPE: &str = "podeip";

/// What the recorder becomes once it has recorded.
pub enum Plugin {
    /// A script that passes the previous result through, and misbehaves on request ([`Recorder::fail`]).
    StandIn,
    /// An executable, such as [`crate::scene::executable`].
    Executable(PathBuf),
}

/// One execution of the plugin by a runtime.
pub struct Call {
    pub command: String,
    /// Of the process, as its node counts.
    pub pid: u32,
    /// The `CNI_*` variables.
    pub env: BTreeMap<String, String>,
    pub stdin: Value,
}

/// The recorder as installed: where it keeps its records and takes its orders.
pub struct Recorder {
    dir: PathBuf,
}

impl Recorder {
    /// Installs the recorder as `bin/podeip`, with its records in `dir`. No environment variable is involved, because
    /// podman's clean-up process does not pass any on.
    pub fn install(bin: &Path, dir: PathBuf, plugin: &Plugin) -> Recorder {
        fs::create_dir_all(&dir).unwrap();
        let at = dir.display();
        let real = match plugin {
            Plugin::Executable(path) => path.clone(),
            Plugin::StandIn => {
                let path = dir.join("stand-in");
                write_script(&path, &STAND_IN.replace("@dir@", &at.to_string()));
                path
            }
        };
        let script = RECORDER.replace("@dir@", &at.to_string()).replace("@real@", &real.display().to_string());
        write_script(&bin.join(PLUGIN_TYPE), &script);
        Recorder { dir }
    }

    /// Every call so far, in the order of their start.
    pub fn calls(&self) -> Vec<Call> {
        let entries = fs::read_dir(&self.dir).unwrap().map(|entry| entry.unwrap().path());
        let mut records: Vec<PathBuf> = entries.filter(|path| path.extension().is_some_and(|e| e == "env")).collect();
        records.sort();
        records.iter().map(|path| Call::read(path)).collect()
    }

    /// The calls of one command.
    pub fn calls_of(&self, command: &str) -> Vec<Call> {
        self.calls().into_iter().filter(|call| call.command == command).collect()
    }

    /// The commands in the order they came in.
    pub fn commands(&self) -> Vec<String> {
        self.calls().into_iter().map(|call| call.command).collect()
    }

    /// From now on the stand-in answers `command` with a CNI error.
    pub fn fail(&self, command: &str, code: u32, msg: &str) {
        let error = json!({ "cniVersion": "1.0.0", "code": code, "msg": msg });
        fs::write(self.dir.join(format!("fail-{command}")), error.to_string()).unwrap();
    }

    /// From now on the stand-in takes this long for `command`.
    pub fn slow(&self, command: &str, seconds: u32) {
        fs::write(self.dir.join(format!("slow-{command}")), seconds.to_string()).unwrap();
    }
}

impl Call {
    fn read(path: &Path) -> Call {
        let env: BTreeMap<String, String> = fs::read_to_string(path)
            .unwrap()
            .lines()
            .filter_map(|line| line.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        // VERSION may come without a document.
        let stdin = fs::read(path.with_extension("stdin")).unwrap();
        let stdin = if stdin.is_empty() { Value::Null } else { serde_json::from_slice(&stdin).unwrap() };
        let pid = path.file_stem().unwrap().to_str().unwrap().rsplit('.').next().unwrap().parse().unwrap();
        Call { command: env["CNI_COMMAND"].clone(), pid, env, stdin }
    }

    /// A key of `CNI_ARGS`.
    pub fn arg(&self, key: &str) -> Option<&str> {
        self.env["CNI_ARGS"].split(';').filter_map(|pair| pair.split_once('=')).find(|(k, _)| *k == key).map(|(_, v)| v)
    }
}

fn write_script(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
}

/// `exec` keeps the process: a runtime that kills it kills the plugin. The rename makes a record appear whole.
const RECORDER: &str = r#"#!/bin/sh
record=@dir@/$(date +%s%N).$$
cat >"$record.stdin"
env | grep '^CNI_' >"$record.part"
mv "$record.part" "$record.env"
exec @real@ <"$record.stdin"
"#;

const STAND_IN: &str = r#"#!/bin/sh
# A child that keeps stdout open would make the runtime wait for it even after it has killed the plugin.
[ ! -e @dir@/slow-$CNI_COMMAND ] || sleep "$(cat @dir@/slow-$CNI_COMMAND)" </dev/null >/dev/null 2>&1
[ ! -e @dir@/fail-$CNI_COMMAND ] || { cat @dir@/fail-$CNI_COMMAND; exit 1; }
case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"1.0.0","supportedVersions":["0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]}' ;;
ADD) jq -c .prevResult ;;
esac
"#;
