//! The operator's commands.

mod agent;
mod cli;
mod gc;
mod identity;
mod list;
mod paths;
mod print;

pub use cli::run;
