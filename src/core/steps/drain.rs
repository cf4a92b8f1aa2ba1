//! Slow-to-delete objects: how they are told, and who must act when one does not go at all.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::api::WaitingFor;

/// After that time an object that is still there is explained.
const PATIENCE: SignedDuration = SignedDuration::from_secs(60);

/// Who removes a finalizer, by a part of its name.
const HOLDERS: [(&str, &str); 12] = [
    (
        "service.kubernetes.io/load-balancer-cleanup",
        "the cloud's service controller removes it when it has released the load balancer: look at the events of the Service and at the cloud-controller-manager",
    ),
    (
        "service.k8s.aws/",
        "the AWS Load Balancer Controller removes it when the load balancer is deleted: look at its log",
    ),
    (
        "ingress.k8s.aws/",
        "the AWS Load Balancer Controller removes it when the load balancer is deleted: look at its log",
    ),
    ("elbv2.k8s.aws/", "the AWS Load Balancer Controller removes it when the target group is deleted: look at its log"),
    (
        "networking.gke.io/",
        "the ingress controller of GKE removes it when its load balancer is deleted: look at the events of the object",
    ),
    ("gateway.networking.k8s.io/", "the gateway controller removes it: look at its log"),
    ("kubernetes.io/pvc-protection", "it goes when the last pod that mounts the claim is gone"),
    ("kubernetes.io/pv-protection", "it goes when the claim that is bound to the volume is gone"),
    ("foregroundDeletion", "the garbage collector removes it when everything that the object owns is gone"),
    ("batch.kubernetes.io/job-tracking", "the Job controller removes it: look at the kube-controller-manager"),
    ("argocd.argoproj.io/", "Argo CD removes it: look at the Application that manages the object"),
    ("fluxcd.io", "Flux removes it: look at the controller that manages the object"),
];

/// When an object that is still there is to be explained.
pub fn explained_at(object: &WaitingFor) -> Timestamp {
    object.since.0.checked_add(PATIENCE).unwrap_or(Timestamp::MAX)
}

/// The object, with an explanation if it is still there after a while.
pub fn explained(object: &WaitingFor, now: &Time) -> WaitingFor {
    let due = explained_at(object) <= now.0;
    WaitingFor { explanation: due.then(|| explanation(object)), ..object.clone() }
}

fn explanation(object: &WaitingFor) -> String {
    if object.finalizers.is_empty() {
        return match object.kind.as_str() {
            "Pod" => "its containers have not ended yet: it ends after its grace period at the latest, unless its node is lost (kubectl describe pod)".into(),
            _ => "it is not marked for deletion by now, or is about to go: look at kubectl get -o yaml".into(),
        };
    }
    let each = object.finalizers.iter().map(|finalizer| match holder(finalizer) {
        Some(who) => format!("finalizer {finalizer}: {who}"),
        None => format!("finalizer {finalizer}: the controller that set it must remove it; look for its log"),
    });
    let each: Vec<String> = each.collect();
    format!("{}. The operator never removes a finalizer and goes on as soon as the object is gone", each.join("; "))
}

fn holder(finalizer: &str) -> Option<&'static str> {
    HOLDERS.iter().find(|(part, _)| finalizer.contains(part)).map(|(_, who)| *who)
}

/// What is waited for, in a line.
pub fn line(waiting: &[WaitingFor]) -> String {
    let each: Vec<String> = waiting
        .iter()
        .map(|object| {
            let held = match object.finalizers.as_slice() {
                [] => String::new(),
                finalizers => format!(", held by {}", finalizers.join(", ")),
            };
            format!("{}/{} (since {}{held})", object.kind, object.name, object.since.0)
        })
        .collect();
    format!("Waiting for {} to go: {}", count(waiting.len()), each.join("; "))
}

fn count(number: usize) -> String {
    if number == 1 { "1 object".into() } else { format!("{number} objects") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn service(finalizer: &str) -> WaitingFor {
        WaitingFor {
            kind: "Service".into(),
            name: "ingress-nginx".into(),
            uid: "u".into(),
            since: Time("2026-01-01T00:00:00Z".parse().unwrap()),
            finalizers: vec![finalizer.into()],
            explanation: None,
        }
    }

    #[test]
    fn who_must_act_is_said_after_a_while() {
        let object = service("service.kubernetes.io/load-balancer-cleanup");
        let at = |text: &str| Time(text.parse().unwrap());
        assert_eq!(explained(&object, &at("2026-01-01T00:00:59Z")).explanation, None);
        let late = explained(&object, &at("2026-01-01T00:01:00Z")).explanation.unwrap();
        assert!(late.contains("cloud-controller-manager") && late.contains("never removes a finalizer"), "{late}");
        let unknown = explained(&service("example.org/x"), &at("2026-01-02T00:00:00Z")).explanation.unwrap();
        assert!(unknown.contains("finalizer example.org/x: the controller that set it"), "{unknown}");
    }

    /// The time comes from a report, and the last one there is has none after it.
    #[test]
    fn no_time_is_too_far_away() {
        for far in ["9999-12-30T22:00:00.999999999Z", "-009999-01-02T01:59:59Z"] {
            let object = WaitingFor { since: Time(far.parse().unwrap()), ..service("a/b") };
            let _ = explained(&object, &Time(Timestamp::UNIX_EPOCH));
            assert!(explained_at(&object) >= object.since.0);
        }
    }

    #[test]
    fn the_line_names_each_with_its_finalizers() {
        assert_eq!(
            line(&[service("a/b")]),
            "Waiting for 1 object to go: Service/ingress-nginx (since 2026-01-01T00:00:00Z, held by a/b)"
        );
    }
}
