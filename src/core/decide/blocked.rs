//! What keeps the running step from beginning: its Job cannot be created, or no pod of it starts.

use jiff::{SignedDuration, Timestamp};

use super::{Action, Draft, PlaceUse, step};
use crate::api::{Blocked, BlockedReason, Phase, StepName};
use crate::core::decide::job::{JobFacts, RunnerPod};
use crate::core::decide::observed::Capacity;
use crate::core::decide::start_failure::{Cure, PATIENCE};
use crate::core::decide::{conditions, start_failure};

/// How long the cluster may take for a pod before its events are read. Creation and the first look of a kubelet take less.
pub(crate) const SILENCE: SignedDuration = SignedDuration::from_secs(3);
/// How long a Job may be without a pod and without an event that tells why.
const NO_POD: SignedDuration = SignedDuration::from_secs(9);
/// How often it is looked at again, and a refused pod is asked for again, during the first minute and afterwards.
const PAUSES: [SignedDuration; 2] = [SignedDuration::from_secs(5), SignedDuration::from_secs(20)];
/// After this it is told what is known of a pod that has not started. Most images are there by then.
const SLOW: SignedDuration = SignedDuration::from_secs(8);

/// What is to be said of an obstacle, before it stands in the status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Obstruction {
    /// What kind of obstacle it is.
    pub reason: BlockedReason,
    /// The object that it is about, as Kind/name.
    pub object: String,
    /// The field that cures it.
    pub field: Option<&'static str>,
    /// What happened.
    pub message: String,
    /// What a person can do.
    pub next_step: String,
}

/// Whether the events of the Job or of its pod are to be read: it was let start a while ago, and no pod has.
pub fn is_silent(job: &JobFacts, now: Timestamp) -> bool {
    !job.has_run() && job.started_at.is_some_and(|started| now.duration_since(started) >= SILENCE)
}

/// Looks at a Job that has not run yet. Says what keeps it from that, and when to look again.
pub(super) fn look(draft: &mut Draft, job: &JobFacts) {
    if job.has_run() {
        return clear(draft);
    }
    let Some(started) = job.started_at else { return };
    let (now, pause) = (draft.observed.now, pause(draft, started));
    draft.wake_at(if now.duration_since(started) < SILENCE {
        started + SILENCE
    } else if job.suspended && started + pause > now {
        started + pause
    } else {
        // Whoever waits for a place is woken when there is one.
        now + pause
    });
    // The step may be older: a controller may have died before it let the Job start.
    match obstruction(draft, job, now.duration_since(started)) {
        Some(found) => set(draft, found),
        None => clear(draft),
    }
}

/// Whether a pod that was refused is to be asked for again.
pub(super) fn asks_again(draft: &Draft, job: &JobFacts) -> bool {
    is_refused(draft, job)
        && job.suspended
        && job.started_at.is_some_and(|at| draft.observed.now.duration_since(at) >= pause(draft, at))
}

/// Whether it may be asked for: there is a place, or nothing may hold the step up.
pub(super) fn may_ask(draft: &Draft) -> bool {
    draft.observed.place == Capacity::Free || draft.status.change_started || draft.status.recovery_required
}

/// Whether a Job tries in vain to create its pod. It is suspended between two tries: so it takes no place from others, and when
/// the cause is cured not all Jobs that waited for it start at once.
pub(super) fn is_in_vain(draft: &Draft, job: &JobFacts) -> bool {
    is_refused(draft, job) && !job.suspended && is_silent(job, draft.observed.now)
}

fn is_refused(draft: &Draft, job: &JobFacts) -> bool {
    job.pod.is_none()
        && draft.status.blocked.as_ref().is_some_and(|blocked| blocked.reason == BlockedReason::PodRefused)
}

/// What becomes of the object's place.
pub(super) fn place(draft: &Draft, action: Option<&Action>) -> PlaceUse {
    let step = draft.status.running_step().filter(|step| step.name != StepName::Drain);
    let Some(step) = step else {
        let waits = draft.status.phase == Phase::AwaitingPlace;
        return if waits { PlaceUse::Waits } else { PlaceUse::None };
    };
    match draft.observed.job(step) {
        _ if matches!(action, Some(Action::StartJob { .. } | Action::CreateJob(_))) => PlaceUse::Has,
        Some(job) if asks_again(draft, job) => PlaceUse::Waits,
        Some(job) if is_refused(draft, job) && (job.suspended || is_silent(job, draft.observed.now)) => PlaceUse::None,
        None if draft.status.blocked.is_some() => PlaceUse::Waits,
        _ => PlaceUse::Has,
    }
}

/// The pause between two looks at a Job that was let start then.
fn pause(draft: &Draft, started: Timestamp) -> SignedDuration {
    // A Job that is asked for its pod again and again has not started for as long as that is known.
    let since = draft.status.blocked.as_ref().map_or(started, |blocked| started.min(blocked.since.0));
    PAUSES[usize::from(draft.observed.now.duration_since(since) >= SignedDuration::from_mins(1))]
}

