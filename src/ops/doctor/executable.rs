//! The check of the installed executable: it runs, and is the version of the agent that looks after it.

use std::fs;
use std::io::{self, Read};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};

use super::check::Finding;
use super::subject::Subject;
use crate::cni::stanza::PLUGIN_TYPE;
use crate::deadline::Deadline;
use crate::state::Store;

/// It only prints a line, but a disk that is busy may have to load it first.
const RUN_TIME: Duration = Duration::from_secs(5);

/// Between two looks whether it has ended.
const LOOK_PAUSE: Duration = Duration::from_millis(5);

const THIS: &str = env!("CARGO_PKG_VERSION");

const INSTALL: &str = "run `podeip install` of the version that is to be here, as the DaemonSet's init container does, and \
                       the agent of that version";

pub fn executable(subject: &Subject) -> Finding {
    let file = subject.bin_dir.join(PLUGIN_TYPE);
    let installed = match version_of(&file) {
        Ok(version) => version,
        Err(error) => return Finding::fail(format!("{error:#}"), INSTALL),
    };
    let name = file.display();
    let agent = Store::open(&subject.paths.state_directory).ok().and_then(|store| store.living_agent());
    let agent = agent.map(|agent| agent.version);
    match agent {
        Some(agent) if agent != installed => {
            let agent = if agent.is_empty() { "of a version that it does not tell" } else { &agent };
            Finding::fail(format!("{name} is {installed}, and the running agent is {agent}"), INSTALL)
        }
        _ if installed != THIS => {
            Finding::fail(format!("{name} is {installed}, and this podeip, which looks at it, is {THIS}"), INSTALL)
        }
        Some(_) => Finding::pass(format!("{name} is {installed}, as is the running agent")),
        None => Finding::warn(
            format!("{name} is {installed}, and no agent runs on this node"),
            "apply the DaemonSet of install/, or see with `kubectl describe` why its pod does not run here",
        ),
    }
}

/// What `file` says of itself. The runtime runs it as we do here.
fn version_of(file: &Path) -> anyhow::Result<String> {
    let name = file.display();
    let found = fs::metadata(file).with_context(|| format!("cannot find {name}, which the runtime runs"))?;
    ensure!(found.is_file() && found.permissions().mode() & 0o111 != 0, "{name} is not an executable file");
    let mut child = Command::new(file)
        .arg("--version")
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .with_context(|| format!("cannot run {name}"))?;
    let said =
        printed(&mut child, Deadline::after(RUN_TIME)).with_context(|| format!("cannot run {name} --version"))?;
    match said.trim().strip_prefix(PLUGIN_TYPE).map(str::trim) {
        Some(version) if !version.is_empty() => Ok(version.to_owned()),
        _ => bail!("{name} is not podeip: asked for its version it printed {said:?}"),
    }
}

/// What a process printed that ends by itself; one that does not is killed.
fn printed(child: &mut Child, deadline: Deadline) -> io::Result<String> {
    // More than a version, and less than a pipe holds.
    const MOST: u64 = 4096;
    loop {
        if child.try_wait()?.is_some() {
            break;
        }
        if !deadline.sleep(LOOK_PAUSE) {
            child.kill()?;
            child.wait()?;
            return Err(io::Error::new(io::ErrorKind::TimedOut, "it did not end by itself"));
        }
    }
    let mut said = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        stdout.take(MOST).read_to_end(&mut said)?;
    }
    Ok(String::from_utf8_lossy(&said).into_owned())
}
