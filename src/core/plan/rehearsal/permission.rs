//! Foreseen repairs that nothing permits.

use crate::api::{FailureClass, PlannedRepair, Recovery, Remedy};
use crate::core::helm::failures;
use crate::core::report::Problem;

/// The first foreseen repair that needs more than is allowed, as the failure that helm would have met. A lock is released,
/// or not, before all others; that is judged by its age.
pub fn not_permitted(repairs: &[PlannedRepair], allowed: Recovery) -> Option<Problem> {
    let repair = repairs.iter().find(|repair| repair.remedy != Remedy::Unlock && repair.remedy.needs() > allowed)?;
    let class = match repair.remedy {
        Remedy::Adopt => FailureClass::OwnershipMissing,
        Remedy::RewriteApis => FailureClass::ApiRemoved,
        _ => FailureClass::Immutable,
    };
    let field = failures::worst(&repair.message).field;
    let message = format!("{}: {}; helm was not run", repair.object, repair.message);
    let problem = Problem::new(class, message).object(&repair.object);
    Some(Problem { field, remedy: Some(repair.remedy), ..problem })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn repair(remedy: Remedy, message: &str) -> PlannedRepair {
        PlannedRepair { remedy, object: "Deployment/coder".into(), message: message.into(), needs_approval: false }
    }

    #[test]
    fn what_is_allowed_is_no_problem() {
        let repairs = [repair(Remedy::Replace, "field is immutable"), repair(Remedy::Adopt, "")];
        assert_eq!(not_permitted(&repairs, Recovery::Repair), None);
        assert_eq!(not_permitted(&[repair(Remedy::Unlock, "")], Recovery::Stop), None);
    }

    #[test]
    fn what_is_not_allowed_is_what_helm_would_have_failed_with() {
        let text = "Deployment.apps \"coder\" is invalid: spec.selector: Invalid value: {}: field is immutable";
        let problem = not_permitted(&[repair(Remedy::Replace, text)], Recovery::Stop).unwrap();
        assert_eq!((problem.class, problem.object.as_deref()), (FailureClass::Immutable, Some("Deployment/coder")));
        assert_eq!((problem.field.as_deref(), problem.remedy), (Some("spec.selector"), Some(Remedy::Replace)));
        let adopt = not_permitted(&[repair(Remedy::Adopt, "it belonged to no Helm release")], Recovery::Stop).unwrap();
        assert_eq!(adopt.class, FailureClass::OwnershipMissing);
    }
}
