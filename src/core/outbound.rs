//! How runners reach repositories and registries outside of the cluster: a proxy, and authorities of a company.
//!
//! They are told of it in variables of their own ([`variable`]), not in `HTTP_PROXY` and its like: only what fetches charts
//! is to ask a proxy, and neither helm nor this program may ask one for the API server or for a pod.

use clap::Args;

/// The variables of a runner.
pub mod variable {
    /// Proxy for `http://`.
    pub const HTTP: &str = "RUNNER_HTTP_PROXY";
    /// Proxy for `https://` and `oci://`.
    pub const HTTPS: &str = "RUNNER_HTTPS_PROXY";
    /// Hosts that are asked without a proxy.
    pub const NONE: &str = "RUNNER_NO_PROXY";
    /// Certificates in PEM.
    pub const AUTHORITIES: &str = "RUNNER_EXTRA_CA";
}

/// Hosts that no proxy outside of the cluster can reach.
pub const INSIDE: &str = ".svc,.cluster.local,localhost";

/// Greatest size of the certificates, in bytes: they stand in every Job, and a program gets no longer variable than 128 KiB.
const AUTHORITIES_LIMIT: usize = 64 << 10;

/// The flags of the controller.
#[derive(Args, Clone, Debug, Default)]
#[command(next_help_heading = "How runners reach chart repositories")]
pub struct OutboundFlags {
    /// Proxy for http:// repositories, as <http://host:port>; without user and password, which every Job would show
    #[arg(long = "runner-http-proxy", env = "HTTP_PROXY", value_name = "URL", hide_env_values = true)]
    http: Option<String>,

    /// Proxy for https:// repositories and oci:// registries
    #[arg(long = "runner-https-proxy", env = "HTTPS_PROXY", value_name = "URL", hide_env_values = true)]
    https: Option<String>,

    /// Hosts, domains and networks that are asked without the proxy, with commas between; always those of the cluster
    #[arg(long = "runner-no-proxy", env = "NO_PROXY", value_name = "HOSTS")]
    none: Option<String>,

    /// Name of a Secret in the namespace of each release, of which the keys `HTTP_PROXY`, `HTTPS_PROXY` and `NO_PROXY` are taken
    /// instead: for a proxy with a password
    #[arg(long = "runner-proxy-secret", env = "RUNNER_PROXY_SECRET", value_name = "NAME")]
    secret: Option<String>,

    /// File of certificates (PEM) that runners trust beside those of their image, for example those of a proxy that
    /// intercepts TLS
    #[arg(long = "runner-ca-file", env = "RUNNER_CA_FILE", value_name = "FILE")]
    authorities: Option<std::path::PathBuf>,
}

impl OutboundFlags {
    /// The file of certificates.
    pub fn authorities(&self) -> Option<&std::path::Path> {
        self.authorities.as_deref().filter(|path| !path.as_os_str().is_empty())
    }

    /// What they say, with the text of the file of certificates. The error never quotes an address.
    pub fn outbound(&self, authorities: Option<&str>) -> Result<Outbound, NoOutbound> {
        let given = |text: &Option<String>| text.clone().filter(|text| !text.trim().is_empty());
        let authorities = authorities.map(certificates).transpose()?;
        let outbound = Outbound { authorities, ..Outbound::default() };
        if let Some(secret) = given(&self.secret) {
            return Ok(Outbound { secret: Some(secret), ..outbound });
        }
        let proxy = |text, flag| given(text).map(|text| checked(&text, flag)).transpose();
        Ok(Outbound {
            http: proxy(&self.http, "--runner-http-proxy (HTTP_PROXY)")?,
            https: proxy(&self.https, "--runner-https-proxy (HTTPS_PROXY)")?,
            none: given(&self.none),
            ..outbound
        })
    }
}

/// Why runners cannot be told so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NoOutbound {
    /// A password in an address.
    #[error(
        "{0} holds a user or a password, which would stand in every Job: put the address into a Secret of each namespace \
         and give its name to --runner-proxy-secret"
    )]
    User(&'static str),
    /// No address.
    #[error("{0} is no address of a proxy; give it as http://host:port")]
    Address(&'static str),
    /// No certificates.
    #[error("the file of --runner-ca-file holds no certificate in PEM")]
    NoCertificate,
    /// A private key.
    #[error("the file of --runner-ca-file holds a private key, which nobody but its owner may have")]
    PrivateKey,
    /// Too many certificates.
    #[error(
        "the certificates of --runner-ca-file take more than {} KiB: give only those that the image of the runner does not have",
        AUTHORITIES_LIMIT >> 10
    )]
    TooLarge,
}

