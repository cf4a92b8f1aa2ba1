//! A range of loopback addresses for the pods of one cluster.

use std::fmt;
use std::io;
use std::net::Ipv4Addr;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};

/// The second octets that clusters may claim. 127.0.0.0/16 belongs to the machine itself.
const CLAIMABLE: std::ops::RangeInclusive<u8> = 1..=254;

/// `127.N.0.0/16`, claimed for one cluster as long as this value (or its process) lives.
///
/// The claim is a socket in the kernel's abstract name space. That has exactly the right scope, one network namespace, as
/// have loopback addresses, and leaves no file behind.
#[derive(Debug)]
pub struct AddressRange {
    second_octet: u8,
    _claim: UnixListener,
}

impl AddressRange {
    /// Claims a range that no other cluster on this machine has.
    ///
    /// # Errors
    /// When all 254 are claimed, or the system refuses the socket.
    pub fn claim() -> io::Result<Self> {
        Self::claim_if(|_| true)
    }

    /// As [`AddressRange::claim`], only of octets that `is_usable` says yes to.
    ///
    /// # Errors
    /// As [`AddressRange::claim`].
    pub fn claim_if(is_usable: impl Fn(u8) -> bool) -> io::Result<Self> {
        for second_octet in CLAIMABLE.filter(|octet| is_usable(*octet)) {
            let name = SocketAddr::from_abstract_name(format!("coder-upgrade-testbed/127.{second_octet}.0.0/16"))?;
            match UnixListener::bind_addr(&name) {
                Ok(claim) => return Ok(Self { second_octet, _claim: claim }),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(error),
            }
        }
        Err(io::Error::new(io::ErrorKind::AddrInUse, "every range below 127.0.0.0/8 belongs to a running cluster"))
    }

    /// The `N` of `127.N.0.0/16`.
    #[must_use]
    pub fn second_octet(&self) -> u8 {
        self.second_octet
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/16", Ipv4Addr::new(127, self.second_octet, 0, 0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_claims_differ() {
        let (one, other) = (AddressRange::claim().unwrap(), AddressRange::claim().unwrap());
        assert_ne!(one.second_octet(), other.second_octet());
        assert_eq!(one.to_string(), format!("127.{}.0.0/16", one.second_octet()));
    }
}
