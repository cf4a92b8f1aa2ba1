//! Whether the volumes of a `StatefulSet` are what its templates ask for. A set that was recreated leaves the claims of the
//! old one as they were, and Kubernetes does not say so.

use crate::core::helm::documents::Shape;
use std::cmp::Ordering;

use crate::api::Recovery;
use crate::core::text::quantity;

/// Whether volumes of a storage class can grow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Growth {
    /// The class allows it.
    Allowed,
    /// The class does not allow it, or the claim has no class.
    Refused,
    /// The class may not be read, or is gone.
    Unknown,
}

/// What follows for one claim.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClaimAction {
    /// The size that the claim is to be given.
    pub expand: Option<String>,
    /// What differs, why it is not changed, and what a person can do.
    pub note: Option<String>,
}

/// Compares a claim with the template that it would be made from today.
pub fn judge(template: &Shape, claim: &Shape, growth: Growth, allowed: Recovery) -> ClaimAction {
    let mut notes = Vec::new();
    let mut expand = None;
    if let (Some(wanted), Some(has)) = (&template.size, &claim.size) {
        match order(wanted, has) {
            Some(Ordering::Greater) if growth == Growth::Allowed && allowed >= Recovery::Repair => {
                expand = Some(wanted.clone());
            }
            Some(Ordering::Greater) => notes.push(too_small(wanted, has, claim.class.as_deref(), growth)),
            Some(Ordering::Less) => notes.push(format!(
                "the chart asks for {wanted} and the claim has {has}: a volume never shrinks, and nothing needs to be done"
            )),
            Some(Ordering::Equal) => {}
            None => notes.push(format!("the sizes {wanted} (chart) and {has} (claim) cannot be compared")),
        }
    }
    let move_by_hand = "it stays; to move the data, back it up and restore it into a new claim by hand";
    if let Some(wanted) = template.class.as_ref().filter(|wanted| Some(*wanted) != claim.class.as_ref()) {
        let has = claim.class.as_deref().unwrap_or("none");
        notes.push(format!("the chart asks for storage class {wanted} and the claim has {has}: {move_by_hand}"));
    }
    if !template.modes.is_empty() && sorted(&template.modes) != sorted(&claim.modes) {
        let (wanted, has) = (template.modes.join(", "), claim.modes.join(", "));
        notes.push(format!("the chart asks for access mode {wanted} and the claim has {has}: {move_by_hand}"));
    }
    ClaimAction { expand, note: (!notes.is_empty()).then(|| notes.join("; ")) }
}

/// Whether a volume is smaller than what its claim was promised; it may grow only when a pod uses it.
pub fn still_growing(capacity: &str, size: &str) -> bool {
    order(capacity, size) == Some(Ordering::Less)
}

fn order(one: &str, other: &str) -> Option<Ordering> {
    Some(quantity::parse(one)?.cmp(&quantity::parse(other)?))
}

fn sorted(modes: &[String]) -> Vec<&String> {
    let mut modes: Vec<&String> = modes.iter().collect();
    modes.sort();
    modes
}

fn too_small(wanted: &str, has: &str, class: Option<&str>, growth: Growth) -> String {
    let what = format!("the chart asks for {wanted} and the claim has {has}");
    let class = class.filter(|class| !class.is_empty());
    match (growth, class) {
        (Growth::Allowed, _) => {
            format!(
                "{what}: it is not enlarged while spec.recovery is Stop; set it to Repair, or edit the claim by hand"
            )
        }
        (Growth::Refused, None) => format!("{what}: it has no storage class, so only a person can enlarge its volume"),
        (Growth::Refused, Some(class)) => format!(
            "{what}: StorageClass/{class} does not allow volumes to grow; set allowVolumeExpansion there if its driver can, \
             or move the data by hand"
        ),
        (Growth::Unknown, class) => format!(
            "{what}: StorageClass/{} cannot be read, so nobody knows whether it can grow; edit the claim by hand, or let the \
             runner read storage classes",
            class.unwrap_or("(default)")
        ),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn shape(size: &str, class: Option<&str>, mode: &str) -> Shape {
        Shape { size: Some(size.into()), class: class.map(Into::into), modes: vec![mode.into()] }
    }

    #[rstest]
    #[case::same("1Gi", Growth::Allowed, Recovery::Repair, None, None)]
    #[case::same_in_other_words("1024Mi", Growth::Allowed, Recovery::Repair, None, None)]
    #[case::larger("2Gi", Growth::Allowed, Recovery::Repair, Some("2Gi"), None)]
    #[case::larger_but_stop("2Gi", Growth::Allowed, Recovery::Stop, None, Some("spec.recovery is Stop"))]
    #[case::larger_but_fixed(
        "2Gi",
        Growth::Refused,
        Recovery::Reinstall,
        None,
        Some("StorageClass/fast does not allow")
    )]
    #[case::larger_but_unknown("2Gi", Growth::Unknown, Recovery::Repair, None, Some("cannot be read"))]
    #[case::smaller("512Mi", Growth::Allowed, Recovery::Reinstall, None, Some("never shrinks"))]
    #[case::nonsense("much", Growth::Allowed, Recovery::Repair, None, Some("cannot be compared"))]
    fn a_claim_grows_and_never_shrinks(
        #[case] wanted: &str,
        #[case] growth: Growth,
        #[case] allowed: Recovery,
        #[case] expand: Option<&str>,
        #[case] note: Option<&str>,
    ) {
        let claim = shape("1Gi", Some("fast"), "ReadWriteOnce");
        let found = judge(&shape(wanted, None, "ReadWriteOnce"), &claim, growth, allowed);
        assert_eq!(found.expand.as_deref(), expand);
        assert_eq!(found.note.is_some(), note.is_some(), "{found:?}");
        assert!(found.note.unwrap_or_default().contains(note.unwrap_or_default()));
    }

    #[test]
    fn class_and_access_mode_are_only_noted() {
        let claim = shape("1Gi", Some("slow"), "ReadWriteOnce");
        let found = judge(&shape("1Gi", Some("fast"), "ReadWriteMany"), &claim, Growth::Allowed, Recovery::Reinstall);
        let note = found.note.unwrap();
        assert!(found.expand.is_none() && note.contains("class fast") && note.contains("mode ReadWriteMany"), "{note}");
        assert!(judge(&shape("1Gi", None, "ReadWriteOnce"), &claim, Growth::Allowed, Recovery::Stop).note.is_none());
    }
}
