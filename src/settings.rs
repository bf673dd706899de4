//! `eni_conf`: the ConfigMap's settings as they lie on the node.
//!
//! Terway reads the same file: its keys keep their names and their string-or-bool spelling, and
//! those that are not ours are ignored.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde_json::{Map, Value};
use ureq::http::Uri;

use crate::bounded;
use crate::secret::Secret;

/// What `eni_conf` and the environment say, with the defaults filled in.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// `enable_eip_pool`: off means that every pod passes through.
    pub enabled: bool,
    /// `allow_eip_rob`: a named EIP may be detached from its present holder.
    pub allow_rob: bool,
    /// `region_id`; without it, instance metadata says.
    pub region_id: Option<String>,
    /// `vpc_id`; without it, instance metadata says.
    pub vpc_id: Option<String>,
    /// `cluster_id`; see [`required_cluster_id`](Self::required_cluster_id).
    pub cluster_id: Option<String>,
    /// `access_key` and `access_secret`, when neither is empty.
    pub access_key: Option<AccessKey>,
    /// `credential_path`: the encrypted add-on token.
    pub credential_path: Option<PathBuf>,
    pub enable_rrsa: bool,
    pub rrsa_role_name: Option<String>,
    /// Owner kinds that count as stateful besides `StatefulSet`; to be compared without case.
    pub custom_stateful_workload_kinds: Vec<String>,
    /// `eip_gc_period_minutes`: between two rounds of the agent.
    pub gc_period: Duration,
    /// `eip_add_timeout_seconds`: a whole ADD.
    pub add_timeout: Duration,
    /// `eip_del_timeout_seconds`: a whole DEL.
    pub del_timeout: Duration,
    /// `eip_orphan_grace_minutes`: how long an EIP of ours may be unclaimed; may be zero.
    pub orphan_grace: Duration,
    /// Requests a second of the agent to the API server.
    pub kube_client_qps: f64,
    pub kube_client_burst: u32,
    pub coexistence: Coexistence,
    pub late_attach: LateAttach,
    /// `eip_quota`: how many EIPs the account may have in the region. No API that podeip uses tells it.
    pub eip_quota: Option<u32>,
    pub endpoints: Endpoints,
    /// The file all this came from, for messages.
    pub path: PathBuf,
}

/// `coexistence`: what an ADD does that would allocate while another EIP feature of the cluster is active.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Coexistence {
    /// Two systems would each buy the pod an EIP, so ours does not.
    #[default]
    Refuse,
    /// The operator knows that the other one does not serve the pods that ask for ours.
    Ignore,
}

/// `late_attach`: what the agent does about a running pod that asks for an EIP and has none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LateAttach {
    /// Tells the pod that it must be created again.
    #[default]
    Event,
    Attach,
    Off,
}

/// A long-lived key pair of the cloud account.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessKey {
    pub id: String,
    pub secret: Secret,
}

/// Where the cloud's services are: base URLs, scheme and authority only, such as
/// `https://vpc-vpc.cn-hangzhou.aliyuncs.com`. What is `None` follows from the region.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Endpoints {
    pub vpc: Option<String>,
    pub ecs: Option<String>,
    pub sts: Option<String>,
    pub metadata: Option<String>,
    /// `ALICLOUD_CLIENT_SCHEME=HTTP`: endpoints that follow from the region speak plain HTTP.
    pub plain_http: bool,
}

