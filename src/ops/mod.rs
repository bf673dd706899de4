//! The operator's commands.

mod agent;
mod cli;
mod doctor;
mod gc;
mod identity;
pub mod install;
mod list;
mod named;
mod paths;
mod print;
mod show;

pub use cli::run;
