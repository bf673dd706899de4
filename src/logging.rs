//! The log: one line a record, in a file rotated by size, or on stderr for the command line.
//!
//! Only this crate's records are written. The libraries below log too, and at debug level the
//! HTTP client's lines contain signed URLs.

use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use jiff::Timestamp;
use log::{LevelFilter, Log, Metadata, Record};
use nix::libc::{O_NOFOLLOW, O_NONBLOCK};

/// A busy node writes some hundred bytes a pod: weeks of history, and two of them fit anywhere.
const ROTATE_AT: u64 = 10 << 20;

/// Logs to the file at `path` from now on. The file is opened by the first record, so a process
/// that has nothing to say leaves no trace and pays nothing.
///
/// A log that cannot be written goes to stderr; it never fails what is being logged. Several
/// processes may share the file.
pub fn init(path: &Path, level: LevelFilter) {
    install(Box::new(FileLog::new(path, ROTATE_AT)), level);
}

/// Logs to stderr from now on: short lines for a person's terminal, else lines as in the file.
pub fn init_stderr(level: LevelFilter) {
    install(Box::new(StderrLog { terminal: io::stderr().is_terminal() }), level);
}

fn install(log: Box<dyn Log>, level: LevelFilter) {
    // A second initialisation keeps the first log and only sets the level.
    let _ = log::set_boxed_logger(log);
    log::set_max_level(level);
}

fn is_ours(metadata: &Metadata) -> bool {
    let crate_name = env!("CARGO_PKG_NAME");
    metadata.target().strip_prefix(crate_name).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// `2026-01-02T03:04:05.678Z WARN [pid] message`, with its newline.
fn line(record: &Record) -> String {
    let mut line = format!("{:.3} {} [{}] ", Timestamp::now(), record.level(), std::process::id());
    push_on_one_line(&mut line, &record.args().to_string());
    line.push('\n');
    line
}

/// Appends `text` with what could break or forge a line escaped.
fn push_on_one_line(line: &mut String, text: &str) {
    for c in text.chars() {
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
            let _ = write!(line, "{}", c.escape_default()); // writing to a String cannot fail
        } else {
            line.push(c);
        }
    }
}

fn to_stderr(line: &str) {
    // stderr may be closed, and then there is nobody to tell.
    let _ = io::stderr().write_all(line.as_bytes());
}

struct StderrLog {
    terminal: bool,
}

impl Log for StderrLog {
    fn enabled(&self, metadata: &Metadata) -> bool {
        is_ours(metadata)
    }

    fn log(&self, record: &Record) {
        if !self.enabled(record.metadata()) {
            return;
        }
        if self.terminal {
            let mut short = format!("{}: ", record.level().as_str().to_ascii_lowercase());
            push_on_one_line(&mut short, &record.args().to_string());
            to_stderr(&(short + "\n"));
        } else {
            to_stderr(&line(record));
        }
    }

    fn flush(&self) {}
}

struct FileLog {
    path: PathBuf,
    rotate_at: u64,
    file: Mutex<Option<File>>,
}

impl Log for FileLog {
    fn enabled(&self, metadata: &Metadata) -> bool {
        is_ours(metadata)
    }

    fn log(&self, record: &Record) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = line(record);
        if self.append(&line).is_err() {
            to_stderr(&line);
        }
    }

    fn flush(&self) {}
}

impl FileLog {
    fn new(path: &Path, rotate_at: u64) -> Self {
        Self { path: path.to_owned(), rotate_at, file: Mutex::new(None) }
    }

    /// Appends `line` with one write(2), so that lines of several processes do not mix.
    fn append(&self, line: &str) -> io::Result<()> {
        let mut slot = self.file.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let file = match slot.take() {
            Some(file) if self.is_current(&file)? => file,
            _ => self.open()?,
        };
        let file = if self.is_full(&file)? { self.rotated(file)? } else { file };
        let written = slot.insert(file).write(line.as_bytes())?;
        if written == line.len() { Ok(()) } else { Err(io::ErrorKind::WriteZero.into()) }
    }

