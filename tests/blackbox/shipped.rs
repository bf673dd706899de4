//! What only the executable that is shipped can show.

use std::fs;

use crate::scene::executable;

/// Why the executable under test is not like the one that is shipped, if it is not.
pub fn unlike_it() -> Option<String> {
    let why = || format!("{} is not linked statically; set PODEIP to the path that scripts/build prints", executable());
    has_loader(executable()).then(why)
}

/// Whether the executable (64 bits, little-endian) has a program header PT_INTERP.
fn has_loader(path: &str) -> bool {
    let elf = fs::read(path).unwrap();
    let number =
        |at: usize, length: usize| elf[at..at + length].iter().rev().fold(0, |sum, byte| sum << 8 | usize::from(*byte));
    let (headers, size, count) = (number(32, 8), number(54, 2), number(56, 2));
    (0..count).any(|nth| number(headers + nth * size, 4) == 3)
}
