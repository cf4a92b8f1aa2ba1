//! What a text of helm or of the API server means.
//!
//! helm ends with exit code 1 whatever happened, and its text is a chain of wrappers around one or several causes. So:
//! peel the wrappers, split the rest into its causes, look each up in one table, and act on the worst.

use crate::api::FailureClass;

/// One cause of a failure, as far as its text tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// Class of the cause, if a rule knows its text.
    pub class: Option<FailureClass>,
    /// Object that the text names, as Kind/name.
    pub object: Option<String>,
    /// Field that the text names, for example spec.selector.
    pub field: Option<String>,
}

/// The rules, in the order in which they are tried: the narrow ones first. A rule fits when the text holds all its parts,
/// in lower case.
const RULES: &[(&[&str], FailureClass)] = &[
    // The chart and the cluster do not fit.
    (&["chart requires kubeversion", "incompatible"], FailureClass::Incompatible),
    (&["resource mapping not found", "ensure crds are installed first"], FailureClass::Incompatible),
    (&["no matches for kind"], FailureClass::Incompatible),
    (&["removed kubernetes api"], FailureClass::Incompatible),
    // The chart, its repository, its registry.
    (&["no chart version found"], FailureClass::VersionNotFound),
    (&["no chart name found"], FailureClass::ChartInvalid),
    (&["could not locate a version matching provided version string"], FailureClass::VersionNotFound),
    (&["unable to locate any tags in provided repository"], FailureClass::VersionNotFound),
    (&["fetchreference", "on source", ": not found"], FailureClass::VersionNotFound),
    (&["tags/list", "404"], FailureClass::VersionNotFound),
    (&["manifest unknown"], FailureClass::VersionNotFound),
    (&["401 unauthorized"], FailureClass::RepositoryUnauthorized),
    (&["403 forbidden"], FailureClass::RepositoryUnauthorized),
    (&["response status code 401"], FailureClass::RepositoryUnauthorized),
    (&["response status code 403"], FailureClass::RepositoryUnauthorized),
    (&["basic credential not found"], FailureClass::RepositoryUnauthorized),
    (&["is not a valid chart repository or cannot be reached"], FailureClass::RepositoryUnreachable),
    (&["on source: get "], FailureClass::RepositoryUnreachable),
    (&["failed to fetch http"], FailureClass::RepositoryUnreachable),
    (&["does not appear to be a gzipped archive"], FailureClass::ChartInvalid),
    (&["chart.yaml file is missing"], FailureClass::ChartInvalid),
    (&["missing in charts/ directory"], FailureClass::ChartInvalid),
    (&["chart metadata is missing"], FailureClass::ChartInvalid),
    (&["validation: chart.metadata"], FailureClass::ChartInvalid),
    // The values and the templates.
    (&["values don't meet the specifications of the schema"], FailureClass::ValuesInvalid),
    (&["failed to parse", "json"], FailureClass::ValuesInvalid),
    (&["execution error at ("], FailureClass::RenderFailed),
    (&["yaml parse error on"], FailureClass::RenderFailed),
    (&["parse error at ("], FailureClass::RenderFailed),
    (&["executing \"", "at <"], FailureClass::RenderFailed),
    (&["error converting yaml to json"], FailureClass::RenderFailed),
    // The records of helm.
    (&["another operation (install/upgrade/rollback) is in progress"], FailureClass::ReleaseLocked),
    (&["release: already exists"], FailureClass::ReleaseLocked),
    (&["sh.helm.release.v1", "too long"], FailureClass::TooLarge),
    (&["sh.helm.release.v1", "may not be more than"], FailureClass::TooLarge),
    (&["request entity too large"], FailureClass::TooLarge),
    // The API server says no: these texts also stand inside of others, so they come late.
    (&["field is immutable"], FailureClass::Immutable),
    (&["updates to statefulset spec for fields other than"], FailureClass::Immutable),
    (&["invalid ownership metadata"], FailureClass::OwnershipMissing),
    (&["admission webhook", "denied the request"], FailureClass::PolicyDenied),
    (&["exceeded quota"], FailureClass::QuotaExceeded),
    (&["is forbidden: user "], FailureClass::Forbidden),
    (&["cannot change roleref"], FailureClass::Immutable),
    // Time ran out. helm names the object in some of these; a refused connection inside of a wait is the API server's.
    (&["not ready. status:"], FailureClass::RolloutTimedOut),
    (&["hooks failed"], FailureClass::HookFailed),
    (&["kubernetes cluster unreachable"], FailureClass::ApiUnavailable),
    (&["connection refused"], FailureClass::ApiUnavailable),
    (&["tls handshake timeout"], FailureClass::ApiUnavailable),
    (&["i/o timeout"], FailureClass::ApiUnavailable),
    (&["etcdserver:"], FailureClass::ApiUnavailable),
    (&["leader changed"], FailureClass::ApiUnavailable),
    (&["context deadline exceeded"], FailureClass::RolloutTimedOut),
    (&["timed out waiting for the condition"], FailureClass::RolloutTimedOut),
    (&["context canceled"], FailureClass::Interrupted),
    (&["is invalid:"], FailureClass::ObjectInvalid),
];

