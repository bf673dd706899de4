//! A scratch node: the directories that podeip is installed into, and what the kubelet mounts for it.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use crate::scene::{Answer, NODE, Scene, await_true, executable};

/// What a plain primary leaves.
pub const BRIDGE: &str = r#"{"cniVersion": "1.0.0", "name": "podnet", "plugins": [{"type": "bridge", "mtu": 1500}]}"#;

pub struct Site {
    pub scene: Scene,
    pub settings: Mount,
    pub account: Mount,
}

impl Site {
    /// With a primary's configuration, and settings and a service account mounted; nothing is installed.
    pub fn new() -> Self {
        let scene = Scene::new();
        for directory in ["bin", "net.d", "results"] {
            fs::create_dir(scene.path(directory)).unwrap();
        }
        let settings = fs::read_to_string(scene.path("eni_conf")).unwrap();
        for file in ["eni_conf", "kubeconfig"] {
            fs::remove_file(scene.path(file)).unwrap();
        }
        let site = Self {
            settings: Mount::new(scene.path("settings"), &[("eni-config.json", &settings)]),
            account: Mount::new(scene.path("account"), &[]),
            scene,
        };
        site.account.renew(&site.account_with(podeip_sim::cloud::defaults::KUBE_TOKEN));
        site.write_conf("10-podnet.conflist", BRIDGE);
        site
    }

    /// As [`Site::new`], with the running executable itself in its place: copying takes most of the time
    /// of an installation, and most tests are not about it.
    pub fn with_executable() -> Self {
        let site = Self::new();
        site.place_executable();
        site
    }

    pub fn place_executable(&self) {
        let _ = fs::remove_file(self.executable());
        // Elsewhere than on one file system, the installation copies it.
        let _ = fs::hard_link(executable(), self.executable());
    }

    fn account_with<'a>(&'a self, token: &'a str) -> [(&'a str, &'a str); 2] {
        [("token", token), ("ca.crt", &self.scene.world.certificates.ca)]
    }

    /// The cluster takes this token and no other from now on.
    pub fn rotate_in_cluster(&self, token: &str) {
        self.scene.world.cluster.set_token(Some(token));
    }

    /// The kubelet renews the mounted token.
    pub fn rotate_in_mount(&self, token: &str) {
        self.account.renew(&self.account_with(token));
    }

    pub fn executable(&self) -> PathBuf {
        self.scene.path("bin/podeip")
    }

    pub fn conf(&self, name: &str) -> PathBuf {
        self.scene.path("net.d").join(name)
    }

    pub fn write_conf(&self, name: &str, content: &str) {
        fs::write(self.conf(name), content).unwrap();
    }

    /// The names and contents in the runtime's configuration directory.
    pub fn conf_files(&self) -> BTreeMap<String, String> {
        files_in(&self.scene.path("net.d"))
    }

    /// The types of the plugins that the runtime would run, if it can load its first file.
    pub fn chain(&self) -> Result<Vec<String>, String> {
        let loadable = |name: &String| [".conf", ".conflist", ".json"].iter().any(|end| name.ends_with(end));
        let files = self.conf_files();
        let (name, content) = files.iter().find(|(name, _)| loadable(name)).ok_or("there is no configuration")?;
        let list: Value = serde_json::from_str(content).map_err(|error| format!("{name}: {error}: {content:?}"))?;
        let types = |plugin: &Value| plugin["type"].as_str().unwrap_or_default().to_owned();
        let plugins = list["plugins"].as_array().cloned().unwrap_or_else(|| vec![list.clone()]);
        Ok(plugins.iter().map(types).collect())
    }

    pub fn is_chained(&self) -> bool {
        self.chain().is_ok_and(|chain| chain.iter().filter(|name| *name == "podeip").count() == 1)
    }

    /// The same for a runtime with libcni 1.3 or newer, which appends the files of the network's folder.
    pub fn chain_with_drop_ins(&self) -> Result<Vec<String>, String> {
        let mut chain = self.chain()?;
        let lists = self.conf_files();
        let (name, list) = lists.iter().find(|(name, _)| name.ends_with(".conflist")).ok_or("there is no list")?;
        let list: Value = serde_json::from_str(list).map_err(|error| format!("{name}: {error}"))?;
        let folder = self.conf(list["name"].as_str().ok_or("the list has no name")?);
        if !folder.is_dir() || list["loadOnlyInlinedPlugins"] == true {
            return Ok(chain);
        }
        for (name, plugin) in files_in(&folder).into_iter().filter(|(name, _)| name.ends_with(".conf")) {
            let plugin: Value =
                serde_json::from_str(&plugin).map_err(|error| format!("{name}: {error}: {plugin:?}"))?;
            chain.push(plugin["type"].as_str().ok_or(name)?.to_owned());
        }
        Ok(chain)
    }

    /// The kubelet tells the API server of its runtime.
    pub fn tell_runtime(&self, version: &str) {
        let status = json!({"status": {"nodeInfo": {"containerRuntimeVersion": version}}});
        let cluster = &self.scene.world.cluster;
        if cluster.merge("nodes", "", NODE, &status).is_none() {
            let mut node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}});
            node["status"] = status["status"].clone();
            cluster.create(node).unwrap();
        }
    }

    /// `podeip` with these arguments and the paths of this node.
    fn command(&self, arguments: &[&str]) -> Command {
        let scene = &self.scene;
        let mut command = Command::new(executable());
        command.env_clear().env("NODE_NAME", NODE).args(arguments);
        command.arg("--conf-dir").arg(scene.path("net.d")).arg("--bin-dir").arg(scene.path("bin"));
        command.arg("--config").arg(scene.path("eni_conf")).arg("--kubeconfig").arg(scene.path("kubeconfig"));
        command.arg("--state-dir").arg(scene.state_dir());
        command.arg("--service-account").arg(self.account.path()).arg("--api-server").arg(&scene.world.kube_url);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    pub fn installing(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(&["install"]);
        for source in ["eni-config.json", "podeip.json"] {
            command.arg("--settings-from").arg(self.settings.path().join(source));
        }
        command.args(arguments);
        command
    }

    pub fn try_to_install(&self) -> Answer {
        self.installing(&[]).output().unwrap().into()
    }

    #[track_caller]
    pub fn install(&self) -> Answer {
        self.install_with(&[])
    }

    #[track_caller]
    pub fn install_with(&self, arguments: &[&str]) -> Answer {
        let answer = Answer::from(self.installing(arguments).output().unwrap());
        assert_eq!(answer.code, Some(0), "{answer:?}");
        answer
    }

    pub fn print_terway_conflist(&self) -> Answer {
        self.installing(&["--print-terway-conflist"]).output().unwrap().into()
    }

    pub fn uninstalling(&self, arguments: &[&str]) -> Command {
        let mut command = self.command(&["uninstall"]);
        command.arg("--cache-dir").arg(self.scene.path("results")).args(arguments);
        command
    }

    pub fn uninstall(&self, arguments: &[&str]) -> Answer {
        self.uninstalling(arguments).output().unwrap().into()
    }

    /// As a runtime finds it at any moment: the primary's configuration with or without our stanza, and with it all that
    /// the stanza needs.
    #[track_caller]
    pub fn assert_whole(&self) {
        let chain = self.chain().unwrap();
        assert!(chain == ["bridge"] || chain == ["bridge", "podeip"], "{chain:?}");
        if let Ok(found) = fs::metadata(self.executable()) {
            let whole = [executable(), env!("CARGO_BIN_EXE_podeip")].map(|path| fs::metadata(path).unwrap().len());
            assert!(whole.contains(&found.len()), "half an executable");
        }
        if self.is_chained() {
            assert!(self.executable().exists() && self.scene.path("eni_conf").exists(), "a stanza before its files");
        }
    }

    /// Nothing of the installation is there.
    #[track_caller]
    pub fn assert_gone(&self) {
        let mut files: Vec<_> = self.conf_files().into_iter().collect();
        files.retain(|(name, _)| !name.starts_with(".podeip-tmp-"));
        assert_eq!(files, [("10-podnet.conflist".into(), BRIDGE.to_owned())]);
        for file in ["eni_conf", "kubeconfig", "bin/podeip", "state/credentials.json"] {
            assert!(!self.scene.path(file).exists(), "{file}");
        }
    }

    /// An agent that keeps the installation. Its log is a file of the scene.
    pub fn keeper(&self) -> Keeper {
        self.keeper_with(&[])
    }

    pub fn keeper_with(&self, arguments: &[&str]) -> Keeper {
        let mut command = self.command(&["agent", "--keep-installed", "--metrics", "off"]);
        for source in ["eni-config.json", "podeip.json"] {
            command.arg("--settings-from").arg(self.settings.path().join(source));
        }
        command.args(arguments);
        command.stderr(fs::File::create(self.scene.path("agent.log")).unwrap()).stdout(Stdio::null());
        let keeper = Keeper(command.spawn().unwrap());
        await_true("the agent holds agent.lock", || self.scene.agent_lives());
        keeper
    }

    pub fn agent_log(&self) -> String {
        fs::read_to_string(self.scene.path("agent.log")).unwrap()
    }
}

