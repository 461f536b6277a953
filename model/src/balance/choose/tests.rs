use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::balance::load::Ewma;
use crate::hash::stable_hash;
use crate::traffic::policy::HashKey;

fn rng() -> impl FnMut() -> u64 {
    let mut random = fastrand::Rng::with_seed(7);
    move || random.u64(..)
}

fn equal(count: usize) -> Vec<EndpointView> {
    let view = |index: usize| EndpointView {
        hash: stable_hash(&index.to_be_bytes()),
        ..EndpointView::default()
    };
    (0..count).map(view).collect()
}

fn latency(micros: u64) -> Load {
    Load {
        latency: Ewma::default().observe(Duration::from_micros(micros), Duration::ZERO),
        in_flight: 0,
    }
}

fn by_hash() -> Balancer {
    Balancer::ConsistentHash(HashKey::Source)
}

fn balancers() -> [Balancer; 5] {
    [
        Balancer::Ewma,
        Balancer::RoundRobin,
        Balancer::LeastRequest,
        Balancer::Random,
        by_hash(),
    ]
}

#[test]
fn a_session_stays_where_it_is_unless_that_is_not_usable_or_a_hash_decides() {
    let with_session = |session: EndpointView| {
        let mut endpoints = equal(5);
        endpoints[3] = EndpointView {
            has_session: true,
            hash: endpoints[3].hash,
            ..session
        };
        endpoints
    };
    // Dear and far doesn't matter.
    let session = EndpointView {
        load: latency(50_000),
        distance: 2,
        ..EndpointView::default()
    };
    for balancer in balancers() {
        let there = counts(&balancer, &with_session(session), 100, None)[3];
        let expected = match balancer {
            Balancer::ConsistentHash(_) => 0,
            _ => 100,
        };
        assert_eq!(there, expected, "{balancer:?}");
    }
    for unusable in [
        EndpointView {
            ejected: true,
            ..session
        },
        EndpointView {
            tried: true,
            ..session
        },
    ] {
        let counts = counts(&Balancer::RoundRobin, &with_session(unusable), 100, None);
        assert_eq!(counts[3], 0);
    }
}

/// How often each was chosen.
fn counts(
    balancer: &Balancer,
    endpoints: &[EndpointView],
    choices: usize,
    key: Option<u64>,
) -> Vec<usize> {
    let mut endpoints = endpoints.to_vec();
    let (mut counts, mut random) = (vec![0; endpoints.len()], rng());
    for turn in 1..=choices {
        let chosen = choose(balancer, &endpoints, key, &mut random).unwrap();
        endpoints[chosen].last_chosen = turn as u64;
        counts[chosen] += 1;
    }
    counts
}

#[test]
fn fixed_latencies_below_a_millisecond_share_the_work() {
    let mut endpoints = equal(2);
    endpoints[0].load = latency(50);
    endpoints[1].load = latency(400);
    let counts = counts(&Balancer::Ewma, &endpoints, 1000, None);
    assert!(counts.iter().all(|n| (450..=550).contains(n)), "{counts:?}");
}

#[test]
fn a_slow_endpoint_loses_against_every_other() {
    let mut endpoints = equal(5);
    endpoints[2].load = latency(50_000);
    assert_eq!(counts(&Balancer::Ewma, &endpoints, 1000, None)[2], 0);
}

#[test]
fn work_spreads_evenly_over_equal_endpoints() {
    for balancer in [Balancer::Ewma, Balancer::LeastRequest] {
        let (mut endpoints, mut random) = (equal(5), rng());
        for _ in 0..1000 {
            let chosen = choose(&balancer, &endpoints, None, &mut random).unwrap();
            endpoints[chosen].load.in_flight += 1;
        }
        let counts: Vec<_> = endpoints.iter().map(|c| c.load.in_flight).collect();
        // Two choices keep the spread at log log n; one choice would miss by tens.
        assert!(
            counts.iter().all(|n| (195..=205).contains(n)),
            "{balancer:?} {counts:?}"
        );
    }
}

#[test]
fn round_robin_gives_everybody_the_same_whoever_comes_and_goes() {
    let counts = counts(&Balancer::RoundRobin, &equal(3), 300, None);
    assert_eq!(counts, [100, 100, 100]);
    let (mut endpoints, mut random) = (equal(3), rng());
    for (index, turn) in [(0, 7), (1, 9), (2, 8)] {
        endpoints[index].last_chosen = turn;
    }
    let next = choose(&Balancer::RoundRobin, &endpoints, None, &mut random);
    assert_eq!(next, Some(0));
    endpoints[0].ejected = true;
    let next = choose(&Balancer::RoundRobin, &endpoints, None, &mut random);
    assert_eq!(next, Some(2));
}

#[test]
fn random_is_even() {
    let counts = counts(&Balancer::Random, &equal(4), 4000, None);
    assert!(
        counts.iter().all(|n| (900..=1100).contains(n)),
        "{counts:?}"
    );
}

#[test]
fn a_new_endpoint_gets_less_whatever_the_balancer() {
    for balancer in balancers() {
        let mut endpoints = equal(2);
        endpoints[1].weight = 0.1;
        let mut random = rng();
        let mut of_new = 0;
        for turn in 1..=2000 {
            let key = Some(stable_hash(&[turn as u8, (turn >> 8) as u8]));
            let chosen = choose(&balancer, &endpoints, key, &mut random).unwrap();
            endpoints[chosen].last_chosen = turn;
            of_new += usize::from(chosen == 1);
        }
        assert!((60..=260).contains(&of_new), "{balancer:?} {of_new}");
    }
}

