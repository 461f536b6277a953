//! Consistent hashing by rendezvous ("highest random weight", Thaler and Ravishankar
//! 1998; weights as by Schindelhauer and Schomaker 2005): each endpoint draws a number
//! from the key, and the highest wins. When an endpoint comes or goes, only the keys
//! that are its own move.

/// The hash of a key or of an endpoint's name: the same in every proxy and in every
/// run of it, so that all of them agree on the endpoint. FNV-1a, then mixed, so that
/// keys that differ in one bit share none.
pub fn stable_hash(bytes: &[u8]) -> u64 {
    const OFFSET: u64 = 0xCBF2_9CE4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01B3;
    let step = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(PRIME);
    mix_bits(bytes.iter().fold(OFFSET, step))
}

/// What an endpoint draws for a key, the higher the greater its weight. Weights are
/// above 0.
pub(super) fn rendezvous_score(key: u64, endpoint: u64, weight: f64) -> f64 {
    // From a number that is even between 0 and 1 one that is distributed as the highest
    // of `weight` such numbers: compared with others, it wins in proportion.
    -weight / unit_interval(mix_bits(key ^ endpoint.rotate_left(32))).ln()
}

/// Between 0 and 1, neither of them.
pub(super) fn unit_interval(bits: u64) -> f64 {
    ((bits >> 12) as f64 + 0.5) / (1u64 << 52) as f64
}

/// The finalizer of SplitMix64 (Steele, Lea and Flood 2014).
pub(super) fn mix_bits(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    bits ^ (bits >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn endpoint(number: usize) -> u64 {
        stable_hash(format!("10.0.0.{number}:8080").as_bytes())
    }

    /// Which of the endpoints wins a key.
    fn winner(key: u64, endpoints: &[(usize, f64)]) -> usize {
        let drawn =
            |(number, weight): &(usize, f64)| rendezvous_score(key, endpoint(*number), *weight);
        let highest = endpoints
            .iter()
            .max_by(|a, b| drawn(a).total_cmp(&drawn(b)));
        highest.unwrap().0
    }

    #[test]
    fn the_hash_is_the_same_for_ever() {
        // Proxies of different versions have to agree.
        assert_eq!(stable_hash(b""), mix_bits(0xCBF2_9CE4_8422_2325));
        assert_eq!(stable_hash(b"user-1"), stable_hash(b"user-1"));
        assert_ne!(stable_hash(b"user-1"), stable_hash(b"user-2"));
    }

    #[test]
    fn keys_spread_by_weight() {
        let endpoints = [(0, 1.0), (1, 1.0), (2, 0.25)];
        let mut counts = [0u32; 3];
        for key in 0u32..10_000 {
            counts[winner(stable_hash(&key.to_be_bytes()), &endpoints)] += 1;
        }
        let [a, b, c] = counts.map(|count| f64::from(count) / 10_000.0);
        let full = 1.0 / 2.25;
        assert!(
            (a - full).abs() < 0.02 && (b - full).abs() < 0.02,
            "{counts:?}"
        );
        assert!((c - full / 4.0).abs() < 0.02, "{counts:?}");
    }

    proptest! {
        /// When one goes, only its own keys move; when it comes back, only they return.
        #[test]
        fn only_the_keys_of_a_changed_endpoint_move(
            count in 2usize..20, gone in any::<prop::sample::Index>(), key: u64,
        ) {
            let all: Vec<_> = (0..count).map(|number| (number, 1.0)).collect();
            let gone = gone.index(count);
            let left: Vec<_> = all.iter().copied().filter(|(n, _)| *n != gone).collect();
            let (before, after) = (winner(key, &all), winner(key, &left));
            prop_assert!(before == after || before == gone);
        }

        /// A growing weight only ever takes keys.
        #[test]
        fn a_growing_weight_only_takes_keys(
            count in 2usize..20, weight in 0.05f64..1.0, more in 0.0f64..1.0, key: u64,
        ) {
            let mut endpoints: Vec<_> = (0..count).map(|number| (number, 1.0)).collect();
            endpoints[0].1 = weight;
            let before = winner(key, &endpoints);
            endpoints[0].1 = weight + more;
            let after = winner(key, &endpoints);
            prop_assert!(before == after || after == 0);
        }
    }
}