/// An agent that is killed in the end, as by a node that goes down.
pub struct Keeper(Child);

impl Drop for Keeper {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A directory as the kubelet mounts ConfigMaps, Secrets and projected volumes.
pub struct Mount(PathBuf);

impl Mount {
    pub fn new(path: PathBuf, files: &[(&str, &str)]) -> Self {
        fs::create_dir(&path).unwrap();
        let mount = Self(path);
        mount.renew(files);
        mount
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// In the kubelet's order: a new directory, `..data` is pointed at it in one step, the old one goes.
    pub fn renew(&self, files: &[(&str, &str)]) {
        let old = fs::read_link(self.0.join("..data")).ok();
        let new = format!("..{}", uuid());
        fs::create_dir(self.0.join(&new)).unwrap();
        for (name, content) in files {
            fs::write(self.0.join(&new).join(name), content).unwrap();
            let link = self.0.join(name);
            if link.symlink_metadata().is_err() {
                symlink(Path::new("..data").join(name), link).unwrap();
            }
        }
        symlink(&new, self.0.join("..data_tmp")).unwrap();
        fs::rename(self.0.join("..data_tmp"), self.0.join("..data")).unwrap();
        if let Some(old) = old {
            fs::remove_dir_all(self.0.join(old)).unwrap();
        }
    }
}

fn uuid() -> String {
    fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap().trim().to_owned()
}

pub fn files_in(directory: &Path) -> BTreeMap<String, String> {
    let read = |path: PathBuf| {
        let name = path.file_name()?.to_str()?.to_owned();
        // A file may go between the listing and the reading, as everywhere.
        Some((name, fs::read_to_string(path).ok()?))
    };
    fs::read_dir(directory).unwrap().filter_map(|entry| read(entry.unwrap().path())).collect()
}

/// Settings with one more key.
pub fn with_key(settings: &str, key: &str, value: &str) -> String {
    let mut settings: Value = serde_json::from_str(settings).unwrap();
    settings[key] = json!(value);
    settings.to_string()
}
