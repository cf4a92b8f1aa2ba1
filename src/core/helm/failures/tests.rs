//! The texts of helm 3.21.4 and 4.2.4 and of the API server, one row each; `tests/it/plan/texts.rs` has the real programs say
//! what of it they can be made to say.

use crate::core::object::KindName;
use FailureClass::*;
use proptest::prelude::*;
use rstest::rstest;
use strum::IntoEnumIterator;

use super::*;

const PATCH: &str = r#"cannot patch "coder" with kind Deployment: Deployment.apps "coder" is invalid: spec.selector: Invalid value: {"matchLabels":{"app":"b"}}: field is immutable"#;
const APPLY: &str = "server-side apply failed for object ns/timescale apps/v1, Kind=StatefulSet: StatefulSet.apps \"timescale\" is invalid: spec: Forbidden: updates to statefulset spec for fields other than 'replicas', 'ordinals', 'template', 'updateStrategy', 'revisionHistoryLimit', 'persistentVolumeClaimRetentionPolicy' and 'minReadySeconds' are forbidden";
const OWNED: &str = r#"ServiceAccount "coder" in namespace "ns" exists and cannot be imported into the current release: invalid ownership metadata; label validation error: missing key "app.kubernetes.io/managed-by": must be set to "Helm"; annotation validation error: missing key "meta.helm.sh/release-name": must be set to "coder"; annotation validation error: missing key "meta.helm.sh/release-namespace": must be set to "ns""#;

/// Class, object, namespace and field of the one cause of a text; what is not told is empty.
#[track_caller]
fn is(text: &str, class: FailureClass, object: &str, namespace: &str, field: &str) {
    let cause = worst(text);
    let part = &split::parts(peel::outer(text))[0];
    let told = |part: &Option<String>| part.clone().unwrap_or_default();
    let named = cause.object.as_ref().map(ToString::to_string);
    assert_eq!(
        (
            cause.class,
            told(&named).as_str(),
            told(&object::named(part).namespace).as_str(),
            told(&cause.field).as_str()
        ),
        (Some(class), object, namespace, field),
        "{text}\n{cause:?}"
    );
    assert_eq!(causes(text).len(), 1, "{text}\n{:#?}", causes(text));
}

#[rstest]
#[case(PATCH, Immutable, "Deployment/coder", "", "spec.selector")]
#[case(APPLY, Immutable, "StatefulSet/timescale", "ns", "spec")]
#[case(r#"failed to replace object: Service "cemanager" is invalid: spec.clusterIP: Invalid value: "": field is immutable"#, Immutable, "Service/cemanager", "", "spec.clusterIP")]
#[case(r#"cannot patch "setup" with kind Job: Job.batch "setup" is invalid: spec.template: Invalid value: {"labels":{"a":"b"},"Spec":{"Containers":[{"Name":"c","Command":["sh","-c","a \u0026\u0026 b && is forbidden: User x"],"Env":[{"Name":"TOKEN","Value":"hunter2"}]}]}}: field is immutable"#, Immutable, "Job/setup", "", "spec.template")]
#[case(
    "server-side apply failed for object ns/data /v1, Kind=PersistentVolumeClaim: PersistentVolumeClaim \"data\" is invalid: spec: Forbidden: spec is immutable after creation except resources.requests and volumeAttributesClassName for bound claims\n@@ -10,7 +10,7 @@\n   }\n  },\n  \"VolumeName\": \"pvc-1\",\n- \"StorageClassName\": \"hostpath\",\n+ \"StorageClassName\": \"other\",\n  \"VolumeMode\": \"Filesystem\",\n",
    ImmutableData,
    "PersistentVolumeClaim/data",
    "ns",
    "spec"
)]
#[case(r#"cannot patch "data" with kind PersistentVolumeClaim: PersistentVolumeClaim "data" is invalid: spec.resources.requests.storage: Forbidden: field can not be less than status.capacity"#, ImmutableData, "PersistentVolumeClaim/data", "", "spec.resources.requests.storage")]
#[case(
    r#"PersistentVolumeClaim "data" is invalid: spec.volumeName: Invalid value: "x": field is immutable"#,
    ImmutableData,
    "PersistentVolumeClaim/data",
    "",
    "spec.volumeName"
)]
#[case(r#"cannot patch "data" with kind PersistentVolumeClaim: persistentvolumeclaims "data" is forbidden: only dynamically provisioned pvc can be resized and the storageclass that provisions the pvc must support resize"#, ImmutableData, "PersistentVolumeClaim/data", "", "")]
#[case(
    r#"Service "lb" is invalid: spec.loadBalancerClass: Invalid value: "a/c": may not change once set"#,
    Immutable,
    "Service/lb",
    "",
    "spec.loadBalancerClass"
)]
#[case(r#"server-side apply failed for object ns/lb /v1, Kind=Service: Service "lb" is invalid: spec.clusterIPs[0]: Invalid value: []: primary clusterIP can not be unset"#, Immutable, "Service/lb", "ns", "spec.clusterIPs[0]")]
#[case(r#"cannot patch "c" with kind RoleBinding: RoleBinding.rbac.authorization.k8s.io "c" is invalid: roleRef: Invalid value: {"APIGroup":"rbac.authorization.k8s.io","Kind":"Role","Name":"b"}: cannot change roleRef"#, Immutable, "RoleBinding/c", "", "roleRef")]
#[case(
    "server-side apply failed for object ns/c /v1, Kind=ConfigMap: ConfigMap \"c\" is invalid: data: Forbidden: field is immutable when `immutable` is set",
    Immutable,
    "ConfigMap/c",
    "ns",
    "data"
)]
#[case(r#"cannot patch "coder" with kind Deployment: The order in patch list: [map[name:A value:x] map[name:A value:z]] doesn't match $setElementOrder list: [map[name:A]]"#, Immutable, "Deployment/coder", "", "")]
fn objects_that_refuse_the_change(
    #[case] text: &str,
    #[case] class: FailureClass,
    #[case] object: &str,
    #[case] namespace: &str,
    #[case] field: &str,
) {
    is(text, class, object, namespace, field);
    is(&format!("UPGRADE FAILED: {text}"), class, object, namespace, field);
}

