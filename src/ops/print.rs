//! What commands print: data on stdout, in columns or as JSON, and nothing else there.

use std::fmt::Display;
use std::io::{self, Write};

use comfy_table::{Table, presets};
use jiff::{SignedDuration, Timestamp};

/// Between two columns, as `kubectl` has it.
const GAP: u16 = 3;

/// Writes `text` and a line end to stdout. A reader that had enough (`podeip list | head -1`) is no
/// failure.
///
/// # Errors
/// Any other failure to write, such as a full disk.
pub fn print(text: &str) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    match writeln!(stdout, "{text}").and_then(|()| stdout.flush()) {
        Err(refused) if refused.kind() != io::ErrorKind::BrokenPipe => {
            Err(anyhow::Error::from(refused).context("cannot write to stdout; see whether what it leads to is full"))
        }
        _ => Ok(()),
    }
}

/// A line for people, on stderr. One that nobody reads is no failure.
pub fn say(line: impl Display) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Columns without lines, as `kubectl` prints them; every row is one line.
pub fn columns(header: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    table.add_rows(rows.into_iter().map(|row| row.iter().map(|cell| on_one_line(cell)).collect::<Vec<_>>()));
    table.column_iter_mut().for_each(|column| {
        column.set_padding((0, GAP));
    });
    table.trim_fmt()
}

/// The cloud's messages may hold anything; a line end or a terminal's control codes would break the row.
pub fn on_one_line(text: &str) -> String {
    let shown = |c: char| if c.is_control() { c.escape_default().to_string() } else { c.to_string() };
    text.chars().map(shown).collect()
}

/// A cell of what may be absent.
pub fn or_dash(text: Option<impl ToString>) -> String {
    text.map_or_else(|| "-".into(), |text| text.to_string())
}

/// The largest unit that says enough: `45s`, `12m`, `5h`, `3d`.
pub fn age(since: Timestamp) -> String {
    span(Timestamp::now().duration_since(since))
}

/// As [`age`]; what is negative counts as nothing.
pub fn span(span: SignedDuration) -> String {
    let seconds = span.as_secs().max(0);
    match seconds {
        0..120 => format!("{seconds}s"),
        120..7200 => format!("{}m", seconds / 60),
        7200..172_800 => format!("{}h", seconds / 3600),
        _ => format!("{}d", seconds / 86_400),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_stay_rows_and_end_without_blanks() {
        let rows = [vec!["a\nb\u{1b}[2J".to_string(), "-".to_string()], vec!["web".into(), "弹性 x".into()]];
        assert_eq!(columns(&["POD", "EIP"], rows), "POD             EIP\na\\nb\\u{1b}[2J   -\nweb             弹性 x");
    }

    #[test]
    fn ages_have_one_unit() {
        let of = |seconds| age(Timestamp::now() - SignedDuration::from_secs(seconds));
        assert_eq!([45, 119, 720, 18_000, 172_800].map(of), ["45s", "119s", "12m", "5h", "2d"]);
        assert_eq!(of(-3600), "0s", "the clock was set back");
    }
}
