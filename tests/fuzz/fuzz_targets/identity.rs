//! SPIFFE IDs, trust domains and address blocks: whatever parses prints as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use weft_model::{AddressBlock, SpiffeId, TrustDomain};

fuzz_target!(|text: &str| {
    if let Ok(id) = text.parse::<SpiffeId>() {
        assert_eq!(id.to_string(), text);
    }
    if let Ok(domain) = text.parse::<TrustDomain>() {
        assert_eq!(domain.as_str(), text);
    }
    if let Ok(block) = text.parse::<AddressBlock>() {
        assert_eq!(block.to_string().parse(), Ok(block));
        assert!(block.contains(block.network()) || block.network().to_canonical().is_ipv4());
    }
});
