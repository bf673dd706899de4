//! The CNI versions we speak, what each allows, and the answer to VERSION.

use serde_json::json;

use super::request::Command;

/// Every version in which plugins can be chained, oldest first.
pub const SUPPORTED: [&str; 5] = ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// What we answer with when a request does not name its version.
pub const NEWEST: &str = SUPPORTED[SUPPORTED.len() - 1];

/// What a configuration without `cniVersion` means (the spec's rule and Go's decoder agree).
pub const UNNAMED: &str = "0.1.0";

/// The answer to VERSION: the version of the request, known to us or not, and ours.
pub fn answer(requested: &str) -> String {
    json!({ "cniVersion": requested, "supportedVersions": SUPPORTED }).to_string()
}

/// Why `command` cannot be served for a list of `version`, if it cannot.
///
/// DEL is served for every version: it has no result whose shape could differ, and its failure
/// would keep the primary plugin's DEL from running.
pub fn refusal(command: Command, version: &str) -> Option<String> {
    let since = match command {
        Command::Version | Command::Del => return None,
        Command::Add => "0.3.0",
        Command::Check => "0.4.0",
        Command::Gc | Command::Status => "1.1.0",
    };
    match (position(version), position(since)) {
        (Some(asked), Some(first)) if asked >= first => None,
        (Some(_), _) => Some(format!("the list's cniVersion {version} has no {command}: it came with {since}")),
        (None, _) if matches!(version, "0.1.0" | "0.2.0") => Some(format!(
            "the list's cniVersion {version} cannot chain plugins: podeip needs one of {}",
            SUPPORTED.join(", ")
        )),
        (None, _) => Some(format!(
            "the list's cniVersion \"{}\" is not supported: podeip knows {}",
            version.escape_debug(),
            SUPPORTED.join(", ")
        )),
    }
}

fn position(version: &str) -> Option<usize> {
    SUPPORTED.iter().position(|known| *known == version)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_echoes_even_a_version_we_do_not_know() {
        let answer: serde_json::Value = serde_json::from_str(&answer("9.9.9")).unwrap();
        assert_eq!(answer["cniVersion"], "9.9.9");
        assert_eq!(answer["supportedVersions"], json!(["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"]));
        assert_eq!(NEWEST, "1.1.0");
    }

    #[test]
    fn each_command_has_its_first_version() {
        let served = |command, version| refusal(command, version).is_none();
        for version in SUPPORTED {
            assert!(served(Command::Add, version), "{version}");
            assert_eq!(served(Command::Check, version), !version.starts_with("0.3"), "{version}");
            assert_eq!(served(Command::Gc, version), version == "1.1.0", "{version}");
            assert_eq!(served(Command::Status, version), version == "1.1.0", "{version}");
        }
        for version in ["0.1.0", "0.2.0", "1.2.0", "", "1.0"] {
            assert!(!served(Command::Add, version), "{version}");
            assert!(!served(Command::Check, version), "{version}");
            assert!(!served(Command::Status, version), "{version}");
            assert!(served(Command::Del, version), "{version}");
            assert!(served(Command::Version, version), "{version}");
        }
    }

    #[test]
    fn a_refusal_says_what_would_do() {
        assert_eq!(
            refusal(Command::Add, "0.2.0").unwrap(),
            "the list's cniVersion 0.2.0 cannot chain plugins: podeip needs one of 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"
        );
        assert_eq!(refusal(Command::Gc, "1.0.0").unwrap(), "the list's cniVersion 1.0.0 has no GC: it came with 1.1.0");
    }
}
