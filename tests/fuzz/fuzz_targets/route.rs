//! Routes from the wire, and the requests that they decide about: a route that is taken
//! survives the wire again, and decides about any request.
#![no_main]

use http::{HeaderMap, HeaderValue, Method, header};
use libfuzzer_sys::fuzz_target;
use prost::Message;
use weft_model::route::filter::RequestTarget;
use weft_model::route::matching::RequestHead;
use weft_model::route::{Filter, Route};
use weft_proto::v1;

fuzz_target!(|input: (&[u8], &str, Option<&str>, &[u8])| {
    let (route, path, query, field) = input;
    let Ok(message) = v1::Route::decode(route) else { return };
    let Ok(route) = Route::try_from(message) else { return };
    assert_eq!(Route::try_from(v1::Route::from(&route)).as_ref(), Ok(&route));
    let mut headers = HeaderMap::new();
    if let Ok(value) = HeaderValue::from_bytes(field) {
        headers.insert(header::ORIGIN, value);
    }
    let method = Method::OPTIONS;
    let request = RequestHead { method: &method, path, query, headers: &headers };
    let target = RequestTarget { host: "shop", port: 80, path, query };
    for rule in &route.rules {
        for matched in rule.matches.iter().filter(|matched| matched.matches(&request)) {
            for filter in &rule.filters {
                match filter {
                    Filter::Redirect(redirect) => {
                        let location = redirect.location(&target, &matched.path);
                        assert!(location.contains("://"));
                    }
                    Filter::Rewrite(rewrite) => {
                        let _ = rewrite.path.as_ref().map(|to| to.apply(path, &matched.path));
                    }
                    Filter::Cors(cors) => {
                        let _ = cors.preflight(&method, &headers);
                        cors.apply(headers.get(header::ORIGIN), &mut HeaderMap::new());
                    }
                    Filter::RequestHeaders(change) | Filter::ResponseHeaders(change) => {
                        change.apply(&mut headers.clone());
                    }
                    Filter::Mirror(mirror) => assert!(!mirror.selects(1.0) || mirror.numerator > 0),
                }
            }
        }
    }
});
