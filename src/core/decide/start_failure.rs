//! What keeps the pod of a step from being created or started, in the words of the cluster, and what cures it.

use jiff::{SignedDuration, Timestamp};

use crate::api::{Blocked, BlockedReason};
use crate::core::rights::ACCOUNT;
use crate::core::text::redact;

/// After this a pod that neither starts nor says why counts as one that does not start. Pulling an image takes as long.
pub const PATIENCE: SignedDuration = SignedDuration::from_mins(2);

/// Longest message in bytes: the longest refusals name each container of a pod.
const LIMIT: usize = 1024;
/// Digits and letters that the Job controller appends to the name of a Job for the name of a pod.
const SUFFIX: usize = 5;

/// What an event says of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventFacts {
    /// UID of the Job or the pod that it is about.
    pub uid: String,
    /// It tells of something that went wrong.
    pub warning: bool,
    /// CamelCase word, for example `FailedCreate`.
    pub reason: String,
    /// What happened, cleaned by [`clean`].
    pub message: String,
}

/// What cures an obstacle.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cure {
    /// The object that must be there or must change, as Kind/name.
    pub object: Option<String>,
    /// The field that cures it.
    pub field: Option<&'static str>,
    /// What a person can do.
    pub next_step: String,
}

/// The text of an event or a refusal about a Job, without the random end of the name of each pod that was tried: the same
/// refusal has the same words each time.
pub fn clean(text: &str, job: &str) -> String {
    let text = redact::Redactor::default().clean(text);
    let named = format!("\"{job}-");
    let mut rest = text.as_str();
    let mut clean = String::with_capacity(text.len());
    while let Some(at) = rest.find(&named) {
        let after = &rest[at + named.len()..];
        match after.find('"') {
            Some(end) if end == SUFFIX => {
                clean.push_str(&rest[..at]);
                clean.push_str("of the runner");
                rest = &after[end + 1..];
            }
            _ => {
                clean.push_str(&rest[..at + named.len()]);
                rest = after;
            }
        }
    }
    clean.push_str(rest);
    redact::head(clean.split_whitespace().collect::<Vec<_>>().join(" ").as_str(), LIMIT)
}

/// The text of an event with the container that it is about, where it does not name that. `field` is the `fieldPath` of the
/// event's object: the kubelet says of a probe that failed only there which container it was, as `spec.initContainers{proxy}`.
pub fn with_container(text: &str, field: Option<&str>) -> String {
    let text = text.trim_end_matches([':', ' ']);
    let container = field.and_then(|path| path.split_once('{')?.1.strip_suffix('}'));
    match container.filter(|container| !text.contains(container)) {
        Some(container) => format!("container {container}: {text}"),
        None => text.to_owned(),
    }
}

/// Whether a person is needed: time cures that a node is added or an image is pulled at last, but nothing else.
pub fn needs_person(blocked: &Blocked, now: Timestamp) -> bool {
    blocked.reason != BlockedReason::PodNotStarted || now.duration_since(blocked.since.0) >= PATIENCE
}