#[rstest]
#[case("", "unable to continue with update: ")]
#[case("UPGRADE FAILED: ", "Unable to continue with update: ")]
#[case("", "Unable to continue with install: ")]
#[case(
    "INSTALLATION FAILED: ",
    "rendered manifests contain a resource that already exists. Unable to continue with install: "
)]
fn objects_without_an_owner(#[case] outer: &str, #[case] inner: &str) {
    is(&format!("{outer}{inner}{OWNED}"), OwnershipMissing, "ServiceAccount/coder", "ns", "");
}

#[rstest]
#[case(r#"annotation validation error: key "meta.helm.sh/release-name" must equal "coder": current value is "old""#)]
#[case(r#"annotation validation error: key "meta.helm.sh/release-name" must equal "coder": current value is "old"; annotation validation error: key "meta.helm.sh/release-namespace" must equal "ns": current value is "far""#)]
#[case(r#"annotation validation error: key "meta.helm.sh/release-namespace" must equal "ns": current value is "far""#)]
#[case(r#"label validation error: key "app.kubernetes.io/managed-by" must equal "Helm": current value is "kustomize"; annotation validation error: missing key "meta.helm.sh/release-name": must be set to "coder""#)]
fn objects_of_others(#[case] errors: &str) {
    let text = format!(
        r#"unable to continue with update: ConfigMap "c" in namespace "ns" exists and cannot be imported into the current release: invalid ownership metadata; {errors}"#
    );
    is(&text, OwnedByOther, "ConfigMap/c", "ns", "");
}

#[rstest]
#[case("UPGRADE FAILED: another operation (install/upgrade/rollback) is in progress", ReleaseLocked)]
#[case("release: already exists", ReleaseLocked)]
#[case("INSTALLATION FAILED: cannot re-use a name that is still in use", ReleaseLocked)]
#[case("INSTALLATION FAILED: release name check failed: cannot reuse a name that is still in use", ReleaseLocked)]
#[case(r#"UPGRADE FAILED: "coder" has no deployed releases"#, HistoryBroken)]
#[case(
    "UPGRADE FAILED: unable to build kubernetes objects from current release manifest: error parsing : error converting YAML to JSON: yaml: mapping values are not allowed in this context",
    HistoryBroken
)]
#[case("release: not found", ReleaseMissing)]
#[case("uninstall: Release not loaded: coder: release: not found", ReleaseMissing)]
#[case(r#"the release named "coder" is already deleted"#, ReleaseMissing)]
#[case("unable to find a previously successful release when attempting to rollback", RollbackFailed)]
#[case("release has no 0 version", RollbackFailed)]
#[case("failed to delete release: coder", UninstallFailed)]
#[case("uninstallation completed with 1 error(s): context deadline exceeded", UninstallFailed)]
#[case("Request entity too large: limit is 3145728", TooLarge)]
#[case("create: failed to create: etcdserver: request is too large", TooLarge)]
#[case("UPGRADE FAILED: context canceled", Interrupted)]
#[case("Release coder has been cancelled.", Interrupted)]
#[case("helm was killed by signal: 15 (SIGTERM)", Interrupted)]
#[case("helm was killed for lack of memory by signal: 9 (SIGKILL)", OutOfMemory)]
#[case("UPGRADE FAILED: context deadline exceeded", RolloutTimedOut)]
#[case("timed out waiting for the condition", RolloutTimedOut)]
#[case("client rate limiter Wait returned an error: context deadline exceeded", RolloutTimedOut)]
#[case("client rate limiter Wait returned an error: rate: Wait(n=1) would exceed context deadline", RolloutTimedOut)]
#[case("failed pre-install: 1 error occurred:\n\t* timed out waiting for the condition\n\n", HookFailed)]
#[case(
    "UPGRADE FAILED: pre-upgrade hooks failed: 1 error occurred:\n\t* job setup failed: BackoffLimitExceeded\n\n",
    HookFailed
)]
#[case("UPGRADE FAILED: post-upgrade hooks failed: job setup failed: DeadlineExceeded", HookFailed)]
#[case("job is failed: ns/setup", HookFailed)]
fn releases_and_hooks(#[case] text: &str, #[case] class: FailureClass) {
    is(text, class, "", "", "");
}

