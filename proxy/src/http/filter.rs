//! The filters of a rule, applied to a request before it is sent on and to its response.
//! Pure.

use http::header::ORIGIN;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Uri};
use weft_model::route::Filter;
use weft_model::route::filter::{Mirror, Redirect, RequestTarget, Rewrite};
use weft_model::route::matching::PathMatch;

use super::local_reply::LocalReply;
use super::outgoing::OutgoingRequest;

/// The parts of the client's request that redirects and rewritten prefixes are made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClientRequest<'a> {
    /// Host name, without port.
    pub(crate) host: &'a str,
    /// The port that the client's connection was made to.
    pub(crate) port: u16,
    /// The path that matched.
    pub(crate) matched: &'a PathMatch,
}

/// Applies a rule's or a backend's filters to a request, in their order.
///
/// # Errors
/// The reply to the client, where one of them replies.
pub(crate) fn apply_to_request(
    filters: &[Filter],
    client: ClientRequest<'_>,
    outgoing: &mut OutgoingRequest,
) -> Result<(), LocalReply> {
    for filter in filters {
        match filter {
            Filter::RequestHeaders(modifier) => modifier.apply(&mut outgoing.headers),
            Filter::Redirect(filter) => return Err(redirect(filter, client, &outgoing.target)),
            Filter::Rewrite(filter) => rewrite(filter, client, outgoing)?,
            Filter::Cors(cors) => {
                if let Some(headers) = cors.preflight(&outgoing.method, &outgoing.headers) {
                    return Err(LocalReply::Preflight(Box::new(headers)));
                }
            }
            Filter::ResponseHeaders(_) | Filter::Mirror(_) => {}
        }
    }
    Ok(())
}

/// Applies filters to a response. `origin` is the request's `Origin`, as it came.
pub(crate) fn apply_to_response(
    filters: &[Filter],
    origin: Option<&HeaderValue>,
    headers: &mut HeaderMap,
) {
    for filter in filters {
        match filter {
            Filter::ResponseHeaders(modifier) => modifier.apply(headers),
            Filter::Cors(cors) => cors.apply(origin, headers),
            _ => {}
        }
    }
}

/// The request's `Origin`, where a filter needs it for the response.
pub(crate) fn origin(filters: &[Filter], headers: &HeaderMap) -> Option<HeaderValue> {
    let wanted = filters
        .iter()
        .any(|filter| matches!(filter, Filter::Cors(_)));
    headers.get(ORIGIN).filter(|_| wanted).cloned()
}

/// The mirrors among filters.
pub(crate) fn mirrors(filters: &[Filter]) -> impl Iterator<Item = &Mirror> {
    filters.iter().filter_map(|filter| match filter {
        Filter::Mirror(mirror) => Some(mirror),
        _ => None,
    })
}

fn redirect(filter: &Redirect, client: ClientRequest<'_>, target: &Uri) -> LocalReply {
    let requested = RequestTarget {
        host: client.host,
        port: client.port,
        path: target.path(),
        query: target.query(),
    };
    match HeaderValue::try_from(filter.location(&requested, client.matched)) {
        Ok(location) => LocalReply::Redirect {
            status: filter.status,
            location,
        },
        Err(_) => {
            LocalReply::BadRequest("the redirect would lead to a place that no field can name")
        }
    }
}

fn rewrite(
    filter: &Rewrite,
    client: ClientRequest<'_>,
    outgoing: &mut OutgoingRequest,
) -> Result<(), LocalReply> {
    if let Some(hostname) = filter.hostname.as_ref().and_then(|name| name.to_str().ok()) {
        hostname.clone_into(&mut outgoing.authority);
    }
    let Some(path) = &filter.path else {
        return Ok(());
    };
    let path = path.apply(outgoing.target.path(), client.matched);
    outgoing.target = with_path(std::mem::take(&mut outgoing.target), path)?;
    Ok(())
}

/// A target with another path, and its own query.
///
/// # Errors
/// The reply when the path is none.
pub(crate) fn with_path(target: Uri, mut path: String) -> Result<Uri, LocalReply> {
    if let Some(query) = target.query() {
        path.push('?');
        path.push_str(query);
    }
    let path = PathAndQuery::try_from(path)
        .map_err(|_| LocalReply::BadRequest("the rewritten path is none"))?;
    let mut parts = target.into_parts();
    parts.path_and_query = Some(path);
    Uri::from_parts(parts).map_err(|_| LocalReply::BadRequest("the rewritten target is none"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Method;
    use weft_model::route::filter::{HeaderModifier, PathModifier};

    fn outgoing(target: &str) -> OutgoingRequest {
        OutgoingRequest {
            method: Method::GET,
            target: target.parse().unwrap(),
            authority: "web".into(),
            headers: HeaderMap::new(),
            protocol: None,
            extensions: http::Extensions::default(),
        }
    }

    #[test]
    fn filters_apply_in_their_order_and_a_redirect_ends_them() {
        let rewrite = |prefix: &str| {
            Filter::Rewrite(Rewrite {
                hostname: Some(HeaderValue::from_static("other")),
                path: Some(PathModifier::Prefix(prefix.into())),
            })
        };
        let set = Filter::RequestHeaders(HeaderModifier {
            set: vec![(ORIGIN, HeaderValue::from_static("set"))],
            ..Default::default()
        });
        let matched = PathMatch::Prefix("/a".into());
        let client = ClientRequest {
            host: "web",
            port: 80,
            matched: &matched,
        };
        let mut request = outgoing("/a/b?c=d");
        apply_to_request(&[rewrite("/x"), set.clone()], client, &mut request).unwrap();
        assert_eq!(request.target, "/x/b?c=d");
        assert_eq!(request.authority, "other");
        assert_eq!(request.headers[ORIGIN], "set");
        let redirect = Filter::Redirect(Redirect {
            scheme: None,
            hostname: Some("elsewhere".into()),
            path: None,
            port: None,
            status: http::StatusCode::FOUND,
        });
        let mut request = outgoing("/a/b?c=d");
        let reply = apply_to_request(&[redirect, set], client, &mut request).unwrap_err();
        let location = HeaderValue::from_static("http://elsewhere/a/b?c=d");
        assert!(matches!(reply, LocalReply::Redirect { location: l, .. } if l == location));
        assert!(request.headers.is_empty());
    }
}
