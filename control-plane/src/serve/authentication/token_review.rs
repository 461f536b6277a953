//! Tokens of ServiceAccounts, judged by the API server.
//!
//! An agent's token is projected for our audience and bound to its pod, so the API
//! server says on which node it runs (KEP-4193), and refuses it once the pod is gone.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::PostParams;
use kube::{Api, Client};
use tonic::Status;

/// The claim that names the node, as TokenReview shows it.
const NODE: &str = "authentication.kubernetes.io/node-name";
/// Time for which a verdict is used again: an agent asks for many certificates at once.
const REMEMBERED: Duration = Duration::from_secs(10);
/// Verdicts that are remembered.
const MOST: usize = 4096;

/// Whose tokens are good.
#[derive(Clone, Debug)]
pub(crate) struct TokenReviewerOptions {
    /// The audience that a token must be meant for.
    pub(crate) audience: String,
    /// The agents' ServiceAccount, as `namespace/name`.
    pub(crate) service_account: String,
}

/// A reason to refuse a token.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum Refused {
    /// The API server doesn't accept it, or not for this audience.
    #[error(
        "the API server doesn't accept the token ({reason}); it has to be a ServiceAccount token \
         with audience `{audience}`, bound to a running pod"
    )]
    Token {
        /// The claim in it.
        reason: String,
        /// The claim that was wanted.
        audience: String,
    },
    /// Somebody else's.
    #[error("the token is of `{found}`; only `{expected}` may speak for a node")]
    ServiceAccount {
        /// Whose it is.
        found: String,
        /// Whose it should be.
        expected: String,
    },
    /// It is bound to no node.
    #[error(
        "the token isn't bound to a pod on a node; mount it by a projected volume \
         (Kubernetes 1.30 or newer says the node)"
    )]
    NoNode,
    /// Nobody could be asked.
    #[error("the API server can't review tokens: {0}")]
    Unavailable(String),
}

impl From<Refused> for Status {
    fn from(refused: Refused) -> Self {
        let message = refused.to_string();
        match refused {
            Refused::Token { .. } => Self::unauthenticated(message),
            Refused::ServiceAccount { .. } | Refused::NoNode => Self::permission_denied(message),
            Refused::Unavailable(_) => Self::unavailable(message),
        }
    }
}

type Verdict = Result<String, Refused>;
type Hash = [u8; 32];

/// Asks the API server, and remembers for a moment what it said.
pub(crate) struct TokenReviewer {
    api: Api<TokenReview>,
    options: TokenReviewerOptions,
    verdicts: Mutex<HashMap<Hash, (Instant, Verdict)>>,
}

impl TokenReviewer {
    pub(crate) fn new(client: Client, options: TokenReviewerOptions) -> Self {
        Self {
            api: Api::all(client),
            options,
            verdicts: Mutex::default(),
        }
    }

    /// The node that a token speaks for.
    ///
    /// # Errors
    /// Why it speaks for none.
    pub(super) async fn node_of(&self, token: &str) -> Verdict {
        // The token itself is worth stealing.
        let mut hash = Hash::default();
        hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        if let Some(verdict) = self.remembered(&hash) {
            return verdict;
        }
        let review = TokenReview {
            spec: TokenReviewSpec {
                audiences: Some(vec![self.options.audience.clone()]),
                token: token.to_owned(),
            },
            ..Default::default()
        };
        let answer = self.api.create(&PostParams::default(), &review).await;
        let answer = answer.map_err(|error| Refused::Unavailable(error.to_string()))?;
        let verdict = judge(answer.status.unwrap_or_default(), &self.options);
        let mut verdicts = self.lock();
        if verdicts.len() >= MOST {
            verdicts.retain(|_, (at, _)| at.elapsed() < REMEMBERED);
        }
        if verdicts.len() < MOST {
            verdicts.insert(hash, (Instant::now(), verdict.clone()));
        }
        verdict
    }