#[rstest]
#[case(
    "resource Deployment/ns/coder not ready. status: InProgress, message: Available: 0/1\ncontext deadline exceeded",
    RolloutTimedOut,
    "Deployment/coder"
)]
#[case(
    "failed post-install: resource Job/ns/setup not ready. status: InProgress, message: Job in progress\ncontext deadline exceeded",
    HookFailed,
    "Job/setup"
)]
#[case(
    "resource Service/ns/lb still exists. status: Terminating, message: Resource scheduled for deletion\ncontext deadline exceeded",
    StillDeleting,
    "Service/lb"
)]
#[case(
    "uninstallation completed with 1 error(s): resource ConfigMap/ns/c still exists. status: Terminating, message: Resource scheduled for deletion\ncontext deadline exceeded",
    UninstallFailed,
    "ConfigMap/c"
)]
#[case(
    "UPGRADE FAILED: failed to delete resource namespace=ns, name=c, kind=ConfigMap: etcd is full",
    UninstallFailed,
    "ConfigMap/c"
)]
#[case(
    "UPGRADE FAILED: failed to delete resource namespace=ns, name=c, kind=ConfigMap: configmaps \"c\" is forbidden: User \"u\" cannot delete resource \"configmaps\" in API group \"\" in the namespace \"ns\"",
    Forbidden,
    "ConfigMap/c"
)]
fn waits_name_their_object(#[case] text: &str, #[case] class: FailureClass, #[case] object: &str) {
    is(text, class, object, "ns", "");
}

#[rstest]
#[case(
    "UPGRADE FAILED: unable to build kubernetes objects from current release manifest: resource mapping not found for name: \"old\" namespace: \"\" from \"\": no matches for kind \"Ingress\" in version \"extensions/v1beta1\"\nensure CRDs are installed first",
    ApiRemoved,
    "Ingress/old"
)]
#[case(
    "current release manifest contains removed kubernetes api(s) for this kubernetes version and it is therefore unable to build the kubernetes objects for performing the diff. error from kubernetes: unable to recognize \"\": no matches for kind \"Ingress\" in version \"extensions/v1beta1\"",
    ApiRemoved,
    ""
)]
#[case(
    "UPGRADE FAILED: resource mapping not found for name: \"x\" namespace: \"\" from \"\": no matches for kind \"Certificate\" in version \"cert-manager.io/v1\"\nensure CRDs are installed first",
    DefinitionMissing,
    "Certificate/x"
)]
#[case(
    "unable to build kubernetes objects from new release manifest: unable to recognize \"\": no matches for kind \"Certificate\" in version \"cert-manager.io/v1\"",
    DefinitionMissing,
    ""
)]
#[case("chart requires kubeVersion: >=1.99.0 which is incompatible with Kubernetes v1.35.4", Incompatible, "")]
fn clusters_that_do_not_fit(#[case] text: &str, #[case] class: FailureClass, #[case] object: &str) {
    is(text, class, object, "", "");
}

