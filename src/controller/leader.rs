//! One controller acts at a time. That saves work; it is not what keeps a release safe: the names of Jobs, the
//! resourceVersions and the runner's own Lease would do so even with two.

use kube::Client;
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder, LeaseManagerError};
use tokio::{
    sync::watch,
    task::{JoinError, JoinHandle},
};

/// Name of the Lease in the controller's namespace.
const LEASE: &str = "coder-upgrade-operator";
/// Seconds after which a silent holder is taken for dead.
const DURATION: u64 = 15;
/// Seconds before that at which the holder renews.
const GRACE: u64 = 5;

/// The Lease, held for as long as this lives.
pub struct Leadership {
    held: watch::Receiver<bool>,
    renewal: JoinHandle<Renewal>,
}

/// How the task ended that renews the Lease.
type Renewal = Result<LeaseManager, LeaseManagerError>;

/// Why the Lease is not held.
#[derive(Debug, thiserror::Error)]
pub enum NotHeld {
    /// It could not be asked for.
    #[error(transparent)]
    Refused(#[from] LeaseManagerError),
    /// Another controller has it; two must not run.
    #[error("another controller has taken it")]
    Taken,
    /// Nothing renews it any more.
    #[error("the task that renews it has ended: {0}")]
    Ended(String),
}

impl NotHeld {
    fn ended(renewal: Result<Renewal, JoinError>) -> Self {
        Self::Ended(match renewal {
            Ok(Ok(_)) => "it gave the Lease back".into(),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        })
    }
}

impl Leadership {
    /// Waits until the Lease is ours. `standing_by` is called once the API server has answered and the waiting begins.
    pub async fn acquire(
        client: Client,
        namespace: &str,
        identity: &str,
        standing_by: impl FnOnce(),
    ) -> Result<Self, NotHeld> {
        let manager = LeaseManagerBuilder::new(client, LEASE)
            .with_namespace(namespace)
            .with_identity(identity)
            .with_duration(DURATION)
            .with_grace(GRACE)
            .build()
            .await?;
        standing_by();
        let (held, renewal) = manager.watch().await;
        let mut leadership = Self { held, renewal };
        leadership.until(true).await?;
        Ok(leadership)
    }

    /// Returns why the Lease is not held any more, once that is so.
    pub async fn lost(&mut self) -> NotHeld {
        self.until(false).await.err().unwrap_or(NotHeld::Taken)
    }

    /// Waits until the Lease is held, or is not. The error is the end of the task that renews it, which alone can tell.
    async fn until(&mut self, wanted: bool) -> Result<(), NotHeld> {
        if self.held.wait_for(|held| *held == wanted).await.is_ok() {
            return Ok(());
        }
        Err(NotHeld::ended((&mut self.renewal).await))
    }

    /// Gives the Lease back, so that the next controller need not wait for its end.
    pub async fn release(self) {
        drop(self.held);
        if let Ok(Err(error)) = self.renewal.await {
            tracing::warn!(%error, "the Lease was not given back; the next controller waits {DURATION} s");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_end_of_the_renewal_is_not_taken_for_another_controller() {
        let (tell, held) = watch::channel(true);
        let renewal = tokio::spawn(async move {
            drop(tell);
            Err(LeaseManagerError::InconsistentState("as asked for".into()))
        });
        let why = Leadership { held, renewal }.lost().await.to_string();
        assert!(why.starts_with("the task that renews it has ended: ") && why.ends_with("as asked for"), "{why}");
    }

    #[tokio::test]
    async fn a_lease_that_is_taken_is_lost() {
        let (tell, held) = watch::channel(true);
        let mut leadership = Leadership { held, renewal: tokio::spawn(std::future::pending()) };
        tell.send_replace(false);
        assert_eq!(leadership.lost().await.to_string(), "another controller has taken it");
    }
}
