//! Pages by path, and what each shows.

use std::fmt;
use std::sync::Arc;

use http::{Method, StatusCode};
use serde::Serialize;

use crate::readiness::Readiness;

/// Media type of OpenMetrics.
pub(crate) const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The status and the text of a page.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) kind: &'static str,
    pub(crate) body: String,
}

impl Answer {
    /// Text for people.
    pub fn text(status: StatusCode, body: impl Into<String>) -> Self {
        Self {
            status,
            kind: "text/plain; charset=utf-8",
            body: body.into(),
        }
    }

    /// An object for people and scripts, indented.
    pub fn json(value: &impl Serialize) -> Self {
        match serde_json::to_string_pretty(value) {
            Ok(text) => Self {
                status: StatusCode::OK,
                kind: "application/json",
                body: text + "\n",
            },
            Err(error) => Self::text(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}\n")),
        }
    }
}

type Show = Arc<dyn Fn() -> Answer + Send + Sync>;
type Ask = Arc<dyn Fn(&str) -> Answer + Send + Sync>;
/// Writes metrics in the OpenMetrics format, with its `# EOF`.
pub(crate) type WriteText = Arc<dyn Fn(&mut dyn fmt::Write) -> fmt::Result + Send + Sync>;

/// The content of a page, by how much work it is.
#[derive(Clone)]
pub(crate) enum Content {
    /// There at once.
    Short(Show),
    /// It grows with the mesh: made on a thread that may take its time.
    Long(Show),
    /// The same, about what the query asks for.
    Asked(Ask),
    /// The same for metrics, which are sent while they are written.
    Metrics(WriteText),
    /// Something happens, by POST.
    Action(Show),
}

/// Pages by path.
#[derive(Clone, Default)]
pub struct Pages(Vec<(&'static str, Content)>);

impl fmt::Debug for Pages {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set()
            .entries(self.0.iter().map(|(path, _)| path))
            .finish()
    }
}

impl Pages {
    /// `/healthz`, which says that the process answers, and `/readyz`.
    pub fn new(readiness: Arc<Readiness>) -> Self {
        let health = || Answer::text(StatusCode::OK, "ok\n");
        let ready = move || {
            let status = if readiness.is_ready() {
                StatusCode::OK
            } else {
                StatusCode::SERVICE_UNAVAILABLE
            };
            Answer::text(status, readiness.describe())
        };
        Self::default()
            .add("/healthz", Content::Short(Arc::new(health)))
            .add("/readyz", Content::Short(Arc::new(ready)))
    }

    /// These, and one more, which may be long. Its content is asked for at each request.
    #[must_use]
    pub fn with(
        self,
        path: &'static str,
        show: impl Fn() -> Answer + Send + Sync + 'static,
    ) -> Self {
        self.add(path, Content::Long(Arc::new(show)))
    }

    /// These, and one more, which may be long and is about what the request's query asks for:
    /// that is given as it came.
    #[must_use]
    pub fn with_query(
        self,
        path: &'static str,
        show: impl Fn(&str) -> Answer + Send + Sync + 'static,
    ) -> Self {
        self.add(path, Content::Asked(Arc::new(show)))
    }

    /// These, and one with metrics in the OpenMetrics format. The writer waits for its
    /// reader: it holds no lock that others need.
    #[must_use]
    pub fn with_metrics(
        self,
        path: &'static str,
        write: impl Fn(&mut dyn fmt::Write) -> fmt::Result + Send + Sync + 'static,
    ) -> Self {
        self.add(path, Content::Metrics(Arc::new(write)))
    }

    /// These, and one that does something when it is posted to, at once.
    #[must_use]
    pub fn with_action(
        self,
        path: &'static str,
        act: impl Fn() -> Answer + Send + Sync + 'static,
    ) -> Self {
        self.add(path, Content::Action(Arc::new(act)))
    }

    fn add(mut self, path: &'static str, content: Content) -> Self {
        self.0.push((path, content));
        self
    }

    /// The page that such a request gets; what refuses it where there is none.
    pub(crate) fn find(&self, method: &Method, path: &str) -> Result<Content, Answer> {
        let found = self.0.iter().find(|(known, _)| *known == path);
        let refused = |text| Err(Answer::text(StatusCode::METHOD_NOT_ALLOWED, text));
        let is_read = method == Method::GET || method == Method::HEAD;
        match found {
            Some((_, Content::Action(_))) if method != Method::POST => refused("only POST\n"),
            Some((_, Content::Action(act))) => Ok(Content::Action(Arc::clone(act))),
            _ if !is_read => refused("only GET\n"),
            Some((_, content)) => Ok(content.clone()),
            None => {
                let known: Vec<_> = self.0.iter().map(|(path, _)| *path).collect();
                let text = format!("there are {}\n", known.join(" "));
                Err(Answer::text(StatusCode::NOT_FOUND, text))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(pages: &Pages, method: &Method, path: &str) -> Answer {
        match pages.find(method, path) {
            Ok(Content::Short(show) | Content::Long(show) | Content::Action(show)) => show(),
            Ok(Content::Asked(show)) => show(""),
            Ok(Content::Metrics(_)) => panic!("{path} shows metrics"),
            Err(refusal) => refusal,
        }
    }

    #[test]
    fn readiness_is_told_by_status_and_in_words() {
        let readiness = Arc::new(Readiness::default());
        readiness.unmet("configuration", "nothing came yet");
        let pages = Pages::new(Arc::clone(&readiness));
        let unready = answer(&pages, &Method::GET, "/readyz");
        assert_eq!(unready.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(unready.body, "configuration: nothing came yet\n");
        readiness.met("configuration");
        let ready = answer(&pages, &Method::GET, "/readyz");
        assert_eq!(ready.status, StatusCode::OK);
    }

    #[test]
    fn an_action_is_posted_and_reading_its_page_does_nothing() {
        let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
        let act = Arc::clone(&done);
        let pages = Pages::new(Arc::default()).with_action("/drain", move || {
            act.store(true, std::sync::atomic::Ordering::Relaxed);
            Answer::json(&"draining")
        });
        let read = answer(&pages, &Method::GET, "/drain");
        assert_eq!(read.status, StatusCode::METHOD_NOT_ALLOWED);
        assert!(!done.load(std::sync::atomic::Ordering::Relaxed));
        assert_eq!(
            answer(&pages, &Method::POST, "/drain").status,
            StatusCode::OK
        );
        assert!(done.load(std::sync::atomic::Ordering::Relaxed));
    }

    #[test]
    fn an_unknown_page_names_those_there_are_and_nothing_is_changed_by_any() {
        let pages = Pages::new(Arc::default()).with("/config", || Answer::json(&[1]));
        let unknown = answer(&pages, &Method::GET, "/");
        assert_eq!(unknown.status, StatusCode::NOT_FOUND);
        assert_eq!(unknown.body, "there are /healthz /readyz /config\n");
        let posted = answer(&pages, &Method::POST, "/config");
        assert_eq!(posted.status, StatusCode::METHOD_NOT_ALLOWED);
    }
}
