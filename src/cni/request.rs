//! One call of the runtime: its environment and stdin, read whole and checked before anything acts.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Read;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::error::{CniError, Code};
use super::result::PrevResult;
use super::stanza::{Keys, POD_ANNOTATIONS, Reading, Stanza};
use super::version;
use crate::names::{ContainerId, PodUid};

/// Twice the largest honest input: a pod carries at most 256 KiB of annotations, which JSON
/// escapes blow up sixfold, and GC lists every sandbox of the node twice in about 120 bytes.
const LARGEST_STDIN: u64 = 4 << 20;

/// What the runtime wants (`CNI_COMMAND`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Add,
    Del,
    Check,
    Gc,
    Status,
    Version,
}

impl Command {
    fn of(text: &str) -> Option<Self> {
        Some(match text {
            "ADD" => Self::Add,
            "DEL" => Self::Del,
            "CHECK" => Self::Check,
            "GC" => Self::Gc,
            "STATUS" => Self::Status,
            "VERSION" => Self::Version,
            _ => return None,
        })
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        })
    }
}

/// The pod's annotations at sandbox creation, if the runtime hands them over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Annotations {
    /// The runtime lacks the capability or the stanza does not declare it: ask the API server.
    NotPassed,
    /// All of them; empty when the pod has none.
    Passed(BTreeMap<String, String>),
}

/// `CNI_ARGS`, as far as we use it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PodArgs {
    pub namespace: Option<String>,
    pub name: Option<String>,
    pub uid: Option<PodUid>,
}

/// The pod that a sandbox belongs to, as the runtime names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KubernetesPod<'a> {
    pub namespace: &'a str,
    pub name: &'a str,
    /// Absent from runtimes before 2021. For a static pod it is the manifest's hash.
    pub uid: Option<&'a PodUid>,
}

impl fmt::Display for KubernetesPod<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

impl PodArgs {
    /// Reads `K=V;K=V`: no escapes, any order, unknown keys and malformed items skipped. A value
    /// may contain `=`.
    fn of(text: &str) -> Self {
        let mut args = Self::default();
        for (key, value) in text.split(';').filter_map(|item| item.split_once('=')) {
            let value = Some(value.to_owned()).filter(|value| !value.is_empty());
            match key {
                "K8S_POD_NAMESPACE" => args.namespace = value,
                "K8S_POD_NAME" => args.name = value,
                "K8S_POD_UID" => args.uid = value.map(PodUid::new),
                _ => {}
            }
        }
        args
    }

    /// The Kubernetes pod; `None` without both namespace and name (podman sends a name alone).
    pub fn pod(&self) -> Option<KubernetesPod<'_>> {
        let (namespace, name) = (self.namespace.as_deref()?, self.name.as_deref()?);
        Some(KubernetesPod { namespace, name, uid: self.uid.as_ref() })
    }
}

/// A checked request. What a command does not carry is empty: `container_id` and `ifname` of GC,
/// STATUS and VERSION, `name` of VERSION.
#[derive(Clone, Debug)]
pub struct Request {
    pub command: Command,
    /// Of the list; the answer carries it.
    pub cni_version: String,
    /// The network's name.
    pub name: String,
    pub container_id: ContainerId,
    /// Path of the network namespace. On DEL it may be empty, or name what is gone.
    pub netns: String,
    pub ifname: String,
    pub args: PodArgs,
    pub annotations: Annotations,
    /// Always there on ADD.
    pub prev_result: Option<PrevResult>,
    /// GC: the attachments (container id, interface) that live. `None`: not said, so do nothing.
    pub valid_attachments: Option<Vec<(ContainerId, String)>>,
    pub stanza: Stanza,
}

/// Reads one request from the `CNI_*` variables and stdin.
///
/// # Errors
/// 4 environment, 6 not JSON, 1 version, 7 network configuration, 101 a key of our stanza; each
/// already [`answering`](CniError::answering) this request. DEL is served with less than the
/// other commands: it needs the environment, JSON, the network's name and a usable `stateDir`.
pub fn read(variable: impl Fn(&str) -> Option<String>, stdin: &mut dyn Read) -> Result<Request, CniError> {
    let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
    let command = variable("CNI_COMMAND");
    let known = command.as_deref().and_then(Command::of);
    // stdin comes first although the environment is judged first: the error's cniVersion is in it.
    let input = whole(stdin);
    let keys = input.as_ref().map_err(CniError::clone).and_then(|input| decoded(input));
    let version = keys.as_ref().ok().and_then(|keys| keys.typed::<String>("cniVersion").ok().flatten());
    let answering = |error: CniError| error.answering(known, version.as_deref());

    let environment = Environment::read(known, command.as_deref(), variable).map_err(answering)?;
    if environment.command == Command::Version {
        return Ok(version_request(environment, version));
    }
    keys.and_then(|keys| checked(environment, &keys)).map_err(answering)
}

