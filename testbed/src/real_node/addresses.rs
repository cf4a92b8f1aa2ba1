//! The addresses of one cluster with a real node: `10.N.0.0/16`.

use std::fs;
use std::io;
use std::net::Ipv4Addr;

use crate::control_plane::Network;

/// `10.N.0.0/16`, divided: a cable between machine and node, pods, Services.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Addresses {
    second_octet: u8,
}

impl Addresses {
    pub(crate) fn new(second_octet: u8) -> Self {
        Self { second_octet }
    }

    /// Whether the machine has no other way to `10.N.0.0/16`, such as that of a VPN.
    ///
    /// # Errors
    /// When its routes cannot be read.
    pub(crate) fn are_free(self) -> io::Result<bool> {
        Ok(!leads_to(&fs::read_to_string("/proc/net/route")?, self.at(0, 0), 16))
    }

    /// The machine's end of the cable; the API server and the chart repositories listen here.
    pub(crate) fn machine(self) -> Ipv4Addr {
        self.at(0, 1)
    }

    /// The node's end of the cable.
    pub(super) fn node(self) -> Ipv4Addr {
        self.at(0, 2)
    }

    pub(crate) fn pods(self) -> String {
        format!("{}/24", self.at(1, 0))
    }

    pub(super) fn services(self) -> String {
        format!("{}/17", self.at(128, 0))
    }

    /// The Service of the cluster's DNS.
    pub(super) fn dns(self) -> Ipv4Addr {
        self.at(128, 10)
    }

    /// The name of the machine's end of the cable, and of the cgroup of the pods.
    pub(super) fn name(self) -> String {
        format!("testbed{}", self.second_octet)
    }

    /// What the control plane has to know of it.
    pub(crate) fn network(self) -> Network {
        Network {
            api_server: self.machine(),
            node: self.node(),
            services: self.services(),
            kubernetes_service: self.at(128, 1),
        }
    }

    fn at(self, third: u8, fourth: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, self.second_octet, third, fourth)
    }
}

/// Whether a table of routes, as in `/proc/net/route`, has one other than the default that overlaps a network.
fn leads_to(table: &str, network: Ipv4Addr, prefix: u32) -> bool {
    let own_mask = u32::MAX << (32 - prefix);
    // Numbers are written in the byte order of the machine, addresses have that of the network.
    let number = |text: &str| u32::from_str_radix(text, 16).ok().map(|number| u32::from_be_bytes(number.to_ne_bytes()));
    table.lines().skip(1).any(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let (Some(to), Some(mask)) = (fields.get(1), fields.get(7)) else { return false };
        let (Some(to), Some(mask)) = (number(to), number(mask)) else { return false };
        mask != 0 && (to ^ network.to_bits()) & mask & own_mask == 0
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_that_the_machine_reaches_otherwise_is_not_free() {
        let table = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\n\
                     eth0\t00000000\t0100A8C0\t0003\t0\t0\t0\t00000000\n\
                     tun0\t0002070A\t00000000\t0001\t0\t0\t0\t00FFFFFF\n";
        assert!(leads_to(table, Ipv4Addr::new(10, 7, 0, 0), 16), "it holds 10.7.2.0/24");
        assert!(!leads_to(table, Ipv4Addr::new(10, 8, 0, 0), 16));
        let wide = table.replace("0002070A", "0000000A").replace("00FFFFFF", "000000FF");
        assert!(leads_to(&wide, Ipv4Addr::new(10, 8, 0, 0), 16), "it lies in 10.0.0.0/8");
    }
}
