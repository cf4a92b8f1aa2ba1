//! Requests that the node authorizer refuses until it knows the pod.
//!
//! A node may read what its pods refer to. The authorizer of the API server learns of a pod from a watch of its own, which may
//! show it later than ours does: for a moment the first requests for a new pod are refused with "no relationship found".

use std::time::Duration;

use kube::Error;
use tokio::time::sleep;

/// Pauses between attempts, a second in all: as long as a kubelet waits for its cache of an object before it gives up the
/// attempt (`pkg/kubelet/util/manager`, `objectCache.Get`).
const PAUSES: [Duration; 5] = [
    Duration::from_millis(20),
    Duration::from_millis(80),
    Duration::from_millis(200),
    Duration::from_millis(300),
    Duration::from_millis(400),
];

/// Does what `request` does, again for up to a second if the authorizer does not know yet that it may.
pub(super) async fn once_known<T, F>(request: impl Fn() -> F) -> Result<T, Error>
where
    F: Future<Output = Result<T, Error>>,
{
    for pause in PAUSES {
        match request().await {
            Err(error) if is_unknown(&error) => sleep(pause).await,
            done => return done,
        }
    }
    request().await
}

/// Whether the authorizer knows no pod of this node that refers to the object.
pub(super) fn is_unknown(error: &Error) -> bool {
    matches!(error, Error::Api(answer) if answer.code == 403 && answer.message.contains("no relationship found"))
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::ready;

    use kube::core::Status;

    use super::*;

    fn refused(code: u16, message: &str) -> Error {
        Error::Api(Status { code, message: message.to_owned(), ..Status::default() }.boxed())
    }

    #[tokio::test]
    async fn it_is_asked_again_for_a_second_at_most() {
        let unknown = || refused(403, "forbidden: no relationship found between node 'node-1' and this object");
        for (known_after, attempts, succeeds) in [(0, 1, true), (2, 3, true), (100, 6, false)] {
            let asked = Cell::new(0);
            let answer = once_known(|| {
                asked.set(asked.get() + 1);
                ready(if asked.get() > known_after { Ok(()) } else { Err(unknown()) })
            });
            assert_eq!((answer.await.is_ok(), asked.get()), (succeeds, attempts));
        }
        assert_eq!(PAUSES.iter().sum::<Duration>(), Duration::from_secs(1));
    }

    #[tokio::test]
    async fn other_answers_are_final() {
        for (code, message) in [(404, "not found"), (403, "forbidden: exceeded quota"), (500, "no relationship found")]
        {
            let asked = Cell::new(0);
            let answer = once_known(|| {
                asked.set(asked.get() + 1);
                ready(Err::<(), _>(refused(code, message)))
            });
            assert!(answer.await.is_err() && asked.get() == 1);
        }
    }
}
