//! The operator's commands.

mod agent;
mod cilium;
mod cli;
mod doctor;
mod gc;
mod identity;
mod install;
mod list;
mod manual;
mod migrate;
mod named;
mod paths;
mod print;
mod progress;
mod release;
mod show;
mod stop;
mod subject;
mod uninstall;

pub use cli::run;
