//! The table of what the texts mean, and the only place that knows them.
#![allow(clippy::enum_glob_use)] // a table of most of them

use super::peel;
use crate::api::FailureClass::{self, *};

/// A text that is known by some of its words.
struct Rule {
    /// It fits when the text holds all of these. In lower case.
    parts: &'static [&'static str],
    /// What the text means.
    class: FailureClass,
    /// The text as people see it and search for it. Empty for another wording of the rule before.
    example: &'static str,
}

const fn rule(parts: &'static [&'static str], class: FailureClass, example: &'static str) -> Rule {
    Rule { parts, class, example }
}

/// The same, in other words that nobody needs to read about.
const fn also(parts: &'static [&'static str], class: FailureClass) -> Rule {
    Rule { parts, class, example: "" }
}

/// Class of a text about an object of that kind, if a rule knows it.
pub fn class(text: &str, kind: Option<&str>) -> Option<FailureClass> {
    let lower = text.to_lowercase();
    let rule = RULES.iter().flat_map(|rules| rules.iter());
    let class = rule.into_iter().find(|rule| rule.parts.iter().all(|part| lower.contains(part)))?.class;
    // Whatever cannot be changed about a volume is data.
    let data = matches!(kind, Some("PersistentVolumeClaim" | "PersistentVolume"));
    Some(if class == Immutable && data { ImmutableData } else { class })
}

/// Texts of a class as people see them, for the documentation.
pub fn examples(class: FailureClass) -> impl Iterator<Item = &'static str> {
    let rules = RULES.iter().flat_map(|rules| rules.iter());
    let known = rules.filter(move |rule| rule.class == class && !rule.example.is_empty()).map(|rule| rule.example);
    let wrapper = peel::SECOND.iter().filter(move |(_, wrapper)| *wrapper == class).map(|(words, _)| *words);
    wrapper.chain(known)
}

/// In the order in which they are tried: words of people (in a chart, in a policy) can hold any text, and the narrow rules
/// go before the wide ones.
const RULES: &[&[Rule]] =
    &[RENDERING, REFUSED_BY_RULES, RECORDS, CHARTS, APIS, OBJECTS, CONNECTION, DELETION, TIME, LAST];

/// The values and the templates.
const RENDERING: &[Rule] = &[
    rule(
        &["values don't meet the specifications of the schema"],
        ValuesInvalid,
        "values don't meet the specifications of the schema(s) in the following chart(s)",
    ),
    rule(&["failed to parse", "json"], ValuesInvalid, "failed to parse values.yaml: error converting YAML to JSON"),
    rule(&["execution error at ("], RenderFailed, "execution error at (coder/templates/coder.yaml:2:4): … is required"),
    rule(&["yaml parse error on"], RenderFailed, "YAML parse error on coder/templates/coder.yaml"),
    rule(
        &["parse error at ("],
        RenderFailed,
        "parse error at (coder/templates/coder.yaml:7): function \"x\" not defined",
    ),
    rule(
        &["executing \"", "at <"],
        RenderFailed,
        "executing \"coder/templates/coder.yaml\" at <.Values.coder.x.y>: nil pointer evaluating interface {}.y",
    ),
    also(&["template: ", "unclosed action"], RenderFailed),
    also(&["cannot parse template "], RenderFailed),
    rule(
        &["chart requires kubeversion", "incompatible"],
        Incompatible,
        "chart requires kubeVersion: >=1.99.0 which is incompatible with Kubernetes v1.35.4",
    ),
];

