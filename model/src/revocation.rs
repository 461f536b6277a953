//! Certificates that their authority has revoked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// What names one certificate: whoever issued it never gives a serial number twice (RFC 5280
/// section 4.1.2.2).
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CertificateId {
    /// Name of its issuer, DER.
    pub issuer: Arc<[u8]>,
    /// Content octets of its serial number, DER.
    pub serial: Arc<[u8]>,
}

/// The certificates that count no more, whoever shows them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct RevocationList(BTreeMap<Arc<[u8]>, BTreeSet<Arc<[u8]>>>);

impl RevocationList {
    /// The name of the one list of a mesh.
    pub const NAME: &str = "mesh";

    /// Whether a certificate is on it.
    pub fn contains(&self, certificate: &CertificateId) -> bool {
        let serials = self.0.get(&certificate.issuer);
        serials.is_some_and(|serials| serials.contains(&certificate.serial))
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The number of certificates.
    pub fn len(&self) -> usize {
        self.0.values().map(BTreeSet::len).sum()
    }

    /// Issuers, each with the serial numbers of its certificates, in ascending order.
    pub fn issuers(&self) -> impl Iterator<Item = (&Arc<[u8]>, &BTreeSet<Arc<[u8]>>)> {
        self.0.iter()
    }
}

impl FromIterator<CertificateId> for RevocationList {
    fn from_iter<I: IntoIterator<Item = CertificateId>>(certificates: I) -> Self {
        let mut list = Self::default();
        for CertificateId { issuer, serial } in certificates {
            list.0.entry(issuer).or_default().insert(serial);
        }
        list
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_serial_number_counts_for_its_issuer_alone() {
        let id = |issuer: &[u8], serial: &[u8]| CertificateId {
            issuer: issuer.into(),
            serial: serial.into(),
        };
        let list: RevocationList = [id(b"a", &[1]), id(b"b", &[2])].into_iter().collect();
        assert!(list.contains(&id(b"a", &[1])));
        assert!(!list.contains(&id(b"a", &[2])));
        assert!(!list.contains(&id(b"c", &[1])));
        assert_eq!(list.len(), 2);
    }
}