#[rstest]
#[case(
    "chart \"coder\" matching 9.9.9 not found in r index. (try 'helm repo update'): no chart version found for coder-9.9.9",
    VersionNotFound
)]
#[case("chart \"coder\" version \"9.9.9\" not found in https://r repository", VersionNotFound)]
#[case("failed to perform \"FetchReference\" on source: registry/chart/coder:9.9.9: not found", VersionNotFound)]
#[case("Could not locate a version matching provided version string >=3.0.0 <4", VersionNotFound)]
#[case("unable to locate any tags in provided repository: oci://r/coder", VersionNotFound)]
#[case("chart \"coder\" matching not found in r index. (try 'helm repo update'): no chart name found", ChartInvalid)]
#[case(
    "no cached repo found. (try 'helm repo update'): open index.yaml: no such file or directory",
    RepositoryUnreachable
)]
#[case("repo coder not found", RepositoryUnreachable)]
#[case("no repositories found. You must add one before updating", RepositoryUnreachable)]
#[case("failed to update the following repositories: [http://r]", RepositoryUnreachable)]
#[case("failed to fetch http://r/x.tgz : 404 Not Found", RepositoryUnreachable)]
#[case(
    "looks like \"http://r\" is not a valid chart repository or cannot be reached: failed to fetch http://r/index.yaml : 401 Unauthorized",
    RepositoryUnauthorized
)]
#[case(
    "looks like \"http://r\" is not a valid chart repository or cannot be reached: Get \"http://r/index.yaml\": dial tcp 127.0.0.1:1: connect: connection refused",
    RepositoryUnreachable
)]
#[case(
    "failed to perform \"FetchReference\" on source: Get \"https://r/v2/chart/coder/manifests/2.31.7\": http: server gave HTTP response to HTTPS client",
    RepositoryUnreachable
)]
#[case(
    "failed to perform \"FetchReference\" on source: GET \"https://r/x\": response status code 403: denied",
    RepositoryUnauthorized
)]
#[case("file 'x.tgz' does not appear to be a gzipped archive; got 'application/octet-stream'", ChartInvalid)]
#[case(
    "An error occurred while checking for chart dependencies. You may need to run `helm dependency build` to fetch missing dependencies: found in Chart.yaml, but missing in charts/ directory: postgresql",
    ChartInvalid
)]
#[case(
    "failed to parse -: error converting YAML to JSON: yaml: mapping values are not allowed in this context",
    ValuesInvalid
)]
#[case(
    "execution error at (coder/templates/deployment.yaml:2:4): field is immutable && is forbidden: User",
    RenderFailed
)]
#[case(
    "YAML parse error on coder/templates/x.yaml: error converting YAML to JSON: yaml: mapping values are not allowed in this context",
    RenderFailed
)]
#[case("parse error at (coder/templates/x.yaml:7): function \"x\" not defined", RenderFailed)]
#[case(
    "coder/templates/deployment.yaml:38:21\n  executing \"coder/templates/deployment.yaml\" at <$coder.image.pullSecrets>:\n    can't evaluate field pullSecrets in type interface {}",
    RenderFailed
)]
#[case(
    "template: texts/templates/objects.yaml:1:3: executing \"texts/templates/objects.yaml\" at <tpl .Values.objects .>: error calling tpl: cannot parse template \"{{ .Values.x \": template: gotpl:1: unclosed action",
    RenderFailed
)]
fn charts_and_values(#[case] text: &str, #[case] class: FailureClass) {
    assert_eq!(worst(text).class, Some(class), "{:#?}", causes(text));
}

#[test]
fn a_schema_names_the_value() {
    let text = "values don't meet the specifications of the schema(s) in the following chart(s):\ncoder:\n- at '/coder/replicaCount': got string, want integer";
    is(text, ValuesInvalid, "", "", "coder.replicaCount");
}