/// Policies, webhooks, quotas and rights.
const REFUSED_BY_RULES: &[Rule] = &[
    rule(
        &["failed calling webhook"],
        WebhookUnavailable,
        "Internal error occurred: failed calling webhook \"policy.example.com\": … connect: connection refused",
    ),
    rule(
        &["admission webhook", "denied the request"],
        PolicyDenied,
        "admission webhook \"policy.example.com\" denied the request: …",
    ),
    rule(
        &["validatingadmissionpolicy", "denied request"],
        PolicyDenied,
        "is forbidden: ValidatingAdmissionPolicy 'rules' with binding 'rules' denied request: …",
    ),
    rule(&["violates podsecurity"], PolicyDenied, "is forbidden: violates PodSecurity \"restricted:latest\": …"),
    rule(
        &["because it is being terminated"],
        NamespaceTerminating,
        "unable to create new content in namespace coder because it is being terminated",
    ),
    rule(
        &["exceeded quota:"],
        QuotaExceeded,
        "is forbidden: exceeded quota: compute, requested: …, used: …, limited: …",
    ),
    rule(&["failed quota:"], QuotaExceeded, "is forbidden: failed quota: compute: must specify limits.cpu"),
    rule(
        &["is forbidden: ", "maximum "],
        QuotaExceeded,
        "is forbidden: maximum storage usage per PersistentVolumeClaim is 5Gi, but request is 10Gi",
    ),
    also(&["is forbidden: ", "minimum "], QuotaExceeded),
    rule(
        &["only dynamically provisioned pvc can be resized"],
        ImmutableData,
        "is forbidden: only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize",
    ),
    rule(
        &["is forbidden: user "],
        Forbidden,
        "is forbidden: User \"system:serviceaccount:coder:runner\" cannot patch resource \"services\" in API group \"\" in the namespace \"coder\"",
    ),
    rule(
        &["is attempting to grant rbac permissions not currently held"],
        Forbidden,
        "is forbidden: user \"…\" is attempting to grant RBAC permissions not currently held",
    ),
    rule(
        &["the server has asked for the client to provide credentials"],
        Forbidden,
        "kubernetes cluster unreachable: the server has asked for the client to provide credentials",
    ),
];

/// helm's records of the release.
const RECORDS: &[Rule] = &[
    rule(
        &["another operation (install/upgrade/rollback) is in progress"],
        ReleaseLocked,
        "another operation (install/upgrade/rollback) is in progress",
    ),
    rule(&["release: already exists"], ReleaseLocked, "release: already exists"),
    rule(&["cannot re-use a name that is still in use"], ReleaseLocked, "cannot re-use a name that is still in use"),
    rule(&["cannot reuse a name that is still in use"], ReleaseLocked, "cannot reuse a name that is still in use"),
    rule(&["has no deployed releases"], HistoryBroken, "\"coder\" has no deployed releases"),
    rule(
        &["unable to find a previously successful release"],
        RollbackFailed,
        "unable to find a previously successful release when attempting to rollback",
    ),
    rule(&["release has no ", " version"], RollbackFailed, "release has no 0 version"),
    rule(
        &["the release named \"", "is already deleted"],
        ReleaseMissing,
        "the release named \"coder\" is already deleted",
    ),
    rule(&["release not loaded"], ReleaseMissing, "uninstall: Release not loaded: coder: release: not found"),
    also(&["release: not found"], ReleaseMissing),
    rule(
        &["sh.helm.release.v1", "too long"],
        TooLarge,
        "create: failed to create: Secret \"sh.helm.release.v1.coder.v2\" is invalid: data: Too long: may not be more than 1048576 bytes",
    ),
    also(&["sh.helm.release.v1", "may not be more than"], TooLarge),
    rule(&["request entity too large"], TooLarge, "Request entity too large: limit is 3145728"),
    rule(&["etcdserver: request is too large"], TooLarge, "etcdserver: request is too large"),
];

