//! Reading a file that somebody else names or fills: neither its size nor its kind may hold a pod up.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;
use std::sync::OnceLock;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc::O_NONBLOCK;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::deadline::Deadline;

/// A ConfigMap or Secret holds 1 MiB at most; a person's kubeconfig of many clusters may have more.
pub const LARGEST: u64 = 4 << 20;

/// A pipe is a shell's `<(…)`: whoever writes it starts with us and takes milliseconds, or asks a cluster for a second.
/// All pipes of a process have it together: it is the longest that one in a file's place may cost an ADD, which looks
/// there more than once.
const PIPE_PATIENCE: Duration = Duration::from_secs(5);

/// The bytes of the file, or of the pipe, at `path`. Links are followed: a mounted ConfigMap is made of them.
///
/// # Errors
/// As [`std::fs::read`]; also something else than a file or a pipe, more than [`LARGEST`], and a pipe that is not
/// written to its end in time.
pub fn read(path: &Path) -> io::Result<Vec<u8>> {
    static PIPES: OnceLock<Deadline> = OnceLock::new();
    read_until(path, || *PIPES.get_or_init(|| Deadline::after(PIPE_PATIENCE)))
}

/// As [`read`], where it is text.
///
/// # Errors
/// As [`read`]; also what is not UTF-8.
pub fn read_to_string(path: &Path) -> io::Result<String> {
    String::from_utf8(read(path)?).map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))
}

fn read_until(path: &Path, deadline: impl FnOnce() -> Deadline) -> io::Result<Vec<u8>> {
    // Nobody may write to the pipe, and opening it would wait for that.
    let file = OpenOptions::new().read(true).custom_flags(O_NONBLOCK).open(path)?;
    let metadata = file.metadata()?;
    let kind = metadata.file_type();
    if kind.is_fifo() {
        return at_most_largest(Pipe { file, deadline: deadline() }, 0);
    }
    if kind.is_dir() {
        return Err(io::ErrorKind::IsADirectory.into());
    }
    if !kind.is_file() {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is neither a regular file nor a pipe"));
    }
    at_most_largest(file, metadata.len())
}

fn at_most_largest(source: impl Read, expected: u64) -> io::Result<Vec<u8>> {
    let mut content = Vec::with_capacity(expected.min(LARGEST) as usize + 1);
    source.take(LARGEST + 1).read_to_end(&mut content)?;
    if content.len() as u64 > LARGEST {
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, format!("it is longer than {LARGEST} bytes")));
    }
    Ok(content)
}

/// A pipe that is opened without waiting, and read with it.
struct Pipe {
    file: File,
    deadline: Deadline,
}

impl Read for Pipe {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        // Before the first writer the pipe seems to be at its end, but poll knows better.
        self.wait()?;
        self.file.read(buffer)
    }
}

impl Pipe {
    fn wait(&self) -> io::Result<()> {
        let late = || io::Error::new(io::ErrorKind::TimedOut, "it is a pipe that nobody writes to its end");
        let left = PollTimeout::try_from(self.deadline.left()).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(self.file.as_fd(), PollFlags::POLLIN)], left) {
            Ok(0) => Err(late()),
            // `read_to_end` calls again after this.
            Err(Errno::EINTR) => Err(io::ErrorKind::Interrupted.into()),
            Ok(_) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;
    use std::thread;
    use std::time::Instant;

    use nix::sys::stat::Mode;
    use nix::unistd::mkfifo;

    use super::*;

    const SHORT: Duration = Duration::from_millis(100);
    const LONG: Duration = Duration::from_secs(10);

    fn read_within(path: &Path, patience: Duration) -> io::Result<Vec<u8>> {
        read_until(path, || Deadline::after(patience))
    }

    fn fifo(directory: &tempfile::TempDir) -> PathBuf {
        let path = directory.path().join("fifo");
        mkfifo(&path, Mode::S_IRWXU).unwrap();
        path
    }

    #[test]
    fn a_file_is_read_by_its_name_or_a_link() {
        let directory = tempfile::tempdir().unwrap();
        let (path, link) = (directory.path().join("file"), directory.path().join("link"));
        symlink(&path, &link).unwrap();
        assert_eq!(read(&link).unwrap_err().kind(), io::ErrorKind::NotFound);
        let whole = vec![b'x'; LARGEST as usize];
        std::fs::write(&path, &whole).unwrap();
        assert!(read(&path).unwrap() == whole && read(&link).unwrap() == whole);
        std::fs::write(&path, [&whole[..], b"x"].concat()).unwrap();
        assert_eq!(read(&path).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        std::fs::write(&path, b"\xff").unwrap();
        assert_eq!(read_to_string(&path).unwrap_err().kind(), io::ErrorKind::InvalidData);
    }

    #[test]
    fn no_device_and_no_directory_is_read() {
        for path in ["/dev/zero", "/dev/null", "/dev/full"] {
            assert_eq!(read(Path::new(path)).unwrap_err().kind(), io::ErrorKind::InvalidInput, "{path}");
        }
        assert_eq!(read(Path::new("/")).unwrap_err().kind(), io::ErrorKind::IsADirectory);
    }

    #[test]
    fn a_pipe_is_read_to_its_end_whenever_it_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = fifo(&directory);
        let reading = thread::spawn({
            let path = path.clone();
            move || read_within(&path, LONG)
        });
        thread::sleep(SHORT);
        let mut writer = File::options().write(true).open(&path).unwrap();
        writer.write_all(b"one ").unwrap();
        thread::sleep(SHORT);
        writer.write_all(b"two").unwrap();
        drop(writer);
        assert_eq!(reading.join().unwrap().unwrap(), b"one two");
    }

    #[test]
    fn a_pipe_without_an_end_is_left() {
        let directory = tempfile::tempdir().unwrap();
        let path = fifo(&directory);
        let began = Instant::now();
        assert_eq!(read_within(&path, SHORT).unwrap_err().kind(), io::ErrorKind::TimedOut, "nobody writes");
        let mut held_open = File::options().read(true).write(true).open(&path).unwrap();
        held_open.write_all(b"one").unwrap();
        assert_eq!(read_within(&path, SHORT).unwrap_err().kind(), io::ErrorKind::TimedOut, "nobody ends it");
        assert!(began.elapsed() < LONG);
        drop(held_open);
        let endless = thread::spawn({
            let path = path.clone();
            move || {
                let mut writer = File::options().write(true).open(path).unwrap();
                while writer.write_all(&[b'x'; 4096]).is_ok() {}
            }
        });
        assert_eq!(read_within(&path, LONG).unwrap_err().kind(), io::ErrorKind::FileTooLarge);
        endless.join().unwrap();
    }
}
