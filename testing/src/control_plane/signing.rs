//! The certificate authority of the fake control plane.

use std::time::{Duration, SystemTime};

use rcgen::{CertificateSigningRequestParams, DistinguishedName, SanType};
use tonic::Status;
use weft_proto::v1::SignResponse;

use crate::authority::{Authority, new_key, usages};

const HOUR: Duration = Duration::from_secs(3600);

/// The answer of the certificate authority.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Signing {
    /// What was asked for, alive for that many seconds; expired for as many, below 0.
    Correctly(i64),
    /// A certificate for another identity.
    ForAnotherIdentity,
    /// A certificate for another key.
    ForAnotherKey,
    /// Signed by a root that isn't in the answer.
    ByAnotherRoot,
    /// Bytes that are no certificate.
    Garbage,
    /// Nothing, politely.
    Empty,
    /// An error.
    Unavailable,
}

impl Signing {
    /// The answer to a request.
    pub(super) fn answer(
        self,
        authority: &Authority,
        request: &[u8],
    ) -> Result<SignResponse, Status> {
        let chain = match self {
            Self::Unavailable => return Err(Status::unavailable("try again later")),
            Self::Empty => vec![],
            Self::Garbage => vec![b"not a certificate".to_vec()],
            Self::Correctly(_)
            | Self::ForAnotherIdentity
            | Self::ForAnotherKey
            | Self::ByAnotherRoot => vec![self.leaf(authority, request)],
        };
        Ok(SignResponse {
            chain,
            roots: vec![authority.root().to_vec()],
        })
    }

    fn leaf(self, authority: &Authority, request: &[u8]) -> Vec<u8> {
        let mut request = CertificateSigningRequestParams::from_der(&request.into()).unwrap();
        let now = SystemTime::now();
        request.params.not_before = (now - HOUR).into();
        request.params.not_after = match self {
            Self::Correctly(life) if life < 0 => now - Duration::from_secs(life.unsigned_abs()),
            Self::Correctly(life) => now + Duration::from_secs(life.unsigned_abs()),
            _ => now + HOUR,
        }
        .into();
        request.params.distinguished_name = DistinguishedName::new();
        request.params.extended_key_usages = usages();
        if self == Self::ForAnotherIdentity {
            let other = "spiffe://cluster.local/ns/default/sa/admin";
            request.params.subject_alt_names = vec![SanType::URI(other.try_into().unwrap())];
        }
        let stranger = Authority::new();
        let issuer = match self {
            Self::ByAnotherRoot => stranger.issuer(),
            _ => authority.issuer(),
        };
        let leaf = match self {
            Self::ForAnotherKey => request.params.signed_by(&new_key(), issuer),
            _ => request.signed_by(issuer),
        };
        leaf.unwrap().der().to_vec()
    }
}
