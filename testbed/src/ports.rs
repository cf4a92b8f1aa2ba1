//! Free ports on loopback.

use std::io;
use std::net::{Ipv4Addr, TcpListener};

/// `N` different TCP ports that nobody listens on at 127.0.0.1.
///
/// Somebody may take one before it is used: who starts a server must be ready to ask again (see
/// [`crate::control_plane`]).
///
/// # Errors
/// When the system has no port to give.
pub fn free_ports<const N: usize>() -> io::Result<[u16; N]> {
    let mut listeners = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        *port = listener.local_addr()?.port();
        listeners.push(listener); // kept open until all are chosen, so that they differ
    }
    Ok(ports)
}