/// Why the settings cannot be used. No variant carries a credential.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    #[error("cannot read the settings in {}; they come from the ConfigMap kube-system/eni-config", path.display())]
    Unreadable { path: PathBuf, source: std::io::Error },
    #[error("the settings in {} are not JSON", path.display())]
    Malformed { path: PathBuf, source: serde_json::Error },
    #[error("the settings in {} are not a JSON object", path.display())]
    NotAnObject { path: PathBuf },
    #[error("the settings in {}: key \"{key}\" {problem}", path.display())]
    Key { path: PathBuf, key: &'static str, problem: String },
    #[error("environment variable {name} {problem}")]
    Variable { name: &'static str, problem: String },
}

impl Settings {
    /// Reads the file and the variables that Terway honours too.
    ///
    /// # Errors
    /// See [`SettingsError`].
    pub fn read(path: &Path, variable: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        let text = bounded::read(path).map_err(|source| SettingsError::Unreadable { path: path.to_owned(), source })?;
        Self::parse(&text, path, variable)
    }

    /// As [`read`](Self::read), from `text`; `path` is only for messages.
    pub fn parse(text: &[u8], path: &Path, variable: impl Fn(&str) -> Option<String>) -> Result<Self, SettingsError> {
        // Into a Value first: its errors are about syntax alone and quote nothing of the file.
        let value = serde_json::from_slice(text)
            .map_err(|source| SettingsError::Malformed { path: path.to_owned(), source })?;
        let Value::Object(map) = value else { return Err(SettingsError::NotAnObject { path: path.to_owned() }) };
        let keys = Keys { map: &map, path };
        Ok(Self {
            enabled: keys.switch("enable_eip_pool")?,
            allow_rob: keys.switch("allow_eip_rob")?,
            region_id: keys.identifier("region_id")?,
            vpc_id: keys.identifier("vpc_id")?,
            cluster_id: keys.identifier("cluster_id")?,
            access_key: keys.access_key()?,
            credential_path: keys.absolute_path("credential_path")?,
            enable_rrsa: keys.switch("enable_rrsa")?,
            rrsa_role_name: keys.text("rrsa_role_name")?,
            custom_stateful_workload_kinds: keys.texts("custom_stateful_workload_kinds")?,
            gc_period: keys.minutes("eip_gc_period_minutes", 1, 1)?,
            add_timeout: keys.seconds("eip_add_timeout_seconds", 60, 2)?,
            del_timeout: keys.seconds("eip_del_timeout_seconds", 15, 1)?,
            orphan_grace: keys.minutes("eip_orphan_grace_minutes", 10, 0)?,
            kube_client_qps: keys.rate("kube_client_qps", 5.0)?,
            kube_client_burst: keys.whole("kube_client_burst", 10, 1)?,
            coexistence: keys
                .choice("coexistence", &[("refuse", Coexistence::Refuse), ("ignore", Coexistence::Ignore)])?,
            late_attach: keys.choice(
                "late_attach",
                &[("event", LateAttach::Event), ("attach", LateAttach::Attach), ("off", LateAttach::Off)],
            )?,
            eip_quota: keys.value("eip_quota").map(|_| keys.whole("eip_quota", 0, 1)).transpose()?,
            endpoints: endpoints(&keys, variable)?,
            path: path.to_owned(),
        })
    }

    /// The cluster's id, which every owner tag and token contains.
    ///
    /// # Errors
    /// When the file does not name it: nothing may be allocated then.
    pub fn required_cluster_id(&self) -> Result<&str, SettingsError> {
        self.cluster_id.as_deref().ok_or_else(|| SettingsError::Key {
            path: self.path.clone(),
            key: "cluster_id",
            problem: "is missing: it is written into the owner tags, so \"enable_eip_pool\" needs it".into(),
        })
    }
}

/// The file's first level. Null and the empty text count as absent: templates leave them behind.
struct Keys<'a> {
    map: &'a Map<String, Value>,
    path: &'a Path,
}

