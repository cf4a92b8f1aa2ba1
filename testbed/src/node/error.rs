//! Why the node cannot go on.

use std::path::PathBuf;

use super::relation::is_unknown;

/// Errors of the process node.
#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    /// The image file cannot be used.
    #[error("image table {}: {message}; docs/test-bed.md shows the fields of a row", path.display())]
    Images {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The range of pod addresses cannot be used.
    #[error("pod addresses cannot be taken from 127.{second_octet}.0.0/16; choose a second octet from 1 to 255")]
    PodRange {
        /// The refused second octet.
        second_octet: u8,
    },
    /// A file or directory of the node cannot be used.
    #[error("{}: {source}", path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A server of the node cannot listen or goes wrong.
    #[error("the node's {server} server: {source}")]
    Listen {
        /// `log` or `control`.
        server: &'static str,
        /// The system's reason.
        source: std::io::Error,
    },
    /// A certificate or key cannot be used.
    #[error("the node's {what} cannot be used: {message}")]
    Tls {
        /// Certificate, key or authority.
        what: &'static str,
        /// The reason.
        message: String,
    },
    /// A URL in the configuration cannot be used.
    #[error("`{url}` is no URL of an API server; it looks like https://127.0.0.1:6443")]
    Url {
        /// The URL.
        url: String,
    },
    /// The HTTP client for probes cannot be made, or the control server does not answer.
    #[error("{what}: {source}")]
    Http {
        /// What was attempted.
        what: String,
        /// The reason.
        source: reqwest::Error,
    },
    /// The node may not read an object yet, although one of its pods refers to it; in a kubelet's words.
    #[error("failed to sync {kind} cache: timed out waiting for the condition")]
    NotSynced {
        /// `secret` or `configmap`.
        kind: &'static str,
    },
    /// The API server refused, or did not answer.
    #[error("failed to {operation} {object}: {source}")]
    Api {
        /// The attempted operation with the kind of its object.
        operation: &'static str,
        /// The object's name.
        object: String,
        /// The API server's words.
        source: Box<kube::Error>,
    },
}

impl NodeError {
    /// For `map_err` on a call to the API server.
    pub(super) fn api(operation: &'static str, object: &str) -> impl FnOnce(kube::Error) -> Self {
        let object = object.to_owned();
        move |source| Self::Api { operation, object, source: Box::new(source) }
    }

    /// For `map_err` on a call that reads what a pod refers to.
    pub(super) fn unread(kind: &'static str, object: &str) -> impl FnOnce(kube::Error) -> Self {
        let object = object.to_owned();
        move |source| match source {
            source if is_unknown(&source) => Self::NotSynced { kind },
            source => Self::Api { operation: "read", object: format!("{kind} \"{object}\""), source: Box::new(source) },
        }
    }

    /// For `map_err` on a file operation.
    pub(super) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}