/// Wrappers that say what helm did about a failure. What follows them is the failure.
const WRAPPERS: &[&str] = &[
    "has been rolled back due to atomic being set: ",
    "has been rolled back due to rollback-on-failure being set: ",
    "has been uninstalled due to atomic being set: ",
    "has been uninstalled due to rollback-on-failure being set: ",
    "UPGRADE FAILED: ",
    "INSTALLATION FAILED: ",
];

/// helm's own words about a failure: what follows the last `Error:` at the beginning of a line. helm 4 also logs the
/// failure, escaped, before that line.
#[must_use]
pub fn helm_error(stderr: &str) -> &str {
    let start = stderr.rfind("\nError: ").map(|at| at + 1).or_else(|| stderr.starts_with("Error: ").then_some(0));
    stderr.get(start.map_or(0, |at| at + "Error: ".len())..).unwrap_or_default().trim()
}

/// The worst cause of a failure: one that time cannot cure rather than one that it can, and the first of those.
#[must_use]
pub fn worst(text: &str) -> Cause {
    let causes = causes(text);
    let rank = |cause: &Cause| match cause.class {
        // A wait that was cut short follows from another cause, if one is named.
        Some(FailureClass::RolloutTimedOut) => 1,
        Some(class) if class.retryable() => 2,
        Some(_) => 0,
        None => 3,
    };
    let mut worst = causes.iter().min_by_key(|cause| rank(cause)).cloned().unwrap_or(Cause {
        class: None,
        object: None,
        field: None,
    });
    // "context deadline exceeded" stands on a line of its own after the line that names the object.
    if worst.object.is_none() {
        worst.object = causes.iter().find(|cause| cause.class == worst.class).and_then(|cause| cause.object.clone());
    }
    worst
}

/// Every cause that a text names. Causes are joined by ` && ` or stand one per line; a text of which no line is known
/// is looked at as a whole.
#[must_use]
pub fn causes(text: &str) -> Vec<Cause> {
    let text = peel(text);
    let parts: Vec<Cause> = text.split(" && ").flat_map(str::lines).map(cause).collect();
    if parts.iter().any(|part| part.class.is_some()) {
        return parts.into_iter().filter(|part| part.class.is_some()).collect();
    }
    vec![cause(text)]
}

fn peel(text: &str) -> &str {
    WRAPPERS
        .iter()
        .filter_map(|wrapper| text.rfind(wrapper).map(|at| at + wrapper.len()))
        .max()
        .map_or(text, |at| &text[at..])
}

fn cause(text: &str) -> Cause {
    let lower = text.to_lowercase();
    let class = RULES.iter().find(|(parts, _)| parts.iter().all(|part| lower.contains(part))).map(|(_, class)| *class);
    Cause { class, object: object(text), field: field(text) }
}

/// The object that a text names, in the forms in which helm and the API server name them.
fn object(text: &str) -> Option<String> {
    // resource Deployment/coder-system/coder not ready
    if let Some(path) = text.split("resource ").nth(1).and_then(|rest| rest.split_whitespace().next()) {
        let mut parts = path.split('/');
        if let (Some(kind), Some(_), Some(name), None) = (parts.next(), parts.next(), parts.next(), parts.next()) {
            return Some(format!("{kind}/{name}"));
        }
    }
    // cannot patch "coder" with kind Deployment
    if let Some((before, after)) = text.split_once("\" with kind ")
        && let Some(name) = before.rsplit('"').next()
    {
        let kind = after.split(|c: char| !c.is_alphanumeric()).next().unwrap_or_default();
        return Some(format!("{kind}/{name}"));
    }
    // Deployment.apps "coder" is invalid, ServiceAccount "coder" in namespace "coder" exists
    for (marker, _) in text.match_indices("\" is invalid").chain(text.match_indices("\" in namespace")) {
        let Some((before, name)) = text[..marker].rsplit_once('"') else { continue };
        let kind = before.split_whitespace().next_back().unwrap_or_default().split('.').next().unwrap_or_default();
        if kind.chars().next().is_some_and(char::is_uppercase) {
            return Some(format!("{kind}/{name}"));
        }
    }
    None
}

