//! Ten nodes whose pods all start at once, more than the account may buy EIPs for in a minute.

use std::time::Duration;

use crate::fleet::{Outcome, Plan, run};

/// The cloud's minute takes 12 s: podeip's own pauses are those of a real one, so what they cost is five times as much of it.
const FASTER: u32 = 5;

/// What a window of the real cloud may take longer than it has to, so that ten of them take 1.2 times the least.
const LOST: Duration = Duration::from_secs(12);

fn fleet(killed: f64) -> Plan {
    Plan { kubelet: 2.0..3.0, rate: 60, faster: FASTER, ..Plan::real(10, 10, killed) }
}

fn assert_in_time(outcome: &Outcome) {
    println!("{outcome:?}");
    assert!(outcome.wall <= outcome.floor + LOST, "{:?}, at least {:?}", outcome.wall, outcome.floor);
    assert!(outcome.failed.keys().all(|code| *code == 11), "{:?}", outcome.failed);
    assert_eq!((outcome.bought_twice, outcome.left), (0, 0));
}

#[test]
fn a_hundred_pods_at_once_are_bound_as_soon_as_the_limits_allow() {
    assert_in_time(&run(&fleet(0.0)));
}

#[test]
fn a_fifth_of_the_processes_killed_costs_little_time_and_no_eip() {
    let outcome = run(&fleet(0.2));
    assert_in_time(&outcome);
    assert!(outcome.killed > 0);
}