/// What a runner is told.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outbound {
    /// Proxy for `http://`.
    pub http: Option<String>,
    /// Proxy for `https://` and `oci://`.
    pub https: Option<String>,
    /// Hosts that are asked without a proxy.
    pub none: Option<String>,
    /// Secret in the namespace of the release that holds these three instead.
    pub secret: Option<String>,
    /// Certificates in PEM.
    pub authorities: Option<String>,
}

fn checked(text: &str, flag: &'static str) -> Result<String, NoOutbound> {
    let bare = text.trim();
    let (scheme, rest) = bare.split_once("://").unwrap_or(("http", bare));
    if rest.contains('@') {
        return Err(NoOutbound::User(flag));
    }
    let host = rest.trim_end_matches('/');
    let plain = |c: char| c.is_ascii_alphanumeric() || ".-_:[]".contains(c);
    if !matches!(scheme, "http" | "https") || host.is_empty() || !host.chars().all(plain) {
        return Err(NoOutbound::Address(flag));
    }
    Ok(format!("{scheme}://{host}"))
}

/// The certificates of a PEM text, without what stands between them.
///
/// # Errors
/// If it has none, or too many, or a private key.
pub fn certificates(text: &str) -> Result<String, NoOutbound> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    const END: &str = "-----END CERTIFICATE-----";
    if text.contains("PRIVATE KEY-----") {
        return Err(NoOutbound::PrivateKey);
    }
    let mut found = String::new();
    for block in text.split(BEGIN).skip(1) {
        let Some((body, _)) = block.split_once(END) else { return Err(NoOutbound::NoCertificate) };
        found.push_str(BEGIN);
        found.push_str(body);
        found.push_str(END);
        found.push('\n');
    }
    match found.len() {
        0 => Err(NoOutbound::NoCertificate),
        length if length > AUTHORITIES_LIMIT => Err(NoOutbound::TooLarge),
        _ => Ok(found),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn flags(http: &str) -> OutboundFlags {
        OutboundFlags { http: Some(http.to_owned()), ..OutboundFlags::default() }
    }

    #[rstest]
    #[case("http://proxy:3128/", "http://proxy:3128")]
    #[case("proxy.example.com:3128", "http://proxy.example.com:3128")]
    #[case(" https://[fd00::1]:8080 ", "https://[fd00::1]:8080")]
    fn an_address_has_one_spelling(#[case] text: &str, #[case] spelled: &str) {
        assert_eq!(flags(text).outbound(None).unwrap().http.as_deref(), Some(spelled));
    }

    #[rstest]
    #[case("http://user:hunter2@proxy:3128")]
    #[case("hunter2@proxy")]
    #[case("http://proxy:3128/hunter2 x")]
    #[case("socks5://proxy:1080")]
    #[case("http://")]
    fn what_is_no_plain_address_is_refused_without_a_word_of_it(#[case] text: &str) {
        let error = flags(text).outbound(None).unwrap_err().to_string();
        assert!(error.contains("--runner-http-proxy") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn a_secret_takes_the_place_of_the_addresses() {
        let flags = OutboundFlags { secret: Some("proxy".into()), ..flags("http://u:p@x") };
        assert_eq!(flags.outbound(None).unwrap(), Outbound { secret: Some("proxy".into()), ..Outbound::default() });
        assert_eq!(self::flags("").outbound(None).unwrap(), Outbound::default(), "an empty variable is none");
    }

    #[test]
    fn only_certificates_are_taken_of_a_file() {
        let one = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n";
        let found = |text: &str| OutboundFlags::default().outbound(Some(text)).map(|outbound| outbound.authorities);
        assert_eq!(found(&format!("# a company\n{one}\nnote\n{one}")).unwrap(), Some(one.repeat(2)));
        assert_eq!(found("nothing").unwrap_err(), NoOutbound::NoCertificate);
        let key = "-----BEGIN PRIVATE KEY-----\nhunter2\n-----END PRIVATE KEY-----\n";
        assert_eq!(found(&format!("{one}{key}")).unwrap_err(), NoOutbound::PrivateKey);
        assert_eq!(found(&one.repeat(2000)).unwrap_err(), NoOutbound::TooLarge);
    }
}
