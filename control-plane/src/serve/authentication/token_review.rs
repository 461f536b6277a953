//! Tokens of ServiceAccounts, judged by the API server.
//!
//! A token is projected for our audience and bound to a pod, so the API server says which pod
//! that is and on which node it runs (KEP-4193), and refuses it once the pod is gone. The agents'
//! ServiceAccount speaks for the node; any other for the one pod, whose sidecar it is.

use std::collections::BTreeMap;
use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{SHA256, digest};
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::api::PostParams;
use kube::{Api, Client};
use tokio::sync::Semaphore;
use tonic::Status;

use weft_model::NamespacedName;
use weft_model::workload::WorkloadUid;

use super::claims::Claims;
use super::principal::{PodPrincipal, Principal};

/// The claim that names the node, as TokenReview shows it.
const NODE: &str = "authentication.kubernetes.io/node-name";
/// The claims that name the pod.
const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
/// The beginning of the names that ServiceAccounts have as users.
const SERVICE_ACCOUNT: &str = "system:serviceaccount:";
/// Time for which a verdict is used again: an agent asks for many certificates at once.
const REMEMBERED: Duration = Duration::from_secs(10);
/// Time for which a token that was good doesn't queue up with those of strangers.
const KNOWN: Duration = Duration::from_secs(3600);
/// Verdicts of either kind that are remembered.
const MOST: usize = 4096;
/// Reviews that are under way at once for tokens that were good before, and for others.
const REVIEWS: usize = 8;
/// Time limit of a review with the wait for its turn.
const REVIEW_WITHIN: Duration = Duration::from_secs(10);

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
    /// Of somebody who is no ServiceAccount.
    #[error("the token is of `{found}`, which is no ServiceAccount")]
    ServiceAccount {
        /// Whose it is.
        found: String,
    },
    /// Of a ServiceAccount that isn't the agents', and bound to no pod.
    #[error(
        "the token is of `{found}` and bound to no pod; only `{expected}` may speak for a node, and \
         a pod's own token, mounted by a projected volume, for that pod"
    )]
    NoPod {
        /// Whose it is.
        found: String,
        /// Whose it should be to speak for a node.
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
            Refused::ServiceAccount { .. } | Refused::NoPod { .. } | Refused::NoNode => {
                Self::permission_denied(message)
            }
            Refused::Unavailable(_) => Self::unavailable(message),
        }
    }
}

type Verdict = Result<Principal, Refused>;
type Hash = [u8; 32];

/// Asks the API server, and remembers for a moment what it said.
pub(crate) struct TokenReviewer {
    api: Api<TokenReview>,
    options: TokenReviewerOptions,
    verdicts: Mutex<Verdicts>,
    /// Turns of tokens that were good before: a flood of others must not stand in their way.
    known: Semaphore,
    /// Turns of others.
    unknown: Semaphore,
}

/// Verdicts of a while. Bad ones take no room from good ones.
#[derive(Debug, Default)]
struct Verdicts {
    good: HashMap<Hash, (Instant, Principal)>,
    bad: HashMap<Hash, (Instant, Refused)>,
}

impl Verdicts {
    /// One that still counts.
    fn get(&self, hash: &Hash) -> Option<Verdict> {
        if let Some((at, node)) = self.good.get(hash) {
            return (at.elapsed() < REMEMBERED).then(|| Ok(node.clone()));
        }
        let (at, refused) = self.bad.get(hash)?;
        (at.elapsed() < REMEMBERED).then(|| Err(refused.clone()))
    }

    /// The token was good not long ago.
    fn knows(&self, hash: &Hash) -> bool {
        let known = self.good.get(hash);
        known.is_some_and(|(at, _)| at.elapsed() < KNOWN)
    }

    fn insert(&mut self, hash: Hash, verdict: Verdict) {
        let now = Instant::now();
        match verdict {
            Ok(node) => {
                if self.good.len() >= MOST {
                    self.good.retain(|_, (at, _)| at.elapsed() < REMEMBERED);
                }
                if self.good.len() < MOST {
                    self.good.insert(hash, (now, node));
                }
            }
            Err(refused) => {
                self.good.remove(&hash);
                if self.bad.len() >= MOST {
                    self.bad.retain(|_, (at, _)| at.elapsed() < REMEMBERED);
                }
                if self.bad.len() < MOST {
                    self.bad.insert(hash, (now, refused));
                }
            }
        }
    }
}

