//! How long podeip takes, always as a ratio to something measured in the same run: Go plugins of the same kind, or the
//! time that cloud and cluster take by themselves.
//!
//! `PODEIP=EXECUTABLE cargo bench --bench speed` prints a JSON object. `scripts/bench` builds the executable that is
//! shipped, and makes tables and plots.

use std::process::ExitCode;

#[path = "speed/at_once.rs"]
mod at_once;
#[path = "../tests/blackbox/fleet.rs"]
mod fleet;
#[path = "speed/measured.rs"]
mod measured;
#[path = "speed/pass_through.rs"]
mod pass_through;
#[path = "speed/scale.rs"]
mod scale;
#[path = "../tests/blackbox/scene.rs"]
#[allow(dead_code, reason = "the tests use the rest")]
mod scene;
#[path = "speed/serial.rs"]
mod serial;
#[path = "speed/state_size.rs"]
mod state_size;

use serde_json::{Value, json};

/// A name, and what is measured under it.
type Part = (&'static str, fn() -> Value);

const PARTS: [Part; 5] = [
    ("pass-through", pass_through::measure),
    ("serial", serial::measure),
    ("at-once", at_once::measure),
    ("state-size", state_size::measure),
    ("scale", scale::measure),
];

fn main() -> ExitCode {
    // cargo adds `--bench` of its own.
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let Some(status) = measured::as_helper(&arguments) {
        return status;
    }
    let known = |name: &String| PARTS.iter().any(|(part, _)| part == name);
    if let Some(unknown) = arguments.iter().find(|name| !known(name)) {
        eprintln!("speed: there is no part {unknown:?}; there are: {:?}", PARTS.map(|(name, _)| name));
        return ExitCode::FAILURE;
    }
    let wanted = PARTS.iter().filter(|(name, _)| arguments.is_empty() || arguments.iter().any(|wanted| wanted == name));
    let mut measured = serde_json::Map::new();
    for (name, measure) in wanted {
        eprintln!("speed: {name}");
        measured.insert((*name).to_owned(), measure());
    }
    println!("{:#}", json!({ "executable": scene::executable(), "parts": measured }));
    ExitCode::SUCCESS
}
