//! One hash for the whole mesh: the same in every proxy and in every run of it.

/// The hash of a key or of a name. FNV-1a, then mixed, so that keys that differ in one bit
/// share none. It never changes: proxies of different versions have to agree on the
/// endpoint of a key.
pub fn stable_hash(bytes: &[u8]) -> u64 {
    const OFFSET: u64 = 0xCBF2_9CE4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01B3;
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
    mix_bits(bytes.iter().fold(OFFSET, step))
}

/// Spreads each bit over all of them: the finalizer of SplitMix64 (Steele, Lea and Flood
/// 2014).
pub(crate) fn mix_bits(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

/// A number between 0 and 1, neither of them, from evenly distributed bits.
pub(crate) fn unit_interval(bits: u64) -> f64 {
    ((bits >> 12) as f64 + 0.5) / (1u64 << 52) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_the_same_for_ever() {
        assert_eq!(stable_hash(b""), 0xF52A_15E9_A9B5_E89B);
        assert_eq!(stable_hash(b"user-1"), 0xC499_B5F8_A721_DF58);
        assert_ne!(stable_hash(b"user-1"), stable_hash(b"user-2"));
    }
}