impl TokenReviewer {
    pub(crate) fn new(client: Client, options: TokenReviewerOptions) -> Self {
        Self {
            api: Api::all(client),
            options,
            verdicts: Mutex::default(),
            known: Semaphore::new(REVIEWS),
            unknown: Semaphore::new(REVIEWS),
        }
    }

    /// The one that a token speaks for.
    ///
    /// # Errors
    /// Why it speaks for nobody.
    pub(super) async fn principal_of(&self, token: &str) -> Verdict {
        // The token itself is worth stealing.
        let mut hash = Hash::default();
        hash.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
        let now = jiff::Timestamp::now().as_second();
        looks_like_ours(token, &self.options, now)?;
        let (verdict, is_known) = {
            let verdicts = self.lock();
            (verdicts.get(&hash), verdicts.knows(&hash))
        };
        if let Some(verdict) = verdict {
            return verdict;
        }
        let turns = if is_known { &self.known } else { &self.unknown };
        let reviewed = async {
            // It is never closed.
            let _turn = turns.acquire().await;
            // Another call may have asked meanwhile.
            match self.remembered(&hash) {
                Some(verdict) => verdict,
                None => self.review(token, hash).await,
            }
        };
        let reviewed = tokio::time::timeout(REVIEW_WITHIN, reviewed).await;
        reviewed.unwrap_or_else(|_| Err(Refused::Unavailable("too many tokens wait".to_owned())))
    }

    async fn review(&self, token: &str, hash: Hash) -> Verdict {
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
        self.lock().insert(hash, verdict.clone());
        verdict
    }

    fn remembered(&self, hash: &Hash) -> Option<Verdict> {
        self.lock().get(hash)
    }

    fn lock(&self) -> MutexGuard<'_, Verdicts> {
        self.verdicts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Refuses what the API server need not be asked about.
///
/// # Errors
/// What it can't be an agent's or a sidecar's token for.
fn looks_like_ours(token: &str, options: &TokenReviewerOptions, now: i64) -> Result<(), Refused> {
    let refused = |reason: &str| Refused::Token {
        reason: reason.to_owned(),
        audience: options.audience.clone(),
    };
    let claims = Claims::of(token).ok_or_else(|| refused("it is no ServiceAccount token"))?;
    if !claims.is_for(&options.audience) {
        return Err(refused("it is meant for others"));
    }
    if claims.has_expired(now) {
        return Err(refused("it has expired"));
    }
    match service_account(claims.subject()) {
        Some(_) => Ok(()),
        None => Err(Refused::ServiceAccount {
            found: claims.subject().chars().take(200).collect(),
        }),
    }
}

/// The ServiceAccount that a user is.
fn service_account(user: &str) -> Option<NamespacedName> {
    let (namespace, name) = user.strip_prefix(SERVICE_ACCOUNT)?.split_once(':')?;
    let is_one = !namespace.is_empty() && !name.is_empty() && !name.contains(':');
    is_one.then(|| NamespacedName::new(namespace, name))
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
    let extra: BTreeMap<String, Vec<String>> = user.extra.unwrap_or_default();
    let claim = |name| match extra.get(name).map(Vec::as_slice) {
        Some([value]) if !value.is_empty() => Some(value.as_str()),
        _ => None,
    };
    let Some(account) = service_account(&name) else {
        return Err(Refused::ServiceAccount { found: name });
    };
    if account.to_string() == options.service_account {
        let node = claim(NODE).ok_or(Refused::NoNode)?.to_owned();
        return Ok(Principal::Agent { node });
    }
    let (Some(pod), Some(uid)) = (claim(POD_NAME), claim(POD_UID)) else {
        return Err(Refused::NoPod {
            found: account.to_string(),
            expected: options.service_account.clone(),
        });
    };
    Ok(Principal::Sidecar(PodPrincipal {
        name: NamespacedName::new(&account.namespace, pod),
        uid: Some(WorkloadUid::from(uid)),
        service_account: Some(account.name.to_string()),
    }))
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::URL_SAFE_NO_PAD;
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
        assert_eq!(judge(status(), &options()), Ok(agent("node-1")));
    }

    fn agent(node: &str) -> Principal {
        let node = node.to_owned();
        Principal::Agent { node }
    }

    /// The status of a token of another ServiceAccount, with these claims.
    fn of_pod(claims: &[(&str, &str)]) -> Verdict {
        changed(|status| {
            let user = status.user.as_mut().unwrap();
            user.username = Some("system:serviceaccount:shop:web".to_owned());
            let claims = claims.iter();
            let claims =
                claims.map(|(name, value)| ((*name).to_owned(), vec![(*value).to_owned()]));
            user.extra = Some(claims.collect());
        })
    }

