//! Addresses in one spelling, so that what is compared is what is asked.

use std::fmt;

/// Scheme, host, port and path of a repository or of a file in it.
///
/// Only what every program reads in the same way is an address: no user or password, no query, no `..`, no backslash. Host
/// and scheme are in lower case, the port of the scheme and slashes at the end are left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Address {
    scheme: Scheme,
    host: String,
    port: u16,
    path: Vec<String>,
}

/// How it is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::Display, strum::EnumString)]
#[strum(serialize_all = "lowercase")]
enum Scheme {
    Https,
    Http,
    Oci,
}

impl Scheme {
    fn port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https | Self::Oci => 443,
        }
    }
}

/// Why a text is no address: the end of a sentence that begins with the field. It never quotes the text, which may hold a
/// password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoAddress {
    /// Another scheme, or none.
    #[error("does not begin with https://, http:// or oci://")]
    Scheme,
    /// `user:password@`.
    #[error("holds a user or a password: name a Secret in spec.chart.credentialsSecretRef instead")]
    User,
    /// No host, or one with characters that hosts do not have.
    #[error("has no host that is a DNS name in ASCII or an IP address")]
    Host,
    /// A port that is no number.
    #[error("has a port that is no number between 1 and 65535")]
    Port,
    /// A query or a fragment.
    #[error("holds a ? or a #, which no repository's address has")]
    Query,
    /// Parts of the path that programs read differently.
    #[error("has a path with an empty part, with .. or with characters that must not be there")]
    Path,
}

impl Address {
    /// Reads an address.
    pub fn parse(text: &str) -> Result<Self, NoAddress> {
        let (scheme, rest) = text.split_once("://").ok_or(NoAddress::Scheme)?;
        let scheme: Scheme = scheme.to_ascii_lowercase().parse().map_err(|_| NoAddress::Scheme)?;
        if rest.contains(['?', '#']) {
            return Err(NoAddress::Query);
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.contains('@') {
            return Err(NoAddress::User);
        }
        let (host, port) = split_port(authority)?;
        let port = port.map_or(Ok(scheme.port()), |port| number(port).ok_or(NoAddress::Port))?;
        let path = path.trim_end_matches('/');
        let path: Vec<String> = if path.is_empty() { Vec::new() } else { path.split('/').map(Into::into).collect() };
        if !path.iter().all(|part| is_plain(part)) {
            return Err(NoAddress::Path);
        }
        Ok(Self { scheme, host, port, path })
    }

    /// Whether the other one is this, or lies below it: the same scheme, host and port, and a path that begins with the same
    /// whole parts.
    pub fn holds(&self, other: &Self) -> bool {
        (self.scheme, &self.host, self.port) == (other.scheme, &other.host, other.port)
            && other.path.starts_with(&self.path)
    }

    /// Whether whoever listens on the way can read what is sent there. A registry says so with `chart.plainHTTP`.
    pub fn is_unencrypted(&self) -> bool {
        self.scheme == Scheme::Http
    }

    /// Whether it is a registry.
    pub fn is_registry(&self) -> bool {
        self.scheme == Scheme::Oci
    }

    /// Host, with the port if it is not that of the scheme.
    pub fn authority(&self) -> String {
        if self.port == self.scheme.port() { self.host.clone() } else { format!("{}:{}", self.host, self.port) }
    }
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority())?;
        self.path.iter().try_for_each(|part| write!(f, "/{part}"))
    }
}

/// The host in lower case, and the text of the port.
fn split_port(authority: &str) -> Result<(String, Option<&str>), NoAddress> {
    if let Some(rest) = authority.strip_prefix('[') {
        let (host, port) = rest.split_once(']').ok_or(NoAddress::Host)?;
        let host: std::net::Ipv6Addr = host.parse().map_err(|_| NoAddress::Host)?;
        let port = if port.is_empty() { None } else { Some(port.strip_prefix(':').ok_or(NoAddress::Port)?) };
        return Ok((format!("[{host}]"), port));
    }
    let (host, port) = authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port)));
    let label = |label: &str| !label.is_empty() && label.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c));
    if !host.split('.').all(label) || !is_one_host(host) {
        return Err(NoAddress::Host);
    }
    Ok((host.to_ascii_lowercase(), port))
}

/// `127.1` and `0x7f000001` are IP addresses to some programs only.
fn is_one_host(host: &str) -> bool {
    let last = host.rsplit('.').next().unwrap_or_default();
    let numeric = last.starts_with(|c: char| c.is_ascii_digit());
    !numeric || host.parse::<std::net::Ipv4Addr>().is_ok()
}

fn number(port: &str) -> Option<u16> {
    let digits = !port.is_empty() && port.chars().all(|c| c.is_ascii_digit());
    port.parse().ok().filter(|port| digits && *port > 0)
}

