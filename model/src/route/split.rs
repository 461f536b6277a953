//! Traffic splitting: the shares of a rule's backends, exact in the long run and never far
//! off before.

use crate::route::rule::Backend;

/// A sequence of numbers from 0 up to 1 that are spread evenly over any stretch of it
/// (multiples of the golden ratio, a "low-discrepancy sequence"). As draws between weighted
/// backends they give each its share sooner than random numbers do.
///
/// Its whole state is one `u64`: whoever shares a sequence between threads keeps that in an
/// atomic, adds [`LowDiscrepancySequence::STEP`] and converts with
/// [`LowDiscrepancySequence::number`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct LowDiscrepancySequence {
    state: u64,
}

impl LowDiscrepancySequence {
    /// Distance of two states: 2^64 divided by the golden ratio. Addition wraps as numbers
    /// modulo 1 do.
    pub const STEP: u64 = 0x9E37_79B9_7F4A_7C15;

    /// A sequence that begins anywhere: many proxies shall not all begin with the same
    /// backend.
    pub fn starting_at(state: u64) -> Self {
        Self { state }
    }

    /// The next number.
    pub fn next_number(&mut self) -> f64 {
        self.state = self.state.wrapping_add(Self::STEP);
        Self::number(self.state)
    }

    /// The number that belongs to a state.
    pub fn number(state: u64) -> f64 {
        // 53 bits are what the type holds exactly.
        (state >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// The backend at a point from 0 up to 1, of which each covers its share of the weights.
/// `None` when none has a weight.
pub(crate) fn backend_at(backends: &[Backend], point: f64) -> Option<&Backend> {
    let sum: u64 = backends.iter().map(|b| u64::from(b.weight)).sum();
    let mut left = point * sum as f64;
    let weighted = backends.iter().filter(|backend| backend.weight > 0);
    let mut last = None;
    for backend in weighted {
        last = Some(backend);
        left -= f64::from(backend.weight);
        if left < 0.0 {
            break;
        }
    }
    last
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::name::NamespacedName;
    use crate::route::backend::BackendTarget;

    fn backend(name: &str, weight: u32) -> Backend {
        Backend {
            target: BackendTarget::Service {
                service: NamespacedName::new("default", name),
                port: 80,
            },
            weight,
            filters: Vec::new(),
        }
    }

    #[test]
    fn shares_are_exact_in_the_long_run_and_never_far_off() {
        let backends = [backend("a", 80), backend("b", 20), backend("none", 0)];
        for seed in [0, 1, u64::MAX / 3] {
            let mut draws = LowDiscrepancySequence::starting_at(seed);
            let mut of_a = 0u32;
            for n in 1..=10_000u32 {
                let Some(Backend {
                    target: BackendTarget::Service { service, .. },
                    ..
                }) = backend_at(&backends, draws.next_number())
                else {
                    panic!("no backend");
                };
                assert_ne!(&*service.name, "none");
                of_a += u32::from(&*service.name == "a");
                let off = (f64::from(of_a) - 0.8 * f64::from(n)).abs();
                assert!(off < 8.0, "{off} off after {n}");
            }
        }
    }

    proptest! {
        #[test]
        fn a_choice_has_weight(weights in prop::collection::vec(0u32..=1_000_000, 0..6), draw in 0.0f64..1.0) {
            let backends: Vec<_> = weights.iter().map(|weight| backend("x", *weight)).collect();
            match backend_at(&backends, draw) {
                Some(backend) => prop_assert!(backend.weight > 0),
                None => prop_assert!(weights.iter().all(|weight| *weight == 0)),
            }
        }

        #[test]
        fn numbers_are_from_zero_up_to_one(state: u64) {
            let number = LowDiscrepancySequence::number(state);
            prop_assert!((0.0..1.0).contains(&number));
        }
    }
}
