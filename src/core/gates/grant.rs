//! The annotation by which people allow something.

use kube::ResourceExt;

use crate::api::{Approvable, CoderUpgrade, Recovery, annotation};

/// Longest value of the annotation that is looked at, in bytes: it may be 256 KiB long, and is kept in status.
const LONGEST: usize = 128;

/// The annotation, taken apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grant<'a> {
    /// Id of a plan.
    pub plan: &'a str,
    /// None: the plan as far as spec.recovery allows it.
    pub step: Option<Approvable>,
}

impl<'a> Grant<'a> {
    /// Takes a value apart; none if it is not of the form PLAN or PLAN/STEP.
    pub fn parse(text: &'a str) -> Option<Self> {
        let (plan, step) = match text.split_once('/') {
            None => (text, None),
            Some((plan, step)) => (plan, Some(step.parse().ok()?)),
        };
        (!plan.is_empty()).then_some(Self { plan, step })
    }

    /// What was allowed of a plan, if anything.
    pub fn of(upgrade: &'a CoderUpgrade, plan: &str) -> Option<Self> {
        given(upgrade).and_then(Self::parse).filter(|grant| grant.plan == plan)
    }

    /// How far it goes beyond spec.recovery.
    pub fn recovery(self) -> Recovery {
        match self.step {
            None => Recovery::Stop,
            Some(Approvable::Repair) => Recovery::Repair,
            Some(Approvable::Reinstall) => Recovery::Reinstall,
        }
    }
}

/// The value of the annotation, as far as it is looked at.
pub fn given(upgrade: &CoderUpgrade) -> Option<&str> {
    let text = upgrade.annotations().get(annotation::APPROVE)?;
    Some(text.get(..LONGEST).unwrap_or(if text.len() > LONGEST { "…" } else { text }))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("3869d87a883e", Some(("3869d87a883e", Recovery::Stop)))]
    #[case("3869d87a883e/repair", Some(("3869d87a883e", Recovery::Repair)))]
    #[case("3869d87a883e/reinstall", Some(("3869d87a883e", Recovery::Reinstall)))]
    #[case("3869d87a883e/nonsense", None)]
    #[case("/repair", None)]
    #[case("", None)]
    fn a_plan_or_a_step_of_it(#[case] text: &str, #[case] expected: Option<(&str, Recovery)>) {
        assert_eq!(Grant::parse(text).map(|grant| (grant.plan, grant.recovery())), expected);
    }
}
