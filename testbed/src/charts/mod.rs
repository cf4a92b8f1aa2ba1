//! Chart repositories of the test bed: charts of ours packaged with the real helm, served over HTTP, HTTPS and OCI.
//!
//! - `catalog`: which charts are packaged at which versions (`tests/charts/repository.yaml`);
//! - `overlay`: one chart directory laid over another, for versions that are broken on purpose;
//! - `package`: `helm package` and `helm repo index`, kept until a source changes;
//! - `server`, `tls`: the repositories on loopback, with and without credentials and TLS;
//! - `hostile`: repositories that never end, lead elsewhere, or grow when they are read;
//! - `publish`: repositories of a single test, to which versions are added at run time;
//! - `oci`: a registry, on demand.

mod catalog;
mod error;
mod helm;
mod hostile;
mod oci;
mod overlay;
mod package;
mod publish;
mod server;
pub(crate) mod tls;

use std::path::{Path, PathBuf};

pub use catalog::{Catalog, Row};
pub use error::ChartError;
pub use hostile::Hostility;
pub use oci::{OciOptions, OciRegistry};
pub use package::package;
pub use publish::Repository;
pub use server::{ChartRepositories, ServerConfig, serve};
pub use tls::ServerIdentity;

/// The directory of the test charts, of the values that administrators give them and of the database's manifest.
#[must_use]
pub fn charts_dir() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/charts")
}
