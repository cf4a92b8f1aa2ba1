//! Escalation: the smallest repair that can cure what helm was refused for.
//!
//! retry → unlock → adopt → rewrite removed APIs → replace only the refused object → uninstall and reinstall. A remedy that
//! was tried on an object and did not help is not tried on it again: the next repair is the reinstall.

use super::disposable::{any_stays, may_be_disposable};
use crate::api::{FailureClass, Recovery, Remedy};
use crate::core::helm::failures::Cause;
use crate::core::object::{KindName, ObjectRef};

/// What is to be done about a failure of helm within the running step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// These repairs, in this order, and then helm again.
    Repair(Vec<RepairAction>),
    /// Nothing within this step. What is left, if anything, is more than the step may do.
    Stop(Option<Remedy>),
}

/// A repair to be made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepairAction {
    /// What is to be done.
    pub remedy: Remedy,
    /// To which object; none if the text names none.
    pub object: Option<KindName>,
}

/// Class of a cause, with the narrower class that its object implies: what may hold data, or own it, is not replaced.
pub fn class_of(cause: &Cause) -> FailureClass {
    let class = cause.class.unwrap_or(FailureClass::Unknown);
    let stays = cause.object.as_ref().is_some_and(|object| !may_be_disposable(&object.kind));
    if class == FailureClass::Immutable && stays { FailureClass::ImmutableData } else { class }
}

/// The causes with the classes that the objects of the chart imply. A text calls a custom object by its kind alone, which may
/// be the name of a built-in kind.
pub fn narrowed(mut causes: Vec<Cause>, objects: &[ObjectRef]) -> Vec<Cause> {
    for cause in &mut causes {
        let stays = cause.object.as_ref().is_some_and(|object| any_stays(object, objects.iter()));
        if cause.class.is_some() {
            cause.class = Some(class_of(cause));
        }
        if stays && cause.class == Some(FailureClass::Immutable) {
            cause.class = Some(FailureClass::ImmutableData);
        }
    }
    causes
}

/// The next repair, seen from all causes of the failure, from what was done in this step already, and from what is allowed.
///
/// One cause that no repair cures makes every repair pointless: nothing is touched then.
pub fn next(causes: &[Cause], done: &[RepairAction], allowed: Recovery) -> Next {
    let mut repairs: Vec<RepairAction> = Vec::new();
    // helm stops waiting when an object is refused; that time ran out follows from the refusal. A failed rollback refuses
    // nothing that was wanted.
    let refused =
        |cause: &Cause| !matches!(cause.class, Some(FailureClass::RolloutTimedOut | FailureClass::RollbackFailed));
    let waited_in_vain = causes.iter().any(refused);
    let follows = |cause: &Cause| cause.class == Some(FailureClass::RolloutTimedOut) && waited_in_vain;
    let remedy = |cause: &Cause| match cause.class {
        // The owner may be gone; the adoption looks at that first, and refuses if it is not.
        Some(FailureClass::OwnedByOther) if allowed >= Recovery::Repair => Some(Remedy::Adopt),
        _ => class_of(cause).treatment().remedy,
    };
    let cures = causes.iter().filter(|cause| !class_of(cause).retryable() && !follows(cause));
    let cures: Option<Vec<_>> = cures.map(|cause| Some((cause, remedy(cause)?))).collect();
    let Some(cures) = cures else { return Next::Stop(None) };
    for (cause, remedy) in cures {
        let repair = RepairAction { remedy, object: cause.object.clone() };
        if remedy == Remedy::Reinstall
            || done.contains(&repair)
            || (remedy == Remedy::Replace && repair.object.is_none())
        {
            return Next::Stop(Some(Remedy::Reinstall));
        }
        if !repairs.contains(&repair) {
            repairs.push(repair);
        }
    }
    repairs.sort_by_key(|repair| repair.remedy);
    match repairs.last().map(|largest| largest.remedy) {
        None => Next::Stop(None),
        Some(largest) if largest.needs() > allowed => Next::Stop(Some(largest)),
        Some(_) => Next::Repair(repairs),
    }
}

#[cfg(test)]
mod tests {
    use FailureClass::*;
    use rstest::rstest;

    use super::*;

    fn cause(class: FailureClass, object: &str) -> Cause {
        Cause { class: Some(class), object: KindName::read(object), ..Cause::default() }
    }

    fn replace(object: &str) -> RepairAction {
        RepairAction { remedy: Remedy::Replace, object: KindName::read(object) }
    }

    #[rstest]
    #[case::unknown(Unknown)]
    #[case::render(RenderFailed)]
    #[case::quota(QuotaExceeded)]
    #[case::rights(Forbidden)]
    #[case::policy(PolicyDenied)]
    #[case::rollout(RolloutTimedOut)]
    #[case::hook(HookFailed)]
    #[case::volume(ImmutableData)]
    fn what_no_repair_cures_touches_nothing(#[case] class: FailureClass) {
        for allowed in [Recovery::Stop, Recovery::Repair, Recovery::Reinstall] {
            assert_eq!(next(&[cause(class, "Deployment/coder")], &[], allowed), Next::Stop(None));
            let with_curable = [cause(Immutable, "Deployment/coder"), cause(class, "Service/coder")];
            let expected = class == RolloutTimedOut && allowed >= Recovery::Repair;
            assert_eq!(matches!(next(&with_curable, &[], allowed), Next::Repair(_)), expected, "{class} {allowed}");
        }
    }

