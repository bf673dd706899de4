//! A cluster whose pods all start at once under the limits of a real account, in real time: some twenty minutes.

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::{Value, json};

use crate::fleet::{Plan, run};

/// Nodes, pods on each, and the share of ADDs that is killed.
const FLEETS: [(u8, u8, f64); 5] = [(1, 1, 0.0), (1, 10, 0.0), (10, 10, 0.0), (100, 10, 0.0), (100, 10, 0.2)];

pub fn measure() -> Value {
    // Each process at work has three pipes here, and connections.
    let (_, most) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, most, most).unwrap();
    let rows = FLEETS.map(|(nodes, pods, killed)| {
        let plan = Plan::real(nodes, pods, killed);
        let row = run(&plan).json(&plan);
        eprintln!("speed: scale: {row}");
        row
    });
    json!({ "rows": rows })
}
