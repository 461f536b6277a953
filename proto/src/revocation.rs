//! Revoked certificates on the wire.

use std::sync::Arc;

use weft_model::revocation::{CertificateId, RevocationList};

use crate::v1;

/// Everything that can be said is a list: a certificate that nobody has is revoked in vain.
pub(crate) fn revocation_list(message: v1::RevocationList) -> RevocationList {
    let issuers = message.issuers.into_iter().flat_map(|issuer| {
        let name: Arc<[u8]> = issuer.name.into();
        let serials = issuer.serials.into_iter();
        serials.map(move |serial| CertificateId {
            issuer: Arc::clone(&name),
            serial: serial.into(),
        })
    });
    issuers.collect()
}

impl From<&RevocationList> for v1::RevocationList {
    fn from(list: &RevocationList) -> Self {
        let issuers = list.issuers().map(|(name, serials)| v1::RevokingIssuer {
            name: name.to_vec(),
            serials: serials.iter().map(|serial| serial.to_vec()).collect(),
        });
        Self {
            issuers: issuers.collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_list_survives_the_wire(ids in prop::collection::vec(("[a-c]", any::<[u8; 2]>()), 0..9)) {
            let ids = ids.iter().map(|(issuer, serial)| CertificateId {
                issuer: issuer.as_bytes().into(),
                serial: serial[..].into(),
            });
            let list: RevocationList = ids.collect();
            prop_assert_eq!(revocation_list(v1::RevocationList::from(&list)), list);
        }
    }
}
