//! The path from the installed to the wanted version: the stops on it, and what is to be known before it is taken.

mod rules;

#[cfg(test)]
mod tests;

use semver::{BuildMetadata, Prerelease, Version, VersionReq};

pub use self::rules::{Effect, PathRule, RULES};
use crate::api::{CheckName, FailureClass, Finding, PathPolicy, Severity, Strategy};
use crate::core::helm::version::product_line;
use crate::core::report::Problem;

/// Most minor versions that a path goes through one by one: each stop is looked for, planned and upgraded to by itself.
const MINORS: u64 = 200;

/// What is asked for.
#[derive(Clone, Debug)]
pub struct UpgradePath {
    /// The installed version.
    pub from: Version,
    /// The wanted version.
    pub to: Version,
    /// Whether the rules lay stops.
    pub policy: PathPolicy,
    /// Whether old and new servers overlap.
    pub strategy: Strategy,
}

/// A stop that the rules ask for, before it is known which versions there are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stop {
    /// The versions of which the newest is taken, as helm and Cargo both read it.
    pub range: String,
    /// Why, with the source.
    why: String,
}

/// A path, with what was found about it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Path {
    /// The versions in their order; the last one is the wanted one. None if nothing lies between.
    pub hops: Vec<Version>,
    /// What is to be known.
    pub findings: Vec<Finding>,
}

impl UpgradePath {
    /// Refuses a version so far away that the stops could not even be counted.
    pub fn check(&self) -> Result<(), Box<Problem>> {
        let between = self.to.minor.saturating_sub(self.from.minor);
        if self.policy == PathPolicy::Direct || self.from.major != self.to.major || between <= MINORS {
            return Ok(());
        }
        let (from, to) = (&self.from, &self.to);
        let message = format!(
            "from {from} to {to} are {between} minor versions, and at most {MINORS} can be gone through one by one: choose \
             a nearer version, or look whether the repository really has this one"
        );
        Err(Problem::new(FailureClass::VersionNotFound, message).field("spec.version").boxed())
    }

    /// The stops, in their order.
    pub fn stops(&self) -> Vec<Stop> {
        match self.policy {
            PathPolicy::Safe => self.laid(),
            PathPolicy::Direct => Vec::new(),
        }
    }

    fn laid(&self) -> Vec<Stop> {
        if self.from >= self.to || product_line(&self.from) != product_line(&self.to) {
            return Vec::new();
        }
        let stop = |range: String, rule: &PathRule| Stop { range, why: reason(rule) };
        let stops = holding(&self.from, &self.to).flat_map(|rule| match rule.effect {
            Effect::EveryMinor => {
                let major = self.from.major;
                let between = self.from.minor.saturating_add(1)..self.to.minor;
                // More are refused by `check`; whoever does not ask it still gets no more.
                between
                    .take(usize::try_from(MINORS).unwrap_or(usize::MAX))
                    .map(|minor| stop(format!("{major}.{minor}.x"), rule))
                    .collect()
            }
            Effect::StopAt(range) => vec![stop(range.to_owned(), rule)],
            _ => Vec::new(),
        });
        stops.collect()
    }

    /// The path over the newest of the `available` versions at each stop. A stop at which there is none is a refusal, and
    /// the path goes on without it, for those who override that.
    pub fn path(&self, available: &[Version]) -> Path {
        let mut path = Path::default();
        if self.from == self.to {
            return path;
        }
        let mut last = self.from.clone();
        for stop in self.stops() {
            let usable = |version: &&Version| **version > last && **version < self.to && stop.takes(version);
            match available.iter().filter(usable).max() {
                Some(version) => {
                    last = version.clone();
                    path.hops.push(last.clone());
                }
                None => path.findings.push(self.missing(&stop)),
            }
        }
        path.hops.push(self.to.clone());
        self.explain(&mut path);
        path
    }

    /// The way with a chart that is all there is, as an archive.
    pub fn in_one_hop(&self) -> Path {
        let mut path = Path { hops: vec![self.to.clone()], findings: Vec::new() };
        let stops = self.stops();
        if !stops.is_empty() {
            path.findings.push(self.no_stop(&stops));
        }
        self.explain(&mut path);
        path
    }

    /// Adds what is to be known of a path.
    fn explain(&self, path: &mut Path) {
        let passed_over = self.laid();
        if self.policy == PathPolicy::Direct && !passed_over.is_empty() {
            path.findings.push(self.direct(&passed_over));
        }
        let steps = [&self.from].into_iter().chain(&path.hops).zip(&path.hops);
        path.findings.extend(steps.flat_map(|(from, to)| self.heeded(from, to)).collect::<Vec<_>>());
    }

