//! What a rule does to a request before it is sent on, and to its response. Pure.

use http::header::ORIGIN;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method, Uri};
use hyper::ext::Protocol;
use weft_model::route::Filter;
use weft_model::route::filter::{Mirror, Redirect, RequestTarget as AskedFor, Rewrite};
use weft_model::route::matching::PathMatch;

use super::answer::Answer;

/// A request on its way, as rules change it.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    /// Its method.
    pub(crate) method: Method,
    /// Its target.
    pub(crate) target: Uri,
    /// `host` or `host:port`.
    pub(crate) authority: String,
    /// Its fields.
    pub(crate) headers: HeaderMap,
    /// Of an extended CONNECT (RFC 8441).
    pub(crate) protocol: Option<Protocol>,
}

/// What the client asked for, which redirects and prefixes are made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Original<'a> {
    /// Host name, without port.
    pub(crate) host: &'a str,
    /// The port that the client's connection was made to.
    pub(crate) port: u16,
    /// The path that matched.
    pub(crate) matched: &'a PathMatch,
}

/// Takes a rule's or a backend's steps in their order.
///
/// # Errors
/// The answer, where one of them answers.
pub(crate) fn apply(
    filters: &[Filter],
    original: Original<'_>,
    outgoing: &mut Outgoing,
) -> Result<(), Answer> {
    for filter in filters {
        match filter {
            Filter::RequestHeaders(modifier) => modifier.apply(&mut outgoing.headers),
            Filter::Redirect(filter) => return Err(redirect(filter, original, &outgoing.target)),
            Filter::Rewrite(filter) => rewrite(filter, original, outgoing)?,
            Filter::Cors(cors) => {
                if let Some(answer) = cors.preflight(&outgoing.method, &outgoing.headers) {
                    return Err(Answer::Preflight(Box::new(answer)));
                }
            }
            Filter::ResponseHeaders(_) | Filter::Mirror(_) => {}
        }
    }
    Ok(())
}

/// What steps do to a response. `origin` is the request's, as it came.
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

/// The request's `Origin`, where a step asks for it.
pub(crate) fn origin(filters: &[Filter], headers: &HeaderMap) -> Option<HeaderValue> {
    let asked = filters
        .iter()
        .any(|filter| matches!(filter, Filter::Cors(_)));
    headers.get(ORIGIN).filter(|_| asked).cloned()
}

/// The copies that steps ask for.
pub(crate) fn mirrors(filters: &[Filter]) -> impl Iterator<Item = &Mirror> {
    filters.iter().filter_map(|filter| match filter {
        Filter::Mirror(mirror) => Some(mirror),
        _ => None,
    })
}

fn redirect(filter: &Redirect, original: Original<'_>, target: &Uri) -> Answer {
    let asked = AskedFor {
        host: original.host,
        port: original.port,
        path: target.path(),
        query: target.query(),
    };
    match HeaderValue::try_from(filter.location(&asked, original.matched)) {
        Ok(location) => Answer::Redirect {
            status: filter.status,
            location,
        },
        Err(_) => Answer::BadRequest("the redirect would lead to a place that no field can name"),
    }
}

fn rewrite(
    filter: &Rewrite,
    original: Original<'_>,
    outgoing: &mut Outgoing,
) -> Result<(), Answer> {
    if let Some(hostname) = filter.hostname.as_ref().and_then(|name| name.to_str().ok()) {
        hostname.clone_into(&mut outgoing.authority);
    }
    let Some(path) = &filter.path else {
        return Ok(());
    };
    let mut path = path.apply(outgoing.target.path(), original.matched);
    if let Some(query) = outgoing.target.query() {
        path.push('?');
        path.push_str(query);
    }
    let path = PathAndQuery::try_from(path)
        .map_err(|_| Answer::BadRequest("the rewritten path is none"))?;
    let mut parts = std::mem::take(&mut outgoing.target).into_parts();
    parts.path_and_query = Some(path);
    outgoing.target =
        Uri::from_parts(parts).map_err(|_| Answer::BadRequest("the rewritten target is none"))?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use weft_model::route::filter::{HeaderModifier, PathModifier};

    fn outgoing(target: &str) -> Outgoing {
        Outgoing {
            method: Method::GET,
            target: target.parse().unwrap(),
            authority: "web".into(),
            headers: HeaderMap::new(),
            protocol: None,
        }
    }

    #[test]
    fn steps_are_taken_in_their_order_and_a_redirect_ends_them() {
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
        let original = Original {
            host: "web",
            port: 80,
            matched: &matched,
        };
        let mut request = outgoing("/a/b?c=d");
        apply(&[rewrite("/x"), set.clone()], original, &mut request).unwrap();
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
        let answer = apply(&[redirect, set], original, &mut request).unwrap_err();
        let location = HeaderValue::from_static("http://elsewhere/a/b?c=d");
        assert!(matches!(answer, Answer::Redirect { location: l, .. } if l == location));
        assert!(request.headers.is_empty());
    }
}