#[rstest]
#[case(r#"create: failed to create: Secret "sh.helm.release.v1.coder.v2" is invalid: data: Too long: may not be more than 1048576 bytes"#, TooLarge, "Secret/sh.helm.release.v1.coder.v2", "", "data")]
#[case(
    "conflict occurred while applying object ns/coder apps/v1, Kind=Deployment: Apply failed with 1 conflict: conflict with \"kubectl\" using apps/v1: .spec.replicas",
    FieldConflict,
    "Deployment/coder",
    "ns",
    "spec.replicas"
)]
#[case(
    "conflict occurred while applying object ns/coder apps/v1, Kind=Deployment: Apply failed with 2 conflicts: conflicts with \"other\":\n- .spec.replicas\n- .spec.template.spec.containers[name=\"c\"].image",
    FieldConflict,
    "Deployment/coder",
    "ns",
    "spec.replicas"
)]
#[case(
    "server-side apply failed for object ns/c /v1, Kind=ConfigMap: configmaps \"c\" is forbidden: User \"u\" cannot patch resource \"configmaps\" in API group \"\" in the namespace \"ns\"",
    Forbidden,
    "ConfigMap/c",
    "ns",
    ""
)]
#[case(
    "Unable to continue with update: could not get information about the resource Service \"s\" in namespace \"ns\": services \"s\" is forbidden: User \"u\" cannot get resource \"services\" in API group \"\" in the namespace \"ns\"",
    Forbidden,
    "Service/s",
    "ns",
    ""
)]
#[case(
    "failed to create resource: roles.rbac.authorization.k8s.io \"esc\" is forbidden: user \"u\" (groups=[\"system:authenticated\"]) is attempting to grant RBAC permissions not currently held:\n{APIGroups:[\"\"], Resources:[\"pods\"], Verbs:[\"get\"]}",
    Forbidden,
    "Role/esc",
    "",
    ""
)]
#[case(
    "query: failed to query with labels: secrets is forbidden: User \"system:serviceaccount:f:runner\" cannot list resource \"secrets\" in API group \"\" in the namespace \"f\"",
    Forbidden,
    "",
    "f",
    ""
)]
#[case(
    "1 error occurred:\n\t* replicationcontrollers \"rc\" is forbidden: exceeded quota: q, requested: count/replicationcontrollers=1, used: count/replicationcontrollers=0, limited: count/replicationcontrollers=0\n\n",
    QuotaExceeded,
    "ReplicationController/rc",
    "",
    ""
)]
#[case(
    "failed to create resource: pods \"p\" is forbidden: failed quota: q: must specify limits.cpu",
    QuotaExceeded,
    "Pod/p",
    "",
    ""
)]
#[case(
    "persistentvolumeclaims \"data\" is forbidden: maximum storage usage per PersistentVolumeClaim is 5Gi, but request is 10Gi",
    QuotaExceeded,
    "PersistentVolumeClaim/data",
    "",
    ""
)]
#[case(
    "cannot patch \"c\" with kind ConfigMap: configmaps \"c\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'p' denied request: field is immutable",
    PolicyDenied,
    "ConfigMap/c",
    "",
    ""
)]
#[case(
    "server-side apply failed for object ns/c /v1, Kind=ConfigMap: admission webhook \"p.example.com\" denied the request: exceeded quota: of words",
    PolicyDenied,
    "ConfigMap/c",
    "ns",
    ""
)]
#[case(
    "server-side apply failed for object ns/c /v1, Kind=ConfigMap: Internal error occurred: failed calling webhook \"p.example.com\": failed to call webhook: Post \"https://127.0.0.1:1/x?timeout=1s\": dial tcp 127.0.0.1:1: connect: connection refused",
    WebhookUnavailable,
    "ConfigMap/c",
    "ns",
    ""
)]
#[case(
    "cannot patch \"c\" with kind ConfigMap: Internal error occurred: failed calling webhook \"p.example.com\": failed to call webhook: Post \"https://x.svc:443/?timeout=1s\": context deadline exceeded",
    WebhookUnavailable,
    "ConfigMap/c",
    "",
    ""
)]
#[case(
    "1 error occurred:\n\t* Service \"s\" is invalid: spec.ports[0].nodePort: Invalid value: 30123: provided port is already allocated\n\n",
    PortTaken,
    "Service/s",
    "",
    "spec.ports[0].nodePort"
)]
#[case(
    "failed to create resource: Service \"s\" is invalid: spec.clusterIPs: Invalid value: [\"10.96.73.155\"]: failed to allocate IP 10.96.73.155: provided IP is already allocated",
    AddressTaken,
    "Service/s",
    "",
    "spec.clusterIPs"
)]
#[case(
    "Service \"s\" is invalid: spec.clusterIPs: Invalid value: [\"1.2.3.4\"]: failed to allocate IP 1.2.3.4: the provided network does not match the current range",
    ObjectInvalid,
    "Service/s",
    "",
    "spec.clusterIPs"
)]
#[case(
    "failed to create resource: object is being deleted: services \"s\" already exists",
    StillDeleting,
    "Service/s",
    "",
    ""
)]
#[case(
    "create: failed to create: secrets \"s\" is forbidden: unable to create new content in namespace ns because it is being terminated",
    NamespaceTerminating,
    "Secret/s",
    "",
    ""
)]
#[case(
    "cannot patch \"coder\" with kind Deployment: Operation cannot be fulfilled on deployments.apps \"coder\": the object has been modified; please apply your changes to the latest version and try again",
    Conflict,
    "Deployment/coder",
    "",
    ""
)]
#[case(
    "conflict occurred while applying object ns/coder /v1, Kind=Service: Operation cannot be fulfilled on resourcequotas \"team\": the object has been modified; please apply your changes to the latest version and try again",
    Conflict,
    "Service/coder",
    "ns",
    ""
)]
#[case(
    "template: coder/templates/nodes.yaml:1:7: executing \"coder/templates/nodes.yaml\" at <lookup \"v1\" \"Node\" \"\" \"\">: error calling lookup: nodes is forbidden: User \"system:serviceaccount:ns:runner\" cannot list resource \"nodes\" in API group \"\" at the cluster scope",
    Forbidden,
    "",
    "",
    ""
)]
#[case(
    "failed to create resource: Service in version \"v1\" cannot be handled as a Service: json: cannot unmarshal string into Go struct field ServicePort.spec.ports.port of type int32",
    ObjectInvalid,
    "",
    "",
    "spec.ports.port"
)]
#[case(
    "failed to create resource: server-side apply failed for object ns/s /v1, Kind=Service: failed to create typed patch object (ns/s; /v1, Kind=Service): .spec.ports[port=\"eighty\",protocol=\"TCP\"].port: expected numeric (int or float), got string",
    ObjectInvalid,
    "Service/s",
    "ns",
    "spec.ports[port=\"eighty\",protocol=\"TCP\"].port"
)]
#[case(
    "server-side apply failed for object ns/d apps/v1, Kind=Deployment: failed to create typed patch object (ns/d; apps/v1, Kind=Deployment): errors:\n  .spec.template.spec.containers[name=\"c\"].env[name=\"B\"].value: expected string, got &value.valueUnstructured{Value:true}\n  .spec.template.spec.containers[name=\"c\"].env: duplicate entries for key [name=\"A\"]",
    ObjectInvalid,
    "Deployment/d",
    "ns",
    "spec.template.spec.containers[name=\"c\"].env[name=\"B\"].value"
)]
#[case(
    "error validating \"\": error validating data: ValidationError(Service.spec): unknown field \"x\" in io.k8s.api.core.v1.ServiceSpec",
    ObjectInvalid,
    "",
    "",
    ""
)]
#[case(
    "failed to create resource: server-side apply failed for object nosuch/x /v1, Kind=ConfigMap: namespaces \"nosuch\" not found",
    ReferenceMissing,
    "ConfigMap/x",
    "nosuch",
    ""
)]
#[case(
    "Kubernetes cluster unreachable: Get \"https://127.0.0.1:1/version\": dial tcp 127.0.0.1:1: connect: connection refused",
    ApiUnavailable,
    "",
    "",
    ""
)]
#[case(
    "kubernetes cluster unreachable: the server has asked for the client to provide credentials",
    Forbidden,
    "",
    "",
    ""
)]
#[case("cannot patch \"s\" with kind Service: etcdserver: request timed out", ApiUnavailable, "Service/s", "", "")]
#[case("Get \"https://10.96.0.1:443/api\": net/http: TLS handshake timeout", ApiUnavailable, "", "", "")]
fn the_api_server_says_no_or_not_now(
    #[case] text: &str,
    #[case] class: FailureClass,
    #[case] object: &str,
    #[case] namespace: &str,
    #[case] field: &str,
) {
    is(text, class, object, namespace, field);
}

