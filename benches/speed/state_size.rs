//! What ADD costs a node with few and with very many attachments: work of the node's own, in processor time.

use std::time::Duration;

use serde_json::{Value, json};

use crate::measured::{Repeatable, Run, median, millis, ratio};
use crate::scene::{Scene, WITH_EIP};

const ATTACHMENTS: [usize; 4] = [10, 100, 1000, 10_000];
const PODS: u8 = 15;

pub fn measure() -> Value {
    let rows: Vec<(usize, Vec<Run>, Vec<Run>)> =
        ATTACHMENTS.iter().map(|count| (*count, with_eip(*count), plain(*count))).collect();
    let least: Vec<Duration> = [&rows[0].1, &rows[0].2].map(|runs| cpu(runs)).into();
    let row = |(count, with_eip, plain): &(usize, Vec<Run>, Vec<Run>)| {
        let of = |runs: &Vec<Run>, least: Duration| {
            let (cpu, wall) = (cpu(runs), wall(runs));
            json!({ "cpu_ms": millis(cpu), "wall_ms": millis(wall), "ratio": ratio(cpu, least) })
        };
        json!({ "attachments": count, "add": of(with_eip, least[0]), "plain": of(plain, least[1]) })
    };
    json!({ "rows": rows.iter().map(row).collect::<Vec<_>>() })
}

fn cpu(runs: &[Run]) -> Duration {
    median(runs.iter().map(|run| run.cpu).collect())
}

fn wall(runs: &[Run]) -> Duration {
    median(runs.iter().map(|run| run.wall).collect())
}

/// A cloud that takes no time, so that the wall shows the node's own work, too.
fn with_eip(count: usize) -> Vec<Run> {
    run(count, &[WITH_EIP])
}

fn plain(count: usize) -> Vec<Run> {
    run(count, &[])
}

fn run(count: usize, annotations: &[(&str, &str)]) -> Vec<Run> {
    let scene = Scene::new();
    fill(&scene, count);
    let one = |nth: u8| {
        let pod = scene.pod(&format!("web-{nth}"), [10, 219, 0, 5 + nth], annotations).alive();
        scene.write("stdin", &scene.stdin(&pod, Some(pod.result())).to_string());
        Repeatable::new(scene.command("ADD", &pod), &scene.path("stdin")).run()
    };
    (0..PODS).map(one).collect()
}

/// Records of pods that are served, as many as `count`, as ADD leaves them.
fn fill(scene: &Scene, count: usize) {
    let pod = scene.pod("pattern", [10, 219, 0, 250], &[WITH_EIP]).alive();
    scene.add(&pod).assert_added(&pod);
    let record = scene.records().remove(0);
    let file = scene.state_dir().join("state.json");
    let written = std::fs::read_to_string(&file).unwrap();
    let (head, rest) = written.split_once('[').unwrap();
    let pattern = rest.strip_suffix("]}").unwrap();
    let another = |nth: usize| {
        let values = [
            (&record["containerId"], format!("{nth:064x}")),
            (&record["pod"]["name"], format!("pod-{nth}")),
            (&record["pod"]["uid"], format!("00000000-0000-4000-8000-{nth:012x}")),
            (&record["eip"]["id"], format!("eip-bp1{nth:017x}")),
            (&record["binding"]["privateIp"], format!("10.{}.{}.{}", 100 + nth / 62500, nth / 250 % 250, nth % 250)),
        ];
        let replaced =
            |text: String, (old, new): (&Value, String)| text.replace(&old.to_string(), &json!(new).to_string());
        values.into_iter().fold(pattern.to_owned(), replaced)
    };
    let records: Vec<String> = (0..count).map(another).collect();
    std::fs::write(file, format!("{head}[{}]}}", records.join(","))).unwrap();
}
