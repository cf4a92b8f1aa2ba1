//! How long a deleted object keeps its address.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt;

use crate::supervisor::options::ReleaseDelay;

/// Annotation of a Service or an Ingress: its own delay instead of the cluster's, a duration or `never`.
pub(super) const ANNOTATION: &str = "testbed.coderupgrade.dev/release-delay";

/// The delay that the object asks for, if it asks for one. What cannot be read is told in the log and does not count.
pub(super) fn own_delay(object: &impl ResourceExt) -> Option<ReleaseDelay> {
    let text = object.annotations().get(ANNOTATION)?;
    let read = ReleaseDelay::parse(text);
    read.inspect_err(|error| tracing::warn!(object = object.name_any(), %error, "annotation {ANNOTATION}")).ok()
}

/// How long an object deleted at `deleted` still keeps its address; zero when its time has come, `None` for ever.
pub(super) fn remaining(deleted: Timestamp, now: Timestamp, delay: ReleaseDelay) -> Option<Duration> {
    let delay = match delay {
        ReleaseDelay::Never => return None,
        ReleaseDelay::After(Duration::ZERO) => return Some(Duration::ZERO),
        // The time of deletion is cut to whole seconds; a delay is never shorter than it should be.
        ReleaseDelay::After(delay) => delay + Duration::from_secs(1),
    };
    let passed = now.duration_since(deleted).max(SignedDuration::ZERO).unsigned_abs();
    Some(delay.saturating_sub(passed))
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::networking::v1::Ingress;
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_may_ask_for_a_delay_of_its_own() {
        let delay = |text: &str| {
            let ingress = json!({"metadata": {"annotations": {ANNOTATION: text}}});
            own_delay(&serde_json::from_value::<Ingress>(ingress).unwrap())
        };
        assert_eq!(delay("5s"), Some(ReleaseDelay::After(Duration::from_secs(5))));
        assert_eq!(delay("never"), Some(ReleaseDelay::Never));
        assert_eq!(delay("soon"), None);
        assert_eq!(own_delay(&Ingress::default()), None);
    }

    #[test]
    fn time_runs_from_the_deletion() {
        let deleted: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let after = |seconds| deleted + SignedDuration::from_secs(seconds);
        let delay = ReleaseDelay::After(Duration::from_secs(5));
        assert_eq!(remaining(deleted, after(2), delay), Some(Duration::from_secs(4)));
        assert_eq!(remaining(deleted, after(9), delay), Some(Duration::ZERO));
        assert_eq!(remaining(deleted, deleted, ReleaseDelay::default()), Some(Duration::ZERO));
        assert_eq!(remaining(deleted, after(9), ReleaseDelay::Never), None);
    }
}