fn classes(text: &str) -> Vec<Option<FailureClass>> {
    causes(text).into_iter().map(|cause| cause.class).collect()
}

#[rstest]
#[case::joined(format!("UPGRADE FAILED: {PATCH} && {APPLY}"))]
#[case::lines(format!("{PATCH}\n{APPLY}"))]
#[case::list(format!("2 errors occurred:\n\t* {PATCH}\n\t* {APPLY}\n\n"))]
#[case::atomic(format!("UPGRADE FAILED: release coder failed, and has been rolled back due to atomic being set: {PATCH} && {APPLY}"))]
#[case::atomic_install(format!("release coder failed, and has been uninstalled due to rollback-on-failure being set: {PATCH}\n{APPLY}"))]
#[case::logged(format!("level=WARN msg=\"upgrade failed\" error=\"x\"\n{PATCH}\n{APPLY}"))]
fn several_refused_objects(#[case] text: String) {
    let causes = causes(&text);
    let objects: Vec<_> = causes.iter().map(|cause| (cause.class, cause.object.clone())).collect();
    assert_eq!(
        objects,
        [
            (Some(Immutable), Some(KindName::new("Deployment", "coder"))),
            (Some(Immutable), Some(KindName::new("StatefulSet", "timescale")))
        ]
    );
    assert_eq!(
        causes[0].message,
        r#"Deployment.apps "coder" is invalid: spec.selector: Invalid value: {"matchLabels":{"app":"b"}}: field is immutable"#
    );
}

#[test]
fn several_complaints_about_one_object() {
    let text = r#"cannot patch "d" with kind Deployment: Deployment.apps "d" is invalid: [spec.template.spec.containers[0].name: Invalid value: "C_C": a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-' (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?'), spec.selector: Invalid value: {"matchLabels":{"app":"b"}}: field is immutable]"#;
    let causes = causes(text);
    assert_eq!(classes(text), [Some(ObjectInvalid), Some(Immutable)], "to replace it would not help: {causes:#?}");
    assert_eq!(causes[1].field.as_deref(), Some("spec.selector"));
    assert!(causes.iter().all(|cause| cause.object == Some(KindName::new("Deployment", "d"))));
}

#[rstest]
#[case(format!("{PATCH}: no ConfigMap with the name \"old\" found"), "ConfigMap/old")]
#[case(format!("{PATCH}: original object ConfigMap with the name \"old\" not found"), "ConfigMap/old")]
#[case(format!("failed to create resource: {PATCH}: cannot patch \"s\" with kind Service: connection refused"), "Service/s")]
#[case(format!("{PATCH}: release has no 0 version"), "")]
fn a_failed_rollback_tells_both(#[case] both: String, #[case] object: &str) {
    let text =
        format!("UPGRADE FAILED: an error occurred while rolling back the release. original upgrade error: {both}");
    assert_eq!(classes(&text), [Some(Immutable), Some(RollbackFailed)]);
    assert_eq!(worst(&text).class, Some(RollbackFailed));
    assert_eq!(worst(&text).object, KindName::read(object));
    assert_eq!(causes(&text)[0].object, Some(KindName::new("Deployment", "coder")));
}

#[test]
fn a_rollback_of_unknown_words_is_still_one() {
    let text = "an error occurred while rolling back the release. original upgrade error: some words: more words";
    assert_eq!(classes(text), [None, Some(RollbackFailed)]);
    let uninstall = format!(
        "an error occurred while uninstalling the release. original install error: {PATCH}: uninstallation completed with 1 error(s): x"
    );
    assert_eq!(classes(&uninstall), [Some(Immutable), Some(UninstallFailed)]);
}

#[test]
fn a_chart_with_an_object_twice_is_no_failed_rollback() {
    is("UPGRADE FAILED: no ConfigMap with the name \"c\" found", ObjectInvalid, "ConfigMap/c", "", "");
}

