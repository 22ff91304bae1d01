//! How many connections there may be, in all and from one address.
//!
//! Of one address only connections without a registered agent count: an office of phones behind one
//! address registers and is out of the count, a flood never registers. An IPv6 client owns a /64, so that is what counts as one address there. Upstream's addresses
//! are exempt from the limit per address: Asterisk is one.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use ahash::RandomState;
use arc_swap::ArcSwap;
use dashmap::DashMap;
use ipnet::IpNet;

/// Counts the open connections that others have opened.
#[derive(Debug)]
pub(super) struct Admission {
    total: AtomicUsize,
    per_address: DashMap<IpAddr, usize, RandomState>,
    rules: ArcSwap<Rules>,
}

/// How many.
#[derive(Debug)]
struct Rules {
    total: usize,
    address: usize,
    exempt: Vec<IpNet>,
}

/// A place among all connections, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Place(Arc<Admission>);

/// A share of what one address may hold open, given back when it is dropped.
#[derive(Debug)]
pub(super) struct Share {
    admission: Arc<Admission>,
    client: IpAddr,
}

/// Why there is no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    Address,
    Total,
}

impl Admission {
    pub(super) fn new(total_limit: usize, address_limit: usize, exempt: Vec<IpNet>) -> Self {
        Self {
            total: AtomicUsize::new(0),
            per_address: DashMap::default(),
            rules: ArcSwap::from_pointee(Rules {
                total: total_limit,
                address: address_limit,
                exempt,
            }),
        }
    }

    /// Admits by other rules from now on; whoever is in stays.
    pub(super) fn change(&self, total: usize, address: usize, exempt: Vec<IpNet>) {
        self.rules.store(Arc::new(Rules {
            total,
            address,
            exempt,
        }));
    }

    /// Takes a place and a share (`None`: exempt); `make_room` is asked for a place when there is
    /// none.
    pub(super) fn admit(
        self: &Arc<Self>,
        ip: IpAddr,
        make_room: impl FnOnce() -> bool,
    ) -> Result<(Place, Option<Share>), Full> {
        let rules = self.rules.load();
        let share = if rules.exempt.iter().any(|net| net.contains(&ip)) {
            None
        } else {
            Some(self.share(client(ip), rules.address).ok_or(Full::Address)?)
        };
        let before = self.total.fetch_add(1, Ordering::Relaxed);
        let place = Place(Arc::clone(self));
        if before >= rules.total && !make_room() {
            return Err(Full::Total);
        }
        Ok((place, share))
    }

    fn share(self: &Arc<Self>, client: IpAddr, limit: usize) -> Option<Share> {
        let mut open = self.per_address.entry(client).or_default();
        if *open >= limit {
            return None;
        }
        *open += 1;
        Some(Share {
            admission: Arc::clone(self),
            client,
        })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.total.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let per_address = &self.admission.per_address;
        if let Some(mut open) = per_address.get_mut(&self.client) {
            *open = open.saturating_sub(1);
        }
        per_address.remove_if(&self.client, |_, open| *open == 0);
    }
}

/// What counts as one client.
fn client(ip: IpAddr) -> IpAddr {
    match ip {
        IpAddr::V4(_) => ip,
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() & !u128::from(u64::MAX)).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn admission(total: usize, address: usize) -> Arc<Admission> {
        let exempt = vec!["10.0.0.0/8".parse().unwrap()];
        Arc::new(Admission::new(total, address, exempt))
    }

    #[test]
    fn one_address_gets_its_share_and_upstream_more() {
        let admission = admission(10, 1);
        let phone: IpAddr = "192.0.2.1".parse().unwrap();
        let pbx: IpAddr = "10.0.0.1".parse().unwrap();
        let (_place, share) = admission.admit(phone, || false).unwrap();
        assert_eq!(admission.admit(phone, || false).err(), Some(Full::Address));
        let _first = admission.admit(pbx, || false).unwrap();
        let _second = admission.admit(pbx, || false).unwrap();
        drop(share);
        assert!(admission.admit(phone, || false).is_ok());
        assert_eq!(admission.per_address.len(), 0);
    }

    #[test]
    fn other_rules_hold_for_whoever_comes_next() {
        let admission = admission(10, 1);
        let phone: IpAddr = "192.0.2.1".parse().unwrap();
        let _first = admission.admit(phone, || false).unwrap();
        admission.change(2, 2, Vec::new());
        let _second = admission.admit(phone, || false).unwrap();
        let other: IpAddr = "10.0.0.1".parse().unwrap();
        assert_eq!(admission.admit(other, || false).err(), Some(Full::Total));
    }

    #[test]
    fn hosts_of_one_ipv6_network_are_one_client() {
        let admission = admission(10, 1);
        let _place = admission.admit("2001:db8::1".parse().unwrap(), || false);
        let beside = admission.admit("2001:db8::2".parse().unwrap(), || false);
        assert_eq!(beside.err(), Some(Full::Address));
    }

    #[test]
    fn a_full_house_asks_for_room() {
        let admission = admission(1, 10);
        let ip: IpAddr = "192.0.2.1".parse().unwrap();
        let _place = admission.admit(ip, || false).unwrap();
        assert_eq!(admission.admit(ip, || false).err(), Some(Full::Total));
        assert!(admission.admit(ip, || true).is_ok());
        assert_eq!(admission.total.load(Ordering::Relaxed), 1);
    }
}
