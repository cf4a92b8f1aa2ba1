//! What the API server says, and what helm says about it.
#![allow(clippy::enum_glob_use)] // a table of many of them

use super::{TextRule, also, rule};
use crate::api::FailureClass::*;

/// Policies, webhooks, quotas and rights.
pub const REFUSED_BY_RULES: &[TextRule] = &[
    rule(
        &["failed calling webhook"],
        WebhookUnavailable,
        "Internal error occurred: failed calling webhook \"policy.example.com\": … connect: connection refused",
    ),
    also(&["conversion webhook for", "failed"], WebhookUnavailable),
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

/// APIs that the cluster does not serve.
pub const APIS: &[TextRule] = &[
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
pub const OBJECTS: &[TextRule] = &[
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
    // Before the conflicts about fields: helm 4 calls every 409 a conflict that "occurred while applying object", also when it
    // is about a ResourceQuota that others have updated in the same moment.
    rule(
        &["operation cannot be fulfilled"],
        Conflict,
        "Operation cannot be fulfilled on deployments.apps \"coder\": the object has been modified",
    ),
    also(&["the object has been modified"], Conflict),
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
pub const CONNECTION: &[TextRule] = &[
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
    rule(
        &["the server was unable to return a response in the time allotted"],
        ApiUnavailable,
        "the server was unable to return a response in the time allotted, but may still be processing the request",
    ),
    rule(
        &["request did not complete within requested timeout"],
        ApiUnavailable,
        "Timeout: request did not complete within requested timeout - context deadline exceeded",
    ),
    rule(
        &["an error on the server ("],
        ApiUnavailable,
        "an error on the server (\"Bad Gateway\") has prevented the request from succeeding",
    ),
    rule(
        &["resource quota evaluation timed out"],
        ApiUnavailable,
        "Internal error occurred: resource quota evaluation timed out",
    ),
    rule(&["server sent goaway"], ApiUnavailable, "http2: server sent GOAWAY and closed the connection"),
    also(&["http2: client connection force closed"], ApiUnavailable),
    also(&["stream error: stream id "], ApiUnavailable),
    rule(&["\"http", "\": unexpected eof"], ApiUnavailable, "Patch \"https://10.96.0.1:443/…\": unexpected EOF"),
    also(&["\"http", "\": eof"], ApiUnavailable),
    also(&["broken pipe"], ApiUnavailable),
    also(&["use of closed network connection"], ApiUnavailable),
    also(&["connection timed out"], ApiUnavailable),
    also(&["graceful shutdown goaway"], ApiUnavailable),
    also(&["server closed idle connection"], ApiUnavailable),
    also(&["net/http: request canceled"], ApiUnavailable),
    also(&["unexpected error when reading response body"], ApiUnavailable),
    also(&["rpc error: code = unavailable"], ApiUnavailable),
    also(&["dial tcp: lookup "], ApiUnavailable),
    also(&["continue parameter is too old"], ApiUnavailable),
    also(&["network is unreachable"], ApiUnavailable),
    also(&["client.timeout exceeded"], ApiUnavailable),
    also(&["net/http: timeout awaiting response headers"], ApiUnavailable),
    also(&["storage is (re)initializing"], ApiUnavailable),
    also(&["apiserver is shutting down"], ApiUnavailable),
    also(&["stale groupversion discovery"], ApiUnavailable),
    // A write that got no answer. helm ends its waits in the middle of a GET with the same words: those mean a rollout.
    rule(
        &["post \"http", "\": context deadline exceeded"],
        ApiUnavailable,
        "create: failed to create: Post \"https://10.96.0.1:443/…\": context deadline exceeded",
    ),
    also(&["patch \"http", "\": context deadline exceeded"], ApiUnavailable),
    also(&["put \"http", "\": context deadline exceeded"], ApiUnavailable),
    also(&["delete \"http", "\": context deadline exceeded"], ApiUnavailable),
];

/// What nothing else explains.
pub const LAST: &[TextRule] = &[
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
