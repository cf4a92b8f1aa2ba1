//! What can go wrong with the chart repositories.

use std::io;
use std::path::{Path, PathBuf};

/// Why charts could not be packaged or served.
#[derive(Debug, thiserror::Error)]
pub enum ChartError {
    /// A file or directory could not be read or written.
    #[error("cannot use {}: {source}", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A YAML file does not say what it should.
    #[error("{} is not valid: {problem}", path.display())]
    Yaml {
        /// The file.
        path: PathBuf,
        /// The first problem in it.
        problem: String,
    },
    /// A program could not be started at all.
    #[error("cannot start {}: {source}", program.display())]
    Start {
        /// The program.
        program: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Helm refused.
    #[error("helm {arguments} failed: {message}")]
    Helm {
        /// Its arguments.
        arguments: String,
        /// What it printed to standard error.
        message: String,
    },
    /// A certificate could not be made.
    #[error("cannot make a certificate: {0}")]
    Certificate(String),
    /// No password could be made.
    #[error("cannot make a password: {0}")]
    Random(io::Error),
    /// A password could not be hashed for the registry.
    #[error("cannot hash a password: {0}")]
    Hash(String),
    /// No loopback port could be bound.
    #[error("cannot listen on loopback: {0}")]
    Listen(io::Error),
    /// The OCI registry did not come up.
    #[error("the registry did not start: {problem}; its log is {}", log.display())]
    Registry {
        /// What happened instead.
        problem: String,
        /// The log of the registry.
        log: PathBuf,
    },
}

impl ChartError {
    /// For `map_err`: names the file that an I/O error is about.
    pub(super) fn at(path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::File { path: path.to_owned(), source }
    }
}
