//! The redactor of a step, shared by everything that speaks.

use std::sync::{Arc, PoisonError, RwLock};

use serde_json::Value;

use crate::core::redact::Redactor;
use crate::core::report::{Problem, TEXT_LIMIT};
use crate::core::{redact, values};

/// A [`Redactor`] that parts of a step may teach new secrets while others use it.
#[derive(Clone, Debug, Default)]
pub struct Secrets(Arc<RwLock<Redactor>>);

impl Secrets {
    /// Hides these strings from now on.
    pub fn hide(&self, secrets: impl IntoIterator<Item = String>) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).hide(secrets);
    }

    /// Hides the strings in these values that are nobody's business.
    pub fn hide_values(&self, values: &Value) {
        self.hide(values::secrets(values));
    }

    /// The text without secrets.
    #[must_use]
    pub fn clean(&self, text: &str) -> String {
        self.0.read().unwrap_or_else(PoisonError::into_inner).clean(text)
    }

    /// The problem without secrets, and within the limits of a report.
    #[must_use]
    pub fn clean_problem(&self, problem: Problem) -> Problem {
        Problem {
            message: redact::head(&self.clean(&problem.message), TEXT_LIMIT),
            excerpt: problem.excerpt.map(|text| redact::tail(&self.clean(&text), TEXT_LIMIT)),
            ..problem
        }
    }
}
