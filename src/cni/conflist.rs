//! Editing the text of a network configuration: our stanza in, our stanza out, every other byte as it was.

use std::ops::Range;
use std::path::PathBuf;

use serde::Serialize;
use serde_json::ser::{PrettyFormatter, Serializer};
use serde_json::value::RawValue;
use thiserror::Error;

use super::stanza::{Keys, PLUGIN_TYPE, POD_ANNOTATIONS, Reading};
use super::version;

/// Plugins that primaries put behind themselves as parts of their own chain: ours comes after them.
const OF_A_PRIMARY: [&str; 8] =
    ["bandwidth", "cilium-cni", "firewall", "portmap", "route-override", "sbr", "tuning", "vrf"];

/// Service meshes' plugins, which take over what a pod sends and must see its finished network.
const STAY_LAST: [&str; 4] = ["consul-cni", "istio-cni", "kuma-cni", "linkerd-cni"];

/// Plugins that call the primary's list themselves. A list of ours before theirs would be taken for the
/// primary's by Multus, which looks for the first file that is not its own.
const DELEGATORS: [&str; 2] = ["multus", "multus-shim"];

/// Why a text cannot carry our stanza.
#[derive(Debug, Error)]
pub enum Unfit {
    #[error("it is not valid JSON ({0})")]
    NotJson(#[from] serde_json::Error),
    #[error("it is no network configuration: {0}")]
    Shape(&'static str),
    #[error("podeip is the only plugin in it; a primary plugin must come first")]
    OnlyOurs,
    #[error("it is Multus's, which calls the primary's list itself: put the podeip stanza into that list by hand")]
    Delegates,
    #[error("its cniVersion is {0}, and podeip speaks 0.3.0 to 1.1.0: with podeip in it no pod would start")]
    Version(String),
}

/// The paths that our stanza must name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub config: PathBuf,
    pub kubeconfig: PathBuf,
    pub state_dir: PathBuf,
}

impl Wanted {
    pub(super) fn is_met_by(&self, stanza: &str) -> bool {
        let Ok(keys) = Keys::new(stanza.as_bytes()) else { return false };
        let Reading { stanza, faults } = Reading::of(&keys);
        faults.is_empty()
            && (&stanza.config, &stanza.kubeconfig, &stanza.state_dir)
                == (&self.config, &self.kubeconfig, &self.state_dir)
    }

