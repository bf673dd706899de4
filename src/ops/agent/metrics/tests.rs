//! The text that a Prometheus server reads, line by line.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::*;
use crate::measure::{Stage, Tally};
use crate::state::measures::Verb;

fn measures(verb: Verb, outcome: &str, seconds: f64) -> VerbMeasures {
    let tally = Tally::default();
    tally.stage(Stage::Associate, Duration::from_millis(20));
    tally.stage(Stage::Wait, Duration::from_secs(4));
    tally.call("AssociateEipAddress", "OK");
    tally.call("DescribeEipAddresses", "Throttling.User");
    VerbMeasures { seconds, ..VerbMeasures::now(verb, outcome, None, Instant::now(), tally.take()) }
}

fn sweep() -> SweepGauges {
    SweepGauges {
        leaked: 2,
        leaked_oldest_seconds: 90.5,
        account_eips: Some(17),
        eip_quota: Some(20),
        last_success: "2026-11-22T14:55:00Z".parse().unwrap(),
        podeips: 12,
        seconds: 0.75,
    }
}

#[track_caller]
fn assert_lines(metrics: &Metrics, lines: &[&str]) {
    let text = metrics.encode().unwrap();
    for line in lines {
        assert!(text.lines().any(|found| found == *line), "{line:?} is missing in:\n{text}");
    }
}

#[track_caller]
fn assert_absent(metrics: &Metrics, word: &str) {
    let text = metrics.encode().unwrap();
    assert!(!text.contains(word), "{word:?} is in:\n{text}");
}

#[test]
fn an_agent_that_has_seen_nothing_claims_nothing() {
    let text = Metrics::default().encode().unwrap();
    let expected = format!(
        "# HELP podeip_build The running podeip.\n# TYPE podeip_build info\n\
         podeip_build_info{{version=\"{}\"}} 1\n\
         # HELP podeip_sweep_leader Whether this agent sweeps the cluster.\n# TYPE podeip_sweep_leader gauge\n\
         podeip_sweep_leader 0\n# EOF\n",
        env!("CARGO_PKG_VERSION")
    );
    assert_eq!(text, expected);
}

#[test]
fn each_part_of_the_installation_is_told_as_it_is_now() {
    let metrics = Metrics::default();
    metrics.set_installed("kubeconfig", false);
    metrics.count_repair("stanza");
    metrics.set_installed("stanza", true);
    assert_lines(
        &metrics,
        &[
            "podeip_install_repairs_total{part=\"stanza\"} 1",
            "podeip_installed{part=\"kubeconfig\"} 0",
            "podeip_installed{part=\"stanza\"} 1",
        ],
    );
}

#[test]
fn the_end_of_the_token_is_told_where_it_is_known() {
    let metrics = Metrics::default();
    metrics.set_token_end("2026-11-22T14:55:00Z".parse().ok());
    assert_lines(&metrics, &["podeip_kubeconfig_token_expiry_timestamp_seconds 1795359300"]);
    metrics.set_token_end(None);
    assert_absent(&metrics, "token_expiry");
}

#[test]
fn verbs_are_counted_with_their_stages_and_calls() {
    let metrics = Metrics::default();
    metrics.absorb_verb(&measures(Verb::Add, "ok", 4.2));
    metrics.absorb_verb(&measures(Verb::Add, "ok", 0.3));
    metrics.absorb_verb(&measures(Verb::Add, "quota", 70.0));
    metrics.absorb_verb(&measures(Verb::Del, "tryAgain", 0.01));
    assert_lines(
        &metrics,
        &[
            "# TYPE podeip_verbs counter",
            "podeip_verbs_total{verb=\"ADD\",outcome=\"ok\"} 2",
            "podeip_verbs_total{verb=\"ADD\",outcome=\"quota\"} 1",
            "podeip_verbs_total{verb=\"DEL\",outcome=\"tryAgain\"} 1",
            "# TYPE podeip_verb_duration_seconds histogram",
            "# UNIT podeip_verb_duration_seconds seconds",
            "podeip_verb_duration_seconds_sum{verb=\"ADD\"} 74.5",
            "podeip_verb_duration_seconds_count{verb=\"ADD\"} 3",
            "podeip_verb_duration_seconds_bucket{le=\"0.25\",verb=\"ADD\"} 0",
            "podeip_verb_duration_seconds_bucket{le=\"0.5\",verb=\"ADD\"} 1",
            "podeip_verb_duration_seconds_bucket{le=\"60.0\",verb=\"ADD\"} 2",
            "podeip_verb_duration_seconds_bucket{le=\"+Inf\",verb=\"ADD\"} 3",
            "podeip_verb_duration_seconds_bucket{le=\"0.01\",verb=\"DEL\"} 1",
            "podeip_stage_duration_seconds_count{stage=\"wait\"} 4",
            "podeip_stage_duration_seconds_bucket{le=\"2.5\",stage=\"wait\"} 0",
            "podeip_stage_duration_seconds_bucket{le=\"5.0\",stage=\"wait\"} 4",
            "podeip_stage_duration_seconds_sum{stage=\"associate\"} 0.08",
            "podeip_api_calls_total{action=\"AssociateEipAddress\",code=\"OK\"} 4",
            "podeip_api_calls_total{action=\"DescribeEipAddresses\",code=\"Throttling.User\"} 4",
        ],
    );
}

#[test]
fn the_agents_own_calls_and_rounds_are_counted() {
    let metrics = Metrics::default();
    let tally = Tally::default();
    for _ in 0..3 {
        tally.call("patch podeips/status", "409");
        metrics.absorb_calls(&tally.take());
    }
    metrics.count_round("ok");
    metrics.count_round("ok");
    metrics.count_round("localState");
    assert_lines(
        &metrics,
        &[
            "podeip_api_calls_total{action=\"patch podeips/status\",code=\"409\"} 3",
            "podeip_rounds_total{outcome=\"ok\"} 2",
            "podeip_rounds_total{outcome=\"localState\"} 1",
        ],
    );
}

