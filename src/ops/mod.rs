//! The operator's commands.

mod cli;
mod gc;
mod list;
mod paths;

pub use cli::run;
