//! podeip: run by a container runtime as a CNI plugin, or by a person as a command.

use std::io;
use std::process::ExitCode;

use podeip::{cni, ops};

fn main() -> ExitCode {
    if std::env::var_os("CNI_COMMAND").is_none() {
        return ops::run();
    }
    cni::dispatch::answer_panics();
    cni::dispatch::run(|name| std::env::var(name).ok(), &mut io::stdin(), &mut io::stdout())
}
