//! What the certificate authority sent back, checked before anybody uses it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::RootCertStore;
use rustls::sign::{CertifiedKey, SigningKey};
use rustls_pki_types::{CertificateDer, UnixTime};
use webpki::{EndEntityCert, KeyUsage};
use weft_model::SpiffeId;
use weft_model::identity::InvalidIdentity;
use weft_proto::v1;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::certificate::Certificate;

/// Why an issued certificate is not used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum IssuedError {
    /// The answer holds no certificate.
    #[error("the answer holds no certificate")]
    Empty,
    /// The answer holds no root.
    #[error("the answer holds no root certificate")]
    NoRoots,
    /// A certificate doesn't parse.
    #[error("the {what} is not an X.509 certificate: {reason}")]
    Unreadable {
        /// Which one.
        what: &'static str,
        /// What the parser said.
        reason: String,
    },
    /// It is for somebody else, or for more than one.
    #[error("the certificate is for {found}, not for {expected}")]
    Identity {
        /// What it says.
        found: String,
        /// Whom it was asked for.
        expected: SpiffeId,
    },
    /// It certifies another key.
    #[error("the certificate is not for the key that was sent")]
    Key,
    /// It isn't valid for that long yet.
    #[error(
        "the new certificate is valid in {} s only by this node's clock: set the clock, which is \
         behind the control plane's; else the authority's own certificate isn't valid yet",
        .0.as_secs()
    )]
    ClockBehind(Duration),
    /// It expired that long ago.
    #[error(
        "the new certificate expired {} s ago by this node's clock: set the clock, which is ahead \
         of the control plane's; else the authority's own certificate has expired",
        .0.as_secs()
    )]
    ClockAhead(Duration),
    /// It isn't signed by the roots, or not made for TLS.
    #[error("the certificate doesn't verify: {0}")]
    Chain(webpki::Error),
}

impl From<webpki::Error> for IssuedError {
    /// A certificate that was made just now is out of date by different clocks, or with that of
    /// its authority.
    fn from(error: webpki::Error) -> Self {
        let between = |from: UnixTime, to: UnixTime| {
            Duration::from_secs(to.as_secs().saturating_sub(from.as_secs()))
        };
        match error {
            webpki::Error::CertNotValidYet { time, not_before } => {
                Self::ClockBehind(between(time, not_before))
            }
            webpki::Error::CertExpired { time, not_after } => {
                Self::ClockAhead(between(not_after, time))
            }
            other => Self::Chain(other),
        }
    }
}

/// Checks an answer and makes it usable: the leaf is for exactly this identity and
/// this key, and its chain verifies now, as client and as server.
///
/// # Errors
/// When any of that isn't so.
pub fn check(
    identity: &SpiffeId,
    key: Arc<dyn SigningKey>,
    answer: v1::SignResponse,
    now: SystemTime,
) -> Result<Certificate, IssuedError> {
    let roots = roots(answer.roots)?;
    let chain: Vec<_> = answer.chain.into_iter().map(CertificateDer::from).collect();
    let (leaf, intermediates) = chain.split_first().ok_or(IssuedError::Empty)?;
    let details = leaf_details(identity, leaf)?;
    verify_chain(leaf, intermediates, &roots, now)?;
    let key = CertifiedKey::new(chain, key);
    key.keys_match().map_err(|_| IssuedError::Key)?;
    Ok(Certificate {
        key: Arc::new(key),
        identity: identity.clone(),
        roots: Arc::new(roots),
        not_after: details.not_after,
        serial: details.serial,
    })
}

fn roots(roots: Vec<Vec<u8>>) -> Result<RootCertStore, IssuedError> {
    let mut store = RootCertStore::empty();
    for root in roots {
        store
            .add(CertificateDer::from(root))
            .map_err(|error| IssuedError::Unreadable {
                what: "root",
                reason: error.to_string(),
            })?;
    }
    if store.is_empty() {
        Err(IssuedError::NoRoots)
    } else {
        Ok(store)
    }
}

struct LeafDetails {
    not_after: SystemTime,
    serial: String,
}

fn leaf_details(identity: &SpiffeId, leaf: &[u8]) -> Result<LeafDetails, IssuedError> {
    let unreadable = |reason: String| IssuedError::Unreadable {
        what: "leaf",
        reason,
    };
    let (_, leaf) =
        X509Certificate::from_der(leaf).map_err(|error| unreadable(error.to_string()))?;
    let names = leaf
        .subject_alternative_name()
        .map_err(|error| unreadable(error.to_string()))?;
    let names = names.map_or(&[][..], |names| &names.value.general_names);
    let of_another = |found: String| IssuedError::Identity {
        found,
        expected: identity.clone(),
    };
    let [GeneralName::URI(name)] = names else {
        return Err(of_another(format!(
            "{} names instead of one SPIFFE ID",
            names.len()
        )));
    };
    let found: Result<SpiffeId, InvalidIdentity> = name.parse();
    if found.as_ref() != Ok(identity) {
        return Err(of_another((*name).to_owned()));
    }
    let seconds = u64::try_from(leaf.validity().not_after.timestamp()).unwrap_or(0);
    Ok(LeafDetails {
        not_after: UNIX_EPOCH + Duration::from_secs(seconds),
        serial: leaf.raw_serial_as_string(),
    })
}

fn verify_chain(
    leaf: &CertificateDer<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &RootCertStore,
    now: SystemTime,
) -> Result<(), IssuedError> {
    let end_entity = EndEntityCert::try_from(leaf)?;
    let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    for usage in [KeyUsage::client_auth(), KeyUsage::server_auth()] {
        end_entity.verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &roots.roots,
            intermediates,
            UnixTime::since_unix_epoch(since_epoch),
            usage,
            None,
            None,
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use weft_testing::authority::{Authority, Leaf};

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    /// A certificate that counts from ten minutes ago and for an hour, as it is taken at a time.
    fn checked_at(time: impl FnOnce(SystemTime) -> SystemTime) -> Result<Certificate, IssuedError> {
        let identity: SpiffeId = "spiffe://cluster.local/ns/shop/sa/web".parse().unwrap();
        let (authority, now) = (Authority::new(), SystemTime::now());
        let leaf = Leaf::workload(&identity).valid(now - 10 * MINUTE, now + 60 * MINUTE);
        let credential = authority.issue(&leaf);
        let answer = v1::SignResponse {
            chain: vec![credential.certificate.to_vec()],
            roots: vec![authority.root().to_vec()],
        };
        let key = Arc::clone(&credential.certified_key().key);
        check(&identity, key, answer, time(now))
    }

    #[test]
    fn clocks_may_differ_by_some_minutes() {
        assert!(checked_at(|now| now - 9 * MINUTE).is_ok());
        assert!(checked_at(|now| now + 9 * MINUTE).is_ok());
    }

    #[test]
    fn clocks_that_differ_by_more_are_refused_and_named() {
        let behind = checked_at(|now| now - 25 * MINUTE).unwrap_err();
        assert!(
            behind
                .to_string()
                .contains("set the clock, which is behind"),
            "{behind}"
        );
        let ahead = checked_at(|now| now + 90 * MINUTE).unwrap_err();
        assert!(
            ahead.to_string().contains("set the clock, which is ahead"),
            "{ahead}"
        );
    }
}
