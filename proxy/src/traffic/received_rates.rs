//! How often one pod is asked: the rate limits of its Services, counted where requests arrive. Whoever
//! has no proxy of its own, or a hostile one, comes by here all the same.
//!
//! A client's own proxy counts the same requests in a bucket of its own. This one has more room, so a
//! client that keeps to its limit there is never refused here.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use weft_model::traffic::ReceivingRateLimits;
use weft_model::traffic::token_bucket::{LocalRateLimit, TokenBucket};
use weft_model::workload::WorkloadUid;
use weft_model::{NamespacedName, SpiffeId};

use super::refusal::PolicyRefusal;
use crate::sync::lock;

/// The most buckets of clients that are in the mesh, of one pod.
const MOST_KNOWN: usize = 8192;
/// Of others: as many addresses as somebody has are as many clients.
const MOST_STRANGERS: usize = 2048;

/// A client, by what it can't say of itself.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) enum RateLimitedClient {
    /// A workload, by an address that only it has.
    Workload(WorkloadUid),
    /// Whoever has proven that identity, from an address that isn't known.
    Identity(SpiffeId),
    /// Nobody knows who; of IPv6 the network that one machine may have (RFC 6177).
    Address(IpAddr),
}

/// The requests that one pod gets.
#[derive(Debug, Default)]
pub(crate) struct ReceivedRates(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    of_all: HashMap<NamespacedName, TokenBucket>,
    known: HashMap<ClientOfService, TokenBucket>,
    strangers: HashMap<ClientOfService, TokenBucket>,
}

type ClientOfService = (NamespacedName, RateLimitedClient);

impl RateLimitedClient {
    /// A client of that address of which nothing else is known.
    pub(crate) fn stranger(address: IpAddr) -> Self {
        Self::Address(match address {
            IpAddr::V4(_) => address,
            IpAddr::V6(address) => {
                let network = u128::from(address) & !u128::from(u64::MAX);
                IpAddr::V6(network.into())
            }
        })
    }
}

impl ReceivedRates {
    /// Counts a request.
    ///
    /// # Errors
    /// When it comes too early.
    pub(crate) fn admit(
        &self,
        limits: &ReceivingRateLimits<'_>,
        client: &RateLimitedClient,
        now: Instant,
    ) -> Result<(), PolicyRefusal> {
        let mut table = lock(&self.0);
        let Table {
            of_all,
            known,
            strangers,
        } = &mut *table;
        let (clients, most) = match client {
            RateLimitedClient::Address(_) => (strangers, MOST_STRANGERS),
            _ => (known, MOST_KNOWN),
        };
        let of_client = |service: &NamespacedName| (service.clone(), client.clone());
        // What a client is refused by its own limit takes nothing from others.
        acquire(clients, most, &limits.of_client, of_client, now)
            .and_then(|()| {
                acquire(
                    of_all,
                    MOST_KNOWN,
                    &limits.of_all,
                    NamespacedName::clone,
                    now,
                )
            })
            .map_err(|retry_after| PolicyRefusal::ReceivingRateLimited { retry_after })
    }

    /// Forgets clients that have all of their rate again.
    pub(crate) fn forget_unused(&self, now: Instant) {
        let mut table = lock(&self.0);
        table
            .of_all
            .retain(|_, bucket| bucket.full_at(now).is_some());
        table
            .known
            .retain(|_, bucket| bucket.full_at(now).is_some());
        table
            .strangers
            .retain(|_, bucket| bucket.full_at(now).is_some());
    }

    #[cfg(test)]
    fn len(&self) -> [usize; 3] {
        let table = lock(&self.0);
        [table.of_all.len(), table.known.len(), table.strangers.len()]
    }
}

/// Takes a token of one of the limits, where there are any.
///
/// # Errors
/// When none has one; with the time until one has.
fn acquire<K: Clone + Eq + Hash>(
    buckets: &mut HashMap<K, TokenBucket>,
    most: usize,
    limits: &[(&NamespacedName, LocalRateLimit)],
    key: impl Fn(&NamespacedName) -> K,
    now: Instant,
) -> Result<(), Duration> {
    let mut soonest = None;
    for (service, limit) in limits {
        let key = key(service);
        if buckets.len() >= most && !buckets.contains_key(&key) {
            make_room(buckets, most / 2, now);
        }
        match buckets.entry(key).or_default().try_acquire(limit, now) {
            Ok(()) => return Ok(()),
            Err(wait) => soonest = Some(soonest.map_or(wait, |before: Duration| before.min(wait))),
        }
    }
    soonest.map_or(Ok(()), Err)
}

