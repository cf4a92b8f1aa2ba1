//! Why a command could not do what it was asked, each as a sentence and what to do next.

use std::time::Duration;

use kube::core::Status;

use crate::access::AccessError;
use crate::core::rights::Lacking;
use crate::core::text::causes::causes;

/// A command could not do what it was asked. Nothing but what it has said before was changed.
#[derive(Debug, thiserror::Error)]
pub enum PluginError {
    /// The flags and the kubeconfig lead to no API server.
    #[error(
        "cannot find out how to reach the API server: {0}\n  next: correct --kubeconfig, --context, --cluster or --user, or the kubeconfig"
    )]
    Access(#[from] AccessError),

    /// No connection came about.
    #[error(
        "cannot {doing}: the API server at {server} cannot be reached ({why})\n  next: check that it runs and that your network leads there, or choose another --context"
    )]
    Unreachable {
        /// What the request was for.
        doing: String,
        /// Address of the API server.
        server: String,
        /// What the connection said.
        why: String,
    },

    /// No answer came.
    #[error("cannot {doing}: the API server at {server} did not answer within {} s\n  next: try it again, or look at the API server", .limit.as_secs())]
    Silent {
        /// What the request was for.
        doing: String,
        /// Address of the API server.
        server: String,
        /// How long was waited.
        limit: Duration,
    },

    /// The API server does not know who asks.
    #[error(
        "cannot {doing}: the API server does not accept your credentials ({text})\n  next: log in again, or choose another --context or --user"
    )]
    Unauthorized {
        /// What the request was for.
        doing: String,
        /// What the API server said.
        text: String,
    },

    /// A right is missing.
    #[error("{0}\n  next: ask whoever runs the cluster for this right; nothing was changed")]
    Forbidden(String),

    /// The cluster does not know the kind.
    #[error(
        "the cluster does not know the kind CoderUpgrade\n  next: load the operator (kubectl apply --server-side -k deploy/default), or choose another --context"
    )]
    UnknownKind,

    /// There is no such object.
    #[error("{0}")]
    Absent(String),

    /// The definition in the cluster lacks a field that is to be set.
    #[error(
        "the CustomResourceDefinition in the cluster is older than this program ({0})\n  next: coder-upgrade-operator crd | kubectl apply --server-side -f -; nothing was changed"
    )]
    OldDefinition(String),

    /// The object has a form that this program does not know.
    #[error("cannot {doing}: this program ({version}) and the CustomResourceDefinition in the cluster are of different versions ({why})\n  next: use the program of the controller's version", version = env!("CARGO_PKG_VERSION"))]
    OtherForm {
        /// What the request was for.
        doing: String,
        /// What does not fit.
        why: String,
    },

    /// The API server refuses it in its words.
    #[error("cannot {doing}: {text}")]
    Refused {
        /// What the request was for.
        doing: String,
        /// What the API server said.
        text: String,
    },

    /// What was asked for makes no sense now.
    #[error("{0}")]
    Pointless(String),

    /// Something cannot be read from the terminal, or written there.
    #[error("cannot {doing}: {source}")]
    Terminal {
        /// What was to be done.
        doing: &'static str,
        /// What the system said.
        source: std::io::Error,
    },

    /// Something cannot be written as JSON or YAML.
    #[error("cannot print the result: {0}")]
    Print(String),
}

impl PluginError {
    /// What an answer of the API server, or none, means. `doing` completes "cannot …".
    pub fn of(doing: &str, server: &str, error: kube::Error) -> Self {
        let doing = doing.to_owned();
        match error {
            kube::Error::Api(status) => Self::answered(doing, &status),
            kube::Error::SerdeError(error) => Self::OtherForm { doing, why: error.to_string() },
            kube::Error::Auth(error) => Self::Unauthorized { doing, text: causes(&error) },
            kube::Error::Service(error) => Self::Unreachable { doing, server: server.to_owned(), why: causes(&*error) },
            other => Self::Unreachable { doing, server: server.to_owned(), why: causes(&other) },
        }
    }

    fn answered(doing: String, status: &Status) -> Self {
        let text = status.message.clone();
        let unknown = ["unknown field", "field not declared in schema"].iter().any(|words| text.contains(words));
        match status.code {
            401 => Self::Unauthorized { doing, text },
            403 => match Lacking::read(&text) {
                Some(lacking) => Self::Forbidden(lacking.while_doing(&doing)),
                None => Self::Refused { doing, text },
            },
            // Of an object that is missing the answer tells the name.
            404 if status.details.as_ref().is_none_or(|details| details.name.is_empty()) => Self::UnknownKind,
            400 | 422 | 500 if unknown => Self::OldDefinition(text),
            _ => Self::Refused { doing, text },
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::right(
        403,
        "coderupgrades.coderupgrade.dev \"coder\" is forbidden: User \"jane\" cannot patch resource \"coderupgrades\" in API group \"coderupgrade.dev\" in the namespace \"ns\"",
        "cannot set spec.version: user jane lacks the right to patch coderupgrades.coderupgrade.dev in namespace ns\n  next: ask"
    )]
    #[case::admission(
        403,
        "admission webhook \"x\" denied the request: no",
        "cannot set spec.version: admission webhook \"x\" denied the request: no"
    )]
    #[case::kind(
        404,
        "404 page not found",
        "the cluster does not know the kind CoderUpgrade\n  next: load the operator"
    )]
    #[case::definition(
        400,
        "strict decoding error: unknown field \"spec.suspend\"",
        "the CustomResourceDefinition in the cluster is older than this program (strict decoding error: unknown field \"spec.suspend\")\n"
    )]
    #[case::rule(
        422,
        "spec.version must be one exact chart version",
        "cannot set spec.version: spec.version must be one exact chart version"
    )]
    fn answers_become_a_sentence(#[case] code: u16, #[case] message: &str, #[case] told: &str) {
        let status = Status { code, ..Status::failure(message, "No") };
        let error = PluginError::of("set spec.version", "https://a:1", kube::Error::Api(status.boxed())).to_string();
        assert!(error.starts_with(told), "{error}");
    }
}
