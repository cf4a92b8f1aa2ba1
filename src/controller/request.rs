//! One request to the API server, and what can go wrong with it.

use std::{future::Future, time::Duration};

use crate::core::decide::Obstruction;

/// Longest time for one request: a connection that hangs must not hold a pass for ever.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// Why a pass could not be finished. Every one of these passes: the object is looked at again after a delay.
#[derive(Debug, thiserror::Error)]
pub enum ReconcileError {
    /// The API server refused or could not be reached.
    #[error("cannot {what}: {source}")]
    Api {
        /// What was tried, with the object's name.
        what: String,
        /// What the API server or the connection said.
        #[source]
        source: Box<kube::Error>,
    },
    /// The Job of the step cannot be created.
    #[error("{}", .0.message)]
    Obstructed(Box<Obstruction>),
    /// What was to be changed has been changed by somebody else meanwhile.
    #[error("{0} was changed meanwhile")]
    Changed(String),
    /// The API server did not answer in time.
    #[error("cannot {what}: no answer within {} s", REQUEST_TIMEOUT.as_secs())]
    Timeout {
        /// What was tried, with the object's name.
        what: String,
    },
}

/// What kept a pass from its end, in a word.
#[derive(Clone, Copy, Debug, PartialEq, Eq, strum::EnumIter, strum::IntoStaticStr)]
pub enum ErrorKind {
    /// The view was older than what is stored.
    Stale,
    /// The API server refused or could not be reached.
    Api,
    /// The Job of the step cannot be created.
    Obstructed,
    /// The API server did not answer in time.
    Timeout,
}

impl ReconcileError {
    /// Which kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Changed(_) => ErrorKind::Stale,
            Self::Api { .. } if self.is_stale() => ErrorKind::Stale,
            Self::Api { .. } => ErrorKind::Api,
            Self::Obstructed(_) => ErrorKind::Obstructed,
            Self::Timeout { .. } => ErrorKind::Timeout,
        }
    }

    /// Whether our view was older than what is stored. The watch brings the newer one.
    pub fn is_stale(&self) -> bool {
        match self {
            Self::Changed(_) => true,
            Self::Api { source, .. } => {
                matches!(&**source, kube::Error::Api(status) if status.is_conflict() || status.is_not_found())
            }
            _ => false,
        }
    }

    /// What the API server said, if it refused the request for good reason: the same request is refused again until
    /// somebody changes something.
    pub fn refusal(&self) -> Option<&str> {
        let Self::Api { source, .. } = self else { return None };
        let kube::Error::Api(status) = &**source else { return None };
        matches!(status.code, 400 | 403 | 413 | 422).then_some(&status.message)
    }

    /// What keeps the step from beginning, if that is what went wrong.
    pub fn obstruction(&self) -> Option<&Obstruction> {
        match self {
            Self::Obstructed(found) => Some(found),
            _ => None,
        }
    }
}

/// Waits for a request, but not for ever.
pub async fn bounded<T>(what: String, request: impl Future<Output = kube::Result<T>>) -> Result<T, ReconcileError> {
    match tokio::time::timeout(REQUEST_TIMEOUT, request).await {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(source)) => Err(ReconcileError::Api { what, source: Box::new(source) }),
        Err(_) => Err(ReconcileError::Timeout { what }),
    }
}
