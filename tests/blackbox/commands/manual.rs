//! What shells and `man` get to know of the command line.

use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use super::{Answer, bare};
use crate::node::{cannot_run, not_installed};

/// What `podeip --help` lists.
fn commands() -> Vec<String> {
    let help = bare(&["--help"]).stdout;
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names: Vec<_> = listed.filter_map(|line| line.split_whitespace().next().map(str::to_owned)).collect();
    assert!(names.len() > 5 && names.iter().any(|name| name == "man"), "{help}");
    names
}

fn fed_with(input: &str, program: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(program);
    let piped = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = piped.spawn().unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[track_caller]
fn printed(arguments: &[&str]) -> String {
    let answer = bare(arguments);
    assert_eq!((answer.code, answer.stderr.as_str()), (Some(0), ""), "{arguments:?}");
    answer.stdout
}

#[test]
fn completion_scripts_name_every_command_and_bash_uses_its_own() {
    for shell in ["bash", "elvish", "fish", "powershell", "zsh"] {
        let script = printed(&["completion", shell]);
        for command in commands() {
            assert!(script.contains(&command), "{shell}: {command} is missing");
        }
        for option in ["state-dir", "dry-run"] {
            assert!(script.contains(option), "{shell}: {option} is missing");
        }
    }
    let completed = |line: &str| {
        let words: Vec<_> = line.split(' ').collect();
        let (current, before) = (words[words.len() - 1], words[words.len() - 2]);
        let ask = format!(
            "COMP_WORDS=({line}); [ -n '{current}' ] || COMP_WORDS+=(''); COMP_CWORD={}\n_podeip podeip '{current}' \
             '{before}'; echo \"${{COMPREPLY[@]}}\"",
            words.len() - 1
        );
        let script = format!("set -eu\n{}\n{ask}", printed(&["completion", "bash"]));
        let answer = Answer::from(fed_with(&script, "bash", &["--norc", "-s"]));
        assert_eq!((answer.code, answer.stderr.as_str()), (Some(0), ""), "{line}");
        answer.stdout
    };
    assert_eq!(completed("podeip lis"), "list\n");
    assert_eq!(completed("podeip gc --dr"), "--dry-run\n");
    assert_eq!(completed("podeip list --output "), "table wide json\n");

    let unknown = bare(&["completion", "csh"]);
    assert_eq!((unknown.code, unknown.stdout.as_str()), (Some(2), ""));
    assert!(unknown.stderr.contains("zsh"), "{}", unknown.stderr);
}

#[test]
fn the_manual_pages_are_sound_and_complete() {
    if cannot_run(not_installed(&["groff"])) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let below = directory.path().join("share/man/man8");
    assert_eq!(printed(&["man", "--output", below.to_str().unwrap()]), "");
    let read = |page: &str| fs::read_to_string(below.join(page)).unwrap();
    assert_eq!(read("podeip.8").trim_end(), printed(&["man"]).trim_end());

    let shown = |page: &str| {
        let output = fed_with(page, "groff", &["-man", "-ww", "-Tutf8", "-P-cbou"]);
        let (text, warnings) = (String::from_utf8(output.stdout).unwrap(), String::from_utf8(output.stderr).unwrap());
        assert!(output.status.success() && warnings.is_empty(), "{warnings}");
        text
    };
    let whole = shown(&read("podeip.8"));
    let headings: Vec<_> = whole.lines().filter(|line| line.starts_with(char::is_uppercase)).collect();
    let expected = ["NAME", "SYNOPSIS", "DESCRIPTION", "COMMANDS", "OPTIONS", "EXIT STATUS", "ENVIRONMENT", "FILES"];
    assert_eq!(headings[1..], expected, "after the title");
    assert!(headings[0].starts_with("PODEIP(8)"), "{whole}");
    let without_justification = whole.split_whitespace().collect::<Vec<_>>().join(" ");
    for word in ["podeip - Gives", "CNI_COMMAND", "NODE_NAME", "/etc/podeip/eni_conf", "/etc/cni/net.d"] {
        assert!(without_justification.contains(word), "{word:?} is missing in\n{whole}");
    }
    for command in commands().into_iter().filter(|command| command != "help") {
        assert!(whole.contains(&format!("podeip-{command}(8)")), "{command} is missing in\n{whole}");
        let page = shown(&read(&format!("podeip-{command}.8")));
        let title = format!("PODEIP-{}(8)", command.to_uppercase());
        assert!(page.starts_with(&title) && page.contains("podeip(8)"), "{page}");
    }

    let not_a_directory = below.join("podeip.8");
    let answer = bare(&["man", "--output", not_a_directory.to_str().unwrap()]);
    super::assert_refused(&answer, &["cannot create", not_a_directory.to_str().unwrap()]);
}