    /// What the rules say of one hop.
    fn heeded(&self, from: &Version, to: &Version) -> Vec<Finding> {
        let overlap = self.strategy == Strategy::RollingUpdate;
        let findings = holding(from, to).filter_map(|rule| {
            let why = reason(rule);
            let found = |check, severity, message, next_step: &str| {
                Some(Finding {
                    check,
                    severity,
                    object: None,
                    field: Some("spec.version".into()),
                    message,
                    next_step: next_step.into(),
                })
            };
            match rule.effect {
                Effect::Faulty(mended) => found(
                    CheckName::FaultyVersion,
                    Severity::Refusal,
                    format!("{to} has a known fault: {why}"),
                    &format!("Set spec.version to {mended} or a later version."),
                ),
                Effect::Recreate if overlap => found(
                    CheckName::SchemaOverlap,
                    Severity::Refusal,
                    format!("{from} and {to} must not run side by side: {why}"),
                    "Set spec.strategy: Recreate, which takes Coder down for minutes. If no quotas are enforced, name \
                     SchemaOverlap in spec.overrides instead.",
                ),
                Effect::AdviseRecreate if overlap => found(
                    CheckName::SchemaOverlap,
                    Severity::Warning,
                    format!("{from} and {to} may get in each other's way: {why}"),
                    "Set spec.strategy: Recreate, which takes Coder down for minutes, if the table is large.",
                ),
                Effect::Warn => found(
                    CheckName::VersionPath,
                    Severity::Warning,
                    format!("{from} to {to}: {why}"),
                    "Read the release notes of the versions in between before the change begins.",
                ),
                _ => None,
            }
        });
        findings.collect()
    }

    fn missing(&self, stop: &Stop) -> Finding {
        let (from, to) = (&self.from, &self.to);
        let message = format!(
            "the way from {from} to {to} leads over a version {}, of which the repository has none that can be used: {}",
            stop.range, stop.why
        );
        let next_step = "Publish the chart of such a version in spec.chart.repository. If you know that it works without, set \
                         spec.upgradePath: Direct, or name VersionPath in spec.overrides to leave out this stop alone.";
        path_finding(Severity::Refusal, "spec.version", message, next_step)
    }

    fn no_stop(&self, stops: &[Stop]) -> Finding {
        let (from, to) = (&self.from, &self.to);
        let message = format!(
            "the way from {from} to {to} leads over {}, and spec.chart.archive holds one version only: {}",
            ranges(stops),
            why(stops)
        );
        let next_step = "Give the archives one after the other, the newest version of each, or a repository that has all of \
                         them. If you know that it works without, set spec.upgradePath: Direct.";
        path_finding(Severity::Refusal, "spec.chart.archive", message, next_step)
    }

    fn direct(&self, passed_over: &[Stop]) -> Finding {
        let (from, to) = (&self.from, &self.to);
        let message = format!("the way from {from} to {to} passes over {}: {}", ranges(passed_over), why(passed_over));
        let next_step = "Set spec.upgradePath: Safe to stop there, unless you know that it works without.";
        path_finding(Severity::Warning, "spec.upgradePath", message, next_step)
    }
}

fn path_finding(severity: Severity, field: &str, message: String, next_step: &str) -> Finding {
    let (field, next_step) = (Some(field.into()), next_step.into());
    Finding { check: CheckName::VersionPath, severity, object: None, field, message, next_step }
}

fn ranges(stops: &[Stop]) -> String {
    stops.iter().map(|stop| stop.range.as_str()).collect::<Vec<_>>().join(", ")
}

fn why(stops: &[Stop]) -> &str {
    stops.first().map(|stop| stop.why.as_str()).unwrap_or_default()
}

impl Stop {
    /// Whether a path may stop at that version.
    fn takes(&self, version: &Version) -> bool {
        version.pre.is_empty() && within(&self.range, version) && !is_faulty(version)
    }
}

/// Whether a version has a known fault.
fn is_faulty(version: &Version) -> bool {
    RULES.iter().any(|rule| matches!(rule.effect, Effect::Faulty(_)) && within(rule.to, version))
}

/// The rules that a step must heed.
fn holding(from: &Version, to: &Version) -> impl Iterator<Item = &'static PathRule> {
    RULES.iter().filter(move |rule| within(rule.from, from) && within(rule.to, to))
}

/// Whether a version lies in a range. A candidate counts as the version that it is a candidate of.
fn within(range: &str, version: &Version) -> bool {
    let plain = Version { pre: Prerelease::EMPTY, build: BuildMetadata::EMPTY, ..version.clone() };
    VersionReq::parse(range).is_ok_and(|range| range.matches(&plain))
}

fn reason(rule: &PathRule) -> String {
    format!("{} ({})", rule.why, rule.source)
}
