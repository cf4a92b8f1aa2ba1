//! Where a chart comes from.

use crate::core::allowed::Address;

/// Where a chart comes from.
pub struct PackageSource {
    /// Address: http://, https:// or oci://.
    pub address: Address,
    /// Name of the chart.
    pub chart: String,
    /// What the repository asks for.
    pub credentials: Option<Credentials>,
    /// Where packages may lie that are listed in its index, and what is asked for there.
    pub archives: Option<(Address, Credentials)>,
    /// Certificates in PEM that the repository's is checked against.
    pub ca: Option<Vec<u8>>,
    /// Speak to a registry without TLS.
    pub plain_http: bool,
}

/// Credentials of a repository.
pub enum Credentials {
    /// User and password.
    Basic {
        /// The user.
        username: String,
        /// The password or token.
        password: String,
    },
    /// A `.dockerconfigjson`, for registries.
    Docker(Vec<u8>),
}