#[test]
fn a_request_without_a_key_goes_anywhere() {
    let counts = counts(&by_hash(), &equal(3), 300, None);
    assert!(counts.iter().all(|n| *n > 50), "{counts:?}");
}

#[test]
fn a_retry_goes_elsewhere_and_to_the_same_when_there_is_no_other() {
    let (mut endpoints, mut random) = (equal(2), rng());
    endpoints[0].tried = true;
    for balancer in balancers() {
        let chosen = choose(&balancer, &endpoints, Some(1), &mut random);
        assert_eq!(chosen, Some(1), "{balancer:?}");
        let alone = choose(&balancer, &endpoints[..1], Some(1), &mut random);
        assert_eq!(alone, Some(0), "{balancer:?}");
    }
}

#[test]
fn a_retry_leaves_the_zone_when_all_of_it_were_tried() {
    let (mut endpoints, mut random) = (equal(3), rng());
    endpoints[0].tried = true;
    endpoints[1].distance = 2;
    endpoints[2].distance = 1;
    for balancer in balancers() {
        let chosen = choose(&balancer, &endpoints, Some(1), &mut random);
        assert_eq!(chosen, Some(2), "{balancer:?}");
    }
}

fn any_view() -> impl Strategy<Value = EndpointView> {
    (
        (0.0f64..1.0, 0u32..100),
        0u8..4,
        prop_oneof![Just(1.0), 0.1f64..1.0],
        any::<u64>(),
        any::<u64>(),
        any::<[bool; 2]>(),
    )
        .prop_map(
            |((seconds, in_flight), distance, weight, hash, last_turn, [ejected, tried])| {
                let latency =
                    Ewma::default().observe(Duration::from_secs_f64(seconds), Duration::ZERO);
                EndpointView {
                    load: Load { latency, in_flight },
                    distance,
                    weight,
                    hash,
                    last_chosen: last_turn,
                    ejected,
                    tried,
                    has_session: false,
                }
            },
        )
}

proptest! {
    #[test]
    fn the_cheaper_of_two_is_never_the_most_expensive_of_its_pair(
        costs in prop::collection::vec(0.0f64..1.0, 0..20), seed: u64,
    ) {
        let mut random = fastrand::Rng::with_seed(seed);
        let mut drawn = Vec::new();
        let chosen = power_of_two_choices(costs.len(), |i| costs[i], || { let r = random.u64(..); drawn.push(r); r });
        match chosen {
            None => prop_assert!(costs.is_empty()),
            Some(index) if costs.len() > 1 => {
                let first = number_below(costs.len(), drawn[0]);
                let other = number_below(costs.len() - 1, drawn[1]);
                let second = if other >= first { other + 1 } else { other };
                prop_assert_ne!(first, second);
                prop_assert_eq!(costs[index], costs[first].min(costs[second]));
            }
            Some(index) => prop_assert_eq!(index, 0),
        }
    }

    /// Whatever the balancer: something is chosen when there is anything, and nothing that
    /// is ejected or was tried while there is something better.
    #[test]
    fn what_is_chosen_is_as_good_as_there_is(
        endpoints in prop::collection::vec(any_view(), 0..12),
        key in prop::option::of(any::<u64>()), seed: u64,
    ) {
        for balancer in balancers() {
            let mut random = fastrand::Rng::with_seed(seed);
            let chosen = choose(&balancer, &endpoints, key, || random.u64(..));
            prop_assert_eq!(chosen.is_some(), !endpoints.is_empty());
            if let Some(chosen) = chosen.and_then(|index| endpoints.get(index)) {
                let good = |c: &EndpointView| !c.ejected && !c.tried;
                prop_assert!(good(chosen) || !endpoints.iter().any(good));
                prop_assert!(!chosen.tried || endpoints.iter().all(|c| c.tried));
            }
        }
    }

    /// While nothing is ejected and nothing was tried, nothing leaves the nearest place.
    #[test]
    fn the_nearest_keep_everything_while_they_are_well(
        endpoints in prop::collection::vec(any_view(), 1..12), seed: u64,
    ) {
        let well = |c: EndpointView| EndpointView { ejected: false, tried: false, ..c };
        let endpoints: Vec<_> = endpoints.into_iter().map(well).collect();
        let nearest = endpoints.iter().map(|c| c.distance).min();
        for balancer in balancers() {
            let mut random = fastrand::Rng::with_seed(seed);
            let chosen = choose(&balancer, &endpoints, Some(seed), || random.u64(..));
            prop_assert_eq!(chosen.map(|index| endpoints[index].distance), nearest);
        }
    }

    /// The same key goes to the same endpoint, in whatever order they come, and another
    /// endpoint's ejection changes nothing for it.
    #[test]
    fn a_key_stays_where_it_is(count in 2usize..12, key: u64, seed: u64, other: prop::sample::Index) {
        let endpoints = equal(count);
        let chosen = |endpoints: &[EndpointView]| {
            let mut random = fastrand::Rng::with_seed(seed);
            let index = choose(&by_hash(), endpoints, Some(key), || random.u64(..)).unwrap();
            endpoints[index].hash
        };
        let before = chosen(&endpoints);
        let mut reversed = endpoints.clone();
        reversed.reverse();
        prop_assert_eq!(chosen(&reversed), before);
        let mut fewer = endpoints;
        let other = other.index(count);
        if fewer[other].hash != before {
            fewer[other].ejected = true;
            prop_assert_eq!(chosen(&fewer), before);
        }
    }
}
