//! The operator's commands.

mod agent;
mod cli;
mod doctor;
mod gc;
mod identity;
mod install;
mod list;
mod manual;
mod named;
mod paths;
mod print;
mod show;
mod uninstall;

pub use cli::run;
