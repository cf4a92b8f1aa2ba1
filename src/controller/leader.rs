//! One controller acts at a time. That saves work; it is not what keeps a release safe: the names of Jobs, the
//! resourceVersions and the runner's own Lease would do so even with two.

use kube::Client;
use kube_lease_manager::{LeaseManager, LeaseManagerBuilder, LeaseManagerError};
use tokio::{sync::watch, task::JoinHandle};

/// Name of the Lease in the controller's namespace.
const LEASE: &str = "coder-upgrade-operator";
/// Seconds after which a silent holder is taken for dead.
const DURATION: u64 = 15;
/// Seconds before that at which the holder renews.
const GRACE: u64 = 5;

/// The Lease, held for as long as this lives.
pub struct Leadership {
    held: watch::Receiver<bool>,
    renewal: JoinHandle<Result<LeaseManager, LeaseManagerError>>,
}

impl Leadership {
    /// Waits until the Lease is ours. `standing_by` is called once the API server has answered and the waiting begins.
    pub async fn acquire(
        client: Client,
        namespace: &str,
        identity: &str,
        standing_by: impl FnOnce(),
    ) -> Result<Self, LeaseManagerError> {
        let manager = LeaseManagerBuilder::new(client, LEASE)
            .with_namespace(namespace)
            .with_identity(identity)
            .with_duration(DURATION)
            .with_grace(GRACE)
            .build()
            .await?;
        standing_by();
        let (mut held, renewal) = manager.watch().await;
        // An error means that the renewal has ended; the caller then sees it as a loss.
        let _ = held.wait_for(|held| *held).await;
        Ok(Self { held, renewal })
    }

    /// Ends when the Lease is lost.
    pub fn lost(&self) -> impl Future<Output = ()> + Send + Sync + use<> {
        let mut held = self.held.clone();
        async move {
            let _ = held.wait_for(|held| !*held).await;
        }
    }

    /// Gives the Lease back, so that the next controller need not wait for its end.
    pub async fn release(self) {
        drop(self.held);
        if let Ok(Err(error)) = self.renewal.await {
            tracing::warn!(%error, "the Lease was not given back; the next controller waits {DURATION} s");
        }
    }
}