    /// `O_NOFOLLOW`: a link planted at the path leads nowhere. `O_NONBLOCK`: nor does a pipe
    /// without a reader hold a pod up; it means nothing to a regular file.
    fn open(&self) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.append(true).create(true).mode(0o600).custom_flags(O_NOFOLLOW | O_NONBLOCK);
        options.open(&self.path)
    }

    /// Whether `file` is still what the path names: another process may have rotated.
    fn is_current(&self, file: &File) -> io::Result<bool> {
        let opened = file.metadata()?;
        let named = self.path.symlink_metadata();
        Ok(named.is_ok_and(|named| (named.dev(), named.ino()) == (opened.dev(), opened.ino())))
    }

    fn is_full(&self, file: &File) -> io::Result<bool> {
        let metadata = file.metadata()?;
        Ok(metadata.is_file() && metadata.len() >= self.rotate_at)
    }

    /// Renames the full `file` to `.1` and opens a new one.
    ///
    /// The lock is on the very inode that is renamed, and the path is looked at again under it:
    /// of all processes that found this inode full, one renames it and the others see that the
    /// path names another by then. Whoever holds the lock is already at it, so nobody waits.
    fn rotated(&self, file: File) -> io::Result<File> {
        if file.try_lock().is_err() {
            return Ok(file);
        }
        if self.is_current(&file)? {
            let mut aside = self.path.clone().into_os_string();
            aside.push(".1");
            std::fs::rename(&self.path, aside)?;
        }
        self.open()
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use log::Level;

    use super::*;

    fn record(log: &FileLog, target: &str, message: &str) {
        log.log(&Record::builder().target(target).level(Level::Warn).args(format_args!("{message}")).build());
    }

    fn lines(path: &Path) -> Vec<String> {
        std::fs::read_to_string(path).unwrap_or_default().lines().map(str::to_owned).collect()
    }

    #[test]
    fn nothing_is_opened_before_the_first_record() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("podeip.log");
        let log = FileLog::new(&path, ROTATE_AT);
        assert!(!path.exists());
        record(&log, "podeip::eip", "one");
        assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }

    #[test]
    fn a_record_is_one_line_with_time_level_and_pid() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("podeip.log");
        let log = FileLog::new(&path, ROTATE_AT);
        record(&log, "podeip", "a\nb\r\u{1b}[31mc\u{2028}d ü \"q\"");
        let lines = lines(&path);
        let [line] = &lines[..] else { panic!("{lines:?}") };
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(time.parse::<Timestamp>().is_ok() && time.len() == "2026-01-02T03:04:05.678Z".len(), "{time}");
        let pid = std::process::id();
        assert_eq!(rest, format!("WARN [{pid}] a\\nb\\r\\u{{1b}}[31mc\\u{{2028}}d ü \"q\""));
    }

    #[test]
    fn the_libraries_below_are_not_heard() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("podeip.log");
        let log = FileLog::new(&path, ROTATE_AT);
        for target in ["ureq_proto::client", "rustls", "podeip_other", "podeipx::y", ""] {
            record(&log, target, "GET https://vpc/?Signature=x");
        }
        assert!(!path.exists());
    }

    #[test]
    fn a_log_that_cannot_be_written_fails_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let elsewhere = directory.path().join("elsewhere");
        let link = directory.path().join("podeip.log");
        symlink(&elsewhere, &link).unwrap();
        let pipe = directory.path().join("pipe");
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        for path in [&link, &pipe, &directory.path().join("no/such/directory"), &directory.path().to_owned()] {
            record(&FileLog::new(path, ROTATE_AT), "podeip", "one");
        }
        assert!(!elsewhere.exists());
    }

    #[test]
    fn writers_that_rotate_at_once_lose_no_line() {
        const WRITERS: usize = 8;
        const LINES: usize = 40;
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("podeip.log");
        let whole = FileLog::new(&path, u64::MAX);
        record(&whole, "podeip", "writer 0 line 00 ");
        let line_length = path.metadata().unwrap().len();
        std::fs::remove_file(&path).unwrap();
        // Two thirds of all lines: exactly one rotation, so a second one would lose the first file.
        let rotate_at = line_length * (WRITERS * LINES * 2 / 3) as u64;
        std::thread::scope(|scope| {
            for writer in 0..WRITERS {
                // Each has its own descriptor, as processes have.
                let log = FileLog::new(&path, rotate_at);
                scope.spawn(move || {
                    (0..LINES).for_each(|line| record(&log, "podeip", &format!("writer {writer} line {line:02} ")));
                });
            }
        });
        let aside = directory.path().join("podeip.log.1");
        assert!(aside.exists() && aside.metadata().unwrap().len() >= rotate_at);
        let all = [lines(&aside), lines(&path)].concat();
        for writer in 0..WRITERS {
            for line in 0..LINES {
                let message = format!("] writer {writer} line {line:02} ");
                assert_eq!(all.iter().filter(|found| found.ends_with(&message)).count(), 1, "{message}");
            }
        }
        assert_eq!(all.len(), WRITERS * LINES);
    }

    #[test]
    fn a_second_rotation_replaces_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("podeip.log");
        let log = FileLog::new(&path, 1);
        ["one", "two", "three"].iter().for_each(|message| record(&log, "podeip", message));
        assert!(lines(&path)[0].ends_with("three"));
        assert!(lines(&directory.path().join("podeip.log.1"))[0].ends_with("two"));
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 2);
    }

    #[test]
    fn who_found_the_file_full_too_late_rotates_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("podeip.log");
        let (early, late) = (FileLog::new(&path, 1), FileLog::new(&path, 1));
        record(&early, "podeip", "one");
        let full = late.open().unwrap();
        record(&early, "podeip", "two");
        let reopened = late.rotated(full).unwrap();
        assert!(late.is_current(&reopened).unwrap());
        assert!(lines(&directory.path().join("podeip.log.1"))[0].ends_with("one"));
        assert!(lines(&path)[0].ends_with("two"));
    }

    #[test]
    fn init_sets_the_level_and_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("podeip.log");
        init(&path, LevelFilter::Info);
        log::debug!("logged by the logging test: too much");
        log::info!("logged by the logging test: enough");
        let ours: Vec<_> = lines(&path).into_iter().filter(|line| line.contains("by the logging test")).collect();
        assert!(matches!(&ours[..], [line] if line.contains(" INFO ") && line.ends_with(": enough")), "{ours:?}");
    }

    #[test]
    fn a_file_moved_away_by_someone_else_is_left_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("podeip.log");
        let log = FileLog::new(&path, ROTATE_AT);
        record(&log, "podeip", "one");
        std::fs::rename(&path, directory.path().join("podeip.log.old")).unwrap();
        record(&log, "podeip", "two");
        assert!(lines(&path)[0].ends_with("two"));
    }
}