impl<'a> Keys<'a> {
    fn value(&self, key: &str) -> Option<&'a Value> {
        self.map.get(key).filter(|value| !value.is_null() && value.as_str() != Some(""))
    }

    fn fault(&self, key: &'static str, problem: impl Into<String>) -> SettingsError {
        SettingsError::Key { path: self.path.to_owned(), key, problem: problem.into() }
    }

    fn switch(&self, key: &'static str) -> Result<bool, SettingsError> {
        match self.value(key) {
            None => Ok(false),
            Some(Value::Bool(on)) => Ok(*on),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("true") => Ok(true),
            Some(Value::String(text)) if text.eq_ignore_ascii_case("false") => Ok(false),
            Some(other) => Err(self.fault(key, format!("must be true or false, not {}", shown(other)))),
        }
    }

    /// One of a few words; without the key, the default.
    fn choice<T: Copy + Default>(&self, key: &'static str, allowed: &[(&str, T)]) -> Result<T, SettingsError> {
        let Some(value) = self.value(key) else { return Ok(T::default()) };
        let chosen = allowed.iter().find(|(word, _)| value.as_str() == Some(word));
        chosen.map(|(_, choice)| *choice).ok_or_else(|| {
            let words: Vec<String> = allowed.iter().map(|(word, _)| format!("\"{word}\"")).collect();
            self.fault(key, format!("must be {}, not {}", words.join(" or "), shown(value)))
        })
    }

    /// A text of which no part is repeated in an error, for it may be a secret.
    fn text(&self, key: &'static str) -> Result<Option<String>, SettingsError> {
        match self.value(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text.clone())),
            Some(_) => Err(self.fault(key, "must be a text")),
        }
    }

    /// An id that becomes part of host names, tags and tokens.
    fn identifier(&self, key: &'static str) -> Result<Option<String>, SettingsError> {
        let Some(id) = self.text(key)? else { return Ok(None) };
        let reserved = id.starts_with("aliyun") || id.starts_with("acs:");
        if id.len() <= 128 && !reserved && id.chars().all(|c| c.is_ascii_alphanumeric() || "-_.".contains(c)) {
            return Ok(Some(id));
        }
        let rule = "must be at most 128 letters, digits, '-', '_' and '.', and not start with \"aliyun\"";
        Err(self.fault(key, format!("{rule}, not \"{}\"", id.escape_debug())))
    }

    fn absolute_path(&self, key: &'static str) -> Result<Option<PathBuf>, SettingsError> {
        match self.text(key)?.map(PathBuf::from) {
            Some(path) if !path.is_absolute() => {
                Err(self.fault(key, format!("must be an absolute path, not {path:?}")))
            }
            path => Ok(path),
        }
    }

    fn texts(&self, key: &'static str) -> Result<Vec<String>, SettingsError> {
        let wrong = || self.fault(key, "must be a list of texts");
        match self.value(key) {
            None => Ok(Vec::new()),
            Some(Value::Array(list)) => {
                list.iter().map(|kind| kind.as_str().map(str::to_owned).ok_or_else(wrong)).collect()
            }
            Some(_) => Err(wrong()),
        }
    }

    fn access_key(&self) -> Result<Option<AccessKey>, SettingsError> {
        let (id, secret) = (self.text("access_key")?, self.text("access_secret")?);
        Ok(id.zip(secret).map(|(id, secret)| AccessKey { id, secret: Secret::new(secret) }))
    }

    /// A number, or a text that is one.
    fn number<T: FromStr + Display>(
        &self,
        key: &'static str,
        default: T,
        allowed: &str,
        is_allowed: impl Fn(&T) -> bool,
    ) -> Result<T, SettingsError> {
        let Some(value) = self.value(key) else { return Ok(default) };
        let number = match value {
            Value::Number(number) => number.to_string().parse().ok(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        };
        number.filter(is_allowed).ok_or_else(|| self.fault(key, format!("must be {allowed}, not {}", shown(value))))
    }

    fn whole(&self, key: &'static str, default: u32, least: u32) -> Result<u32, SettingsError> {
        self.number(key, default, &format!("a whole number from {least} on"), |number| *number >= least)
    }

    fn rate(&self, key: &'static str, default: f64) -> Result<f64, SettingsError> {
        self.number(key, default, "a number above 0", |rate| rate.is_finite() && *rate > 0.0)
    }

    fn seconds(&self, key: &'static str, default: u32, least: u32) -> Result<Duration, SettingsError> {
        Ok(Duration::from_secs(self.whole(key, default, least)?.into()))
    }

    fn minutes(&self, key: &'static str, default: u32, least: u32) -> Result<Duration, SettingsError> {
        Ok(Duration::from_secs(60 * u64::from(self.whole(key, default, least)?)))
    }
}

