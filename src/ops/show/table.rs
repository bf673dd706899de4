//! `podeip show` for people: a table, and below it sentences.

use crate::eip::compare::{Comparison, Fact, Row};
use crate::eip::request;
use crate::eip::views::{View, Views};
use crate::kube::RecordedEvent;
use crate::ops::print::{age, columns, on_one_line, or_dash};
use crate::state::measures::VerbMeasures;

/// More is in `kubectl describe pod`.
const MOST_EVENTS: usize = 10;

pub fn text(views: &Views, comparison: &Comparison, verbs: &[VerbMeasures]) -> String {
    let rows = comparison.rows.iter().map(|row| cells(row, views));
    let mut parts = vec![title(views), columns(&["", "FACT", "RECORD", "PODEIP", "POD", "CLOUD"], rows)];
    parts.push(sentences(comparison, views));
    if let Some(record) = views.record.known() {
        let error = on_one_line(record.last_error.as_deref().unwrap_or("none"));
        parts.push(format!("container: {}\nlast error: {error}", record.container_id));
    }
    if !verbs.is_empty() {
        parts.push(columns(&["AGE", "VERB", "OUTCOME", "SECONDS", "STAGES"], verbs.iter().map(verb)));
    }
    parts.extend(events(&views.events));
    parts.join("\n\n")
}

/// Stages run side by side in part, so they do not add up to the whole.
fn verb(verb: &VerbMeasures) -> Vec<String> {
    let stages = verb.stages.iter().map(|(stage, seconds)| format!("{} {seconds:.3}", stage.name()));
    let stages = stages.collect::<Vec<_>>().join(", ");
    let stages = if stages.is_empty() { "-".into() } else { stages };
    vec![age(verb.at), verb.verb.name().into(), verb.outcome.clone(), format!("{:.3}", verb.seconds), stages]
}

fn title(views: &Views) -> String {
    match &views.name {
        Some(name) => format!("pod {name}"),
        None => "an EIP that no pod of this cluster claims".into(),
    }
}

fn cells(row: &Row, views: &Views) -> Vec<String> {
    vec![
        if row.differs { "!".into() } else { String::new() },
        label(row.fact),
        cell(&row.record, &views.record),
        cell(&row.pod_eip, &views.pod_eip),
        cell(&row.pod, &views.pod),
        cell(&row.cloud, &views.cloud),
    ]
}

fn cell<T>(says: &Option<String>, view: &View<T>) -> String {
    match view {
        View::Unknown(_) => "?".into(),
        _ => or_dash(says.as_ref()),
    }
}

fn label(fact: Fact) -> String {
    fact.to_string().to_uppercase().replace(' ', "-")
}

/// The sides that say nothing, each with its reason.
pub fn gaps(views: &Views) -> Vec<String> {
    [
        gap("the record", "this node has no record of it", &views.record),
        gap("the PodEIP", "there is no PodEIP", &views.pod_eip),
        gap("the pod", "the API server has no such pod", &views.pod),
        gap("the cloud", "the cloud has no EIP of it", &views.cloud),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn gap<T>(side: &str, absence: &str, view: &View<T>) -> Option<String> {
    match view {
        View::Known(_) => None,
        View::Absent => Some(absence.into()),
        View::Unknown(reason) => Some(format!("{side} is unknown: {reason}")),
    }
}

fn sentences(comparison: &Comparison, views: &Views) -> String {
    let gaps = gaps(views);
    let differences = comparison.differences.iter().map(|it| format!("! {}", it.message));
    let mut lines: Vec<String> = differences.collect();
    if lines.is_empty() {
        lines.push(if gaps.is_empty() { "no differences" } else { "no differences in what is known" }.into());
    }
    lines.extend(gaps);
    if views.pod.known().is_some_and(|pod| matches!(request::read(&pod.annotations), Ok(None))) {
        lines.push("the pod asks for no EIP".into());
    }
    let lines: Vec<String> = lines.iter().map(|line| on_one_line(line)).collect();
    lines.join("\n")
}

fn events(events: &View<Vec<RecordedEvent>>) -> Option<String> {
    match events {
        View::Known(events) if !events.is_empty() => {
            let recent = &events[events.len().saturating_sub(MOST_EVENTS)..];
            Some(columns(&["AGE", "COUNT", "REASON", "EVENT"], recent.iter().map(event)))
        }
        View::Unknown(reason) => Some(format!("the events are unknown: {}", on_one_line(reason))),
        _ => None,
    }
}

fn event(event: &RecordedEvent) -> Vec<String> {
    vec![or_dash(event.last_seen.map(age)), event.count.to_string(), event.reason.clone(), event.message.clone()]
}
