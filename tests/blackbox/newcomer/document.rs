//! What a document tells its reader to type: the shell blocks of its sections, command by command.

use std::fs;
use std::path::Path;

/// A document of the repository.
pub struct Document(String);

impl Document {
    pub fn read(name: &str) -> Self {
        Self(fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap())
    }

    /// The `sh` blocks below a heading, up to the next heading of its level or a higher one.
    pub fn blocks(&self, heading: &str) -> Vec<Block> {
        let level = heading.chars().take_while(|c| *c == '#').count();
        let mut lines = self.0.lines().skip_while(|line| *line != heading);
        assert!(lines.next().is_some(), "there is no {heading:?}");
        let (mut blocks, mut open) = (Vec::new(), None::<(bool, String)>);
        for line in lines {
            let above = line.chars().take_while(|c| *c == '#').count();
            match (&mut open, line.strip_prefix("```")) {
                (None, Some(language)) => open = Some((language == "sh", String::new())),
                (None, None) if (1..=level).contains(&above) => break,
                (None, None) => {}
                (Some(_), Some(_)) => {
                    let (is_shell, text) = open.take().unwrap();
                    blocks.extend(is_shell.then_some(Block(text)));
                }
                (Some((_, text)), None) => *text += &format!("{line}\n"),
            }
        }
        blocks
    }
}

/// The text of one block.
#[derive(Debug, PartialEq, Eq)]
pub struct Block(pub String);

impl Block {
    /// Its commands as a person types them: continued lines and the text of a here-document belong to the first.
    pub fn commands(&self) -> Vec<String> {
        let (mut commands, mut begun) = (Vec::new(), String::new());
        let mut lines = self.0.lines();
        while let Some(line) = lines.next() {
            begun += &format!("{line}\n");
            if let Some((_, end)) = line.split_once("<<'") {
                let end = end.trim_end_matches('\'');
                let text = lines.by_ref().take_while(|line| *line != end);
                text.for_each(|line| begun += &format!("{line}\n"));
                begun += &format!("{end}\n");
            }
            if !line.ends_with('\\') && !line.trim().is_empty() {
                commands.push(std::mem::take(&mut begun));
            }
        }
        assert_eq!(begun.trim(), "", "a command without an end");
        commands
    }
}

#[test]
fn blocks_and_commands_are_found() {
    let text = "# A\n```sh\nnot this\n```\n## B\n```console\n$ nor this\n```\n```sh\ncat >x <<'END'\n# no heading\nEND\na \\\n  b\nc\n```\n### C\n```sh\nd\n```\n## D\n```sh\ne\n```\n";
    let blocks = Document(text.into()).blocks("## B");
    let commands: Vec<Vec<String>> = blocks.iter().map(Block::commands).collect();
    assert_eq!(commands, [vec!["cat >x <<'END'\n# no heading\nEND\n", "a \\\n  b\n", "c\n"], vec!["d\n"]]);
}
