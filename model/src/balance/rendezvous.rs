//! Consistent hashing by rendezvous ("highest random weight", Thaler and Ravishankar
//! 1998; weights as by Schindelhauer and Schomaker 2005): each endpoint gets a score from
//! the key, and the highest wins. When an endpoint comes or goes, only the keys
//! that are its own move.

use crate::hash::{mix_bits, unit_interval};

/// Score of an endpoint for a key, the higher the greater its weight: the endpoint with the
/// highest gets the key. Weights are above 0.
pub(super) fn rendezvous_score(key: u64, endpoint: u64, weight: f64) -> f64 {
    // From a number that is even between 0 and 1 one that is distributed as the highest
    // of `weight` such numbers: compared with others, it wins in proportion.
    -weight / unit_interval(mix_bits(key ^ endpoint.rotate_left(32))).ln()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hash::stable_hash;
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
