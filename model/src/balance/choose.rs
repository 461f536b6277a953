//! The choice of an endpoint, from everything that is known of the endpoints: usable ones
//! first, of these the near ones, of these one by the load balancing policy.

use crate::balance::load::Load;
use crate::balance::locality::choose_distance;
use crate::balance::power_of_two::{number_below, power_of_two_choices};
use crate::balance::rendezvous::rendezvous_score;
use crate::hash::{mix_bits, unit_interval};
use crate::traffic::policy::Balancer;

/// One endpoint as a choice sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct EndpointView {
    /// Its load.
    pub load: Load,
    /// Distance from the client, 0 the nearest
    /// ([`locality::distance`](crate::balance::locality::distance)).
    pub distance: u8,
    /// Its share, above 0 and up to 1
    /// ([`slow_start_weight`](crate::balance::slow_start::slow_start_weight)).
    pub weight: f64,
    /// Hash of its address ([`stable_hash`](crate::hash::stable_hash)).
    pub hash: u64,
    /// Number of the choice that fell on it last; 0 when none did.
    pub last_chosen: u64,
    /// Whether it is ejected.
    pub ejected: bool,
    /// Whether this very request was tried there already, in vain.
    pub tried: bool,
    /// Whether the client was there last, and its Service keeps it there.
    pub has_session: bool,
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
            has_session: false,
        }
    }
}

/// Index of the endpoint to use, `None` when there are none.
///
/// Endpoints that aren't ejected and weren't tried come first, then those that weren't
/// tried, then those that aren't ejected; one that is worse in this is better than none.
/// Of these the nearest, and of these one by the policy. The one that has the client's session
/// comes before all, unless it isn't usable or a hash decides. `key` is the hash of what the
/// request is to be kept together by; `random` gives random bits.
///
/// ```
/// use weft_model::balance::{EndpointView, choose};
/// use weft_model::traffic::Balancer;
///
/// let ejected = EndpointView { ejected: true, ..EndpointView::default() };
/// let far = EndpointView { distance: 2, ..EndpointView::default() };
/// let near = EndpointView::default();
/// let chosen = choose(&Balancer::RoundRobin, &[ejected, far, near], None, || 0);
/// assert_eq!(chosen, Some(2));
/// assert_eq!(choose(&Balancer::RoundRobin, &[], None, || 0), None);
/// ```
pub fn choose(
    balancer: &Balancer,
    endpoints: &[EndpointView],
    key: Option<u64>,
    mut random: impl FnMut() -> u64,
) -> Option<usize> {
    let keeps_session = |view: &EndpointView| view.has_session && !view.ejected && !view.tried;
    if !matches!(balancer, Balancer::ConsistentHash(_))
        && let Some(session) = endpoints.iter().position(keeps_session)
    {
        return Some(session);
    }
    let usable = usable(endpoints);
    let hash_key = match balancer {
        Balancer::ConsistentHash(_) => key,
        Balancer::Ewma | Balancer::RoundRobin | Balancer::LeastRequest | Balancer::Random => None,
    };
    // The same key has to go the same distance each time.
    let bits = hash_key.map_or_else(&mut random, |key| mix_bits(!key));
    let near = nearest(endpoints, &usable, unit_interval(bits));
    if let Some(key) = hash_key {
        return highest_score(endpoints, &near, key);
    }
    let candidates = after_slow_start(endpoints, near, &mut random);
    let view = |index: &usize| endpoints.get(*index).copied().unwrap_or_default();
    let cost = |cost: fn(&Load) -> f64| {
        let candidates = &candidates;
        move |at: usize| {
            candidates
                .get(at)
                .map_or(0.0, |index| cost(&view(index).load))
        }
    };
    let chosen = match balancer {
        Balancer::RoundRobin => {
            let last_chosen = |index: &usize| view(index).last_chosen;
            return candidates.iter().copied().min_by_key(last_chosen);
        }
        Balancer::Random => number_below(candidates.len(), random()),
        Balancer::LeastRequest => {
            let cost = cost(|load| load.in_flight.into());
            power_of_two_choices(candidates.len(), cost, random)?
        }
        Balancer::Ewma | Balancer::ConsistentHash(_) => {
            power_of_two_choices(candidates.len(), cost(Load::cost), random)?
        }
    };
    candidates.get(chosen).copied()
}

/// The endpoints that are equally good in whether they may be used at all, and better than
/// the rest.
fn usable(endpoints: &[EndpointView]) -> Vec<usize> {
    let rank = |view: &EndpointView| u8::from(view.ejected) + 2 * u8::from(view.tried);
    let best = endpoints.iter().map(rank).min();
    let ranked = endpoints.iter().enumerate();
    let usable = ranked.filter(|(_, view)| Some(rank(view)) == best);
    usable.map(|(index, _)| index).collect()
}

/// The usable endpoints of the distance to go, for a number from 0 up to 1 that is drawn.
fn nearest(endpoints: &[EndpointView], usable: &[usize], draw: f64) -> Vec<usize> {
    let distance_of = |index: &usize| endpoints.get(*index).map(|view| view.distance);
    let first = usable.first().and_then(distance_of);
    if endpoints.iter().all(|view| Some(view.distance) == first) {
        return usable.to_vec();
    }
    let ejections = endpoints.iter().map(|view| (view.distance, view.ejected));
    let distance = choose_distance(ejections, draw);
    let at_distance = |distance: u8| {
        let there = usable.iter().filter(|i| distance_of(i) == Some(distance));
        there.copied().collect::<Vec<_>>()
    };
    let there = at_distance(distance);
    if !there.is_empty() {
        return there;
    }
    // All that are there were tried: the nearest of the others.
    let nearest = usable.iter().filter_map(distance_of).min();
    nearest.map(at_distance).unwrap_or_default()
}

/// The endpoint that a key belongs to.
fn highest_score(endpoints: &[EndpointView], candidates: &[usize], key: u64) -> Option<usize> {
    let score = |index: &usize| {
        let view = endpoints.get(*index).copied().unwrap_or_default();
        rendezvous_score(key, view.hash, view.weight)
    };
    let highest = |a: &usize, b: &usize| score(a).total_cmp(&score(b));
    candidates.iter().copied().max_by(highest)
}

/// The endpoints without those that are left out this time because they are new; all when
/// none would be left.
fn after_slow_start(
    endpoints: &[EndpointView],
    candidates: Vec<usize>,
    random: &mut impl FnMut() -> u64,
) -> Vec<usize> {
    let mut kept = candidates.clone();
    kept.retain(|index| {
        let weight = endpoints.get(*index).map_or(1.0, |view| view.weight);
        weight >= 1.0 || unit_interval(random()) < weight
    });
    match kept.is_empty() {
        true => candidates,
        false => kept,
    }
}

#[cfg(test)]
mod tests;