/// What cures that a Job or a pod is refused.
pub fn refused(message: &str, namespace: &str) -> Cure {
    let object = |kind: &str, name: &str| Some(format!("{kind}/{name}"));
    let lower = message.to_lowercase();
    if let Some(account) = quoted(message, "serviceaccount ") {
        return Cure {
            object: object("ServiceAccount", account),
            field: Some("spec.job.serviceAccountName"),
            next_step: format!(
                "Create the ServiceAccount and its rights: coder-upgrade-operator rights -n {namespace}{} | kubectl apply -f -; \
                 or correct spec.job.serviceAccountName.",
                if account == ACCOUNT { String::new() } else { format!(" --service-account {account}") }
            ),
        };
    }
    if let Some(quota) = word_after(message, "exceeded quota: ").or_else(|| word_after(message, "failed quota: ")) {
        let asks = lower.contains("must specify");
        return Cure {
            object: object("ResourceQuota", quota),
            field: Some("spec.job.resources"),
            next_step: if asks {
                format!("Set in spec.job.resources what ResourceQuota {quota} asks every container for.")
            } else {
                format!("Raise ResourceQuota {quota}, remove what uses it up, or ask for less in spec.job.resources.")
            },
        };
    }
    if lower.contains("violates podsecurity") {
        return Cure {
            object: object("Namespace", namespace),
            field: Some("spec.job"),
            next_step: format!(
                "Correct what the message names in spec.job, or the labels pod-security.kubernetes.io/enforce of namespace \
                 {namespace}; the runner's pod keeps to the profile \"restricted\" by itself."
            ),
        };
    }
    if let Some(policy) = quoted(message, "ValidatingAdmissionPolicy ") {
        return Cure {
            object: object("ValidatingAdmissionPolicy", policy),
            field: Some("spec.job"),
            next_step: format!(
                "Set in spec.job what the policy asks for, or have {policy} let the runner's pods pass."
            ),
        };
    }
    if let Some(webhook) = quoted(message, "webhook ") {
        return Cure {
            object: object("Webhook", webhook),
            field: Some("spec.job"),
            next_step: format!(
                "Set in spec.job what the webhook asks for, or have whoever runs {webhook} let the runner's pods pass."
            ),
        };
    }
    if ["usage per container", "usage per pod", "limit to request ratio"].iter().any(|part| lower.contains(part)) {
        return Cure {
            object: None,
            field: Some("spec.job.resources"),
            next_step: format!("Set spec.job.resources to what the LimitRange of namespace {namespace} allows."),
        };
    }
    if let Some(class) = quoted(message, "no PriorityClass with name ") {
        return Cure {
            object: object("PriorityClass", class),
            field: None,
            next_step: format!("Create PriorityClass {class}."),
        };
    }
    if lower.contains("being terminated") {
        return Cure {
            object: object("Namespace", namespace),
            field: None,
            next_step: format!("Namespace {namespace} is being deleted: nothing can be created in it any more."),
        };
    }
    Cure {
        object: None,
        field: Some("spec.job"),
        next_step: "Cure what the message names; it is tried again by itself.".into(),
    }
}

/// What cures that a pod does not start.
pub fn not_started(message: &str, pod: &str, namespace: &str) -> Cure {
    let lower = message.to_lowercase();
    for (kind, before) in [("Secret", "secret "), ("ConfigMap", "configmap ")] {
        if let Some(name) = quoted(message, before).filter(|_| lower.contains("not found")) {
            let name = name.rsplit('/').next().unwrap_or(name);
            return Cure {
                object: Some(format!("{kind}/{name}")),
                field: None,
                next_step: format!("Create {kind} {name} in namespace {namespace}; the pod starts by itself then."),
            };
        }
    }
    if lower.contains("cannot be scheduled") || lower.contains("nodes are available") {
        return Cure {
            object: None,
            field: Some("spec.job.nodeSelector"),
            next_step:
                "Correct spec.job.nodeSelector, spec.job.tolerations or spec.job.resources, or add a node that fits."
                    .into(),
        };
    }
    if lower.contains("image") {
        return Cure {
            object: None,
            field: Some("spec.job.imagePullSecrets"),
            next_step:
                "Correct the image of the runner (--runner-image of the controller), or spec.job.imagePullSecrets."
                    .into(),
        };
    }
    let next_step = format!("Look at the pod and its node: kubectl describe pod --namespace {namespace} {pod}");
    Cure { object: None, field: None, next_step }
}

/// The text in quotes, single or double, that follows these words.
fn quoted<'a>(text: &'a str, before: &str) -> Option<&'a str> {
    let mut from = 0;
    while let Some(at) = text.get(from..)?.find(before) {
        let start = from + at + before.len();
        let rest = &text[start..];
        if let Some(quote) = rest.chars().next().filter(|quote| matches!(quote, '"' | '\'')) {
            let end = rest[1..].find(quote)?;
            return Some(&rest[1..=end]);
        }
        from = start;
    }
    None
}

