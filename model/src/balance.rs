//! Which endpoint a connection or a request goes to.
//!
//! * [`load`]: what an endpoint costs, by latency and work in flight
//! * [`hash`]: the same endpoint for the same key
//! * [`locality`]: those that are near first
//! * [`slow_start`]: the share of those that are new

pub mod hash;
pub mod load;
pub mod locality;
pub mod slow_start;

use crate::traffic::Balancer;
pub use load::{Ewma, Load};

/// What is known of one endpoint when a choice is made.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EndpointView {
    /// What it costs.
    pub load: Load,
    /// How far away it is; 0 the nearest ([`locality::distance`]).
    pub distance: u8,
    /// Its share, above 0 and up to 1 ([`slow_start::weight`]).
    pub weight: f64,
    /// The hash of its address ([`hash::hash_of`]).
    pub hash: u64,
    /// When it was chosen the last time, as the number of that choice; 0 for never.
    pub last_chosen: u64,
    /// Whether it is ejected.
    pub ejected: bool,
    /// Whether this very request was there already, in vain.
    pub tried: bool,
}

impl Default for EndpointView {
    fn default() -> Self {
        Self {
            load: Load::default(),
            distance: 0,
            weight: 1.0,
            hash: 0,
            last_chosen: 0,
            ejected: false,
            tried: false,
        }
    }
}

/// Index of the endpoint to use, `None` when there are none.
///
/// Those that aren't ejected and weren't tried come first, then those that weren't tried,
/// then those that aren't ejected; an endpoint that is worse in this is better than none.
/// Of these the nearest, and of these one by the balancer. `key` is the hash of what the
/// request is to be kept together by; `random` gives random bits.
pub fn choose(
    balancer: &Balancer,
    contenders: &[EndpointView],
    key: Option<u64>,
    mut random: impl FnMut() -> u64,
) -> Option<usize> {
    let usable = usable(contenders);
    let by_hash = match balancer {
        Balancer::ConsistentHash(_) => key,
        Balancer::Ewma | Balancer::RoundRobin | Balancer::LeastRequest | Balancer::Random => None,
    };
    // The same key has to go the same distance each time.
    let bits = by_hash.map_or_else(&mut random, |key| hash::mix_bits(!key));
    let near = near(contenders, &usable, hash::unit_interval(bits));
    let of = |index: &usize| contenders.get(*index).copied().unwrap_or_default();
    if let Some(key) = by_hash {
        let drawn = |index: &usize| hash::rendezvous_score(key, of(index).hash, of(index).weight);
        let highest = |a: &usize, b: &usize| drawn(a).total_cmp(&drawn(b));
        return near.into_iter().max_by(highest);
    }
    let mut taking_part = near.clone();
    taking_part.retain(|index| {
        of(index).weight >= 1.0 || hash::unit_interval(random()) < of(index).weight
    });
    let taking_part = match taking_part.is_empty() {
        true => near,
        false => taking_part,
    };
    match balancer {
        Balancer::RoundRobin => {
            let longest_ago = |index: &usize| of(index).last_chosen;
            taking_part.into_iter().min_by_key(longest_ago)
        }
        Balancer::Random => {
            let drawn = below(taking_part.len(), random());
            taking_part.get(drawn).copied()
        }
        Balancer::LeastRequest => {
            let cost = |at| {
                taking_part
                    .get(at)
                    .map_or(0.0, |i| of(i).load.in_flight.into())
            };
            let better = power_of_two_choices(taking_part.len(), cost, random)?;
            taking_part.get(better).copied()
        }
        Balancer::Ewma | Balancer::ConsistentHash(_) => {
            let cost = |at| taking_part.get(at).map_or(0.0, |i| of(i).load.cost());
            let better = power_of_two_choices(taking_part.len(), cost, random)?;
            taking_part.get(better).copied()
        }
    }
}

/// Index of the endpoint to use among `count`, `None` when there are none: two different
/// ones are drawn and the cheaper one is taken ("power of two choices", Mitzenmacher
/// 2001).
pub fn power_of_two_choices(
    count: usize,
    cost: impl Fn(usize) -> f64,
    mut random: impl FnMut() -> u64,
) -> Option<usize> {
    match count {
        0 => None,
        1 => Some(0),
        _ => {
            let first = below(count, random());
            let other = below(count - 1, random());
            let second = if other >= first { other + 1 } else { other };
            Some(match cost(second) < cost(first) {
                true => second,
                false => first,
            })
        }
    }
}

/// A number below `count` from random bits.
fn below(count: usize, bits: u64) -> usize {
    // The upper half of the product is even enough: `count` is far below 2^64.
    ((u128::from(bits) * count as u128) >> 64) as usize
}

/// The best of the endpoints in whether they may be used at all.
fn usable(contenders: &[EndpointView]) -> Vec<usize> {
    let rank = |c: &EndpointView| u8::from(c.ejected) + 2 * u8::from(c.tried);
    let best = contenders.iter().map(rank).min();
    let found = contenders.iter().enumerate();
    let found = found.filter(|(_, contender)| Some(rank(contender)) == best);
    found.map(|(index, _)| index).collect()
}

/// Of the usable endpoints those of the distance that is to be gone.
fn near(contenders: &[EndpointView], usable: &[usize], draw: f64) -> Vec<usize> {
    let distance_of = |index: &usize| contenders.get(*index).map(|c| c.distance);
    let first = usable.first().and_then(distance_of);
    if contenders.iter().all(|c| Some(c.distance) == first) {
        return usable.to_vec();
    }
    let standing = contenders.iter().map(|c| (c.distance, c.ejected));
    let wanted = locality::choose_distance(standing, draw);
    let at = |distance: u8| {
        let here = usable.iter().filter(|i| distance_of(i) == Some(distance));
        here.copied().collect::<Vec<_>>()
    };
    let there = at(wanted);
    if !there.is_empty() {
        return there;
    }
    // All that are there were tried: the nearest of the others.
    let nearest = usable.iter().filter_map(distance_of).min();
    nearest.map(at).unwrap_or_default()
}

#[cfg(test)]
mod tests;