/// Whether every program reads this part of a path in the same way. What `%` stands for may be neither a dot, nor a slash,
/// nor another `%`.
fn is_plain(part: &str) -> bool {
    let mut bytes = part.bytes();
    if matches!(part, "" | "." | "..") {
        return false;
    }
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let code = [bytes.next(), bytes.next()].map(|digit| digit.map(char::from).and_then(|c| c.to_digit(16)));
            let [Some(high), Some(low)] = code else { return false };
            let decoded = char::from_u32(high * 16 + low).unwrap_or_default();
            if decoded.is_control() || "./\\%".contains(decoded) {
                return false;
            }
        } else if !(byte.is_ascii_alphanumeric() || b"-._~+!$&'()*,;=:".contains(&byte)) {
            return false;
        }
    }
    true
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("https://helm.coder.com/v2", "https://helm.coder.com/v2")]
    #[case("HTTPS://Helm.Coder.com:443/v2/", "https://helm.coder.com/v2")]
    #[case("http://x:80", "http://x")]
    #[case("http://x:443/", "http://x:443")]
    #[case("oci://ghcr.io/coder/chart", "oci://ghcr.io/coder/chart")]
    #[case("oci://127.0.0.1:5000", "oci://127.0.0.1:5000")]
    #[case("https://[::0:1]:8443/a", "https://[::1]:8443/a")]
    #[case("https://x/a%2Bb", "https://x/a%2Bb")]
    fn one_spelling(#[case] text: &str, #[case] spelled: &str) {
        assert_eq!(Address::parse(text).unwrap().to_string(), spelled);
    }

    #[rstest]
    #[case("helm.coder.com", NoAddress::Scheme)]
    #[case("file:///charts", NoAddress::Scheme)]
    #[case("https://helm.coder.com@evil.example/", NoAddress::User)]
    #[case("https://user:pass@helm.coder.com", NoAddress::User)]
    #[case("https://evil.example\\@helm.coder.com/", NoAddress::User)]
    #[case("https://helm.coder.com\\.evil.example/", NoAddress::Host)]
    #[case("https://helm.coder.com./", NoAddress::Host)]
    #[case("https://hélm.coder.com/", NoAddress::Host)]
    #[case("https:///v2", NoAddress::Host)]
    #[case("https://0x7f000001/", NoAddress::Host)]
    #[case("https://127.1/", NoAddress::Host)]
    #[case("https://2130706433/", NoAddress::Host)]
    #[case("https://helm.coder.com\t/", NoAddress::Host)]
    #[case("https://x:/", NoAddress::Port)]
    #[case("https://x:+443/", NoAddress::Port)]
    #[case("https://x:0/", NoAddress::Port)]
    #[case("https://x:65536/", NoAddress::Port)]
    #[case("https://x/a?b", NoAddress::Query)]
    #[case("https://x#/a", NoAddress::Query)]
    #[case("https://x/a/../b", NoAddress::Path)]
    #[case("https://x/a/%2e%2E/b", NoAddress::Path)]
    #[case("https://x/a%2Fb", NoAddress::Path)]
    #[case("https://x/a%5cb", NoAddress::Path)]
    #[case("https://x/a%252e", NoAddress::Path)]
    #[case("https://x/a%zz", NoAddress::Path)]
    #[case("https://x/a%2", NoAddress::Path)]
    #[case("https://x/a%00", NoAddress::Path)]
    #[case("https://x//a", NoAddress::Path)]
    #[case("https://x/./a", NoAddress::Path)]
    #[case("https://x/a\\b", NoAddress::Path)]
    #[case("https://x/a b", NoAddress::Path)]
    fn what_programs_read_differently_is_no_address(#[case] text: &str, #[case] why: NoAddress) {
        assert_eq!(Address::parse(text).unwrap_err(), why);
    }

    #[rstest]
    #[case("https://x/a", true)]
    #[case("https://X:443/a/b", true)]
    #[case("https://x/ab", false)]
    #[case("https://x", false)]
    #[case("https://x/A", false)]
    #[case("http://x/a", false)]
    #[case("oci://x/a", false)]
    #[case("https://x:444/a", false)]
    #[case("https://y.x/a", false)]
    #[case("https://x.y/a", false)]
    fn below_means_whole_parts(#[case] other: &str, #[case] below: bool) {
        assert_eq!(Address::parse("https://x/a/").unwrap().holds(&Address::parse(other).unwrap()), below);
    }

    proptest! {
        #[test]
        fn a_spelling_is_final(text in "(https?|oci|HTTP)://[a-zA-Z0-9.:@\\[\\]-]{1,20}(/[a-z%.0-9A-F]{0,6}){0,3}") {
            if let Ok(address) = Address::parse(&text) {
                prop_assert_eq!(Address::parse(&address.to_string()), Ok(address));
            }
        }
    }
}
