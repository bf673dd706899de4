//! Answers of the API server, and of what stands in its place.

use libfuzzer_sys::Corpus;
use podeip::kube::fuzz::{self, Shape};
use podeip::kube::{Lease, PodEip};
use serde_json::json;

use crate::oracle::{SECRET, chain, check_readable, headed};

const SHAPES: [Shape; 7] =
    [Shape::Pod, Shape::PodEip, Shape::Lease, Shape::Event, Shape::RecordedEvent, Shape::Token, Shape::Review];

fn shaped(data: &[u8]) -> Option<(Shape, u16, &[u8])> {
    let (name, status, body) = headed(data)?;
    let shape = SHAPES.into_iter().find(|known| format!("{known:?}") == name)?;
    Some((shape, status, body))
}

/// One object; the number is not looked at.
pub fn object(data: &[u8]) -> Corpus {
    let Some((shape, _, body)) = shaped(data) else { return Corpus::Reject };
    match (shape, fuzz::object(shape, body)) {
        (Shape::Token, Ok(text)) => assert!(!text.contains(SECRET), "a token is logged: {text}"),
        (Shape::PodEip, Ok(_)) => check_pod_eip(body),
        (Shape::Lease, Ok(_)) => check_lease(body),
        (_, Ok(_)) => {}
        (shape, Err(error)) => {
            let text = chain(&error);
            let _ = (error.not_answered(), error.hint(), error.is_not_found());
            if matches!(shape, Shape::Token) {
                assert!(!text.contains(SECRET), "a token is printed: {text}");
            }
            check_readable(&text);
        }
    }
    Corpus::Keep
}

/// What was understood is written as it was read; what was not never leads to a release.
fn check_pod_eip(body: &[u8]) {
    let read = |body: &[u8]| serde_json::from_slice::<PodEip>(body);
    let Ok(found) = read(body) else { return };
    let written =
        json!({"metadata": {"name": found.name, "uid": found.uid}, "spec": fuzz::spec_on_the_wire(&found.spec)});
    let Ok(again) = read(written.to_string().as_bytes()) else { panic!("{written} does not read") };
    assert_eq!(found.spec, again.spec);
    let keeps = found.spec.strategy == podeip::strategy::Strategy::Never
        || found.spec.kind == podeip::names::EipKind::Static
        || found.spec.allocation_id.as_str().is_empty();
    assert!(found.problem.is_none() || keeps, "{:?} leads to a release", found.problem);
}

fn check_lease(body: &[u8]) {
    let Ok(lease) = serde_json::from_slice::<Lease>(body) else { return };
    let end_of_time = jiff::Timestamp::MAX;
    assert!(!lease.held_by_another("fuzz", end_of_time), "a Lease lasts for ever");
    let taken = fuzz::taken(&lease);
    assert_eq!(taken["holderIdentity"], "fuzz");
}

/// A page of a list: one odd entry does not hide the others.
pub fn list(data: &[u8]) -> Corpus {
    let Some((shape, _, body)) = shaped(data) else { return Corpus::Reject };
    let Ok((count, proceed)) = fuzz::page(shape, body) else { return Corpus::Keep };
    assert!(proceed.is_none_or(|token| !token.is_empty()));
    let whole: serde_json::Value = match serde_json::from_slice(body) {
        Ok(whole) => whole,
        // The parser of values knows limits (of numbers, say) that raw entries are not held to.
        Err(_) => return Corpus::Keep,
    };
    // A structure may come as the list of its members; no API server writes it so, and it does no harm.
    if !whole.is_object() {
        return Corpus::Keep;
    }
    let entries = whole["items"].as_array().map_or(0, Vec::len);
    assert!(count <= entries, "{count} entries of {entries}");
    Corpus::Keep
}

/// Anything but a 2xx, to a call with a token.
pub fn refusal(data: &[u8]) -> Corpus {
    let Some((date, status, body)) = headed(data) else { return Corpus::Reject };
    let _ = fuzz::server_time(date);
    let error = fuzz::refused(status, body, SECRET);
    let text = chain(&error);
    check_readable(&text);
    let _ = (error.hint(), error.not_answered(), error.is_conflict(), error.is_superseded(), error.is_not_found());
    assert!(!text.contains(SECRET), "the token is printed: {text}");
    // A part of it counts too, where the body has no such part by itself.
    let telling = &SECRET[..12];
    if !String::from_utf8_lossy(body).replace(SECRET, "").contains(telling) {
        assert!(!text.contains(telling), "a part of the token is printed: {text}");
    }
    Corpus::Keep
}
