//! What the server saw so far, and its defaults, at paths below `/-/`:
//!
//! * `/-/seen`: counts of connections and requests, by path, as JSON
//! * `/-/behaviour?KEY=VALUE&...`: how it answers whoever asks for nothing else; without
//!   parameters as at first

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use http::{Request, Response, StatusCode};
use serde_json::json;

use super::body::{self, Body};

/// Where the paths begin.
pub(super) const PATH: &str = "/-/";

/// Counts and defaults.
#[derive(Debug, Default)]
pub(super) struct Seen {
    connections: AtomicU64,
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    by_path: BTreeMap<String, u64>,
    by_key: BTreeMap<String, u64>,
    defaults: String,
}

impl Seen {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a connection; gives back which one it is.
    pub(super) fn connection(&self) -> u64 {
        self.connections.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Counts a request.
    pub(super) fn request<B>(&self, request: &Request<B>) {
        let path = request.uri().path();
        if !path.starts_with(PATH) {
            *self.inner().by_path.entry(path.to_owned()).or_default() += 1;
        }
    }

    /// How often this was asked for the key before.
    pub(super) fn count(&self, key: &str) -> u64 {
        let mut inner = self.inner();
        let count = inner.by_key.entry(key.to_owned()).or_default();
        *count += 1;
        *count - 1
    }

    /// What every request asks for, as a query.
    pub(super) fn defaults(&self) -> String {
        self.inner().defaults.clone()
    }

    /// Answers a request below [`PATH`].
    pub(super) fn administer<B>(&self, request: &Request<B>) -> Response<Body> {
        let mut inner = self.inner();
        match request.uri().path().strip_prefix(PATH) {
            Some("seen") => {
                let total: u64 = inner.by_path.values().sum();
                body::json(&json!({
                    "connections": self.connections.load(Ordering::Relaxed),
                    "requests": total,
                    "by_path": inner.by_path,
                }))
            }
            Some("behaviour") => {
                request
                    .uri()
                    .query()
                    .unwrap_or_default()
                    .clone_into(&mut inner.defaults);
                inner.by_key.clear();
                body::json(&json!({ "behaviour": inner.defaults }))
            }
            _ => {
                let mut response =
                    body::json(&json!({ "error": "there is /-/seen and /-/behaviour" }));
                *response.status_mut() = StatusCode::NOT_FOUND;
                response
            }
        }
    }
}