#[test]
fn a_part_that_no_rule_knows_stays() {
    let unknown = r#"cannot patch "s" with kind Service: the moon is full"#;
    for text in [format!("{PATCH} && {unknown}"), format!("{unknown}\n{PATCH}"), format!("{PATCH} && the moon is full")]
    {
        assert_eq!(causes(&text).len(), 2);
        assert_eq!(worst(&text).class, None, "what a repair cures does not hide what nobody knows");
    }
    let hint = format!("{PATCH}\n  more about it\n(try 'helm repo update')\nWarning: old API");
    assert_eq!(classes(&hint), [Some(Immutable)]);
    let alone = "no rule knows this && nor this";
    assert_eq!(classes(alone), [None, None]);
    assert_eq!(worst("no rule knows this").message, "no rule knows this");
}

#[test]
fn of_several_causes_the_one_that_decides_is_the_worst() {
    let waited = "context deadline exceeded";
    assert_eq!(worst(&format!("{waited} && {PATCH}")).class, Some(Immutable));
    assert_eq!(worst(&format!("{PATCH} && connection refused")).class, Some(Immutable));
    assert_eq!(worst(&format!("{PATCH} && s is forbidden: exceeded quota: q")).class, Some(QuotaExceeded));
    assert_eq!(worst(&format!("connection refused && {waited}")).class, Some(RolloutTimedOut));
}

#[test]
fn helm_says_it_last() {
    let stderr =
        "level=WARN msg=\"upgrade failed\" error=\"a\\nError: b\"\nError: UPGRADE FAILED: first line\nsecond line\n";
    assert_eq!(helm_error(stderr), "UPGRADE FAILED: first line\nsecond line");
    assert_eq!(helm_error("Error: x"), "x");
    assert_eq!(helm_error("no marker"), "no marker");
}