/// The field that the API server names after "is invalid:", for example spec.selector. Its "spec: Forbidden" counts, too.
fn field(text: &str) -> Option<String> {
    let (_, rest) = text.split_once("\" is invalid: ")?;
    let rest = rest.trim_start_matches('[');
    let path = rest.split(": ").next()?;
    let plain = !path.is_empty() && path.chars().all(|c| c.is_alphanumeric() || ".[]-_/".contains(c));
    plain.then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use FailureClass::*;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::helm3_version(r#"chart "coder" matching 9.9.9 not found in r index. (try 'helm repo update'): no chart version found for coder-9.9.9"#, VersionNotFound)]
    #[case::oci_version(
        r#"failed to perform "FetchReference" on source: registry/chart/coder:9.9.9: not found"#,
        VersionNotFound
    )]
    #[case::oci_range("Could not locate a version matching provided version string >=3.0.0 <4", VersionNotFound)]
    #[case::password(r#"looks like "http://r" is not a valid chart repository or cannot be reached: failed to fetch http://r/index.yaml : 401 Unauthorized"#, RepositoryUnauthorized)]
    #[case::refused(r#"looks like "http://r" is not a valid chart repository or cannot be reached: Get "http://r/index.yaml": dial tcp 127.0.0.1:1: connect: connection refused"#, RepositoryUnreachable)]
    #[case::oci_refused(r#"failed to perform "FetchReference" on source: Get "https://r/v2/chart/coder/manifests/2.31.7": http: server gave HTTP response to HTTPS client"#, RepositoryUnreachable)]
    #[case::no_archive(
        "file 'x.tgz' does not appear to be a gzipped archive; got 'application/octet-stream'",
        ChartInvalid
    )]
    #[case::kubernetes(
        "chart requires kubeVersion: >=1.99.0 which is incompatible with Kubernetes v1.35.4",
        Incompatible
    )]
    #[case::schema(
        "values don't meet the specifications of the schema(s) in the following chart(s):\ncoder:\n- at '/coder/replicaCount': got string, want integer",
        ValuesInvalid
    )]
    #[case::fail(
        "execution error at (coder/templates/deployment.yaml:2:4): coder.tls.secretName is no longer supported",
        RenderFailed
    )]
    #[case::template4(
        "coder/templates/deployment.yaml:38:21\n  executing \"coder/templates/deployment.yaml\" at <$coder.image.pullSecrets>:\n    can't evaluate field pullSecrets in type interface {}",
        RenderFailed
    )]
    #[case::forbidden(r#"query: failed to query with labels: secrets is forbidden: User "system:serviceaccount:f:runner" cannot list resource "secrets" in API group "" in the namespace "f""#, Forbidden)]
    #[case::unreachable(r#"Kubernetes cluster unreachable: Get "https://127.0.0.1:1/version": dial tcp 127.0.0.1:1: connect: connection refused"#, ApiUnavailable)]
    #[case::locked("UPGRADE FAILED: another operation (install/upgrade/rollback) is in progress", ReleaseLocked)]
    #[case::cancelled("UPGRADE FAILED: context canceled", Interrupted)]
    #[case::waited3("UPGRADE FAILED: context deadline exceeded", RolloutTimedOut)]
    #[case::too_large(r#"create: failed to create: Secret "sh.helm.release.v1.coder.v2" is invalid: data: Too long: may not be more than 1048576 bytes"#, TooLarge)]
    fn texts_of_helm_have_their_class(#[case] text: &str, #[case] class: FailureClass) {
        assert_eq!(worst(text).class, Some(class));
    }

    #[test]
    fn the_object_and_the_field_are_named() {
        let waited = worst(
            "resource Deployment/coder-ns/coder not ready. status: InProgress, message: Replicas: 0/1\ncontext deadline exceeded",
        );
        assert_eq!((waited.class, waited.object.as_deref()), (Some(RolloutTimedOut), Some("Deployment/coder")));

        let patch = worst(
            r#"UPGRADE FAILED: cannot patch "coder" with kind Deployment: Deployment.apps "coder" is invalid: spec.selector: Invalid value: {"matchLabels":{}}: field is immutable"#,
        );
        assert_eq!(
            (patch.object.as_deref(), patch.field.as_deref()),
            (Some("Deployment/coder"), Some("spec.selector"))
        );

        let apply = worst(
            r#"server-side apply failed for object ns/timescale apps/v1, Kind=StatefulSet: StatefulSet.apps "timescale" is invalid: spec: Forbidden: updates to statefulset spec for fields other than 'replicas' are forbidden"#,
        );
        assert_eq!((apply.object.as_deref(), apply.field.as_deref()), (Some("StatefulSet/timescale"), Some("spec")));

        let owner = worst(
            r#"unable to continue with update: ServiceAccount "coder" in namespace "ns" exists and cannot be imported into the current release: invalid ownership metadata"#,
        );
        assert_eq!(owner.object.as_deref(), Some("ServiceAccount/coder"));
    }

    #[test]
    fn the_worst_of_several_causes_wins_inside_of_every_wrapper() {
        let text = r#"UPGRADE FAILED: release coder failed, and has been rolled back due to atomic being set: context deadline exceeded && cannot patch "a" with kind Service: Service "a" is invalid: spec.clusterIP: field is immutable"#;
        assert_eq!(causes(text).len(), 2);
        assert_eq!(worst(text).object.as_deref(), Some("Service/a"));
    }

    #[test]
    fn helm_says_it_last() {
        let stderr = "level=WARN msg=\"upgrade failed\" error=\"a\\nError: b\"\nError: UPGRADE FAILED: first line\nsecond line\n";
        assert_eq!(helm_error(stderr), "UPGRADE FAILED: first line\nsecond line");
        assert_eq!(helm_error("Error: x"), "x");
        assert_eq!(helm_error("no marker"), "no marker");
        assert_eq!(worst("no rule knows this"), Cause { class: None, object: None, field: None });
    }
}