#[test]
fn the_node_is_shown_as_it_was_seen_last() {
    let metrics = Metrics::default();
    let phases = |bound, held| BTreeMap::from([("Bound".to_owned(), bound), ("Held".to_owned(), held)]);
    metrics.set_node(NodeGauges { eips_by_phase: phases(3, 1), held: 1 });
    metrics.set_node(NodeGauges { eips_by_phase: phases(4, 0), held: 0 });
    assert_lines(
        &metrics,
        &[
            "# HELP podeip_eips Attachments of this node, by their phase.",
            "# TYPE podeip_eips gauge",
            "podeip_eips{phase=\"Bound\"} 4",
            "podeip_eips{phase=\"Held\"} 0",
            "podeip_held_eips 0",
        ],
    );
}

#[test]
fn only_the_leader_tells_of_the_cluster() {
    let metrics = Metrics::default();
    metrics.set_sweep_leader(true);
    assert_lines(&metrics, &["podeip_sweep_leader 1"]);
    assert_absent(&metrics, "leaked");
    metrics.set_sweep(sweep());
    assert_lines(
        &metrics,
        &[
            "podeip_sweep_leader 1",
            "podeip_leaked_eips 2",
            "podeip_leaked_eip_oldest_seconds 90.5",
            "podeip_account_eips 17",
            "podeip_eip_quota 20",
            "podeip_podeips 12",
            "podeip_last_sweep_timestamp_seconds 1795359300",
            "podeip_last_sweep_duration_seconds 0.75",
        ],
    );
    metrics.set_sweep_leader(true);
    assert_lines(&metrics, &["podeip_leaked_eips 2"]);
    metrics.set_sweep(SweepGauges { account_eips: None, eip_quota: None, ..sweep() });
    assert_absent(&metrics, "account_eips");
    assert_absent(&metrics, "eip_quota");
    metrics.set_sweep_leader(false);
    assert_lines(&metrics, &["podeip_sweep_leader 0"]);
    assert_absent(&metrics, "leaked");
    assert_absent(&metrics, "last_sweep");
}

#[test]
fn a_strange_label_stays_on_its_line() {
    let metrics = Metrics::default();
    metrics.absorb_verb(&measures(Verb::Gc, "a\"b\\c\nd", 1.0));
    assert_lines(&metrics, &[r#"podeip_verbs_total{verb="GC",outcome="a\"b\\c\nd"} 1"#]);
}

#[test]
fn is_shared_between_threads() {
    fn shared<T: Send + Sync + 'static>() {}
    shared::<Metrics>();
}

const ALERTS: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/install/monitoring/alerts.yaml"));
const DASHBOARD: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/install/monitoring/dashboard.json"));

/// The names of the samples of an agent to which everything has happened.
fn exported() -> BTreeSet<String> {
    let metrics = Metrics::default();
    metrics.absorb_verb(&measures(Verb::Add, "ok", 4.2));
    metrics.count_round("ok");
    metrics.count_repair("stanza");
    metrics.set_installed("stanza", true);
    metrics.set_node(NodeGauges { eips_by_phase: BTreeMap::from([("Bound".to_owned(), 1)]), held: 0 });
    metrics.set_token_end(Some(sweep().last_success));
    metrics.set_sweep(sweep());
    let text = metrics.encode().unwrap();
    let samples = text.lines().filter(|line| !line.starts_with('#'));
    samples.map(|line| line.split(['{', ' ']).next().unwrap().to_owned()).collect()
}

/// Our metrics in the text of a file, prose included: what it names must exist as well.
fn named(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("podeip_")).map(str::to_owned).collect()
}

/// Every text under this key, at any depth.
fn texts_at<'a>(key: &str, value: &'a Value, found: &mut Vec<&'a str>) {
    match value {
        Value::Object(map) => {
            found.extend(map.get(key).and_then(Value::as_str));
            map.values().for_each(|below| texts_at(key, below, found));
        }
        Value::Array(list) => list.iter().for_each(|below| texts_at(key, below, found)),
        _ => {}
    }
}

#[test]
fn alerts_and_dashboard_name_only_what_is_exported() {
    let exported = exported();
    let files: [(&str, &str, Value); 2] = [
        ("alerts.yaml", ALERTS, serde_saphyr::from_str(ALERTS).unwrap()),
        ("dashboard.json", DASHBOARD, serde_json::from_str(DASHBOARD).unwrap()),
    ];
    for (file, text, value) in &files {
        let unknown: Vec<String> = named(text).difference(&exported).cloned().collect();
        assert!(unknown.is_empty(), "{file} names {unknown:?}; exported are {exported:?}");
        let mut expressions = Vec::new();
        texts_at("expr", value, &mut expressions);
        assert!(expressions.len() >= 10, "{file}: {expressions:?}");
        for expression in expressions {
            let ours = !named(expression).is_empty() || expression.contains("up{job=\"podeip\"}");
            assert!(ours, "{file}: {expression:?} asks for no metric of the agent");
        }
    }
    let shown = named(DASHBOARD);
    // A histogram is shown by its buckets.
    let whole = exported.iter().filter(|name| !name.ends_with("_sum") && !name.ends_with("_count"));
    let hidden: Vec<&String> = whole.filter(|name| !shown.contains(*name)).collect();
    assert!(hidden.is_empty(), "the dashboard does not show {hidden:?}");
}
