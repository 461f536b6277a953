//! Who a workload is: SPIFFE IDs (<https://spiffe.io>, SPIFFE-ID section 2).

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// Longest SPIFFE ID, in bytes (SPIFFE-ID section 2.3).
const LONGEST_ID: usize = 2048;
/// Longest trust domain, in bytes (SPIFFE-ID section 2.1).
const LONGEST_TRUST_DOMAIN: usize = 255;

/// The reason why a text is not an identity.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidIdentity {
    /// Not `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`.
    #[error("`{0}` is not of the form spiffe://<trust domain>/ns/<namespace>/sa/<service account>")]
    Form(String),
    /// The trust domain has a character that SPIFFE does not allow, or is empty or too long.
    #[error("`{0}` is not a trust domain: use 1 to 255 of a-z, 0-9, '.', '-' and '_'")]
    TrustDomain(String),
    /// A namespace or service account that no Kubernetes object can have.
    #[error("`{0}` is not a Kubernetes name: use a-z, 0-9, '-' and '.', 1 to 253 of them")]
    Name(String),
}

/// The realm whose root of trust vouches for an identity, such as `cluster.local`.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct TrustDomain(Arc<str>);

impl TrustDomain {
    /// The name, lower case.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for TrustDomain {
    type Err = InvalidIdentity;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let allowed =
            |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_');
        if text.is_empty() || text.len() > LONGEST_TRUST_DOMAIN || !text.bytes().all(allowed) {
            return Err(InvalidIdentity::TrustDomain(text.to_owned()));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for TrustDomain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The identity of a workload: its Kubernetes service account in a trust domain.
///
/// Its text is `spiffe://<trust domain>/ns/<namespace>/sa/<service account>`, the
/// form that Istio made common, so that certificates of either mesh are understood.
///
/// ```
/// use weft_model::SpiffeId;
///
/// let id: SpiffeId = "spiffe://cluster.local/ns/shop/sa/cart".parse()?;
/// assert_eq!((id.namespace(), id.service_account()), ("shop", "cart"));
/// assert_eq!(id, SpiffeId::new("cluster.local".parse()?, "shop", "cart")?);
/// assert!("spiffe://cluster.local/ns/shop/sa/cart/extra".parse::<SpiffeId>().is_err());
/// # Ok::<(), weft_model::identity::InvalidIdentity>(())
/// ```
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct SpiffeId {
    trust_domain: TrustDomain,
    namespace: Arc<str>,
    service_account: Arc<str>,
}

impl SpiffeId {
    /// An identity from its parts.
    ///
    /// # Errors
    /// When the namespace or the service account is not a Kubernetes name.
    pub fn new(
        trust_domain: TrustDomain,
        namespace: &str,
        service_account: &str,
    ) -> Result<Self, InvalidIdentity> {
        Ok(Self {
            trust_domain,
            namespace: kubernetes_name(namespace)?,
            service_account: kubernetes_name(service_account)?,
        })
    }

    /// The trust domain that vouches for it.
    pub fn trust_domain(&self) -> &TrustDomain {
        &self.trust_domain
    }

    /// The Kubernetes namespace.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The Kubernetes service account.
    pub fn service_account(&self) -> &str {
        &self.service_account
    }
}

impl FromStr for SpiffeId {
    type Err = InvalidIdentity;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let form = || InvalidIdentity::Form(text.chars().take(128).collect());
        if text.len() > LONGEST_ID {
            return Err(form());
        }
        let rest = text.strip_prefix("spiffe://").ok_or_else(form)?;
        let mut parts = rest.split('/');
        let (domain, ns, namespace, sa, service_account) = (
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
            parts.next(),
        );
        match (domain, ns, namespace, sa, service_account, parts.next()) {
            (Some(domain), Some("ns"), Some(namespace), Some("sa"), Some(account), None) => {
                Self::new(domain.parse()?, namespace, account)
            }
            _ => Err(form()),
        }
    }
}

impl fmt::Display for SpiffeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            trust_domain,
            namespace,
            service_account,
        } = self;
        write!(
            f,
            "spiffe://{trust_domain}/ns/{namespace}/sa/{service_account}"
        )
    }
}

/// Namespaces are DNS labels and service accounts DNS subdomains (RFC 1123);
/// the wider of the two is what matters to keep an ID unambiguous.
fn kubernetes_name(text: &str) -> Result<Arc<str>, InvalidIdentity> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    let edges = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    let valid = (1..=253).contains(&bytes.len())
        && bytes.iter().copied().all(allowed)
        && bytes.first().is_some_and(edges)
        && bytes.last().is_some_and(edges);
    if valid {
        Ok(text.into())
    } else {
        Err(InvalidIdentity::Name(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn parses_the_usual_form() {
        let id: SpiffeId = "spiffe://cluster.local/ns/shop/sa/cart".parse().unwrap();
        assert_eq!(id.trust_domain().as_str(), "cluster.local");
        assert_eq!((id.namespace(), id.service_account()), ("shop", "cart"));
    }

    #[test]
    fn refuses_what_could_be_taken_for_someone_else() {
        for text in [
            "spiffe://cluster.local/ns/shop/sa/cart/",
            "spiffe://cluster.local/ns/shop/sa/cart/extra",
            "spiffe://cluster.local/ns//sa/cart",
            "spiffe://cluster.local/ns/shop/sa/",
            "spiffe:///ns/shop/sa/cart",
            "spiffe://Cluster.local/ns/shop/sa/cart",
            "spiffe://cluster.local/ns/shop/sa/..",
            "spiffe://cluster.local/ns/sh%2fop/sa/cart",
            "https://cluster.local/ns/shop/sa/cart",
            "spiffe://cluster.local/sa/cart/ns/shop",
            "spiffe://cluster.local:443/ns/shop/sa/cart",
            "spiffe://user@cluster.local/ns/shop/sa/cart",
            " spiffe://cluster.local/ns/shop/sa/cart",
        ] {
            assert!(text.parse::<SpiffeId>().is_err(), "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_round_trips(
            domain in "[a-z0-9._-]{1,40}",
            namespace in "[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?",
            account in "[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?",
        ) {
            let id = SpiffeId::new(domain.parse().unwrap(), &namespace, &account).unwrap();
            prop_assert_eq!(id.to_string().parse::<SpiffeId>().unwrap(), id);
        }

        #[test]
        fn no_text_panics(text in ".{0,80}") {
            let _ = text.parse::<SpiffeId>();
        }

        #[test]
        fn whatever_parses_prints_as_it_was(text in "spiffe://[a-z.]{0,4}/ns/[a-z./]{0,4}/sa/[a-z./]{0,4}") {
            if let Ok(id) = text.parse::<SpiffeId>() {
                prop_assert_eq!(id.to_string(), text);
            }
        }
    }
}
