//! Certificate revocation lists (RFC 5280 section 5), as an administrator hands them in beside the
//! authority: PEM, several one after the other, each signed by a certificate of the authority or
//! one of its roots.

use std::sync::Arc;

use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer};
use time::OffsetDateTime;
use weft_model::revocation::{CertificateId, RevocationList};
use x509_parser::prelude::{CertificateRevocationList, FromDer, X509Certificate, X509Extension};

/// The most bytes of PEM: about 20,000 certificates. What is longer isn't read.
pub(super) const MOST_BYTES: usize = 1024 * 1024;

/// A reason for lists not to be followed.
#[derive(Debug, thiserror::Error)]
pub enum InvalidRevocations {
    /// More than [`MOST_BYTES`].
    #[error("the certificate revocation lists have {0} bytes, at most {most} are read: leave out \
             certificates that have expired", most = MOST_BYTES)]
    TooLong(usize),
    /// One isn't PEM, or no list.
    #[error("certificate revocation list {0}: {1}; make it with `openssl ca -gencrl`, in PEM")]
    Unreadable(usize, String),
    /// The text has none.
    #[error("there is no `X509 CRL` in it; to revoke nothing, remove it")]
    Empty,
    /// One is somebody else's.
    #[error(
        "certificate revocation list {list} is of `{issuer}`, which is neither the mesh's authority \
         nor one of its roots: have it signed by the one that issues the mesh's certificates"
    )]
    Issuer {
        /// Which one, from 1.
        list: usize,
        /// Its issuer, as it says.
        issuer: String,
    },
    /// One says that it is of the authority, and isn't signed by it.
    #[error("certificate revocation list {list} isn't signed by `{issuer}`, whose name it has")]
    Signature {
        /// Which one, from 1.
        list: usize,
        /// Its issuer, as it says.
        issuer: String,
    },
}

impl InvalidRevocations {
    /// Whether the lists are only not of this authority: they say nothing of what it has issued.
    pub(super) fn is_of_others(&self) -> bool {
        matches!(self, Self::Issuer { .. } | Self::Signature { .. })
    }
}

