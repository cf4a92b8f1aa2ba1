//! Which address belongs to whom.

use std::collections::HashMap;
use std::net::Ipv4Addr;

/// Networks for documentation (RFC 5737), then, should 762 not be enough, the one for benchmarks (RFC 2544). None of them
/// exists anywhere.
const NETWORKS: [(Ipv4Addr, u32); 4] = [
    (Ipv4Addr::new(203, 0, 113, 0), 256),
    (Ipv4Addr::new(198, 51, 100, 0), 256),
    (Ipv4Addr::new(192, 0, 2, 0), 256),
    (Ipv4Addr::new(198, 18, 0, 0), 2 << 16),
];

/// All addresses of a cluster. None is ever given to a second object by itself, so that a change shows.
#[derive(Debug, Default)]
pub(super) struct Addresses {
    /// How many addresses were looked at so far.
    next: u32,
    /// By UID of the object.
    held: HashMap<String, Ipv4Addr>,
}

/// Why an object gets no address.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Refused {
    #[error("the wanted address {0} belongs to another object")]
    Taken(Ipv4Addr),
    #[error("the wanted address `{0}` is not an IPv4 address")]
    NotAnAddress(String),
    #[error("all addresses have been given away; start another cluster")]
    Exhausted,
}

impl Addresses {
    /// The address of the object `uid`: `wanted` if given, else the one it has, else a new one.
    pub(super) fn assign(&mut self, uid: &str, wanted: Option<&str>) -> Result<Ipv4Addr, Refused> {
        let address = match (wanted, self.held.get(uid)) {
            (Some(wanted), _) => {
                let address = wanted.parse().map_err(|_| Refused::NotAnAddress(wanted.to_owned()))?;
                if self.held.iter().any(|(holder, held)| *held == address && holder != uid) {
                    return Err(Refused::Taken(address));
                }
                address
            }
            (None, Some(held)) => *held,
            (None, None) => self.fresh()?,
        };
        self.held.insert(uid.to_owned(), address);
        Ok(address)
    }

    /// The object is gone: its address may be wanted by another one.
    pub(super) fn release(&mut self, uid: &str) {
        self.held.remove(uid);
    }

    fn fresh(&mut self) -> Result<Ipv4Addr, Refused> {
        loop {
            let address = nth(self.next).ok_or(Refused::Exhausted)?;
            self.next += 1;
            if !self.held.values().any(|held| *held == address) {
                return Ok(address);
            }
        }
    }
}

/// The n-th usable address of all networks, without the first and the last of each.
fn nth(n: u32) -> Option<Ipv4Addr> {
    let mut left = n;
    for (network, size) in NETWORKS {
        let usable = size - 2;
        if left < usable {
            return Some(Ipv4Addr::from(u32::from(network) + 1 + left));
        }
        left -= usable;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_keeps_its_address_and_its_successor_gets_another() {
        let mut addresses = Addresses::default();
        let first = addresses.assign("a", None).unwrap();
        assert_eq!(addresses.assign("a", None), Ok(first));
        addresses.release("a");
        assert_ne!(addresses.assign("b", None), Ok(first));
    }

    #[test]
    fn a_wanted_address_is_given_unless_another_object_has_it() {
        let mut addresses = Addresses::default();
        let wanted = Ipv4Addr::new(203, 0, 113, 1);
        assert_eq!(addresses.assign("a", Some("203.0.113.1")), Ok(wanted));
        assert_eq!(addresses.assign("b", Some("203.0.113.1")), Err(Refused::Taken(wanted)));
        assert_ne!(addresses.assign("c", None), Ok(wanted));
        addresses.release("a");
        assert_eq!(addresses.assign("b", Some("203.0.113.1")), Ok(wanted));
        assert!(matches!(addresses.assign("d", Some("example.org")), Err(Refused::NotAnAddress(_))));
    }

    #[test]
    fn addresses_are_usable_ones_of_networks_that_do_not_exist() {
        assert_eq!(nth(0), Some(Ipv4Addr::new(203, 0, 113, 1)));
        assert_eq!(nth(253), Some(Ipv4Addr::new(203, 0, 113, 254)));
        assert_eq!(nth(254), Some(Ipv4Addr::new(198, 51, 100, 1)));
        assert_eq!(nth(762), Some(Ipv4Addr::new(198, 18, 0, 1)));
        assert_eq!(nth(u32::MAX), None);
    }
}
