//! Our stanza as a file of its own, in the folder whose files runtimes with libcni 1.3 append to a list.

use super::conflist::{Unfit, Wanted};
use super::stanza::{Keys, PLUGIN_TYPE};

/// The folder beside a list from which runtimes append plugins to it; `None` where they do not: its name
/// is the network's, and the list may say that it is whole.
pub fn folder(list: &Keys) -> Option<String> {
    let name: String = list.typed("name").ok()??;
    // The first character of a network's name is a letter or a digit, and none of the others parts a path.
    let fit = |at: usize, byte: u8| byte.is_ascii_alphanumeric() || (at > 0 && b"._-".contains(&byte));
    let usable = !name.is_empty() && name.bytes().enumerate().all(|(at, byte)| fit(at, byte));
    (usable && !is_whole(list)).then_some(name)
}

/// `loadOnlyInlinedPlugins`, which may be written as a text too.
fn is_whole(list: &Keys) -> bool {
    let Some(raw) = list.value("loadOnlyInlinedPlugins") else { return false };
    // Any other value keeps runtimes from loading the list at all, so nothing rests on the answer.
    raw.get().trim_matches('"').eq_ignore_ascii_case("true")
}

/// Whether `text` is a stanza of ours.
pub fn is_ours(text: &str) -> bool {
    let plugin_type = Keys::new(text.as_bytes()).ok().and_then(|keys| keys.typed::<String>("type").ok()?);
    plugin_type.as_deref() == Some(PLUGIN_TYPE)
}

/// What the file has to say; `None` when `found` says it already. What an operator said of the log, in
/// `found` or else in `like`, is carried over.
///
/// # Errors
/// When it cannot be written as JSON, because of a path that is not UTF-8.
pub fn content(found: Option<&str>, like: Option<&str>, wanted: &Wanted) -> Result<Option<String>, Unfit> {
    let found = found.filter(|text| is_ours(text));
    if found.is_some_and(|text| wanted.is_met_by(text)) {
        return Ok(None);
    }
    wanted.stanza_alone(found.or(like).unwrap_or("{}")).map(Some)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn folder_of(list: &str) -> Option<String> {
        folder(&Keys::new(list.as_bytes()).unwrap())
    }

    #[test]
    fn the_folder_is_the_networks_unless_the_list_is_whole() {
        assert_eq!(folder_of(r#"{"name":"k8s-pod_network.1"}"#).as_deref(), Some("k8s-pod_network.1"));
        assert_eq!(folder_of(r#"{"name":"n","loadOnlyInlinedPlugins":false}"#).as_deref(), Some("n"));
        assert_eq!(folder_of(r#"{"name":"n","loadOnlyInlinedPlugins":"False"}"#).as_deref(), Some("n"));
        for whole in ["true", "\"true\"", "\"True\""] {
            assert_eq!(folder_of(&format!(r#"{{"name":"n","loadOnlyInlinedPlugins":{whole}}}"#)), None);
        }
        for name in ["\"\"", "\"..\"", "\"a/b\"", "\".hidden\"", "7", "null"] {
            assert_eq!(folder_of(&format!(r#"{{"name":{name}}}"#)), None, "{name}");
        }
        assert_eq!(folder_of("{}"), None);
    }

    #[test]
    fn a_stanza_that_names_the_wanted_paths_stays_and_another_keeps_what_it_says_of_the_log() {
        let wanted = Wanted { config: "/c".into(), kubeconfig: "/k".into(), state_dir: "/s".into() };
        let inlined = r#"{"type":"podeip","config":"/old","logLevel":"debug"}"#;
        let made = content(None, Some(inlined), &wanted).unwrap().unwrap();
        let value: Value = serde_json::from_str(&made).unwrap();
        assert_eq!((&value["config"], &value["logLevel"]), (&"/c".into(), &"debug".into()));
        assert!(is_ours(&made) && made.ends_with("}\n"));
        assert_eq!(content(Some(&made), None, &wanted).unwrap(), None);
        assert_eq!(content(Some(inlined), None, &wanted).unwrap().unwrap(), made);
        for broken in ["", "{", r#"{"type":"tuning","logLevel":"debug"}"#] {
            assert!(content(Some(broken), None, &wanted).unwrap().is_some_and(|text| !text.contains("debug")));
        }
    }
}
