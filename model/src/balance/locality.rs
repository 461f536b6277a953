//! Locality: how near endpoints are, and how much goes farther when near ones are ejected.

use std::sync::Arc;

use crate::traffic::policy::LocalityPreference;
use crate::workload::{Locality, Workload};

/// Overprovisioning factor: the endpoints of a distance keep all of the work until more than
/// two of seven are ejected (the factor that Envoy's users know).
const OVERPROVISIONING: f64 = 1.4;

/// Location of a client or of an endpoint.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Location {
    /// Name of its node.
    pub node: Arc<str>,
    /// Region and zone of the node.
    pub locality: Locality,
}

impl From<&Workload> for Location {
    fn from(workload: &Workload) -> Self {
        Self {
            node: Arc::clone(&workload.node),
            locality: workload.locality.clone(),
        }
    }
}

/// Distance of an endpoint from a client by that preference, 0 the nearest. What isn't known
/// to be near is far.
pub fn distance(
    preference: LocalityPreference,
    client: &Location,
    endpoint: Option<&Location>,
) -> u8 {
    let known = |text: &Arc<str>| !text.is_empty();
    let same = |part: fn(&Location) -> &Arc<str>| {
        let there = endpoint.map(part);
        there.is_some_and(|there| known(there) && there == part(client))
    };
    let region = same(|location| &location.locality.region);
    // A zone's name means something in its region only; where no regions are known,
    // names of zones have to be enough.
    let regions = known(&client.locality.region);
    let zone = same(|location| &location.locality.zone) && (region || !regions);
    let node = same(|location| &location.node);
    match preference {
        LocalityPreference::Any => 0,
        LocalityPreference::Node if node => 0,
        LocalityPreference::Node if zone => 1,
        LocalityPreference::Node if region => 2,
        LocalityPreference::Node => 3,
        LocalityPreference::Zone if zone || node => 0,
        LocalityPreference::Zone if region => 1,
        LocalityPreference::Zone => 2,
    }
}

/// The distance to go, for a number from 0 up to 1 that is drawn: the nearest that has
/// endpoints, unless so many of them are ejected that a share of the work goes farther.
/// `ejections` has for each endpoint its distance, and whether it is ejected.
pub(crate) fn choose_distance(
    ejections: impl Iterator<Item = (u8, bool)> + Clone,
    mut draw: f64,
) -> u8 {
    let mut distances: Vec<u8> = ejections.clone().map(|(distance, _)| distance).collect();
    distances.sort_unstable();
    distances.dedup();
    let mut nearest = None;
    for distance in distances.iter().copied() {
        let here = ejections.clone().filter(|(other, _)| *other == distance);
        let all = here.clone().count();
        let healthy = here.filter(|(_, ejected)| !ejected).count();
        if healthy == 0 {
            continue;
        }
        nearest = nearest.or(Some(distance));
        let capacity = healthy as f64 / all as f64 * OVERPROVISIONING;
        if draw < capacity {
            return distance;
        }
        // What is left is spread over what is farther.
        draw = (draw - capacity) / (1.0 - capacity);
    }
    // Nobody has room enough, so nobody gets more than near.
    nearest.or(distances.first().copied()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn location(node: &str, zone: &str, region: &str) -> Location {
        Location {
            node: node.into(),
            locality: Locality {
                region: region.into(),
                zone: zone.into(),
            },
        }
    }

    #[test]
    fn nearer_is_nearer() {
        let client = location("n1", "a", "eu");
        let there = [
            location("n1", "a", "eu"),
            location("n2", "a", "eu"),
            location("n3", "b", "eu"),
            location("n4", "a", "us"),
        ];
        let distances =
            |preference| [0, 1, 2, 3].map(|i: usize| distance(preference, &client, there.get(i)));
        assert_eq!(distances(LocalityPreference::Node), [0, 1, 2, 3]);
        assert_eq!(distances(LocalityPreference::Zone), [0, 0, 1, 2]);
        assert_eq!(distances(LocalityPreference::Any), [0, 0, 0, 0]);
        assert_eq!(distance(LocalityPreference::Node, &client, None), 3);
    }

    #[test]
    fn what_is_not_known_is_not_near() {
        let nowhere = Location::default();
        let far = distance(LocalityPreference::Node, &nowhere, Some(&nowhere));
        assert_eq!(far, 3);
        let (here, there) = (location("n1", "a", ""), location("n2", "a", ""));
        assert_eq!(distance(LocalityPreference::Zone, &here, Some(&there)), 0);
    }

    #[test]
    fn work_goes_farther_as_far_as_the_near_are_ejected() {
        // Of ten near ones so many are ejected; ten more are far.
        let far_share = |ejected: usize| {
            let near = (0..10).map(move |i| (0u8, i < ejected));
            let standing = near.chain((0..10).map(|_| (2u8, false)));
            let draws = (0..1000).map(|i| f64::from(i) / 1000.0);
            draws
                .filter(|draw| choose_distance(standing.clone(), *draw) == 2)
                .count()
        };
        assert_eq!(far_share(0), 0);
        assert_eq!(far_share(2), 0, "within what may be lacking");
        assert_eq!(far_share(5), 300, "half of them carry 70 %");
        assert_eq!(far_share(10), 1000);
    }

    proptest! {
        #[test]
        fn the_distance_is_one_with_healthy_endpoints_where_there_is_any(
            standing in prop::collection::vec((0u8..4, any::<bool>()), 1..20), draw in 0.0f64..1.0,
        ) {
            let chosen = choose_distance(standing.iter().copied(), draw);
            prop_assert!(standing.iter().any(|(distance, _)| *distance == chosen));
            if standing.iter().any(|(_, ejected)| !ejected) {
                prop_assert!(standing.contains(&(chosen, false)));
            }
        }
    }
}
