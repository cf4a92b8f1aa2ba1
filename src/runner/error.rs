//! What can go wrong in a step, and how it is reported: every variant becomes a [`Problem`] in one place.

use std::io;
use std::path::Path;

use super::helm::record::RecordError;
use super::helm::{Excess, HelmFailure};
use crate::api::FailureClass;
use crate::core::helm::failures;
use crate::core::helm::failures::Cause;
use crate::core::helm::manifest::ManifestError;
use crate::core::report::Problem;
use crate::core::rights::Lacking;

/// A step ended without success.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A judgement: class, object, field and words are known already.
    #[error("{}", .0.message)]
    Problem(Box<Problem>),

    /// The API server refused a request, or could not be reached.
    #[error("cannot {doing}: {}", said(.source))]
    Api {
        /// What the request was for, as in "read Secret/x".
        doing: String,
        /// What the API server or the connection said.
        source: Box<kube::Error>,
    },

    /// The API server did not answer in time.
    #[error("cannot {doing}: the API server did not answer within {seconds} s")]
    ApiSilent {
        /// What the request was for.
        doing: String,
        /// How long was waited, in seconds.
        seconds: u64,
    },

    /// There is no way to the API server: neither a kubeconfig nor a service account.
    #[error("cannot find out how to reach the API server: {0}")]
    NoCluster(String),

    /// helm cannot be started.
    #[error("cannot run helm: {0}; the image of the runner must have helm 3 or 4 in its PATH")]
    HelmMissing(#[source] io::Error),

    /// A program called helm is there, but not one that this runner knows.
    #[error("helm calls itself {0:?}; helm 3 or 4 is needed")]
    HelmUnknown(String),

    /// helm ended with a failure.
    #[error(transparent)]
    Helm(Box<HelmFailure>),

    /// helm took more memory or time than anything of Coder needs, and was stopped. It had changed nothing.
    #[error("{0} for the chart, its values and the records of the release; it was stopped, and had changed nothing")]
    HelmExcess(Excess),

    /// A file cannot be read or written.
    #[error("cannot {doing} {path}: {source}")]
    Io {
        /// What was to be done.
        doing: &'static str,
        /// With which file.
        path: String,
        /// What the system said.
        source: io::Error,
    },

    /// A record of helm cannot be read.
    #[error("the record of the release in Secret/{secret} {source}")]
    Record {
        /// Name of the Secret.
        secret: String,
        /// What is wrong with it.
        source: RecordError,
    },

    /// A manifest cannot be read.
    #[error(transparent)]
    Manifest(#[from] ManifestError),

    /// The plan in the plan Secret cannot be used.
    #[error("the plan cannot be used: {0}")]
    Plan(String),

    /// Others changed an object between each reading and writing of it.
    #[error("cannot {doing}: it is changed all the time")]
    Conflict {
        /// What the change was for, as in "scale Deployment/x to 0".
        doing: String,
    },

    /// The runner contradicts itself.
    #[error("a bug of the runner: {0}")]
    Bug(String),

    /// A document cannot be written as JSON.
    #[error("cannot write {what} as JSON: {source}")]
    Json {
        /// The document.
        what: &'static str,
        /// Why.
        source: serde_json::Error,
    },

    /// The runner got SIGTERM or SIGINT.
    #[error("the runner was told to stop")]
    Stopped,

    /// The Lease of the release went to somebody else, or could not be renewed in time.
    #[error("the Lease {0} was lost; helm was stopped, so that no two helm processes work on one release")]
    LeaseLost(String),
}

impl Error {
    /// Whether the API server answered with this HTTP status.
    pub fn has_code(&self, code: u16) -> bool {
        matches!(self, Self::Api { source, .. } if matches!(&**source, kube::Error::Api(status) if status.code == code))
    }

    /// For `map_err` after a request to the API server.
    pub fn api(doing: impl Into<String>, source: kube::Error) -> Self {
        Self::Api { doing: doing.into(), source: Box::new(source) }
    }

    /// For `map_err` after an operation on a file.
    pub fn io(doing: &'static str, path: &Path, source: io::Error) -> Self {
        Self::Io { doing, path: path.display().to_string(), source }
    }

    /// For `map_err` after a run of helm.
    pub fn helm(failure: HelmFailure) -> Self {
        Self::Helm(Box::new(failure))
    }

    /// The failure as the controller and people shall see it. Secrets are still in it.
    pub fn into_problem(self) -> Problem {
        let message = self.to_string();
        match self {
            Self::Problem(problem) => *problem,
            Self::Helm(failure) => {
                let cause = failures::worst(&failure.text);
                of_cause(cause, &failure.text)
            }
            Self::Api { doing, source } => match lacking(&source) {
                Some(lacking) => {
                    let problem = Problem::new(FailureClass::Forbidden, lacking.while_doing(&doing));
                    Problem { lacks_right: lacking.by_account(), ..problem }
                }
                None => Problem::new(api_class(&source), message),
            },
            Self::ApiSilent { .. } => Problem::new(FailureClass::ApiUnavailable, message),
            Self::NoCluster(_)
            | Self::HelmMissing(_)
            | Self::HelmUnknown(_)
            | Self::Io { .. }
            | Self::Json { .. }
            | Self::Bug(_) => Problem::new(FailureClass::Unknown, message),
            Self::Conflict { .. } => Problem::new(FailureClass::Conflict, message),
            Self::HelmExcess(_) => Problem::new(FailureClass::TooLarge, message).field("spec.chart"),
            Self::Record { ref secret, ref source } => {
                let class = if source.is_excess() { FailureClass::TooLarge } else { FailureClass::Unknown };
                Problem::new(class, message.clone()).object(format!("Secret/{secret}"))
            }
            Self::Manifest(ref error) => {
                let class = if error.is_excess() { FailureClass::TooLarge } else { FailureClass::Unknown };
                Problem::new(class, message)
            }
            Self::Plan(_) => Problem::new(FailureClass::PlanOutdated, message),
            Self::Stopped | Self::LeaseLost(_) => Problem::new(FailureClass::Interrupted, message),
        }
    }
}

impl From<Problem> for Error {
    fn from(problem: Problem) -> Self {
        Self::Problem(Box::new(problem))
    }
}

impl From<Box<Problem>> for Error {
    fn from(problem: Box<Problem>) -> Self {
        Self::Problem(problem)
    }
}

/// The problem that a cause in helm's words is. A missing right takes one sentence: the rest is in the log.
pub fn of_cause(cause: Cause, text: &str) -> Problem {
    let class = cause.class.unwrap_or(FailureClass::Unknown);
    let (message, lacks_right) = match cause.lacking {
        Some(lacking) => {
            tracing::warn!("{text}");
            (cause.message, lacking.by_account())
        }
        None => (failures::shortened(text), false),
    };
    let problem = Problem::new(class, message);
    Problem {
        object: cause.object.map(|object| object.to_string()),
        field: cause.field.or(problem.field),
        lacks_right,
        ..problem
    }
}

/// What the API server or the connection said. kube adds the whole answer once more, in a form for programmers.
pub fn said(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if !status.message.is_empty() => status.message.clone(),
        other => other.to_string(),
    }
}