/// The chart, its repository, its registry.
const CHARTS: &[Rule] = &[
    rule(&["no chart version found"], VersionNotFound, "no chart version found for coder-9.9.9"),
    rule(&["no chart name found"], ChartInvalid, "no chart name found"),
    also(&["chart \"", "matching", "not found in"], VersionNotFound),
    rule(
        &["chart \"", "version \"", "not found in"],
        VersionNotFound,
        "chart \"coder\" version \"9.9.9\" not found in https://helm.coder.com/v2 repository",
    ),
    rule(
        &["could not locate a version matching provided version string"],
        VersionNotFound,
        "Could not locate a version matching provided version string >=3.0.0",
    ),
    rule(
        &["unable to locate any tags in provided repository"],
        VersionNotFound,
        "unable to locate any tags in provided repository",
    ),
    rule(
        &["fetchreference", "on source", ": not found"],
        VersionNotFound,
        "failed to perform \"FetchReference\" on source: ghcr.io/coder/chart/coder:9.9.9: not found",
    ),
    also(&["tags/list", "404"], VersionNotFound),
    also(&["manifest unknown"], VersionNotFound),
    rule(&["401 unauthorized"], RepositoryUnauthorized, "failed to fetch https://…/index.yaml : 401 Unauthorized"),
    rule(&["403 forbidden"], RepositoryUnauthorized, "failed to fetch https://…/index.yaml : 403 Forbidden"),
    rule(
        &["response status code 401"],
        RepositoryUnauthorized,
        "response status code 401: unauthorized: authentication required",
    ),
    also(&["response status code 403"], RepositoryUnauthorized),
    rule(&["basic credential not found"], RepositoryUnauthorized, "basic credential not found"),
    rule(
        &["is not a valid chart repository or cannot be reached"],
        RepositoryUnreachable,
        "looks like \"https://…\" is not a valid chart repository or cannot be reached",
    ),
    rule(
        &["failed to update the following repositories"],
        RepositoryUnreachable,
        "failed to update the following repositories",
    ),
    rule(&["no cached repo found"], RepositoryUnreachable, "no cached repo found. (try 'helm repo update')"),
    also(&["no repositories found"], RepositoryUnreachable),
    also(&["on source: get "], RepositoryUnreachable),
    rule(
        &["failed to fetch http"],
        RepositoryUnreachable,
        "failed to fetch https://…/coder-2.31.7.tgz : 404 Not Found",
    ),
    rule(
        &["does not appear to be a gzipped archive"],
        ChartInvalid,
        "file 'coder.tgz' does not appear to be a gzipped archive",
    ),
    rule(&["chart.yaml file is missing"], ChartInvalid, "Chart.yaml file is missing"),
    rule(&["missing in charts/ directory"], ChartInvalid, "found in Chart.yaml, but missing in charts/ directory"),
    also(&["chart metadata is missing"], ChartInvalid),
    rule(&["validation: chart.metadata"], ChartInvalid, "validation: chart.metadata.version is required"),
];

/// APIs that the cluster does not serve.
const APIS: &[Rule] = &[
    rule(
        &["current release manifest", "no matches for kind"],
        ApiRemoved,
        "unable to build kubernetes objects from current release manifest: … no matches for kind \"Ingress\" in version \"extensions/v1beta1\"",
    ),
    rule(
        &["current release manifest contains removed kubernetes api"],
        ApiRemoved,
        "current release manifest contains removed kubernetes api(s) for this kubernetes version",
    ),
    rule(
        &["no matches for kind"],
        DefinitionMissing,
        "resource mapping not found for name: \"coder\" …: no matches for kind \"Certificate\" in version \"cert-manager.io/v1\"",
    ),
    rule(&["ensure crds are installed first"], DefinitionMissing, "ensure CRDs are installed first"),
    rule(
        &["from current release manifest: error"],
        HistoryBroken,
        "unable to build kubernetes objects from current release manifest: error parsing",
    ),
];

