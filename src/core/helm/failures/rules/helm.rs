//! What helm says itself: about values, charts, its records, waits and deletions.
#![allow(clippy::enum_glob_use)] // a table of many of them

use super::{TextRule, also, rule};
use crate::api::FailureClass::*;

/// The values and the templates.
pub const RENDERING: &[TextRule] = &[
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

/// helm's records of the release.
pub const RECORDS: &[TextRule] = &[
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
pub const CHARTS: &[TextRule] = &[
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

/// helm could not delete.
pub const DELETION: &[TextRule] = &[
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
pub const TIME: &[TextRule] = &[
    rule(&["context canceled"], Interrupted, "context canceled"),
    rule(&["has been cancelled"], Interrupted, "Release coder has been cancelled."),
    rule(
        &["helm was killed for lack of memory"],
        OutOfMemory,
        "helm was killed for lack of memory by signal: 9 (SIGKILL)",
    ),
    rule(&["helm was killed by signal"], Interrupted, "helm was killed by signal: 9 (SIGKILL)"),
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