    /// Our stanza in a file of its own. What `like` says of the log is carried over.
    pub(super) fn stanza_alone(&self, like: &str) -> Result<String, Unfit> {
        let kept = Keys::new(like.as_bytes()).unwrap_or_default();
        Ok(format!("{}\n", serde_json::to_string_pretty(&Stanza::new(self, &kept))?))
    }
}

/// The list with our stanza in its place; `None` when it is there already. A stanza in its place that names
/// the wanted paths stays as somebody wrote it.
///
/// # Errors
/// A text that no runtime takes for a list, one without a primary plugin, and one of a version in which
/// our stanza would keep pods from starting.
pub fn chained(text: &str, wanted: &Wanted) -> Result<Option<String>, Unfit> {
    chained_like(text, wanted, None)
}

/// As [`chained`]. Where the list has no stanza of ours, what `like`, one from elsewhere, says of the log is
/// carried over.
///
/// # Errors
/// As [`chained`].
pub fn chained_like(text: &str, wanted: &Wanted, like: Option<&str>) -> Result<Option<String>, Unfit> {
    let list = List::read(text)?;
    let ours: Vec<usize> = list.ours().collect();
    if let [at] = ours[..]
        && list.is_in_place(at)
        && wanted.is_met_by(list.plugins[at].json)
    {
        return Ok(None);
    }
    let like = ours.first().map(|at| list.plugins[*at].json).or(like).unwrap_or("{}");
    let kept = Keys::new(like.as_bytes()).unwrap_or_default();
    let bare = unchained(text)?.unwrap_or_else(|| text.to_owned());
    Ok(Some(List::read(&bare)?.with(&Stanza::new(wanted, &kept))?))
}

/// Our first stanza in the list.
///
/// # Errors
/// A text that no runtime takes for a list.
pub fn inlined(text: &str) -> Result<Option<&str>, Unfit> {
    let list = List::read_any(text)?;
    Ok(list.ours().next().map(|at| list.plugins[at].json))
}

/// Whether the text is Multus's, which calls the list of the primary itself.
pub fn delegates(text: &str) -> bool {
    let first = List::read_any(text).ok().and_then(|list| Some(list.plugins.first()?.r#type.clone()));
    first.or_else(|| type_of(text)).is_some_and(|it| DELEGATORS.contains(&it.as_str()))
}

/// What [`chained`] would mend in a list that has our stanza, in words for a table.
///
/// # Errors
/// A text that no runtime takes for a list, and one in which our stanza would keep pods from starting.
pub fn oddity(text: &str) -> Result<Option<&'static str>, Unfit> {
    spoken_version(&Keys::new(text.as_bytes())?)?;
    let list = List::read_any(text)?;
    let ours: Vec<usize> = list.ours().collect();
    Ok(match ours[..] {
        [] => None,
        [at] if list.is_in_place(at) => None,
        [_] => Some("the podeip stanza stands before a plugin of the primary's own chain"),
        _ => Some("the podeip stanza stands more than once"),
    })
}

/// The list without our stanza, `None` when there is none: the inverse of [`chained`].
///
/// # Errors
/// A text that no runtime takes for a list, and one that has no other plugin.
pub fn unchained(text: &str) -> Result<Option<String>, Unfit> {
    let mut bare = text.to_owned();
    while let Some(cut) = List::read_any(&bare)?.cut()? {
        bare.replace_range(cut, "");
    }
    Ok((bare != text).then_some(bare))
}

/// A list of the one plugin that `text` (a `.conf`) configures and our stanza. Name and version are the
/// plugin's: another name would lose the runtime's cached results.
///
/// # Errors
/// A text that is no plugin's configuration, or ours, and one of a version that we do not speak.
pub fn list_from_conf(text: &str, wanted: &Wanted) -> Result<String, Unfit> {
    let keys = Keys::new(text.as_bytes())?;
    if keys.has("plugins") {
        return Err(Unfit::Shape("it has the ending of a single plugin and the content of a list"));
    }
    let plugin_type = type_of(text).ok_or(Unfit::Shape("it has no \"type\""))?;
    if plugin_type == PLUGIN_TYPE {
        return Err(Unfit::OnlyOurs);
    }
    let name = keys.value("name").ok_or(Unfit::Shape("it has no \"name\""))?;
    let version = spoken_version(&keys)?;
    let bare = format!(
        "{{\n  \"cniVersion\": {version},\n  \"name\": {name},\n  \"plugins\": [\n    {}\n  ]\n}}\n",
        text.trim()
    );
    List::read(&bare)?.with(&Stanza::new(wanted, &Keys::default()))
}

/// The raw JSON of `cniVersion`, if we speak it.
fn spoken_version<'a>(keys: &Keys<'a>) -> Result<&'a RawValue, Unfit> {
    // Absent means 0.1.0, in which no result is handed on.
    let raw = keys.value("cniVersion").ok_or_else(|| Unfit::Version("missing".to_owned()))?;
    let named: Option<String> = serde_json::from_str(raw.get()).ok();
    if named.is_some_and(|named| version::SUPPORTED.contains(&named.as_str())) {
        Ok(raw)
    } else {
        Err(Unfit::Version(raw.to_string()))
    }
}

fn type_of(plugin: &str) -> Option<String> {
    Keys::new(plugin.as_bytes()).ok()?.typed("type").ok()?
}

/// Our stanza as it is written. What an operator said of the log is carried over.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Stanza<'a> {
    r#type: &'static str,
    capabilities: serde_json::Value,
    config: &'a PathBuf,
    kubeconfig: &'a PathBuf,
    state_dir: &'a PathBuf,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_file: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    log_level: Option<&'a RawValue>,
}

impl<'a> Stanza<'a> {
    fn new(Wanted { config, kubeconfig, state_dir }: &'a Wanted, kept: &Keys<'a>) -> Self {
        let faults = Reading::of(kept).faults;
        let sound = |key| kept.value(key).filter(|_| faults.iter().all(|fault| fault.key != key));
        Self {
            r#type: PLUGIN_TYPE,
            capabilities: serde_json::json!({ POD_ANNOTATIONS: true }),
            config,
            kubeconfig,
            state_dir,
            log_file: sound("logFile"),
            log_level: sound("logLevel"),
        }
    }

    /// In the style of a list whose plugins stand behind `gap`.
    fn text(&self, gap: &str) -> serde_json::Result<String> {
        let Some((_, base)) = gap.rsplit_once('\n') else { return serde_json::to_string(self) };
        // Plugins are two levels deep.
        let unit = if base.contains('\t') { "\t" } else { base.get(..base.len() / 2).unwrap_or_default() };
        let mut pretty = Vec::new();
        self.serialize(&mut Serializer::with_formatter(&mut pretty, PrettyFormatter::with_indent(unit.as_bytes())))?;
        let newline = if gap.contains("\r\n") { "\r\n" } else { "\n" };
        Ok(String::from_utf8_lossy(&pretty).replace('\n', &format!("{newline}{base}")))
    }
}

