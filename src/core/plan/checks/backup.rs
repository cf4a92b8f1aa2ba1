//! A migrated database has no way back but a backup.

use super::Facts;
use crate::api::{CheckName, Finding};

/// [`CheckName::BackupConfigured`]
pub fn check(facts: &Facts) -> Vec<Finding> {
    if facts.spec.backup.is_some() || !facts.runs_servers() || !facts.changes_version() {
        return Vec::new();
    }
    let message =
        "nothing is backed up before the new version migrates the database, and Coder has no way back from that";
    let next = "Name a CronJob or a VolumeSnapshotClass in spec.backup, or back the database up by hand.";
    vec![Finding::warning(CheckName::BackupConfigured, message, next).at("spec.backup")]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::plan::checks::sample;

    #[test]
    fn only_another_version_can_migrate() {
        assert_eq!(check(&sample::facts("2.30.0", "2.31.7")).len(), 1);
        assert_eq!(check(&sample::facts("2.31.7", "2.31.7")).len(), 0);
        let mut companion = sample::facts("2.30.0", "2.31.7");
        companion.chart.name = "coder-provisioner".into();
        assert_eq!(check(&companion).len(), 0);
    }
}
