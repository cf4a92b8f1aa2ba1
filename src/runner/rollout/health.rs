//! Coder's own judgement about its health, which takes the token of an owner.

use super::goal::Goal;
use super::observer::Observer;
use crate::api::{DataRef, FailureClass};
use crate::core::rollout::health::{Fault, Health};
use crate::core::rollout::verify::Deviation;
use crate::runner::coder;
use crate::runner::coder::Unanswered;
use crate::runner::coder::token::Token;
use crate::runner::context::Context;
use crate::runner::error::Error;

/// What Coder says.
#[derive(Default)]
pub struct Opinion {
    /// What is wrong; none if Coder is well.
    pub finding: Option<Deviation>,
    /// What is no reason to fail, for the end of a summary; empty if there is nothing.
    pub remarks: String,
}

/// What Coder finds wrong with itself before a change; none if it cannot be asked. A token that does not count is named when
/// the change begins, as is one that is missing.
pub async fn before(ctx: &Context, observer: &Observer, token: Option<&DataRef>) -> Option<Vec<Fault>> {
    let servers = observer.servers();
    let reference = token.filter(|_| !servers.is_empty())?;
    let token = Token::read(ctx, reference).await.map_err(|error| tracing::warn!("{error}")).ok()?;
    for (pod, endpoint) in servers {
        match coder::health(&pod, &endpoint, token.value()).await {
            Ok(health) => return Some(health.errors),
            Err(Unanswered::Refused(how) | Unanswered::Unknown(how) | Unanswered::Silent(how)) => {
                tracing::warn!("Pod/{} {how}: nobody knows how well Coder is before the change", pod.name);
            }
        }
    }
    None
}

/// Asks the first pod that answers. Something that serves no such question has no opinion, and what was wrong before the
/// change is not its fault.
pub async fn ask(observer: &Observer, token: &Token, goal: &Goal<'_>) -> Result<Opinion, Error> {
    let mut silent = None;
    for (pod, endpoint) in observer.servers() {
        let finding = |message: String| Deviation {
            class: FailureClass::VerificationFailed,
            object: format!("Pod/{}", pod.name),
            message,
            pod: Some(pod.name.clone()),
        };
        match coder::health(&pod, &endpoint, token.value()).await {
            Ok(health) => return Ok(opinion(health, goal.health.unwrap_or_default(), finding)),
            Err(Unanswered::Refused(how)) => return Err(token.refused(&pod.name, &how).into()),
            Err(Unanswered::Unknown(how)) => {
                tracing::warn!("Pod/{} {how}: it has no report of its health", pod.name);
                return Ok(Opinion { finding: None, remarks: format!("; Pod/{} {how}", pod.name) });
            }
            // Whom the runner could not ask before the change, it cannot ask for this either.
            Err(Unanswered::Silent(how)) if !goal.expected.accepted.is_empty() => {
                return Ok(Opinion { finding: None, remarks: format!("; Pod/{} {how}", pod.name) });
            }
            Err(Unanswered::Silent(how)) => silent = Some(finding(how)),
        }
    }
    Ok(Opinion { finding: silent, ..Opinion::default() })
}

fn opinion(health: Health, before: &[Fault], finding: impl Fn(String) -> Deviation) -> Opinion {
    let (known, new): (Vec<Fault>, Vec<Fault>) = health.errors.into_iter().partition(|fault| fault.is_among(before));
    let texts = |faults: &[Fault]| faults.iter().map(|fault| fault.text.clone()).collect::<Vec<_>>().join("; ");
    let finding = (!new.is_empty()).then(|| finding(format!("says that Coder is not well: {}", texts(&new))));
    let remarks = match health.warnings.as_slice() {
        [] => String::new(),
        codes => format!(", with health warnings {}", codes.join(", ")),
    };
    let remarks = match known.as_slice() {
        [] => remarks,
        known => format!("{remarks}; not well, as before the change: {}", texts(known)),
    };
    Opinion { finding, remarks }
}