/// The API server says no to an object.
const OBJECTS: &[Rule] = &[
    rule(
        &["invalid ownership metadata", "current value is"],
        OwnedByOther,
        "invalid ownership metadata; annotation validation error: key \"meta.helm.sh/release-name\" must equal \"coder\": current value is \"other\"",
    ),
    rule(
        &["invalid ownership metadata"],
        OwnershipMissing,
        "exists and cannot be imported into the current release: invalid ownership metadata; label validation error: missing key \"app.kubernetes.io/managed-by\"",
    ),
    rule(
        &["spec is immutable after creation"],
        ImmutableData,
        "PersistentVolumeClaim \"timescale-data\" is invalid: spec: Forbidden: spec is immutable after creation except resources.requests",
    ),
    rule(
        &["field can not be less than"],
        ImmutableData,
        "spec.resources.requests.storage: Forbidden: field can not be less than status.capacity",
    ),
    also(&["persistentvolumesource is immutable"], ImmutableData),
    rule(
        &["field is immutable when `immutable` is set"],
        Immutable,
        "data: Forbidden: field is immutable when `immutable` is set",
    ),
    rule(
        &["field is immutable"],
        Immutable,
        "Deployment.apps \"coder\" is invalid: spec.selector: Invalid value: …: field is immutable",
    ),
    rule(
        &["updates to statefulset spec for fields other than"],
        Immutable,
        "updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy' … are forbidden",
    ),
    rule(&["cannot change roleref"], Immutable, "roleRef: Invalid value: …: cannot change roleRef"),
    rule(&["may not change once set"], Immutable, "spec.clusterIPs[0]: Invalid value: …: may not change once set"),
    rule(
        &["primary clusterip can not be unset"],
        Immutable,
        "spec.clusterIPs[0]: Invalid value: …: primary clusterIP can not be unset",
    ),
    rule(&["order in patch list"], Immutable, "The order in patch list: … doesn't match $setElementOrder list"),
    rule(
        &["conflict occurred while applying object"],
        FieldConflict,
        "conflict occurred while applying object coder/coder apps/v1, Kind=Deployment: Apply failed with 1 conflict: conflict with \"kubectl\"",
    ),
    also(&["apply failed with", "conflict"], FieldConflict),
    rule(
        &["provided port is already allocated"],
        PortTaken,
        "spec.ports[0].nodePort: Invalid value: 30443: provided port is already allocated",
    ),
    rule(
        &["provided ip is already allocated"],
        AddressTaken,
        "spec.clusterIPs: Invalid value: …: failed to allocate IP 10.96.0.5: provided IP is already allocated",
    ),
    rule(
        &["provided port is not in the valid range"],
        ObjectInvalid,
        "provided port is not in the valid range. The range of valid ports is 30000-32767",
    ),
    rule(
        &["the provided network does not match the current range"],
        ObjectInvalid,
        "failed to allocate IP 1.2.3.4: the provided network does not match the current range",
    ),
    also(&["provided ip is not in the valid range"], ObjectInvalid),
    rule(&["object is being deleted"], StillDeleting, "object is being deleted: services \"coder\" already exists"),
    rule(
        &["operation cannot be fulfilled"],
        Conflict,
        "Operation cannot be fulfilled on deployments.apps \"coder\": the object has been modified",
    ),
    also(&["the object has been modified"], Conflict),
    rule(
        &["error validating data"],
        ObjectInvalid,
        "error validating \"\": error validating data: unknown field \"spec.x\"",
    ),
    rule(
        &["failed to create typed patch object"],
        ObjectInvalid,
        "failed to create typed patch object (coder/coder; apps/v1, Kind=Deployment): .spec.x: field not declared in schema",
    ),
    rule(
        &["cannot be handled as a"],
        ObjectInvalid,
        "Service in version \"v1\" cannot be handled as a Service: json: cannot unmarshal string into Go struct field",
    ),
    rule(
        &["resource name may not be empty"],
        ObjectInvalid,
        "could not get information about the resource ConfigMap \"\": resource name may not be empty",
    ),
    // helm 3 of a chart that has the object twice. After a rollback the same words are the rollback's.
    rule(&["no ", " with the name \"", "\" found"], ObjectInvalid, "no ConfigMap with the name \"coder\" found"),
    rule(&["namespaces \"", "not found"], ReferenceMissing, "namespaces \"coder-workspaces\" not found"),
];

