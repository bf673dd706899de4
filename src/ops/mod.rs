//! The operator's commands.

mod agent;
mod cli;
mod doctor;
mod gc;
mod identity;
mod list;
mod named;
mod paths;
mod print;
mod show;

pub use cli::run;
