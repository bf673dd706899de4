//! Tables: the rows that `kubectl get` asks the server for.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::list::Page;
use super::object::{self, text};
use super::resources::Resource;
use super::status::ApiError;
use crate::exchange::Request;

/// How a request wants objects to be shown.
#[derive(Clone, Debug)]
pub enum Rendering {
    Objects,
    Table(Box<Table>),
}

/// What it takes to make rows of a resource's objects.
#[derive(Clone, Debug)]
pub struct Table {
    resource: Resource,
    now: Timestamp,
    /// `includeObject`: what of the object goes with its row.
    include: String,
}

impl Rendering {
    /// Chosen by the `Accept` header: the first media type the server can produce.
    pub fn of(request: &Request, resource: &Resource, now: Timestamp) -> Result<Self, ApiError> {
        let accept = request.header("accept").unwrap_or_default();
        for media_type in accept.split(',').map(str::trim) {
            let mut parts = media_type.split(';').map(str::trim);
            let is_json = matches!(parts.next(), Some("" | "application/json" | "application/*" | "*/*"));
            let parameters: Vec<&str> = parts.collect();
            let wanted = parameters.iter().find_map(|parameter| parameter.strip_prefix("as="));
            match wanted {
                _ if !is_json => {}
                None => return Ok(Rendering::Objects),
                Some("Table") if parameters.contains(&"v=v1") || !parameters.iter().any(|p| p.starts_with("v=")) => {
                    let include = request.parameter("includeObject").unwrap_or("Metadata").to_owned();
                    let table = Table { resource: resource.clone(), now, include };
                    return Ok(Rendering::Table(Box::new(table)));
                }
                Some(_) => {}
            }
        }
        Err(ApiError::not_acceptable())
    }

    pub fn object(&self, object: Value) -> Value {
        match self {
            Rendering::Objects => object,
            Rendering::Table(table) => {
                let metadata = json!({ "resourceVersion": object::version(&object) });
                table.of(&[object], metadata)
            }
        }
    }

    pub fn page(&self, page: Page, resource: &Resource) -> Value {
        match self {
            Rendering::Objects => page.object(resource),
            Rendering::Table(table) => table.of(&page.items, page.metadata),
        }
    }
}

/// One column: its name, its type, its priority (0 is always shown), and where its value stands.
struct Column {
    name: String,
    kind: String,
    priority: u64,
    path: String,
}

fn column(name: &str, kind: &str, priority: u64, path: &str) -> Column {
    Column { name: name.into(), kind: kind.into(), priority, path: path.into() }
}

impl Table {
    fn of(&self, objects: &[Value], metadata: Value) -> Value {
        let columns = self.columns();
        let definitions: Vec<Value> = columns.iter().map(definition).collect();
        let rows: Vec<Value> = objects.iter().map(|object| self.row(&columns, object)).collect();
        json!({
            "kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata,
            "columnDefinitions": definitions, "rows": rows,
        })
    }

    fn columns(&self) -> Vec<Column> {
        let mut columns = vec![column("Name", "string", 0, ".metadata.name")];
        match &self.resource.custom {
            Some(custom) if !custom.columns.is_empty() => columns.extend(custom.columns.iter().map(|printed| {
                let priority = printed["priority"].as_u64().unwrap_or(0);
                column(text(printed, "/name"), text(printed, "/type"), priority, text(printed, "/jsonPath"))
            })),
            None if self.resource.is("", "pods") => columns.extend([
                column("Ready", "string", 0, "pod:ready"),
                column("Status", "string", 0, "pod:status"),
                column("Restarts", "string", 0, "pod:restarts"),
                column("Age", "date", 0, ".metadata.creationTimestamp"),
                column("IP", "string", 1, ".status.podIP"),
                column("Node", "string", 1, ".spec.nodeName"),
            ]),
            _ => columns.push(column("Age", "date", 0, ".metadata.creationTimestamp")),
        }
        columns
    }

    fn row(&self, columns: &[Column], object: &Value) -> Value {
        let cells: Vec<Value> = columns.iter().map(|column| self.cell(column, object)).collect();
        let shown = match self.include.as_str() {
            "Object" => object.clone(),
            "None" => return json!({ "cells": cells }),
            _ => json!({
                "kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"],
            }),
        };
        json!({ "cells": cells, "object": shown })
    }

    fn cell(&self, column: &Column, object: &Value) -> Value {
        match column.path.as_str() {
            "pod:ready" => ready_containers(object).into(),
            "pod:status" => pod_status(object).into(),
            "pod:restarts" => restarts(object).to_string().into(),
            path => match (value_at(object, path), column.kind.as_str()) {
                (Some(Value::String(time)), "date") => age(time, self.now).into(),
                (Some(value), _) => value.clone(),
                // The built-in printers write a placeholder, those of custom resources nothing.
                (None, _) if self.resource.custom.is_none() => "<none>".into(),
                (None, _) => Value::Null,
            },
        }
    }
}

/// A column as a table defines it: the date types of CRDs are printed as texts.
fn definition(column: &Column) -> Value {
    let kind = if column.kind == "date" { "string" } else { &column.kind };
    let format = if column.name == "Name" { "name" } else { "" };
    json!({ "name": column.name, "type": kind, "format": format, "description": "", "priority": column.priority })
}

/// Follows a simple JSON path: `.a.b`, dots inside a key escaped with a backslash.
fn value_at<'a>(object: &'a Value, path: &str) -> Option<&'a Value> {
    const ESCAPED_DOT: &str = "\u{0}";
    let path = path.replace("\\.", ESCAPED_DOT);
    let mut keys = path.split('.').filter(|key| !key.is_empty()).map(|key| key.replace(ESCAPED_DOT, "."));
    keys.try_fold(object, |value, key| value.get(&key))
}

fn container_statuses(pod: &Value) -> impl Iterator<Item = &Value> {
    pod.pointer("/status/containerStatuses").and_then(Value::as_array).into_iter().flatten()
}

fn ready_containers(pod: &Value) -> String {
    let all = pod.pointer("/spec/containers").and_then(Value::as_array).map_or(0, Vec::len);
    let ready = container_statuses(pod).filter(|status| status["ready"] == true).count();
    format!("{ready}/{all}")
}

fn restarts(pod: &Value) -> u64 {
    container_statuses(pod).filter_map(|status| status["restartCount"].as_u64()).sum()
}

fn pod_status(pod: &Value) -> &str {
    if object::is_deleting(pod) { "Terminating" } else { text(pod, "/status/phase") }
}

/// The time since then in two units at most, as kubectl prints it.
fn age(since: &str, now: Timestamp) -> String {
    let Ok(since) = since.parse::<Timestamp>() else { return "<invalid>".into() };
    let seconds = now.as_second() - since.as_second();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let two = |big: i64, unit: &str, small: i64, small_unit: &str| match small {
        0 => format!("{big}{unit}"),
        _ => format!("{big}{unit}{small}{small_unit}"),
    };
    match seconds {
        ..0 => "<invalid>".into(),
        0..120 => format!("{seconds}s"),
        120..600 => two(minutes, "m", seconds % 60, "s"),
        600..10_800 => format!("{minutes}m"),
        10_800..28_800 => two(hours, "h", minutes % 60, "m"),
        28_800..172_800 => format!("{hours}h"),
        172_800..691_200 => two(days, "d", hours % 24, "h"),
        _ => format!("{days}d"),
    }
}
