//! Ten nodes whose pods all start at once, more than the account may buy EIPs for in a minute.

use std::time::Duration;

use crate::fleet::{Outcome, Plan, run};

/// The cloud's minute takes 10 s: podeip's own pauses are those of a real one, so they cost six times as much of it.
const FASTER: u32 = 6;

/// What podeip's pauses and a busy machine may add: how long it takes is measured elsewhere, `scripts/bench scale`.
const LOST: Duration = Duration::from_secs(30);

/// The account may look five times for each EIP that it may bind, and not all who look have one yet.
const LOOKS_FOR_EACH: usize = 4;

fn fleet(killed: f64) -> Plan {
    Plan { kubelet: 2.0..3.0, rate: 60, faster: FASTER, ..Plan::real(10, 10, killed) }
}

fn assert_in_time(plan: &Plan, outcome: &Outcome) {
    println!("{}", outcome.json(plan));
    assert!(outcome.wall <= outcome.floor + LOST, "{:?}, at least {:?}", outcome.wall, outcome.floor);
    assert!(outcome.failed.keys().all(|code| *code == 11), "{:?}", outcome.failed);
    assert_eq!((outcome.bought_twice, outcome.left), (0, 0));
    let looks = outcome.calls["DescribeEipAddresses"].0;
    assert!(looks <= LOOKS_FOR_EACH * outcome.adds, "{looks} looks of {} ADDs", outcome.adds);
}

#[test]
fn a_hundred_pods_at_once_are_bound_within_few_windows() {
    let plan = fleet(0.0);
    assert_in_time(&plan, &run(&plan));
}

#[test]
fn a_fifth_of_the_processes_killed_costs_little_time_and_no_eip() {
    let plan = fleet(0.2);
    let outcome = run(&plan);
    assert_in_time(&plan, &outcome);
    assert!(outcome.killed > 0);
}
