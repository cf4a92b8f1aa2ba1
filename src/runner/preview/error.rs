//! Why no plan can be made.

use crate::core::report::Problem;

/// No plan can be made; not the same as a plan that is refused.
#[derive(Debug, thiserror::Error)]
pub enum PreviewError {
    /// The file cannot be read.
    #[error("cannot read {file}: {source}")]
    Read {
        /// The file.
        file: String,
        /// Why.
        source: std::io::Error,
    },

    /// The file is no YAML.
    #[error("{file} is no valid YAML: {text}")]
    Yaml {
        /// The file.
        file: String,
        /// What is wrong, and where.
        text: String,
    },

    /// The file does not hold the one object that is asked for.
    #[error("{file} {what}")]
    Content {
        /// The file.
        file: String,
        /// What it holds instead.
        what: String,
    },

    /// There is no such object in the cluster.
    #[error(
        "there is no CoderUpgrade {name} in namespace {namespace}\n  next: give the name and the namespace (-n) of one that exists, as \
         `kubectl get coderupgrades -A` lists them, or the file of one that is not applied yet (-f)"
    )]
    Absent {
        /// Name that was given.
        name: String,
        /// Namespace in which it was looked for.
        namespace: String,
    },

    /// The object is no valid `CoderUpgrade`.
    #[error("CoderUpgrade/{name} is invalid: {text}")]
    Invalid {
        /// Name of the object.
        name: String,
        /// What is wrong, with the field.
        text: String,
    },

    /// Something on the way could not be reached or read.
    #[error("{}{}", .0.message, next(.0))]
    Problem(Box<Problem>),

    /// A directory for scratch files cannot be made.
    #[error("cannot make a directory for scratch files: {0}")]
    Scratch(#[source] std::io::Error),

    /// The plan cannot be written in the wanted form.
    #[error("cannot print the plan: {0}")]
    Print(String),

    /// Nobody could interrupt it.
    #[error("cannot listen to signals: {0}")]
    Signals(#[source] std::io::Error),

    /// A person has interrupted it.
    #[error("stopped")]
    Stopped,
}

fn next(problem: &Problem) -> String {
    let field = problem.field.as_ref().map(|field| format!("\n  field: {field}")).unwrap_or_default();
    format!("{field}\n  next: {}", problem.class.next_step())
}

impl From<super::super::error::Error> for PreviewError {
    fn from(error: super::super::error::Error) -> Self {
        Self::Problem(Box::new(error.into_problem()))
    }
}