/// The word that follows these words.
fn word_after<'a>(text: &'a str, before: &str) -> Option<&'a str> {
    let rest = &text[text.find(before)? + before.len()..];
    let word = rest.split([',', ':', ' ']).next().unwrap_or_default();
    (!word.is_empty()).then_some(word)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::account(
        r#"Error creating: pods "j-1-" is forbidden: error looking up service account ns/runner: serviceaccount "runner" not found"#,
        Some("ServiceAccount/runner"),
        "coder-upgrade-operator rights -n ns --service-account runner | kubectl apply -f -"
    )]
    #[case::quota(
        "is forbidden: failed quota: q: must specify limits.memory for: runner",
        Some("ResourceQuota/q"),
        "asks every container"
    )]
    #[case::used_up(
        "is forbidden: exceeded quota: few, requested: pods=1, used: pods=2, limited: pods=2",
        Some("ResourceQuota/few"),
        "Raise"
    )]
    #[case::security(
        r#"is forbidden: violates PodSecurity "restricted:latest": allowPrivilegeEscalation"#,
        Some("Namespace/ns"),
        "restricted"
    )]
    #[case::policy(
        "ValidatingAdmissionPolicy 'no-pods' with binding 'b' denied request: no",
        Some("ValidatingAdmissionPolicy/no-pods"),
        "policy"
    )]
    #[case::webhook(
        r#"admission webhook "pods.example.com" denied the request: no"#,
        Some("Webhook/pods.example.com"),
        "spec.job"
    )]
    #[case::range("is forbidden: maximum memory usage per Container is 1Mi, but limit is 2Gi", None, "LimitRange")]
    fn a_refusal_names_what_cures_it(#[case] message: &str, #[case] object: Option<&str>, #[case] next: &str) {
        let cure = refused(message, "ns");
        assert_eq!(cure.object.as_deref(), object);
        assert!(cure.next_step.contains(next), "{}", cure.next_step);
    }

    #[rstest]
    #[case(r#"MountVolume.SetUp failed for volume "plan" : secret "coder-plan" not found"#, Some("Secret/coder-plan"))]
    #[case(r#"couldn't find key x: configmap "settings" not found"#, Some("ConfigMap/settings"))]
    #[case("cannot be scheduled (0/1 nodes are available)", None)]
    fn what_a_pod_waits_for_is_named(#[case] message: &str, #[case] object: Option<&str>) {
        assert_eq!(not_started(message, "p", "ns").object.as_deref(), object);
    }

    #[rstest]
    #[case("Startup probe failed: ", Some("spec.initContainers{proxy}"), "container proxy: Startup probe failed")]
    #[case(
        "Init container proxy failed startup probe",
        Some("spec.initContainers{proxy}"),
        "Init container proxy failed startup probe"
    )]
    #[case("no node", None, "no node")]
    fn the_container_of_an_event_is_named(#[case] text: &str, #[case] field: Option<&str>, #[case] named: &str) {
        assert_eq!(with_container(text, field), named);
    }

    #[test]
    fn the_same_refusal_has_the_same_words() {
        let refusal = |end: &str| format!(r#"Error creating: pods "coder-plan-1-ab-{end}" is forbidden: no"#);
        assert_eq!(clean(&refusal("x7k2p"), "coder-plan-1-ab"), clean(&refusal("qqqqq"), "coder-plan-1-ab"));
        assert_eq!(clean(&refusal("x7k2p"), "coder-plan-1-ab"), "Error creating: pods of the runner is forbidden: no");
        assert_eq!(clean("pull https://user:pass@host/x\nfailed", "j"), "pull https://user:[redacted]@host/x failed");
        assert!(clean(&"é".repeat(2000), "j").len() <= LIMIT);
    }
}
