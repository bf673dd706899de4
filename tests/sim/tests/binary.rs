//! `podeip-sim` as a person starts it.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

const BINARY: &str = env!("CARGO_BIN_EXE_podeip-sim");

/// Ends the process when the test does, whatever its result.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn get(url: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(url.strip_prefix("http://").unwrap()).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: sim\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

#[test]
fn it_announces_itself_writes_configuration_and_serves() {
    let directory = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("podeip-sim-{}", std::process::id()));
    let mut child = Command::new(BINARY)
        .args(["--settings", r#"{"quota":3}"#, "--write-config"])
        .arg(&directory)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let stdout = child.stdout.take().unwrap();
    let _running = Running(child);
    BufReader::new(stdout).read_line(&mut line).unwrap();
    let announced: Value = serde_json::from_str(&line).unwrap();

    let metadata = announced["metadata"].as_str().unwrap();
    assert_eq!(get(metadata, "/latest/meta-data/instance-id"), announced["instanceId"].as_str().unwrap());
    let state: Value = serde_json::from_str(&get(announced["control"].as_str().unwrap(), "/state")).unwrap();
    assert_eq!(state["cloud"]["settings"]["quota"], 3);
    assert_eq!(state["cloud"]["eips"][0]["id"], announced["userEip"]);

    let eni_conf: Value = serde_json::from_slice(&std::fs::read(directory.join("eni_conf")).unwrap()).unwrap();
    assert_eq!(eni_conf["endpoints"]["vpc"], announced["vpc"]);
    assert_eq!(eni_conf["access_key"], announced["accessKeyId"]);
    let kubeconfig = std::fs::read_to_string(directory.join("kubeconfig")).unwrap();
    assert!(kubeconfig.contains(&format!("server: {}\n", announced["kube"].as_str().unwrap())), "{kubeconfig}");
    let mode = directory.join("kubeconfig").metadata().unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    std::fs::remove_dir_all(&directory).unwrap();
}

#[test]
fn a_wrong_setting_is_refused_by_name() {
    let output = Command::new(BINARY).args(["--settings", r#"{"quotas":3}"#]).output().unwrap();
    assert!(!output.status.success());
    let complaint = String::from_utf8(output.stderr).unwrap();
    assert!(complaint.contains("there is no setting quotas"), "{complaint}");
}
