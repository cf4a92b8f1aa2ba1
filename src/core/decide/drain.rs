//! Between uninstall and install: slow-to-delete objects are watched until they are gone.

use jiff::SignedDuration;

use super::{Draft, outcome, step};
use crate::api::{StepName, StepState, WaitingFor};
use crate::core::report::Problem;
use crate::core::rollout::verify;
use crate::core::steps::drain;

/// Looks at what is left. Nothing left: the install begins at once. A claim that is not what it was stops everything.
pub(super) fn advance(draft: &mut Draft) {
    let Some(left) = &draft.observed.left else { return };
    let claims = &draft.status.persistent_volume_claims;
    if let Some(lost) = verify::lost_claims(claims, &left.claims).into_iter().next() {
        let message =
            format!("{} {}. Coder is uninstalled; nothing was installed on top of it.", lost.object, lost.message);
        return outcome::failed(draft, Problem::new(lost.class, message).object(lost.object));
    }
    let now = draft.observed.time();
    let explained = |object: &WaitingFor| drain::explained(object, &now);
    let waiting: Vec<WaitingFor> = left.objects.iter().map(explained).collect();
    if waiting.is_empty() {
        draft.status.waiting_for.clear();
        step::end_step(draft, StepState::Succeeded, "All slow-to-delete objects are gone.");
        return step::begin_step(draft, StepName::Install, 1);
    }
    let line = drain::line(&waiting);
    if let Some(step) = draft.status.steps.last_mut() {
        line.clone_into(&mut step.message);
    }
    draft.status.message = line;
    // No watch tells that time has passed; the explanation is due then.
    if let Some(due) = waiting.iter().filter(|object| object.explanation.is_none()).map(drain::explained_at).min() {
        draft.wake_at(due.checked_add(SignedDuration::from_millis(1)).unwrap_or(due));
    }
    for object in waiting.iter().filter(|object| object.explanation.is_some()) {
        let told = draft.status.waiting_for.iter().any(|old| old.uid == object.uid && old.explanation.is_some());
        if !told {
            let explanation = object.explanation.clone().unwrap_or_default();
            draft.warn("Draining", "Drain", format!("{}/{}: {explanation}", object.kind, object.name));
        }
    }
    draft.status.waiting_for = waiting;
}