    #[test]
    fn the_smallest_repair_comes_first_and_each_object_once() {
        let causes = [
            cause(Immutable, "StatefulSet/a"),
            cause(OwnershipMissing, "ServiceAccount/coder"),
            cause(Immutable, "StatefulSet/a"),
        ];
        let adopt = RepairAction { remedy: Remedy::Adopt, object: KindName::read("ServiceAccount/coder") };
        assert_eq!(next(&causes, &[], Recovery::Repair), Next::Repair(vec![adopt, replace("StatefulSet/a")]));
    }

    #[test]
    fn whether_the_other_owner_is_alive_is_looked_at_before_it_is_adopted() {
        let causes = [cause(OwnedByOther, "ServiceAccount/coder")];
        let adopt = RepairAction { remedy: Remedy::Adopt, object: KindName::read("ServiceAccount/coder") };
        assert_eq!(next(&causes, &[], Recovery::Repair), Next::Repair(vec![adopt]));
        assert_eq!(next(&causes, &[], Recovery::Stop), Next::Stop(None));
    }

    #[test]
    fn a_repair_that_did_not_help_leads_to_the_reinstall() {
        let causes = [cause(Immutable, "StatefulSet/a")];
        let done = [replace("StatefulSet/a")];
        assert_eq!(next(&causes, &done, Recovery::Repair), Next::Stop(Some(Remedy::Reinstall)));
        assert_eq!(
            next(&causes, &[replace("StatefulSet/b")], Recovery::Repair),
            Next::Repair(vec![replace("StatefulSet/a")])
        );
    }

    #[test]
    fn what_no_repair_cures_is_seen_wherever_it_stands() {
        let done = [replace("StatefulSet/a")];
        for class in [QuotaExceeded, RolloutTimedOut, Unknown] {
            let incurable = match class {
                Unknown => Cause::default(),
                class => cause(class, "Service/coder"),
            };
            for other in [cause(RollbackFailed, ""), cause(HistoryBroken, "")] {
                let expected = class == RolloutTimedOut && other.class == Some(HistoryBroken);
                let expected = Next::Stop(expected.then_some(Remedy::Reinstall));
                assert_eq!(next(&[other.clone(), incurable.clone()], &done, Recovery::Reinstall), expected, "{class}");
                assert_eq!(next(&[incurable.clone(), other], &done, Recovery::Reinstall), expected, "{class}");
            }
        }
        let refused_again = [cause(Immutable, "StatefulSet/a"), cause(QuotaExceeded, "Pod/b")];
        assert_eq!(next(&refused_again, &done, Recovery::Reinstall), Next::Stop(None));
    }

    #[test]
    fn what_is_not_allowed_is_named() {
        let causes = [cause(Immutable, "StatefulSet/a")];
        assert_eq!(next(&causes, &[], Recovery::Stop), Next::Stop(Some(Remedy::Replace)));
        assert_eq!(next(&[cause(HistoryBroken, "")], &[], Recovery::Reinstall), Next::Stop(Some(Remedy::Reinstall)));
    }

    #[test]
    fn a_volume_is_never_replaced() {
        let causes = [cause(Immutable, "PersistentVolumeClaim/data")];
        assert_eq!(next(&causes, &[], Recovery::Reinstall), Next::Stop(None));
        assert_eq!(class_of(&causes[0]), ImmutableData);
    }

    #[rstest]
    #[case::custom("Cluster/database", &[])]
    #[case::namesake_of_a_built_in_kind("Service/database", &["serving.example.com/v1"])]
    #[case::one_of_two_namesakes("Service/database", &["v1", "serving.example.com/v1"])]
    fn what_may_own_data_is_never_replaced(#[case] object: &str, #[case] versions: &[&str]) {
        let KindName { kind, name } = KindName::read(object).unwrap();
        let reference = |version: &&str| ObjectRef {
            api_version: (*version).into(),
            kind: kind.clone(),
            namespace: None,
            name: name.clone(),
        };
        let objects: Vec<ObjectRef> = versions.iter().map(reference).collect();
        let causes = narrowed(vec![cause(Immutable, object)], &objects);
        assert_eq!((causes[0].class, next(&causes, &[], Recovery::Reinstall)), (Some(ImmutableData), Next::Stop(None)));
    }

    #[test]
    fn what_time_cures_is_no_reason_to_repair() {
        assert_eq!(next(&[cause(ApiUnavailable, "")], &[], Recovery::Reinstall), Next::Stop(None));
    }
}