/// How many certificates are revoked by lists of PEM that the issuers have signed, of certificates
/// in DER.
///
/// # Errors
/// The reason to follow none of them.
pub fn check_revocation_lists(
    pem: &[u8],
    issuers: &[CertificateDer<'_>],
) -> Result<usize, InvalidRevocations> {
    parse(pem, issuers, OffsetDateTime::now_utc()).map(|verified| verified.revoked.len())
}

/// Lists that were verified.
#[derive(Debug)]
pub(super) struct VerifiedLists {
    /// What is revoked.
    pub(super) revoked: RevocationList,
    /// Why others don't count that aren't the authority's, such as of a root that is trusted no
    /// more: what that has issued counts nothing, revoked or not.
    pub(super) of_others: Vec<InvalidRevocations>,
    /// Issuers whose list should have been replaced by a newer one. It counts until it is: what is
    /// revoked stays so.
    pub(super) expired: Vec<String>,
}

/// Reads lists of PEM that the issuers have signed, of certificates in DER.
///
/// # Errors
/// When one can't be read, or none is theirs. None of them counts then.
pub(super) fn parse(
    pem: &[u8],
    issuers: &[CertificateDer<'_>],
    now: OffsetDateTime,
) -> Result<VerifiedLists, InvalidRevocations> {
    if pem.len() > MOST_BYTES {
        return Err(InvalidRevocations::TooLong(pem.len()));
    }
    let (mut revoked, mut of_others, mut expired) = (Vec::new(), Vec::new(), Vec::new());
    let mut count = 0_usize;
    for list in CertificateRevocationListDer::pem_slice_iter(pem) {
        count += 1;
        let number = count;
        let unreadable = |reason: String| InvalidRevocations::Unreadable(number, reason);
        let list = list.map_err(|error| unreadable(error.to_string()))?;
        let (rest, list) = CertificateRevocationList::from_der(&list)
            .map_err(|error| unreadable(error.to_string()))?;
        if !rest.is_empty() {
            return Err(unreadable("something follows it".to_owned()));
        }
        if list.extensions().iter().any(is_delta) {
            let reason = "it is a delta list, which lacks what was revoked before it; hand in the \
                          complete one";
            return Err(unreadable(reason.to_owned()));
        }
        if let Err(error) = verify(number, &list, issuers) {
            of_others.push(error);
            continue;
        }
        if list
            .next_update()
            .is_some_and(|next| next.to_datetime() < now)
        {
            expired.push(list.issuer().to_string());
        }
        let issuer: Arc<[u8]> = list.tbs_cert_list.issuer.as_raw().into();
        let of_list = list.iter_revoked_certificates();
        revoked.extend(of_list.map(|certificate| CertificateId {
            issuer: Arc::clone(&issuer),
            serial: certificate.raw_serial().into(),
        }));
    }
    match of_others.pop() {
        None if count == 0 => Err(InvalidRevocations::Empty),
        Some(last) if of_others.len() + 1 == count => Err(last),
        last => Ok(VerifiedLists {
            revoked: revoked.into_iter().collect(),
            of_others: of_others.into_iter().chain(last).collect(),
            expired,
        }),
    }
}

/// Whether an extension says that its list has only what is new since another one (RFC 5280 section
/// 5.2.4).
fn is_delta(extension: &X509Extension<'_>) -> bool {
    extension.oid.to_id_string() == "2.5.29.27"
}

/// A rotation has two roots of one name: any of that name may have signed it.
fn verify(
    list_number: usize,
    list: &CertificateRevocationList<'_>,
    issuers: &[CertificateDer<'_>],
) -> Result<(), InvalidRevocations> {
    let issuer = list.issuer().to_string();
    let name = list.tbs_cert_list.issuer.as_raw();
    let parsed = issuers
        .iter()
        .filter_map(|der| X509Certificate::from_der(der).ok());
    let mut named = parsed
        .filter(|(_, known)| known.subject().as_raw() == name)
        .peekable();
    if named.peek().is_none() {
        return Err(InvalidRevocations::Issuer {
            list: list_number,
            issuer,
        });
    }
    match named.any(|(_, known)| list.verify_signature(known.public_key()).is_ok()) {
        true => Ok(()),
        false => Err(InvalidRevocations::Signature {
            list: list_number,
            issuer,
        }),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateRevocationListParams, KeyIdMethod, RevokedCertParams, SerialNumber};
    use time::Duration;

    use super::super::material::{Material, Pem};
    use super::*;

    fn authority() -> (Pem, Material) {
        let pem = Material::generate().unwrap();
        let material = Material::parse(&pem).unwrap();
        (pem, material)
    }

    /// A list of an authority that revokes these, and is to be replaced that much later.
    pub(in crate::ca) fn list(material: &Material, serials: &[u64], next: Duration) -> String {
        let now = OffsetDateTime::now_utc();
        let revoked = serials.iter().map(|serial| RevokedCertParams {
            serial_number: SerialNumber::from(*serial),
            revocation_time: now,
            reason_code: None,
            invalidity_date: None,
        });
        let params = CertificateRevocationListParams {
            this_update: now - Duration::DAY,
            next_update: now + next,
            crl_number: SerialNumber::from(1_u64),
            issuing_distribution_point: None,
            revoked_certs: revoked.collect(),
            key_identifier_method: KeyIdMethod::Sha256,
        };
        params.signed_by(material.issuer()).unwrap().pem().unwrap()
    }

    fn read(pem: &str, material: &Material) -> Result<VerifiedLists, InvalidRevocations> {
        parse(
            pem.as_bytes(),
            &material.issuers(),
            OffsetDateTime::now_utc(),
        )
    }

    #[test]
    fn lists_of_the_authority_are_followed_and_expired_ones_stay_in_force() {
        let (_, material) = authority();
        let both =
            list(&material, &[1, 2], Duration::DAY) + &list(&material, &[3], -Duration::HOUR);
        let verified = read(&both, &material).unwrap();
        assert_eq!(verified.revoked.len(), 3);
        assert_eq!(verified.expired.len(), 1);
    }

    #[test]
    fn a_list_of_another_authority_is_refused_by_name_and_the_last_good_one_stays() {
        let (_, material) = authority();
        let (_, other) = authority();
        let good = list(&material, &[1], Duration::DAY);
        let forged = list(&other, &[2], Duration::DAY);
        // Every root that Weft makes has the same name.
        let refused = read(&forged, &material).unwrap_err().to_string();
        assert!(
            refused.contains("isn't signed by `O=Weft, CN=Weft mesh root`"),
            "{refused}"
        );
        let none = parse(forged.as_bytes(), &[], OffsetDateTime::now_utc());
        let refused = none.unwrap_err().to_string();
        assert!(
            refused.contains("is of `O=Weft, CN=Weft mesh root`, which is neither"),
            "{refused}"
        );
        // Beside one of its own it is left out.
        let both = read(&(forged.clone() + &good), &material).unwrap();
        assert_eq!((both.revoked.len(), both.of_others.len()), (1, 1));
        let authority = super::super::Authority::new(material, Duration::HOUR);
        authority.revoke(good.as_bytes()).unwrap();
        authority.revoke(forged.as_bytes()).unwrap_err();
        assert_eq!(authority.revoked(), 1);
        authority.revoke(b"").unwrap();
        assert_eq!(authority.revoked(), 0);
    }

    #[test]
    fn what_is_no_list_is_refused_and_so_is_what_is_too_long() {
        let (pem, material) = authority();
        assert!(matches!(
            read(&pem.certificate, &material),
            Err(InvalidRevocations::Empty)
        ));
        let broken = list(&material, &[1], Duration::DAY).replacen("\nMI", "\nAA", 1);
        assert!(read(&broken, &material).is_err());
        let long = "#".repeat(MOST_BYTES + 1);
        assert!(matches!(
            read(&long, &material),
            Err(InvalidRevocations::TooLong(_))
        ));
    }

    #[test]
    fn a_list_that_was_changed_on_its_way_is_refused() {
        let (_, material) = authority();
        let good = list(&material, &[0x0102_0304], Duration::DAY);
        let der = CertificateRevocationListDer::from_pem_slice(good.as_bytes()).unwrap();
        let mut der = der.to_vec();
        let at = der
            .windows(4)
            .position(|octets| octets == [1, 2, 3, 4])
            .unwrap();
        der[at] = 9;
        let (_, changed) = CertificateRevocationList::from_der(&der).unwrap();
        let refused = verify(1, &changed, &material.issuers());
        assert!(matches!(refused, Err(InvalidRevocations::Signature { .. })));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = check_revocation_lists(&bytes, &[]);
        }
    }
}