/// Forgets buckets until no more than that many are left: the fullest first, whose clients gain least
/// by it.
fn make_room<K: Clone + Eq + Hash>(
    buckets: &mut HashMap<K, TokenBucket>,
    left: usize,
    now: Instant,
) {
    buckets.retain(|_, bucket| bucket.full_at(now).is_some());
    let Some(beyond) = buckets.len().checked_sub(left).filter(|beyond| *beyond > 0) else {
        return;
    };
    let mut full: Vec<_> = buckets
        .values()
        .filter_map(|bucket| bucket.full_at(now))
        .collect();
    let (_, last, _) = full.select_nth_unstable(beyond - 1);
    let (last, mut forgotten) = (*last, 0);
    buckets.retain(|_, bucket| {
        let goes = forgotten < beyond && bucket.full_at(now).is_some_and(|full| full <= last);
        forgotten += usize::from(goes);
        !goes
    });
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    fn limit(requests: u32) -> LocalRateLimit {
        LocalRateLimit {
            requests,
            interval: Duration::from_secs(60),
            burst: requests,
        }
    }

    fn service(name: &str) -> NamespacedName {
        NamespacedName::new("shop", name)
    }

    fn pod(name: &str) -> RateLimitedClient {
        RateLimitedClient::Workload(name.into())
    }

    fn address(number: u32) -> RateLimitedClient {
        RateLimitedClient::stranger(Ipv4Addr::from(number).into())
    }

    /// How many of ten requests pass.
    fn passed(
        rates: &ReceivedRates,
        limits: &ReceivingRateLimits<'_>,
        client: &RateLimitedClient,
        now: Instant,
    ) -> usize {
        let ten = (0..10).filter(|_| rates.admit(limits, client, now).is_ok());
        ten.count()
    }

    #[test]
    fn each_client_has_its_own_and_all_together_have_one() {
        let (rates, now, web) = (ReceivedRates::default(), Instant::now(), service("web"));
        let limits = ReceivingRateLimits {
            of_client: vec![(&web, limit(3))],
            of_all: vec![(&web, limit(5))],
        };
        assert_eq!(passed(&rates, &limits, &pod("one"), now), 3);
        // What was refused to one has taken nothing from the rest.
        assert_eq!(passed(&rates, &limits, &pod("two"), now), 2);
        assert_eq!(passed(&rates, &limits, &address(9), now), 0);
        let refused = rates.admit(&limits, &pod("one"), now).unwrap_err();
        assert_eq!(refused.retry_after(), Some(Duration::from_secs(20)));
        assert_eq!(refused.flag().as_str(), "RATE_LIMITED");
        let none = ReceivingRateLimits::default();
        assert_eq!(passed(&rates, &none, &pod("one"), now), 10);
    }

    #[test]
    fn what_several_services_allow_adds_up() {
        let (rates, now) = (ReceivedRates::default(), Instant::now());
        let (web, api) = (service("web"), service("api"));
        let limits = ReceivingRateLimits {
            of_client: vec![(&web, limit(3)), (&api, limit(2))],
            of_all: vec![],
        };
        assert_eq!(passed(&rates, &limits, &pod("one"), now), 5);
    }

    #[test]
    fn addresses_of_one_network_of_ipv6_are_one_client() {
        let at = |address: &str| RateLimitedClient::stranger(address.parse().unwrap());
        assert_eq!(at("2001:db8::1"), at("2001:db8::ffff:1"));
        assert_ne!(at("2001:db8::1"), at("2001:db8:0:1::1"));
        assert_ne!(at("192.0.2.1"), at("192.0.2.2"));
        let network: Ipv6Addr = "2001:db8::".parse().unwrap();
        assert_eq!(
            at("2001:db8::1"),
            RateLimitedClient::Address(network.into())
        );
    }

    #[test]
    fn memory_is_bounded_and_strangers_push_out_nobody_who_is_known() {
        let (rates, now, web) = (ReceivedRates::default(), Instant::now(), service("web"));
        let limits = ReceivingRateLimits {
            of_client: vec![(&web, limit(3))],
            of_all: vec![],
        };
        assert_eq!(passed(&rates, &limits, &pod("one"), now), 3);
        // One that has used all is remembered before those that have asked once.
        assert_eq!(passed(&rates, &limits, &address(0), now), 3);
        for number in 1..10 * u32::try_from(MOST_STRANGERS).unwrap() {
            rates.admit(&limits, &address(number), now).unwrap();
            assert!(rates.len()[2] <= MOST_STRANGERS);
        }
        assert_eq!(passed(&rates, &limits, &address(0), now), 0);
        assert_eq!(passed(&rates, &limits, &pod("one"), now), 0);
        rates.forget_unused(now + Duration::from_secs(20));
        assert_eq!(rates.len(), [0, 1, 1]);
        rates.forget_unused(now + Duration::from_secs(60));
        assert_eq!(rates.len(), [0, 0, 0]);
    }
}
