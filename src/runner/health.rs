//! Coder's own judgement about its health, which takes the token of an owner.

use super::coder::{self, Unanswered};
use super::error::Error;
use super::observe::Observer;
use super::token::Token;
use crate::api::FailureClass;
use crate::core::verify::Finding;

/// What Coder says.
#[derive(Default)]
pub struct Opinion {
    /// What is wrong; none if Coder is well.
    pub finding: Option<Finding>,
    /// A line about warnings, for the end of a summary; empty if there are none.
    pub warnings: String,
}

/// Asks the first pod that answers. Something that serves no such question has no opinion.
pub async fn ask(observer: &Observer, token: &Token) -> Result<Opinion, Error> {
    let mut silent = None;
    for (pod, endpoint) in observer.servers() {
        let finding = |message: String| Finding {
            class: FailureClass::VerificationFailed,
            object: format!("Pod/{}", pod.name),
            message,
            pod: Some(pod.name.clone()),
        };
        match coder::health(&pod, endpoint, token.value()).await {
            Ok(health) => {
                let wrong = (!health.errors.is_empty())
                    .then(|| finding(format!("says that Coder is not well: {}", health.errors.join("; "))));
                let warnings = match health.warnings.as_slice() {
                    [] => String::new(),
                    codes => format!(", with health warnings {}", codes.join(", ")),
                };
                return Ok(Opinion { finding: wrong, warnings });
            }
            Err(Unanswered::Refused(how)) => return Err(token.refused(&pod.name, &how).into()),
            Err(Unanswered::Unknown(how)) => {
                tracing::warn!("Pod/{} {how}: it has no report of its health", pod.name);
                return Ok(Opinion::default());
            }
            Err(Unanswered::Silent(how)) => silent = Some(finding(how)),
        }
    }
    Ok(Opinion { finding: silent, ..Opinion::default() })
}