/// A value for an error: whole if it is a short single one. A list or an object may hold anything, such as the rest of
/// the file behind a missing brace.
fn shown(value: &Value) -> String {
    const LONGEST: usize = 80;
    let text = match value {
        Value::Array(_) => "a list".into(),
        Value::Object(_) => "an object".into(),
        single => single.to_string(),
    };
    match text.char_indices().nth(LONGEST) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// The file's endpoints, which win, and Terway's variables.
fn endpoints(keys: &Keys, variable: impl Fn(&str) -> Option<String>) -> Result<Endpoints, SettingsError> {
    // Terway compares with exactly this spelling and takes HTTPS for anything else.
    let plain_http = variable("ALICLOUD_CLIENT_SCHEME").as_deref() == Some("HTTP");
    let scheme = if plain_http { "http" } else { "https" };
    let empty = Map::new();
    let map = match keys.value("endpoints") {
        None => &empty,
        Some(Value::Object(map)) => map,
        Some(_) => return Err(keys.fault("endpoints", "must be an object of URLs")),
    };
    let inner = Keys { map, path: keys.path };
    let named = |key: &'static str, full: &'static str, scheme: &str| match inner.value(key) {
        None => Ok(None),
        Some(Value::String(text)) => base_url(text, scheme).map(Some).map_err(|problem| keys.fault(full, problem)),
        Some(_) => Err(keys.fault(full, "must be a text")),
    };
    let from_variable = |name: &'static str| {
        let value = variable(name).filter(|value| !value.is_empty());
        let url = value.map(|value| base_url(without_scheme(&value), scheme)).transpose();
        url.map_err(|problem| SettingsError::Variable { name, problem })
    };
    Ok(Endpoints {
        vpc: named("vpc", "endpoints.vpc", scheme)?
            .map_or_else(|| from_variable("VPC_ENDPOINT"), |url| Ok(Some(url)))?,
        ecs: named("ecs", "endpoints.ecs", scheme)?
            .map_or_else(|| from_variable("ECS_ENDPOINT"), |url| Ok(Some(url)))?,
        sts: named("sts", "endpoints.sts", scheme)?,
        // The metadata service has no TLS.
        metadata: named("metadata", "endpoints.metadata", "http")?,
        plain_http,
    })
}

/// Terway uses only host and port of its variables; a scheme in them means nothing.
fn without_scheme(text: &str) -> &str {
    text.split_once("://").map_or(text, |(_, rest)| rest)
}

/// `text` as scheme and authority; `scheme` is for a text that has none. The problem never
/// repeats the text, for a URL can carry a password.
fn base_url(text: &str, scheme: &str) -> Result<String, String> {
    let url = if text.contains("://") { text.to_owned() } else { format!("{scheme}://{text}") };
    let wrong = || "must be a URL of scheme, host and port only, such as https://vpc.aliyuncs.com".to_owned();
    let uri: Uri = url.parse().map_err(|_| wrong())?;
    let (Some(scheme @ ("http" | "https")), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(wrong());
    };
    let only_authority = matches!(uri.path(), "" | "/") && uri.query().is_none() && !url.contains('#');
    let port_is_a_number = authority.port_u16().is_some() || authority.as_str() == authority.host();
    if !only_authority || authority.as_str().contains('@') || authority.host().is_empty() || !port_is_a_number {
        return Err(wrong());
    }
    Ok(format!("{scheme}://{authority}"))
}

#[cfg(test)]
mod tests;
