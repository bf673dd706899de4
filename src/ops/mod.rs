//! The operator's commands.

mod agent;
mod cli;
mod gc;
mod list;
mod paths;
mod print;

pub use cli::run;