/// The API server is not there, or has too much to do.
const CONNECTION: &[Rule] = &[
    rule(&["kubernetes cluster unreachable"], ApiUnavailable, "Kubernetes cluster unreachable"),
    rule(&["connection refused"], ApiUnavailable, "dial tcp 10.96.0.1:443: connect: connection refused"),
    rule(&["connection reset by peer"], ApiUnavailable, "read: connection reset by peer"),
    rule(&["tls handshake timeout"], ApiUnavailable, "net/http: TLS handshake timeout"),
    rule(&["i/o timeout"], ApiUnavailable, "dial tcp 10.96.0.1:443: i/o timeout"),
    rule(&["no route to host"], ApiUnavailable, "dial tcp 10.96.0.1:443: connect: no route to host"),
    rule(&["client connection lost"], ApiUnavailable, "http2: client connection lost"),
    rule(&["etcdserver:"], ApiUnavailable, "etcdserver: request timed out"),
    also(&["leader changed"], ApiUnavailable),
    rule(
        &["the server is currently unable to handle the request"],
        ApiUnavailable,
        "the server is currently unable to handle the request",
    ),
    rule(
        &["too many requests"],
        ApiUnavailable,
        "the server has received too many requests and has asked us to try again later",
    ),
];

/// helm could not delete.
const DELETION: &[Rule] = &[
    rule(
        &["uninstallation completed with"],
        UninstallFailed,
        "uninstallation completed with 1 error(s): context deadline exceeded",
    ),
    rule(&["failed to delete release:"], UninstallFailed, "failed to delete release: coder"),
    rule(
        &["failed to delete resource"],
        UninstallFailed,
        "failed to delete resource namespace=coder, name=web-ingress, kind=Ingress",
    ),
    rule(
        &["still exists. status:"],
        StillDeleting,
        "resource Service/coder/coder still exists. status: Terminating, message: Resource scheduled for deletion",
    ),
];

/// Time ran out, or helm was stopped. A hook names itself before that.
const TIME: &[Rule] = &[
    rule(&["context canceled"], Interrupted, "context canceled"),
    rule(&["has been cancelled"], Interrupted, "Release coder has been cancelled."),
    rule(&["hooks failed"], HookFailed, "pre-upgrade hooks failed: timed out waiting for the condition"),
    rule(&["failed pre-install"], HookFailed, "failed pre-install: timed out waiting for the condition"),
    rule(&["failed post-install"], HookFailed, "failed post-install: timed out waiting for the condition"),
    rule(&["job", "backofflimitexceeded"], HookFailed, "job coder-migrate failed: BackoffLimitExceeded"),
    rule(&["job", "deadlineexceeded"], HookFailed, "job coder-migrate failed: DeadlineExceeded"),
    also(&["job is failed:"], HookFailed),
    rule(
        &["not ready. status:"],
        RolloutTimedOut,
        "resource Deployment/coder/coder not ready. status: InProgress, message: Available: 0/1",
    ),
    rule(&["context deadline exceeded"], RolloutTimedOut, "context deadline exceeded"),
    rule(&["timed out waiting for the condition"], RolloutTimedOut, "timed out waiting for the condition"),
    also(&["would exceed context deadline"], RolloutTimedOut),
];

/// What nothing else explains.
const LAST: &[Rule] = &[
    rule(
        &["error converting yaml to json"],
        RenderFailed,
        "error converting YAML to JSON: yaml: line 7: mapping values are not allowed in this context",
    ),
    also(&["repo ", " not found"], RepositoryUnreachable),
    rule(
        &["is invalid:"],
        ObjectInvalid,
        "Service \"coder\" is invalid: spec.ports[0].port: Invalid value: 80000: must be between 1 and 65535",
    ),
];
