//! What an installation consists of: things on the node that are looked at again and again, and put right.

use std::path::PathBuf;

/// What a look at a part of the installation came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Repair {
    /// It is as it should be; nothing was written.
    Sound,
    /// It was missing or wrong and is right now; the text says what was done, for the log.
    Done(String),
    /// It cannot be put right now and that is no fault: what it is made from is not there (yet).
    Waiting(String),
}

/// One part: a file that is rendered, the executable, or our stanza in the runtime's configuration.
pub trait Kept: Send + Sync {
    /// Directories in which a change can make it wrong or show that it is out of date. One that does not
    /// exist is looked at again later.
    fn watched(&self) -> Vec<PathBuf>;

    /// Looks, and writes only where something must change.
    ///
    /// # Errors
    /// What keeps it wrong, naming the file and the remedy.
    fn put_right(&self) -> anyhow::Result<Repair>;
}
