//! A request that a pod of this process has let in and that is under way.

use std::pin::Pin;
use std::sync::{Arc, Mutex, OnceLock};
use std::task::{Context, Poll, Waker};

use http::{HeaderMap, HeaderName, HeaderValue, Method};

use super::request_head::RequestHead;
use crate::memory::{HeldBytes, PodMemory};
use crate::sync::lock;
use crate::telemetry::{AuthorizationNote, RequestRecord};

/// A request that a pod of this process has let in and that is under way: its policies may revoke
/// it for as long as it lasts.
#[derive(Debug)]
pub(crate) struct RequestUnderWay {
    head: KeptHead,
    /// What policies said when they revoked it.
    revoked: OnceLock<AuthorizationNote>,
    /// Whoever carries it: one at a time.
    waker: Mutex<Option<Waker>>,
    #[allow(dead_code, reason = "held for its drop")]
    memory: HeldBytes,
}

/// A request that policies don't allow any more.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("AuthorizationPolicies have changed and don't allow the request any more")]
pub(crate) struct RequestRevoked;

/// The head of a request in as few bytes as it has: most are never looked at again.
#[derive(Debug)]
pub(crate) struct KeptHead {
    method: Method,
    /// Path, host, and name and value of each header.
    bytes: Box<[u8]>,
    /// Their lengths.
    lengths: Box<[u32]>,
}

/// The same, to be looked at.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RestoredHead {
    method: Method,
    path: String,
    host: String,
    headers: HeaderMap,
}

impl RequestUnderWay {
    /// A request of which nothing was sent yet, to a pod that holds its head.
    pub(crate) fn new(head: &RequestHead<'_>, pod: &Arc<PodMemory>) -> Self {
        let head = KeptHead::from(head);
        Self {
            memory: pod.hold(head.bytes.len()),
            head,
            revoked: OnceLock::new(),
            waker: Mutex::default(),
        }
    }

    /// Its head, as policies see it.
    pub(crate) fn head(&self) -> &KeptHead {
        &self.head
    }

    /// Policies don't allow it any more; the first time counts.
    pub(crate) fn revoke(&self, said: AuthorizationNote) {
        let _ = self.revoked.set(said);
        if let Some(waker) = lock(&self.waker).take() {
            waker.wake();
        }
    }

    /// Whether policies have revoked it.
    pub(crate) fn is_revoked(&self) -> bool {
        self.revoked.get().is_some()
    }

    /// Writes down in its record what policies said when they revoked it.
    pub(crate) fn note_revocation(&self, record: &mut RequestRecord) {
        if let Some(said) = self.revoked.get() {
            record.set_authorization(said.clone());
        }
    }

    /// Ready when policies revoke it. The last that asks is woken.
    pub(crate) fn poll_revoked(&self, context: &Context<'_>) -> Poll<()> {
        match &mut *lock(&self.waker) {
            Some(waker) => waker.clone_from(context.waker()),
            none => *none = Some(context.waker().clone()),
        }
        // Looked at last, nothing is missed.
        match self.is_revoked() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }

    /// The output of a future; nothing where policies revoke the request first. As small as can be:
    /// every request pays for its size.
    pub(crate) fn unless_revoked<'a, F: Future>(
        request: Option<&'a Arc<Self>>,
        mut future: Pin<&'a mut F>,
    ) -> impl Future<Output = Option<F::Output>> + use<'a, F> {
        std::future::poll_fn(move |context| {
            if request.is_some_and(|request| request.poll_revoked(context).is_ready()) {
                return Poll::Ready(None);
            }
            future.as_mut().poll(context).map(Some)
        })
    }

    /// Resolves when policies revoke a request; never where none can.
    pub(crate) async fn revoked(request: Option<&Arc<Self>>) {
        match request {
            Some(request) => std::future::poll_fn(|context| request.poll_revoked(context)).await,
            None => std::future::pending().await,
        }
    }
}

impl From<&RequestHead<'_>> for KeptHead {
    fn from(head: &RequestHead<'_>) -> Self {
        let texts = || {
            let headers = head.headers.iter();
            let headers = headers.flat_map(|(name, value)| [name.as_ref(), value.as_bytes()]);
            [head.path.as_bytes(), head.host.as_bytes()]
                .into_iter()
                .chain(headers)
        };
        let mut bytes = Vec::with_capacity(texts().map(<[u8]>::len).sum());
        let mut lengths = Vec::with_capacity(2 + 2 * head.headers.len());
        for text in texts() {
            bytes.extend_from_slice(text);
            lengths.push(u32::try_from(text.len()).unwrap_or(u32::MAX));
        }
        Self {
            method: head.method.clone(),
            bytes: bytes.into(),
            lengths: lengths.into(),
        }
    }
}

impl KeptHead {
    /// The head as it was. Nothing where it can't be read any more, which doesn't happen.
    pub(crate) fn restore(&self) -> Option<RestoredHead> {
        let mut rest = &*self.bytes;
        let mut texts = self.lengths.iter().map_while(|length| {
            let (text, after) = rest.split_at_checked(usize::try_from(*length).ok()?)?;
            rest = after;
            Some(text)
        });
        let path = String::from_utf8(texts.next()?.to_vec()).ok()?;
        let host = String::from_utf8(texts.next()?.to_vec()).ok()?;
        let mut headers = HeaderMap::with_capacity(self.lengths.len() / 2);
        while let Some(name) = texts.next() {
            let name = HeaderName::from_bytes(name).ok()?;
            headers.append(name, HeaderValue::from_bytes(texts.next()?).ok()?);
        }
        Some(RestoredHead {
            method: self.method.clone(),
            path,
            host,
            headers,
        })
    }
}

impl RestoredHead {
    /// The same, as it is decided about.
    pub(crate) fn as_head(&self) -> RequestHead<'_> {
        RequestHead {
            method: &self.method,
            path: &self.path,
            host: &self.host,
            headers: &self.headers,
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_head_is_kept_as_it_is(
            path in ".{0,20}",
            host in "[a-z.]{0,20}",
            fields in prop::collection::vec(("[a-z][a-z-]{0,9}", "[ -~]{0,20}"), 0..9),
        ) {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                let name: HeaderName = name.parse().unwrap();
                headers.append(name, HeaderValue::from_str(&value).unwrap());
            }
            let head = RequestHead {
                method: &Method::PATCH,
                path: &path,
                host: &host,
                headers: &headers,
            };
            let restored = KeptHead::from(&head).restore().unwrap();
            let expected = RestoredHead {
                method: Method::PATCH,
                path: path.clone(),
                host: host.clone(),
                headers: headers.clone(),
            };
            prop_assert_eq!(restored, expected);
        }
    }
}