fn whole(stdin: &mut dyn Read) -> Result<Vec<u8>, CniError> {
    let mut input = Vec::new();
    stdin
        .take(LARGEST_STDIN + 1)
        .read_to_end(&mut input)
        .map_err(|error| CniError::new(Code::Io, "cannot read stdin").with_details(error.to_string()))?;
    if input.len() as u64 > LARGEST_STDIN {
        return Err(CniError::new(Code::Decoding, format!("stdin is longer than {LARGEST_STDIN} bytes")));
    }
    Ok(input)
}

fn decoded(input: &[u8]) -> Result<Keys<'_>, CniError> {
    Keys::new(input).map_err(|error| {
        CniError::new(Code::Decoding, "the network configuration on stdin is not a JSON object")
            .with_details(error.to_string())
    })
}

/// The variables, checked as Go's plugin library checks them.
struct Environment {
    command: Command,
    container_id: ContainerId,
    netns: String,
    ifname: String,
    args: PodArgs,
}

impl Environment {
    fn read(
        known: Option<Command>,
        command: Option<&str>,
        variable: impl Fn(&str) -> Option<String>,
    ) -> Result<Self, CniError> {
        let bad = |msg: String| CniError::new(Code::BadEnvironment, msg);
        let command = match (known, command) {
            (Some(known), _) => known,
            (None, Some(text)) => return Err(bad(format!("unknown CNI_COMMAND \"{}\"", text.escape_debug()))),
            (None, None) => return Err(bad("required environment variables missing: CNI_COMMAND".into())),
        };
        let required: &[&str] = match command {
            Command::Add | Command::Check => &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"],
            Command::Del => &["CNI_CONTAINERID", "CNI_IFNAME"],
            Command::Gc | Command::Status | Command::Version => &[],
        };
        let missing: Vec<&str> = required.iter().copied().filter(|name| variable(name).is_none()).collect();
        if !missing.is_empty() {
            return Err(bad(format!("required environment variables missing: {}", missing.join(", "))));
        }
        // Not every command needs them, and runtimes send "dummy" where they are not needed.
        let of_attachment = |name| if required.is_empty() { None } else { variable(name) };
        let container_id = of_attachment("CNI_CONTAINERID").unwrap_or_default();
        let ifname = of_attachment("CNI_IFNAME").unwrap_or_default();
        if !required.is_empty() {
            checked_name(&container_id).map_err(|rule| bad(format!("CNI_CONTAINERID {rule}")))?;
            checked_ifname(&ifname).map_err(|rule| bad(format!("CNI_IFNAME {rule}")))?;
        }
        Ok(Self {
            command,
            container_id: ContainerId::new(container_id),
            netns: of_attachment("CNI_NETNS").unwrap_or_default(),
            ifname,
            args: PodArgs::of(&of_attachment("CNI_ARGS").unwrap_or_default()),
        })
    }
}

/// The specification's rule for container ids, which libcni applies to network names too.
fn checked_name(text: &str) -> Result<(), String> {
    let first = text.starts_with(|c: char| c.is_ascii_alphanumeric());
    if first && text.chars().all(|c| c.is_ascii_alphanumeric() || "_.-".contains(c)) {
        return Ok(());
    }
    Err(format!(
        "must start with a letter or digit and consist of letters, digits, '_', '.' and '-', not \"{}\"",
        text.escape_debug()
    ))
}

/// The kernel's rule for interface names (`dev_valid_name`).
fn checked_ifname(text: &str) -> Result<(), String> {
    let bad_char = |c: char| c == '/' || c == ':' || c.is_whitespace();
    if (1..=15).contains(&text.len()) && text != "." && text != ".." && !text.contains(bad_char) {
        return Ok(());
    }
    Err(format!(
        "must be 1 to 15 bytes without '/', ':' and white space, and not '.' or '..', not \"{}\"",
        text.escape_debug()
    ))
}

/// VERSION is answered whatever stdin holds: nothing, or a version newer than ours.
fn version_request(environment: Environment, version: Option<String>) -> Request {
    let version = version.filter(|version| !version.is_empty()).unwrap_or_else(|| version::NEWEST.to_owned());
    request(environment, version, String::new(), Stanza::default())
}

