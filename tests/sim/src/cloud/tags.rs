//! TagResources, UnTagResources and ListTagResources of VPC, for EIPs.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Value, json};

use crate::cloud::eip::{Status, rules};
use crate::cloud::error::{ApiError, ApiResult};
use crate::cloud::rpc::Rpc;
use crate::cloud::state::State;

const RESOURCES: usize = 50;

pub(crate) fn tag(state: &mut State, now: Timestamp, call: &Rpc) -> ApiResult<Value> {
    let resources = resources(state, call)?;
    let tags = rules::tags(call, true, &state.settings)?;
    if tags.is_empty() {
        return Err(ApiError::bad("MissingParam.TagKey", "At least one tag is wanted."));
    }
    // Counted for all before any is written.
    for &at in &resources {
        let mut merged: BTreeMap<String, String> = state.eips[at].facts().tags.clone();
        merged.extend(tags.clone());
        if merged.len() > rules::TAGS_PER_EIP {
            let message = format!("{} would have more than {} tags.", state.eips[at].id, rules::TAGS_PER_EIP);
            return Err(ApiError::bad("QuotaExceeded.TagsPerResource", message));
        }
    }
    for at in resources {
        state.eips[at].change(now, |facts| facts.tags.extend(tags.clone()));
    }
    Ok(json!({}))
}

pub(crate) fn untag(state: &mut State, now: Timestamp, call: &Rpc) -> ApiResult<Value> {
    let resources = resources(state, call)?;
    let keys = call.list("TagKey", rules::TAGS_PER_EIP)?;
    let all = call.flag("All")? && keys.is_empty();
    if keys.is_empty() && !all {
        return Err(ApiError::bad("MissingParam.TagKey", "TagKey.N or All is wanted."));
    }
    for at in resources {
        state.eips[at].change(now, |facts| facts.tags.retain(|key, _| !all && !keys.contains(key)));
    }
    Ok(json!({}))
}

/// The positions of the named EIPs, all of which have to exist.
fn resources(state: &State, call: &Rpc) -> ApiResult<Vec<usize>> {
    state.in_region(call)?;
    only_eips(call)?;
    let ids = call.list("ResourceId", RESOURCES)?;
    if ids.is_empty() {
        return Err(ApiError::missing("ResourceId.1"));
    }
    let find = |id: &String| {
        let at = state.eip(id).map_err(|_| {
            ApiError::not_found("InvalidResourceId.NotFound", format!("The specified ResourceId does not exist: {id}."))
        })?;
        match state.eips[at].facts().status {
            Status::Releasing => Err(ApiError::bad("IncorrectEipStatus", format!("{id} is being released."))),
            _ => Ok(at),
        }
    };
    ids.iter().map(find).collect()
}

fn only_eips(call: &Rpc) -> ApiResult<()> {
    if !call.required("ResourceType")?.eq_ignore_ascii_case("EIP") {
        return Err(ApiError::invalid("ResourceType", "this simulated cloud tags EIPs only"));
    }
    Ok(())
}

pub(crate) fn list(state: &State, now: Timestamp, call: &Rpc) -> ApiResult<Value> {
    state.in_region(call)?;
    only_eips(call)?;
    let ids = call.list("ResourceId", RESOURCES)?;
    let wanted = rules::wanted_tags(call)?;
    if ids.is_empty() && wanted.is_empty() {
        return Err(ApiError::missing("ResourceId.1"));
    }
    let size = usize::try_from(call.number("MaxResults")?.unwrap_or(50)).unwrap_or(0);
    if !(1..=50).contains(&size) {
        return Err(ApiError::invalid("MaxResults", "it has to be 1 to 50"));
    }
    let from = match call.text("NextToken") {
        None => 0,
        Some(token) => token
            .strip_prefix("sim-")
            .and_then(|from| from.parse().ok())
            .ok_or_else(|| ApiError::invalid("NextToken", "it was not given out by this action"))?,
    };
    let seen = state.eips.iter().filter_map(|eip| Some((&eip.id, eip.visible(now, &state.settings)?)));
    let rows: Vec<Value> = seen
        .filter(|(id, facts)| (ids.is_empty() || ids.contains(id)) && rules::has_tags(&facts.tags, &wanted))
        .flat_map(|(id, facts)| facts.tags.iter().map(move |tag| row(id, tag)))
        .collect();
    let shown: Vec<&Value> = rows.iter().skip(from).take(size).collect();
    let end = from + shown.len();
    let next = if end < rows.len() { format!("sim-{end}") } else { String::new() };
    Ok(json!({"TagResources": {"TagResource": shown}, "NextToken": next}))
}

fn row(id: &str, (key, value): (&String, &String)) -> Value {
    json!({"ResourceId": id, "ResourceType": "EIP", "TagKey": key, "TagValue": value})
}

#[cfg(test)]
mod tests;
