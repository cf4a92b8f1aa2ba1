//! The addresses of pods: each pod gets one of 127.0.0.0/8, so that many pods can listen on the same port.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use super::NodeError;

/// Addresses at the start of the range that no pod gets, for people to use by hand.
const RESERVED: u32 = 10;
/// Addresses in a /16, less the last one (broadcast).
const SIZE: u32 = 0xffff;

/// The free and used addresses of one /16 below 127.0.0.0/8. Freed addresses are used again as late as possible, so that
/// somebody who still asks an old address does not reach a new pod.
#[derive(Debug)]
pub struct AddressPool {
    network: u32,
    used: BTreeSet<u32>,
    next: u32,
}

impl AddressPool {
    /// The pool `127.SECOND.0.0/16`. Zero is refused: 127.0.0.0/16 belongs to the machine itself.
    pub fn new(second_octet: u8) -> Result<Self, NodeError> {
        if second_octet == 0 {
            return Err(NodeError::PodRange { second_octet });
        }
        let network = u32::from(Ipv4Addr::new(127, second_octet, 0, 0));
        Ok(Self { network, used: BTreeSet::new(), next: RESERVED })
    }

    /// Takes `wanted` (the address a pod had before the node restarted) if it is free and ours, else the next free one;
    /// `None` if all are in use.
    pub fn take(&mut self, wanted: Option<Ipv4Addr>) -> Option<Ipv4Addr> {
        let wanted = wanted.map(u32::from).and_then(|address| address.checked_sub(self.network));
        let wanted = wanted.filter(|host| (RESERVED..SIZE).contains(host) && !self.used.contains(host));
        let host = if let Some(host) = wanted {
            host
        } else {
            let free = (self.next..SIZE).chain(RESERVED..self.next).find(|host| !self.used.contains(host))?;
            self.next = if free + 1 < SIZE { free + 1 } else { RESERVED };
            free
        };
        self.used.insert(host);
        Some(Ipv4Addr::from(self.network + host))
    }

    /// Gives an address back.
    pub fn release(&mut self, address: Ipv4Addr) {
        if let Some(host) = u32::from(address).checked_sub(self.network) {
            self.used.remove(&host);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_distinct_and_reused_late() {
        let mut pool = AddressPool::new(7).unwrap();
        let first = pool.take(None).unwrap();
        assert_eq!(first, Ipv4Addr::new(127, 7, 0, 10));
        assert_ne!(pool.take(None).unwrap(), first);
        pool.release(first);
        assert_ne!(pool.take(None).unwrap(), first);
        assert_eq!(pool.take(Some(first)), Some(first));
        assert_ne!(pool.take(Some(first)).unwrap(), first);
    }

    #[test]
    fn a_full_pool_has_none_left_and_foreign_addresses_are_ignored() {
        let mut pool = AddressPool::new(7).unwrap();
        assert_ne!(pool.take(Some(Ipv4Addr::new(127, 8, 0, 20))), Some(Ipv4Addr::new(127, 8, 0, 20)));
        while pool.take(None).is_some() {}
        let freed = Ipv4Addr::new(127, 7, 3, 3);
        pool.release(freed);
        assert_eq!(pool.take(None), Some(freed));
    }

    #[test]
    fn the_machines_own_range_is_refused() {
        assert!(AddressPool::new(0).is_err());
    }
}