#[test]
fn what_the_api_server_repeats_is_left_out() {
    let long = format!(
        r#"Job.batch "j" is invalid: spec.template: Invalid value: {{"Spec":{{"Env":[{{"Name":"A","Value":"hunter2 \" }}"}}],"x":"{}"}}}}: field is immutable"#,
        "y".repeat(200)
    );
    let cause = worst(&long);
    assert_eq!(cause.message, r#"Job.batch "j" is invalid: spec.template: Invalid value: {…}: field is immutable"#);
    let cut = &long[..long.len() - 60];
    assert!(!worst(cut).message.contains("hunter2"), "{}", worst(cut).message);
}

#[test]
fn every_example_has_its_class() {
    for class in FailureClass::iter() {
        for example in examples(class) {
            assert_eq!(worst(example).class, Some(class), "{example}");
        }
    }
}

fn known() -> impl Strategy<Value = (&'static str, FailureClass)> {
    prop::sample::select(vec![
        (PATCH, Immutable),
        (APPLY, Immutable),
        (OWNED, OwnershipMissing),
        ("cannot patch \"s\" with kind Service: etcdserver: request timed out", ApiUnavailable),
        ("failed to create resource: pods \"p\" is forbidden: exceeded quota: q, requested: cpu=1", QuotaExceeded),
        ("resource Deployment/ns/coder not ready. status: InProgress, message: Available: 0/1", RolloutTimedOut),
        (
            "conflict occurred while applying object ns/coder apps/v1, Kind=Deployment: Apply failed with 1 conflict: conflict with \"kubectl\" using apps/v1: .spec.replicas",
            FieldConflict,
        ),
    ])
}

const WRAPPERS: [&str; 7] = [
    "",
    "UPGRADE FAILED: ",
    "INSTALLATION FAILED: ",
    "release coder failed, and has been rolled back due to atomic being set: ",
    "UPGRADE FAILED: release coder failed, and has been rolled back due to rollback-on-failure being set: ",
    "release coder failed, and has been uninstalled due to atomic being set: ",
    "failed to create resource: ",
];

proptest! {
    #[test]
    fn no_text_panics(text in any::<String>(), known in known(), cut in any::<prop::sample::Index>()) {
        let mixed = format!("{text}{}{text} && {text}\n{}", known.0, known.0);
        let cut = mixed.floor_char_boundary(cut.index(mixed.len() + 1));
        for text in [&text, &mixed, &mixed[..cut], &mixed[cut..]] {
            prop_assert!(!causes(text).is_empty());
            let _ = (worst(text), helm_error(text));
        }
    }

    #[test]
    fn wrapping_and_joining_keeps_every_class(
        parts in prop::collection::vec(known(), 1..6),
        separator in prop::sample::select(vec![" && ", "\n"]),
        wrapper in prop::sample::select(WRAPPERS.to_vec()),
    ) {
        // Ownership is found before anything is changed: it never stands on a line after others.
        let parts: Vec<_> = parts.into_iter().filter(|part| separator == " && " || part.1 != OwnershipMissing).collect();
        prop_assume!(!parts.is_empty());
        let texts: Vec<_> = parts.iter().map(|part| part.0).collect();
        let wanted: Vec<_> = parts.iter().map(|part| Some(part.1)).collect();
        prop_assert_eq!(classes(&format!("{wrapper}{}", texts.join(separator))), wanted);
    }

    #[test]
    fn nothing_is_added_to_the_words(text in "[ -~\n]{0,200}", known in known()) {
        for text in [text.clone(), format!("{text} && {}", known.0), format!("{}: {text}", known.0)] {
            // The points of a list are taken off.
            let squeezed = |text: &str| text.replace('*', "").split_whitespace().collect::<String>();
            let whole = squeezed(&text);
            for cause in causes(&text) {
                for line in cause.message.split("…").flat_map(str::lines) {
                    prop_assert!(whole.contains(&squeezed(line)), "{line:?} is not in {text:?}");
                }
            }
        }
    }

    #[test]
    fn words_without_meaning_are_unknown_and_whole(text in "[xyz][ xyz]{0,80}[xyz]") {
        prop_assert_eq!(causes(&text), vec![Cause { message: text.clone(), ..Cause::default() }]);
    }
}

/// What a server says that is busy, restarts, or sits behind something that does: a later try succeeds, so none of it may be
/// taken for a fault of the release.
#[rstest]
#[case("the server was unable to return a response in the time allotted, but may still be processing the request")]
#[case("Timeout: request did not complete within requested timeout - context deadline exceeded")]
#[case(
    "Patch \"https://10.96.0.1:443/apis/apps/v1/namespaces/ns/deployments/coder\": http2: server sent GOAWAY and closed the connection; LastStreamID=1, ErrCode=NO_ERROR"
)]
#[case(
    "create: failed to create: Post \"https://10.96.0.1:443/api/v1/namespaces/ns/secrets\": context deadline exceeded"
)]
#[case("Internal error occurred: resource quota evaluation timed out")]
#[case("Patch \"https://10.96.0.1:443/api/v1/namespaces/ns/services/coder\": unexpected EOF")]
#[case("Get \"https://10.96.0.1:443/version\": EOF")]
#[case("an error on the server (\"\") has prevented the request from succeeding (patch services coder)")]
#[case("etcdserver: leader changed")]
#[case("etcdserver: request timed out, possibly due to previous leader failure")]
#[case("the server has received too many requests and has asked us to try again later (post secrets)")]
#[case("Get \"https://10.96.0.1:443/api\": net/http: TLS handshake timeout")]
#[case("read tcp 10.0.0.1:50000->10.96.0.1:443: read: connection reset by peer")]
#[case("write tcp 10.0.0.1:50000->10.96.0.1:443: write: broken pipe")]
#[case("stream error: stream ID 7; INTERNAL_ERROR; received from peer")]
#[case("Get \"https://10.96.0.1:443/api\": http2: Transport received Server's graceful shutdown GOAWAY")]
#[case("Patch \"https://10.96.0.1:443/api\": http: server closed idle connection")]
#[case(
    "Get \"https://10.96.0.1:443/api\": net/http: request canceled while waiting for connection (Client.Timeout exceeded while awaiting headers)"
)]
#[case("unexpected error when reading response body. Please retry. Original error: http2: response body closed")]
#[case("rpc error: code = Unavailable desc = transport is closing")]
#[case("Get \"https://kubernetes.default.svc/api\": dial tcp: lookup kubernetes.default.svc: server misbehaving")]
#[case(
    "Get \"https://kubernetes.default.svc/api\": dial tcp: lookup kubernetes.default.svc on 10.96.0.10:53: no such host"
)]
#[case("The provided continue parameter is too old to display a consistent list result")]
#[case("Internal error occurred: etcdserver: leader changed")]
#[case(
    "template: c/t.yaml:1:3: executing \"c/t.yaml\" at <lookup \"v1\" \"Secret\" \"ns\" \"s\">: error calling lookup: Get \"https://10.96.0.1:443/api/v1/namespaces/ns/secrets/s\": dial tcp 10.96.0.1:443: connect: connection refused"
)]
fn what_time_cures_is_tried_again(#[case] text: &str) {
    for wrapper in
        ["", "UPGRADE FAILED: ", "UPGRADE FAILED: server-side apply failed for object ns/coder /v1, Kind=Service: "]
    {
        let cause = worst(&format!("{wrapper}{text}"));
        assert_eq!(cause.class, Some(ApiUnavailable), "{wrapper}{text}\n{cause:?}");
    }
}

/// The same words where they mean something else.
#[rstest]
#[case("context deadline exceeded", RolloutTimedOut)]
#[case(
    "resource not ready, name: coder, kind: Deployment, status: InProgress\nGet \"https://10.96.0.1:443/apis/apps/v1/namespaces/ns/deployments/coder\": context deadline exceeded",
    RolloutTimedOut
)]
#[case("client rate limiter Wait returned an error: context deadline exceeded", RolloutTimedOut)]
#[case(
    "failed calling webhook \"p.example.com\": failed to call webhook: Post \"https://x.svc:443/?timeout=1s\": context deadline exceeded",
    WebhookUnavailable
)]
#[case("failed to fetch https://charts.example.com/coder-2.31.7.tgz : 503 Service Unavailable", RepositoryUnreachable)]
#[case("execution error at (coder/templates/coder.yaml:2:4): the server has received too many requests", RenderFailed)]
fn the_same_words_elsewhere(#[case] text: &str, #[case] class: FailureClass) {
    assert_eq!(worst(text).class, Some(class), "{text}");
}
