//! Whether a state file has nothing of what is searched, found out piece by piece: most searches are for what no record
//! names, and reading a large file into memory takes longer than looking through it.

use std::io::{self, Read};

use memchr::memmem::Finder;

use super::{END, escapes_letters, head};

/// Small enough to stay in the processor's cache while it is searched.
const PIECE: usize = 128 << 10;

/// What is kept of each piece for the next: more than the file's end and an escaped letter, and at least the needle.
const LEAST_OVERLAP: usize = 16;

/// True only of a file as this version writes it with none of `needles` in it. Doubtful is what looks otherwise.
pub(in crate::state) fn surely_lacks(file: &mut impl Read, needles: &[String]) -> io::Result<bool> {
    let finders: Vec<Finder> = needles.iter().map(Finder::new).collect();
    let overlap = needles.iter().map(String::len).fold(LEAST_OVERLAP, usize::max);
    let mut buffer = vec![0; overlap + PIECE];
    let mut length = read(file, &mut buffer)?;
    if !buffer[..length].starts_with(&head()) {
        return Ok(false);
    }
    loop {
        let piece = &buffer[..length];
        if escapes_letters(piece) || finders.iter().any(|finder| finder.find(piece).is_some()) {
            return Ok(false);
        }
        let kept = overlap.min(length);
        buffer.copy_within(length - kept..length, 0);
        match read(file, &mut buffer[kept..])? {
            0 => return Ok(buffer[..kept].ends_with(END)),
            more => length = kept + more,
        }
    }
}

fn read(file: &mut impl Read, buffer: &mut [u8]) -> io::Result<usize> {
    loop {
        match file.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A file of several pieces, with `text` from that place on.
    fn with(text: &str, at: usize) -> Vec<u8> {
        let mut file = [head().as_slice(), br#"{"x":""#].concat();
        file.resize(at, b'.');
        file.extend(text.as_bytes());
        file.resize(3 * PIECE, b'.');
        file.extend(br#""}]}"#);
        file
    }

    fn lacks(file: &[u8]) -> bool {
        surely_lacks(&mut &*file, &["\"10.0.0.5\"".to_owned(), "\"id\"".to_owned()]).unwrap()
    }

    #[test]
    fn nothing_is_missed_where_two_pieces_meet() {
        let overlap = LEAST_OVERLAP;
        assert!(lacks(&with("", 1000)));
        for at in (PIECE - 20..PIECE + overlap + 20).chain(2 * PIECE - 20..2 * PIECE + overlap + 20) {
            for text in ["\"10.0.0.5\"", "\"id\"", r"\u0031", r"\\\u0031", r"\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\\u0031"] {
                assert!(!lacks(&with(text, at)), "{text} at {at}");
            }
            assert!(lacks(&with("\"10.0.0.6\"", at)), "at {at}");
        }
    }

    #[test]
    fn what_looks_otherwise_is_doubtful() {
        let file = with("", 1000);
        for other in [&file[1..], &file[..file.len() - 1], b"", b"{", head().as_slice()] {
            assert!(!lacks(other));
        }
        assert!(lacks(&[head().as_slice(), END].concat()));
    }
}