/// A list and where its plugins are in the text.
struct List<'t> {
    text: &'t str,
    /// The first byte behind the `[` of `plugins`.
    start: usize,
    plugins: Vec<Plugin<'t>>,
}

struct Plugin<'t> {
    json: &'t str,
    at: Range<usize>,
    r#type: String,
}

impl<'t> List<'t> {
    /// A list that our stanza may be in.
    fn read(text: &'t str) -> Result<Self, Unfit> {
        spoken_version(&Keys::new(text.as_bytes())?)?;
        let list = Self::read_any(text)?;
        if list.ours().count() == list.plugins.len() {
            return Err(Unfit::OnlyOurs);
        }
        if list.plugins[0].is_one_of(&DELEGATORS) {
            return Err(Unfit::Delegates);
        }
        Ok(list)
    }

    fn read_any(text: &'t str) -> Result<Self, Unfit> {
        let keys = Keys::new(text.as_bytes())?;
        let array = keys.value("plugins").map(RawValue::get).ok_or(Unfit::Shape("it has no \"plugins\""))?;
        let elements: Vec<&RawValue> =
            serde_json::from_str(array).map_err(|_| Unfit::Shape("its \"plugins\" are no array"))?;
        let plugins: Option<Vec<Plugin>> =
            elements.into_iter().map(|element| Plugin::read(text, element.get())).collect();
        let plugins = plugins.ok_or(Unfit::Shape("a plugin in it has no \"type\""))?;
        if plugins.is_empty() {
            return Err(Unfit::Shape("its \"plugins\" are empty"));
        }
        Ok(Self { text, start: range_in(text, array).start + 1, plugins })
    }

    fn ours(&self) -> impl Iterator<Item = usize> {
        (0..self.plugins.len()).filter(|at| self.plugins[*at].r#type == PLUGIN_TYPE)
    }

    /// Where our stanza goes in a list that has none: how many plugins come before it.
    fn place(&self) -> usize {
        let own_end = 1 + self.plugins.iter().rposition(|plugin| plugin.is_one_of(&OF_A_PRIMARY)).unwrap_or(0);
        let rest = &self.plugins[own_end..];
        own_end + rest.iter().position(|plugin| plugin.is_one_of(&STAY_LAST)).unwrap_or(rest.len())
    }

    /// Whether our stanza may stay at `at`. Behind a mesh's plugin it is not where we would put it, but it
    /// works there, and moving it would start a quarrel with whoever put it there.
    fn is_in_place(&self, at: usize) -> bool {
        at > 0 && !self.plugins[at..].iter().any(|plugin| plugin.is_one_of(&OF_A_PRIMARY))
    }

    fn with(&self, stanza: &Stanza) -> Result<String, Unfit> {
        let before = self.place() - 1;
        let Plugin { at, .. } = &self.plugins[before];
        let between =
            &self.text[before.checked_sub(1).map_or(self.start, |index| self.plugins[index].at.end)..at.start];
        let gap = between.rsplit(',').next().unwrap_or_default();
        let mut longer = self.text.to_owned();
        longer.insert_str(at.end, &format!(",{gap}{}", stanza.text(gap)?));
        Ok(longer)
    }

    /// The bytes that go with a stanza of ours, if there is one.
    fn cut(&self) -> Result<Option<Range<usize>>, Unfit> {
        let Some(at) = self.ours().next() else { return Ok(None) };
        let plugin = |index: usize| self.plugins.get(index).map(|plugin| &plugin.at);
        Ok(Some(match (at.checked_sub(1).and_then(plugin), plugin(at + 1)) {
            (Some(before), _) => before.end..self.plugins[at].at.end,
            (None, Some(after)) => self.plugins[at].at.start..after.start,
            (None, None) => return Err(Unfit::OnlyOurs),
        }))
    }
}

impl<'t> Plugin<'t> {
    fn read(text: &str, json: &'t str) -> Option<Self> {
        Some(Self { json, at: range_in(text, json), r#type: type_of(json)? })
    }

    fn is_one_of(&self, types: &[&str]) -> bool {
        types.contains(&self.r#type.as_str())
    }
}

/// Where `part`, which was borrowed from `text`, is in it.
fn range_in(text: &str, part: &str) -> Range<usize> {
    let start = part.as_ptr() as usize - text.as_ptr() as usize;
    start..start + part.len()
}

#[cfg(test)]
mod tests;