    fn remembered(&self, hash: &Hash) -> Option<Verdict> {
        let verdicts = self.lock();
        let (at, verdict) = verdicts.get(hash)?;
        (at.elapsed() < REMEMBERED).then(|| verdict.clone())
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Hash, (Instant, Verdict)>> {
        self.verdicts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The verdict that follows from an answer of the API server.
fn judge(status: TokenReviewStatus, options: &TokenReviewerOptions) -> Verdict {
    let refused = |reason: String| {
        Err(Refused::Token {
            reason,
            audience: options.audience.clone(),
        })
    };
    if !status.authenticated.unwrap_or(false) {
        return refused(
            status
                .error
                .unwrap_or_else(|| "not authenticated".to_owned()),
        );
    }
    // An API server that doesn't know audiences names none, and then has checked none.
    if !status
        .audiences
        .unwrap_or_default()
        .contains(&options.audience)
    {
        return refused("it is meant for others".to_owned());
    }
    let user = status.user.unwrap_or_default();
    let name = user.username.unwrap_or_default();
    let expected = options.service_account.replacen('/', ":", 1);
    if name != format!("system:serviceaccount:{expected}") {
        return Err(Refused::ServiceAccount {
            found: name,
            expected: options.service_account.clone(),
        });
    }
    let extra: BTreeMap<String, Vec<String>> = user.extra.unwrap_or_default();
    match extra.get(NODE).map(Vec::as_slice) {
        Some([node]) if !node.is_empty() => Ok(node.clone()),
        _ => Err(Refused::NoNode),
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::authentication::v1::UserInfo;

    use super::*;

    fn options() -> TokenReviewerOptions {
        TokenReviewerOptions {
            audience: "weft-control-plane".into(),
            service_account: "weft-system/weft-node-agent".into(),
        }
    }

    fn status() -> TokenReviewStatus {
        let extra = BTreeMap::from([(NODE.to_owned(), vec!["node-1".to_owned()])]);
        TokenReviewStatus {
            authenticated: Some(true),
            audiences: Some(vec!["weft-control-plane".into()]),
            error: None,
            user: Some(UserInfo {
                username: Some("system:serviceaccount:weft-system:weft-node-agent".into()),
                extra: Some(extra),
                ..Default::default()
            }),
        }
    }

    fn changed(change: impl FnOnce(&mut TokenReviewStatus)) -> Verdict {
        let mut status = status();
        change(&mut status);
        judge(status, &options())
    }

    #[test]
    fn an_agents_token_speaks_for_the_node_of_its_pod() {
        assert_eq!(judge(status(), &options()), Ok("node-1".to_owned()));
    }

    #[test]
    fn a_token_that_is_not_accepted_or_for_another_audience_is_refused() {
        let refused = changed(|status| status.authenticated = Some(false));
        assert!(matches!(refused, Err(Refused::Token { .. })), "{refused:?}");
        let refused = changed(|status| status.audiences = None);
        assert!(matches!(refused, Err(Refused::Token { .. })), "{refused:?}");
        let refused = changed(|status| status.audiences = Some(vec!["vault".into()]));
        assert!(matches!(refused, Err(Refused::Token { .. })), "{refused:?}");
    }

    #[test]
    fn another_service_account_is_refused() {
        for name in [
            "system:serviceaccount:shop:weft-node-agent",
            "system:serviceaccount:weft-system:default",
            "weft-system:weft-node-agent",
            "kubernetes-admin",
            "",
        ] {
            let refused = changed(|status| {
                status.user.as_mut().unwrap().username = Some(name.to_owned());
            });
            let is_right = matches!(refused, Err(Refused::ServiceAccount { .. }));
            assert!(is_right, "{name}: {refused:?}");
        }
    }

    #[test]
    fn a_token_without_a_node_is_refused() {
        let refused = changed(|status| status.user.as_mut().unwrap().extra = None);
        assert_eq!(refused, Err(Refused::NoNode));
        for nodes in [vec![], vec![String::new()], vec!["a".into(), "b".into()]] {
            let refused = changed(|status| {
                let extra = BTreeMap::from([(NODE.to_owned(), nodes)]);
                status.user.as_mut().unwrap().extra = Some(extra);
            });
            assert_eq!(refused, Err(Refused::NoNode));
        }
    }
}
