//! Watches: what happened since a version, what happens now, and how a stream ends.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::cluster::Cluster;
use super::list::{timeout_parameter, version_parameter};
use super::object;
use super::resources::Resource;
use super::selectors::Filter;
use super::status::{ApiError, FieldError};
use super::store::Change;
use super::table::Rendering;
use crate::exchange::{Body, Reply, Request};

/// The real server ends a watch without `timeoutSeconds` after 30 to 60 minutes.
const LONGEST_WATCH: Duration = Duration::from_secs(1800);

/// One open watch.
#[derive(Debug)]
pub struct Watcher {
    filter: Filter,
    rendering: Rendering,
    lines: UnboundedSender<Vec<u8>>,
    ends: Instant,
    /// When the next bookmark is due; absent when the client did not ask for bookmarks.
    bookmark: Option<Instant>,
    kind: String,
    api_version: String,
}

impl Watcher {
    /// Sends what a change means to this watch: an object that starts or ceases to fit the selector
    /// is added or deleted. False when nobody listens any more.
    pub fn tell(&self, change: &Change) -> bool {
        let fits =
            |object: &Option<Value>| object.as_ref().filter(|object| self.filter.shows(&change.key, object)).cloned();
        let (kind, shown) = match (fits(&change.before), fits(&change.after)) {
            (None, None) => return !self.lines.is_closed(),
            (None, Some(after)) => ("ADDED", after),
            (Some(_), Some(after)) => ("MODIFIED", after),
            (Some(mut before), None) => {
                object::set_metadata(&mut before, "resourceVersion", change.revision.to_string());
                ("DELETED", before)
            }
        };
        self.send(kind, self.rendering.object(shown))
    }

    fn send(&self, kind: &str, object: Value) -> bool {
        let line = format!("{}\n", json!({ "type": kind, "object": object }));
        self.lines.send(line.into_bytes()).is_ok()
    }

    fn send_bookmark(&self, revision: u64) -> bool {
        let metadata = json!({ "resourceVersion": revision.to_string(), "creationTimestamp": null });
        let bookmark = json!({ "kind": self.kind, "apiVersion": self.api_version, "metadata": metadata });
        self.send("BOOKMARK", bookmark)
    }
}

impl Cluster {
    pub fn watch(&mut self, request: &Request, resource: &Resource, filter: Filter) -> Result<Reply, ApiError> {
        if request.parameter("sendInitialEvents").is_some() {
            let field = "sendInitialEvents";
            let why = "sendInitialEvents is forbidden for watch unless the WatchList feature gate is enabled";
            return Err(ApiError::invalid_kind("meta.k8s.io", "ListOptions", "", &[FieldError::forbidden(field, why)]));
        }
        let since = version_parameter(request)?;
        self.check_not_ahead(since)?;
        let (lines, receiver) = unbounded_channel();
        let lasts = timeout_parameter(request)?.map_or(LONGEST_WATCH, Duration::from_secs);
        let wants_bookmarks = matches!(request.parameter("allowWatchBookmarks"), Some("true" | "1"));
        let watcher = Watcher {
            rendering: Rendering::of(request, resource, self.clock.now())?,
            filter,
            lines,
            ends: Instant::now() + lasts.min(LONGEST_WATCH),
            bookmark: wants_bookmarks.then(|| Instant::now() + self.options.bookmark_every),
            kind: resource.kind.clone(),
            api_version: resource.api_version(),
        };
        if self.replay(&watcher, since) {
            self.store.watchers.push(watcher);
        }
        let content_type = "application/json".into();
        Ok(Reply { status: 200, content_type, location: None, body: Body::Stream(receiver) })
    }

    /// Sends what the client missed; false when that is forgotten. Then the stream says so and ends,
    /// with HTTP status 200: the real server has sent its headers by the time it knows.
    fn replay(&self, watcher: &Watcher, since: Option<u64>) -> bool {
        let Some(since) = since.filter(|since| *since > 0) else {
            for (key, object) in self.store.all().filter(|(key, object)| watcher.filter.shows(key, object)) {
                let created = Change { revision: 0, key: key.clone(), before: None, after: Some(object.clone()) };
                watcher.tell(&created);
            }
            return true;
        };
        match self.store.changes_after(since) {
            Ok(changes) => {
                for change in changes {
                    watcher.tell(change);
                }
                true
            }
            Err(_) => {
                let message = format!("too old resource version: {since} ({})", self.store.revision());
                watcher.send("ERROR", ApiError::expired(message).object());
                false
            }
        }
    }

    /// Ends the watches whose time is over and sends the bookmarks that are due.
    pub fn tend_watches(&mut self, now: Instant) {
        let (revision, every) = (self.store.revision(), self.options.bookmark_every);
        self.store.watchers.retain_mut(|watcher| {
            if watcher.ends <= now || watcher.lines.is_closed() {
                return false;
            }
            if watcher.bookmark.is_some_and(|due| due <= now) {
                watcher.bookmark = Some(now + every);
                return watcher.send_bookmark(revision);
            }
            true
        });
    }
}
