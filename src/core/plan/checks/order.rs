//! Which finding is told first: the one whose harm is the worst.

use std::cmp::Reverse;

use crate::api::{CheckName, Finding, Severity};

/// What checks keep from happening, the worst first, each with the checks that do so. Within a group, too, the first counts
/// most. docs/checks.md shows this table.
pub const ORDER: &[(&str, &[CheckName])] = &[
    (
        "data would be lost, or Coder would work on other data",
        &[
            CheckName::DataOwners,
            CheckName::ProductLine,
            CheckName::DatabaseTarget,
            CheckName::ExternalDatabase,
            CheckName::SatelliteKey,
            CheckName::ClaimInManifest,
            CheckName::ClaimHealth,
            // What cannot be read may hold data.
            CheckName::Manifest,
        ],
    ),
    (
        "the database would be left in a state in which the old version cannot use it any more",
        &[
            CheckName::Downgrade,
            CheckName::VersionPath,
            CheckName::FaultyVersion,
            CheckName::Probe,
            CheckName::HelmSettings,
            CheckName::SchemaOverlap,
            CheckName::BackupConfigured,
        ],
    ),
    (
        "two programs, or two histories, would work on one release",
        &[CheckName::ReleaseManager, CheckName::ReleaseRecords, CheckName::ReleasePending],
    ),
    (
        "nobody would be served for a time",
        &[
            CheckName::AddressPinned,
            CheckName::Quota,
            CheckName::Schedulable,
            CheckName::ReplicaCount,
            CheckName::Autoscaler,
            CheckName::CompanionSkew,
        ],
    ),
    (
        "helm or the API server would refuse it",
        &[
            CheckName::KubeVersion,
            CheckName::ApiVersions,
            CheckName::Rehearsal,
            CheckName::RunnerRights,
            CheckName::DuplicateEnvironment,
        ],
    ),
    (
        "the change would not do what it is meant to do, or not show that it did",
        &[
            CheckName::PostRenderer,
            CheckName::ImagePin,
            CheckName::RemovedValues,
            CheckName::NullValues,
            CheckName::ServerAnswers,
        ],
    ),
];

/// Where a check stands in [`ORDER`].
fn rank(check: CheckName) -> usize {
    let all = ORDER.iter().flat_map(|(_, checks)| checks.iter());
    all.clone().position(|known| *known == check).unwrap_or_else(|| all.count())
}

/// Sorts findings as they are shown: refusals before what was overridden, that before warnings, and the worst of each first.
/// What one check found stays in its order.
pub fn sort(findings: &mut [Finding]) {
    findings.sort_by_key(|finding| (Reverse(finding.severity), rank(finding.check)));
}

/// The checks that refuse beside the first refusal, as a remark in parentheses; nothing if there are none.
#[must_use]
pub fn others(findings: &[Finding]) -> String {
    let refusals = findings.iter().filter(|finding| finding.severity == Severity::Refusal);
    let mut others: Vec<(CheckName, usize)> = Vec::new();
    for finding in refusals.skip(1) {
        match others.iter_mut().find(|(check, _)| *check == finding.check) {
            Some((_, times)) => *times += 1,
            None => others.push((finding.check, 1)),
        }
    }
    let named = others.iter().map(|(check, times)| match times {
        1 => check.to_string(),
        times => format!("{check} ({times} times)"),
    });
    let named = named.collect::<Vec<_>>().join(", ");
    match others.iter().map(|(_, times)| times).sum::<usize>() {
        0 => String::new(),
        1 => format!(" (and one more refusal: {named})"),
        count => format!(" (and {count} more refusals: {named})"),
    }
}

#[cfg(test)]
mod tests {
    use strum::IntoEnumIterator;

    use super::*;

    fn refusal(check: CheckName) -> Finding {
        Finding::refusal(check, format!("{check} says no"), "Do it.")
    }

    #[test]
    fn each_check_has_one_place() {
        let mut ranks: Vec<usize> = CheckName::iter().map(rank).collect();
        ranks.sort_unstable();
        assert_eq!(ranks, (0..CheckName::iter().count()).collect::<Vec<_>>());
    }

    #[test]
    fn a_lost_database_comes_before_an_image_pin_and_a_refusal_before_any_warning() {
        let mut found = vec![
            Finding::warning(CheckName::DataOwners, "it may be so", "Look."),
            refusal(CheckName::RemovedValues),
            refusal(CheckName::ImagePin),
            refusal(CheckName::Rehearsal),
            refusal(CheckName::ReleaseManager),
            refusal(CheckName::Downgrade),
            refusal(CheckName::DatabaseTarget),
        ];
        sort(&mut found);
        let order: Vec<CheckName> = found.iter().map(|finding| finding.check).collect();
        assert_eq!(
            order,
            [
                CheckName::DatabaseTarget,
                CheckName::Downgrade,
                CheckName::ReleaseManager,
                CheckName::Rehearsal,
                CheckName::ImagePin,
                CheckName::RemovedValues,
                CheckName::DataOwners,
            ]
        );
    }

    #[test]
    fn the_others_are_counted_and_named() {
        let mut found = vec![refusal(CheckName::DatabaseTarget)];
        assert_eq!(others(&found), "");
        found.push(refusal(CheckName::ImagePin));
        assert_eq!(others(&found), " (and one more refusal: ImagePin)");
        found.extend([refusal(CheckName::RemovedValues), refusal(CheckName::RemovedValues)]);
        found.push(Finding::warning(CheckName::Quota, "it is tight", "Look."));
        assert_eq!(others(&found), " (and 3 more refusals: ImagePin, RemovedValues (2 times))");
    }
}