    #[test]
    fn a_pods_own_token_speaks_for_that_pod_alone() {
        let verdict = of_pod(&[(POD_NAME, "web-1"), (POD_UID, "u-1"), (NODE, "node-1")]);
        let Ok(Principal::Sidecar(pod)) = verdict else {
            panic!("{verdict:?}");
        };
        assert_eq!(pod.name, NamespacedName::new("shop", "web-1"));
        assert!(pod.has_uid(&"u-1".into()) && !pod.has_uid(&"u-2".into()));
        let identity = |text: &str| format!("spiffe://cluster.local/{text}").parse().unwrap();
        assert!(pod.may_be(&identity("ns/shop/sa/web")));
        for other in ["ns/shop/sa/api", "ns/bank/sa/web"] {
            assert!(!pod.may_be(&identity(other)), "{other}");
        }
    }

    #[test]
    fn a_token_that_is_bound_to_no_pod_speaks_for_nobody() {
        for claims in [
            &[][..],
            &[(NODE, "node-1")],
            &[(POD_NAME, "web-1")],
            &[(POD_UID, "u-1")],
            &[(POD_NAME, ""), (POD_UID, "u-1")],
        ] {
            let refused = of_pod(claims);
            assert!(
                matches!(refused, Err(Refused::NoPod { .. })),
                "{claims:?}: {refused:?}"
            );
        }
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
    fn whoever_is_no_service_account_is_refused() {
        for name in [
            "weft-system:weft-node-agent",
            "system:serviceaccount:weft-node-agent",
            "system:serviceaccount:weft-system:weft:node-agent",
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
    fn another_service_account_of_that_name_speaks_for_no_node() {
        for name in [
            "system:serviceaccount:shop:weft-node-agent",
            "system:serviceaccount:weft-system:default",
        ] {
            let refused = changed(|status| {
                status.user.as_mut().unwrap().username = Some(name.to_owned());
            });
            let is_right = matches!(refused, Err(Refused::NoPod { .. }));
            assert!(is_right, "{name}: {refused:?}");
        }
    }

    fn token(account: &str, audience: &str, exp: i64) -> String {
        let account = format!("system:serviceaccount:weft-system:{account}");
        let claims = serde_json::json!({ "sub": account, "aud": [audience], "exp": exp });
        let encode = |text: &str| URL_SAFE_NO_PAD.encode(text);
        format!("{}.{}.c2ln", encode("{}"), encode(&claims.to_string()))
    }

    #[tokio::test]
    async fn the_api_server_is_asked_only_about_what_may_be_a_good_token() {
        // Nobody answers there.
        let address = "http://127.0.0.1:1".parse().unwrap();
        let client = Client::try_from(kube::Config::new(address)).unwrap();
        let reviewer = TokenReviewer::new(client, options());
        let (agent, audience, far) = ("weft-node-agent", "weft-control-plane", 1 << 40);
        let asked = reviewer.principal_of(&token(agent, audience, far)).await;
        assert!(matches!(asked, Err(Refused::Unavailable(_))), "{asked:?}");
        let large = "x".repeat(1 << 20);
        for not_asked in [
            token("other:one", audience, far),
            token(agent, "vault", far),
            token(agent, audience, 1000),
            "opaque".to_owned(),
            large,
        ] {
            let refused = reviewer.principal_of(&not_asked).await;
            assert!(
                matches!(
                    refused,
                    Err(Refused::Token { .. } | Refused::ServiceAccount { .. })
                ),
                "{refused:?}"
            );
        }
    }

    #[test]
    fn bad_tokens_take_no_room_from_good_ones() {
        let mut verdicts = Verdicts::default();
        let hash = |number: usize| {
            let mut hash = Hash::default();
            hash[..8].copy_from_slice(&number.to_le_bytes());
            hash
        };
        for number in 0..MOST + 10 {
            verdicts.insert(hash(number), Err(Refused::NoNode));
        }
        assert_eq!(verdicts.bad.len(), MOST);
        let good = hash(MOST * 2);
        verdicts.insert(good, Ok(self::agent("node-1")));
        assert_eq!(verdicts.get(&good), Some(Ok(self::agent("node-1"))));
        assert!(verdicts.knows(&good) && !verdicts.knows(&hash(0)));
        verdicts.insert(good, Err(Refused::NoNode));
        assert!(!verdicts.knows(&good));
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
