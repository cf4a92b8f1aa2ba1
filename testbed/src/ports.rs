//! Free ports on loopback.

use std::collections::BTreeSet;
use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::{Mutex, PoisonError};

/// What this process has chosen so far. The kernel soon gives a port again that nobody listens on yet: two servers that
/// start at the same time would be told the same.
static CHOSEN: Mutex<BTreeSet<u16>> = Mutex::new(BTreeSet::new());

/// `N` TCP ports that nobody listens on at 127.0.0.1 and that this process has not chosen before.
///
/// Another process may take one before it is used: who starts a server must be ready to ask again (see
/// [`crate::control_plane`]).
///
/// # Errors
/// When the system has no port to give.
pub fn free_ports<const N: usize>() -> io::Result<[u16; N]> {
    let mut ports = [0; N];
    for port in &mut ports {
        *port = loop {
            let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port();
            if CHOSEN.lock().unwrap_or_else(PoisonError::into_inner).insert(port) {
                break port;
            }
        };
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_port_is_chosen_twice() {
        let chosen: Vec<u16> = (0..500).flat_map(|_| free_ports::<2>().unwrap()).collect();
        assert_eq!(chosen.iter().collect::<BTreeSet<_>>().len(), chosen.len());
    }
}