fn obstruction(draft: &Draft, job: &JobFacts, age: SignedDuration) -> Option<Obstruction> {
    let object = format!("Job/{}", job.name);
    if job.suspended && !is_refused(draft, job) {
        return Some(Obstruction {
            reason: BlockedReason::JobSuspended,
            field: Some("spec.suspend"),
            message: format!("{object} was suspended by somebody else."),
            next_step: format!("Set spec.suspend of {object} to false, or delete it: it is created again."),
            object,
        });
    }
    match &job.pod {
        Some(pod) => not_started(draft, pod, age),
        None => refused(draft, job, age),
    }
}

/// What is known of a pod that has not started though nothing is wrong with it yet: its image is pulled, or its node does not
/// answer.
pub(super) fn slow(draft: &Draft, job: &JobFacts) -> Option<String> {
    let pod = job.pod.as_ref().filter(|_| !job.has_run())?;
    let words = draft.observed.words.as_ref().filter(|words| words.uid == pod.uid)?;
    let slow = job.started_at.is_some_and(|at| draft.observed.now.duration_since(at) >= SLOW);
    slow.then(|| format!("Pod/{} has not started yet ({}: {})", pod.name, words.reason, words.message))
}

fn not_started(draft: &Draft, pod: &RunnerPod, age: SignedDuration) -> Option<Obstruction> {
    let words = draft.observed.words.as_ref().filter(|words| words.uid == pod.uid);
    let said = match (&pod.trouble, words) {
        (Some(trouble), _) => trouble.clone(),
        (None, Some(words)) if words.warning => format!("does not start: {}: {}", words.reason, words.message),
        (None, Some(words)) if age >= PATIENCE => {
            format!("has not started. The last that is known: {}: {}", words.reason, words.message)
        }
        (None, None) if age >= PATIENCE => "has not started, and no event tells why".to_owned(),
        _ => return None,
    };
    let cure = start_failure::not_started(&said, &pod.name, namespace(draft));
    let message = format!("Pod/{} {said}", pod.name);
    Some(obstructed(BlockedReason::PodNotStarted, format!("Pod/{}", pod.name), message, cure))
}

fn refused(draft: &Draft, job: &JobFacts, age: SignedDuration) -> Option<Obstruction> {
    let object = format!("Job/{}", job.name);
    let words = draft.observed.words.as_ref().filter(|words| words.uid == job.uid && words.warning);
    if let Some(words) = words {
        let cure = start_failure::refused(&words.message, namespace(draft));
        let message = format!("No pod can be created for {object}: {}", words.message);
        return Some(obstructed(BlockedReason::PodRefused, object, message, cure));
    }
    // What was said before holds until a pod is there: an event is kept for an hour only.
    if let Some(known) = draft.status.blocked.as_ref().filter(|known| known.reason == BlockedReason::PodRefused) {
        return Some(Obstruction {
            reason: known.reason,
            object: known.object.clone(),
            field: None,
            message: known.message.clone(),
            next_step: known.next_step.clone(),
        });
    }
    let next_step = format!("Look at its events: kubectl describe job --namespace {} {}", namespace(draft), job.name);
    (age >= NO_POD).then(|| Obstruction {
        reason: BlockedReason::PodRefused,
        field: None,
        message: format!("No pod was created for {object}, and no event tells why."),
        next_step,
        object,
    })
}

fn obstructed(reason: BlockedReason, about: String, message: String, cure: Cure) -> Obstruction {
    let Cure { object, field, next_step } = cure;
    Obstruction { reason, object: object.unwrap_or(about), field, message, next_step }
}

fn namespace<'a>(draft: &Draft<'a>) -> &'a str {
    draft.observed.upgrade.metadata.namespace.as_deref().unwrap_or_default()
}

/// Puts an obstacle into the status, and says it once.
pub(super) fn set(draft: &mut Draft, found: Obstruction) {
    let Obstruction { reason, object, field, message, next_step } = found;
    let known = draft.status.blocked.take();
    let same = known.as_ref().is_some_and(|known| known.reason == reason && known.message == message);
    let since = known.as_ref().filter(|known| known.reason == reason).map(|known| known.since.clone());
    let field = field.map(str::to_owned).or_else(|| known.filter(|_| same).and_then(|known| known.field));
    if !same {
        draft.warn(reason.into(), "CreateJob", conditions::with_next_step(&message, &next_step));
    }
    let since = since.unwrap_or_else(|| draft.observed.time());
    if let Some(step) = draft.status.steps.last_mut() {
        step::first_line(&message).clone_into(&mut step.message);
    }
    message.clone_into(&mut draft.status.message);
    draft.status.blocked = Some(Blocked { reason, object, field, message, next_step, since });
}

/// Nothing keeps the step from its work any more.
fn clear(draft: &mut Draft) {
    if draft.status.blocked.take().is_none() {
        return;
    }
    if let Some(step) = draft.status.steps.last_mut() {
        step.message.clear();
    }
    step::tell_step(draft);
}
