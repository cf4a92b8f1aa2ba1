//! What is said and recorded of a failure.

use super::draft::Draft;
use super::{conditions, history, step};
use crate::api::{Failure, FailureClass, Phase, StepName};
use crate::core::report::Problem;

/// The failure of a step as status records it. Nobody tries again until it says so.
pub(super) fn of(step: StepName, problem: Problem) -> Failure {
    Failure {
        step,
        class: problem.class,
        object: problem.object,
        field: problem.field,
        message: problem.message,
        next_step: problem.class.next_step().into(),
        remedy: problem.remedy,
        retryable: false,
        retry_at: None,
        excerpt: problem.excerpt,
    }
}

/// What the spec says cannot be carried out: nothing is begun.
pub(super) fn refused(draft: &mut Draft, problem: Problem) {
    let failure = Failure { remedy: None, excerpt: None, ..of(StepName::Plan, problem) };
    tell(draft, &failure);
    draft.status.request = asked_for(draft, failure.class);
    draft.status.phase = Phase::Failed;
    draft.status.message = line(&failure);
    draft.status.failure = Some(failure);
}

/// What a failed attempt was begun for. What is not allowed is judged again under other flags of the controller.
fn asked_for(draft: &Draft, class: FailureClass) -> String {
    if class == FailureClass::NotAllowed { draft.observed.refused_request() } else { draft.observed.request() }
}

/// A person is needed.
pub(super) fn give_up(draft: &mut Draft, failure: Failure) {
    let message = line(&failure);
    if failure.class == FailureClass::NotAllowed {
        draft.status.request = asked_for(draft, failure.class);
    }
    draft.status.failure = Some(failure);
    history::conclude(draft, Phase::Failed, message);
}

pub(super) fn line(failure: &Failure) -> String {
    format!("{}: {}", failure.class, step::first_line(&failure.message))
}

pub(super) fn tell(draft: &mut Draft, failure: &Failure) {
    let message = conditions::with_next_step(&line(failure), &failure.next_step);
    draft.warn(failure.class.into(), failure.step.into(), message);
}
