//! Matches of requests: what a path is compared with matches itself, elements of a
//! prefix are whole, and a replaced prefix begins the new path.
#![no_main]

use std::sync::Arc;

use http::{HeaderMap, Method};
use libfuzzer_sys::fuzz_target;
use weft_model::route::RequestMatch;
use weft_model::route::filter::PathModifier;
use weft_model::route::matching::{PathMatch, Pattern, RequestHead, ValueMatch};

fuzz_target!(|input: (&str, &str, &str, Option<&str>)| {
    let (text, replacement, path, query) = input;
    let (method, headers) = (Method::GET, HeaderMap::new());
    let matches = |matching: &RequestMatch, path: &str, query: Option<&str>| {
        matching.matches(&RequestHead { method: &method, path, query, headers: &headers })
    };
    let of_path = |path| RequestMatch { path, ..RequestMatch::default() };
    let shared: Arc<str> = text.into();
    assert!(matches(&of_path(PathMatch::Exact(Arc::clone(&shared))), text, query));
    let prefix = PathMatch::Prefix(Arc::clone(&shared));
    let trimmed = text.strip_suffix('/').unwrap_or(text);
    assert!(matches(&of_path(prefix.clone()), &format!("{trimmed}/{path}"), query));
    if matches(&of_path(prefix.clone()), path, query) {
        assert!(path.starts_with(trimmed));
        let changed = PathModifier::Prefix(replacement.into()).apply(path, &prefix);
        assert!(changed.starts_with(replacement.strip_suffix('/').unwrap_or(replacement)));
    }
    if let Ok(pattern) = Pattern::new(text) {
        let _ = matches(&of_path(PathMatch::Regex(pattern)), path, query);
    }
    let grpc = PathMatch::Grpc { service: Some(shared), method: None };
    if !text.is_empty() && !text.contains('/') && !path.contains('/') {
        assert!(matches(&of_path(grpc), &format!("/{text}/{path}"), query));
    }
    let parameter = (Arc::from(text), ValueMatch::Exact(path.into()));
    let asking = RequestMatch { query: vec![parameter], ..RequestMatch::default() };
    let _ = matches(&asking, "/", query);
});