fn request(environment: Environment, cni_version: String, name: String, stanza: Stanza) -> Request {
    let Environment { command, container_id, netns, ifname, args } = environment;
    Request {
        command,
        cni_version,
        name,
        container_id,
        netns,
        ifname,
        args,
        annotations: Annotations::NotPassed,
        prev_result: None,
        valid_attachments: None,
        stanza,
    }
}

fn checked(environment: Environment, keys: &Keys) -> Result<Request, CniError> {
    let command = environment.command;
    let version: String = typed(keys, "cniVersion")?.unwrap_or_default();
    let version = if version.is_empty() { version::UNNAMED.to_owned() } else { version };
    if let Some(reason) = version::refusal(command, &version) {
        return Err(CniError::new(Code::IncompatibleVersion, reason));
    }
    let name = network_name(keys)?;
    let reading = Reading::of(keys);
    if command == Command::Del {
        let mut request = request(environment, version, name, reading.for_state()?);
        request.annotations = annotations(keys).unwrap_or(Annotations::NotPassed);
        request.prev_result = prev_result(keys).unwrap_or(None);
        return Ok(request);
    }
    let mut request = request(environment, version, name, reading.strict()?);
    request.annotations = annotations(keys)?;
    request.prev_result = prev_result(keys)?;
    request.valid_attachments = if command == Command::Gc { valid_attachments(keys)? } else { None };
    if command == Command::Add && request.prev_result.is_none() {
        return Err(invalid_config(
            "the configuration on stdin has no prevResult: podeip must stand after the primary network plugin in the \
             \"plugins\" of the conflist",
        ));
    }
    Ok(request)
}

fn network_name(keys: &Keys) -> Result<String, CniError> {
    let name: String = typed(keys, "name")?.unwrap_or_default();
    if name.is_empty() {
        return Err(invalid_config("the configuration on stdin has no network name"));
    }
    checked_name(&name).map_err(|rule| invalid_config(&format!("the network's name {rule}")))?;
    Ok(name)
}

fn annotations(keys: &Keys) -> Result<Annotations, CniError> {
    let Some(runtime) = keys.value("runtimeConfig") else { return Ok(Annotations::NotPassed) };
    let runtime = Keys::new(runtime.get().as_bytes()).map_err(|error| undecodable("runtimeConfig", &error))?;
    if !runtime.has(POD_ANNOTATIONS) {
        return Ok(Annotations::NotPassed);
    }
    // containerd sends null for a pod without annotations.
    Ok(Annotations::Passed(typed(&runtime, POD_ANNOTATIONS)?.unwrap_or_default()))
}

fn prev_result(keys: &Keys) -> Result<Option<PrevResult>, CniError> {
    let Some(json) = keys.value("prevResult") else { return Ok(None) };
    let not_an_object = || CniError::new(Code::Decoding, "\"prevResult\" on stdin is not a JSON object");
    PrevResult::new(json).ok_or_else(not_an_object).map(Some)
}

#[derive(Deserialize)]
struct ValidAttachment {
    #[serde(rename = "containerID")]
    container_id: ContainerId,
    ifname: String,
}

/// The second spelling is that of early releases of libcni, which still sends both.
fn valid_attachments(keys: &Keys) -> Result<Option<Vec<(ContainerId, String)>>, CniError> {
    let spellings = ["cni.dev/valid-attachments", "cni.dev/attachments"];
    let Some(key) = spellings.into_iter().find(|key| keys.has(key)) else { return Ok(None) };
    // Null is Go's empty list. An entry that cannot be read must not count as absent.
    let listed: Vec<ValidAttachment> = typed(keys, key)?.unwrap_or_default();
    Ok(Some(listed.into_iter().map(|valid| (valid.container_id, valid.ifname)).collect()))
}

fn typed<T: DeserializeOwned>(keys: &Keys, key: &str) -> Result<Option<T>, CniError> {
    keys.typed(key).map_err(|error| undecodable(key, &error))
}

fn undecodable(key: &str, error: &serde_json::Error) -> CniError {
    CniError::new(Code::Decoding, format!("\"{key}\" on stdin has the wrong type")).with_details(error.to_string())
}

fn invalid_config(msg: &str) -> CniError {
    CniError::new(Code::InvalidNetworkConfig, msg)
}

#[cfg(test)]
mod tests;
