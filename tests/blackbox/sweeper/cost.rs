//! How many calls a sweep makes; `benches/sweep.rs` shows the same at full size, and the memory.

use super::elsewhere;
use crate::crowd::{Crowd, Sweep, calls_since};
use crate::scene::Scene;

#[test]
fn what_is_in_order_costs_no_call_of_its_own() {
    let scene = Scene::new();
    let crowd = Crowd { pod_eips: 300, orphans: 30, pod_bytes: 1 << 10 };
    crowd.move_in(&scene);
    for sweep in Sweep::ALL {
        crowd.prepare(&scene, sweep);
        let mark = scene.world.calls.mark();
        elsewhere(&scene);
        crowd.assert_swept(&scene, sweep);
        let calls = calls_since(&scene, mark);
        let made: usize = calls.values().sum();
        assert!(made <= crowd.calls_allowed(), "{sweep:?}: {made} calls, {} allowed: {calls:?}", crowd.calls_allowed());
    }
}