/// The right that is missing, if the API server says that one is.
fn lacking(error: &kube::Error) -> Option<Lacking> {
    match error {
        kube::Error::Api(status) if status.code == 403 => Lacking::read(&status.message),
        _ => None,
    }
}

fn api_class(error: &kube::Error) -> FailureClass {
    match error {
        kube::Error::Api(status) => match status.code {
            401 | 403 => FailureClass::Forbidden,
            409 => FailureClass::PlanOutdated,
            413 => FailureClass::TooLarge,
            429 | 500.. => FailureClass::ApiUnavailable,
            _ => FailureClass::Unknown,
        },
        kube::Error::HyperError(_) | kube::Error::Service(_) => FailureClass::ApiUnavailable,
        kube::Error::Auth(_) => FailureClass::Forbidden,
        _ => FailureClass::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(403, FailureClass::Forbidden)]
    #[case(409, FailureClass::PlanOutdated)]
    #[case(503, FailureClass::ApiUnavailable)]
    #[case(422, FailureClass::Unknown)]
    fn answers_of_the_api_server_have_their_class(#[case] code: u16, #[case] class: FailureClass) {
        let status = Status { code, ..Status::failure("no", "No") };
        let problem = Error::api("read Secret/x", kube::Error::Api(status.boxed())).into_problem();
        assert_eq!(problem.class, class);
        assert_eq!(problem.message, "cannot read Secret/x: no");
    }

    #[test]
    fn a_missing_right_is_one_sentence_with_the_command_that_grants_it() {
        let user = "system:serviceaccount:ns:coder-upgrade-runner";
        let command = "; run: coder-upgrade-operator rights coder -n ns | kubectl apply -f -";
        let text = format!(
            "server-side apply failed for object ns/coder rbac.authorization.k8s.io/v1, Kind=Role: \
             roles.rbac.authorization.k8s.io \"coder\" is forbidden: user \"{user}\" (groups=[\"a\" \"b\"]) is attempting to \
             grant RBAC permissions not currently held:\n{{APIGroups:[\"\"], Resources:[\"pods/exec\"], Verbs:[\"create\"]}}"
        );
        let problem = Error::helm(HelmFailure { text }).into_problem().with_command("ns", "coder");
        assert_eq!(problem.object.as_deref(), Some("Role/coder"));
        let told = format!("Role/coder grants create pods/exec, which the runner lacks{command}");
        assert_eq!((problem.class, problem.message.as_str()), (FailureClass::Forbidden, told.as_str()));

        let refusal = format!(
            "secrets \"x\" is forbidden: User \"{user}\" cannot get resource \"secrets\" in API group \"\" in the namespace \"ns\""
        );
        let status = Status { code: 403, ..Status::failure(&refusal, "Forbidden") };
        let problem = Error::api("read Secret/x", kube::Error::Api(status.boxed())).into_problem();
        let told = format!("cannot read Secret/x: the runner lacks the right to get secrets in namespace ns{command}");
        assert_eq!(problem.with_command("ns", "coder").message, told);
        // Whom the API server does not know at all lacks no right.
        let unknown = "kubernetes cluster unreachable: the server has asked for the client to provide credentials";
        let problem = Error::helm(HelmFailure { text: unknown.into() }).into_problem().with_command("ns", "coder");
        assert_eq!(problem.message, unknown);
    }

    #[test]
    fn only_what_is_wrong_with_the_plan_makes_a_new_one() {
        let conflict = Error::Conflict { doing: "scale Deployment/x to 0".into() }.into_problem();
        let told = "cannot scale Deployment/x to 0: it is changed all the time";
        assert_eq!((conflict.class, conflict.message.as_str()), (FailureClass::Conflict, told));
        assert_eq!(Error::Bug("a".into()).into_problem().class, FailureClass::Unknown);
        assert_eq!(Error::Plan("a".into()).into_problem().class, FailureClass::PlanOutdated);
    }

    #[test]
    fn a_failure_of_helm_keeps_its_words() {
        let text = "chart requires kubeVersion: >=1.99.0 which is incompatible with Kubernetes v1.35.4";
        let problem = Error::helm(HelmFailure { text: text.into() }).into_problem();
        assert_eq!((problem.class, problem.message.as_str()), (FailureClass::Incompatible, text));
    }
}
