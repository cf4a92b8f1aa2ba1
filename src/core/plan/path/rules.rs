//! What is known of the ways between versions of Coder: the one table that paths follow.

/// A rule: what a step from a version in `from` to a version in `to` must heed. The ranges are Cargo's.
#[derive(Clone, Copy, Debug)]
pub struct PathRule {
    /// Versions that the step starts from.
    pub from: &'static str,
    /// Versions that it leads to.
    pub to: &'static str,
    /// What follows.
    pub effect: Effect,
    /// Why, as a part of a sentence.
    pub why: &'static str,
    /// Who says so.
    pub source: &'static str,
}

/// What a rule asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// A stop at the newest patch of every minor version in between.
    EveryMinor,
    /// A stop at the newest version of this range.
    StopAt(&'static str),
    /// Another version of which the fault is mended; no path stops at the faulty one either.
    Faulty(&'static str),
    /// No overlap of old and new servers: `spec.strategy: Recreate`.
    Recreate,
    /// The same as advice.
    AdviseRecreate,
    /// A word to the person who does it.
    Warn,
}

const CLASSIC: &str = ">=1.0.0, <2.0.0";

/// All rules.
pub const RULES: &[PathRule] = &[
    // Coder Classic.
    PathRule {
        from: CLASSIC,
        to: CLASSIC,
        effect: Effect::EveryMinor,
        why: "Coder Classic is upgraded one minor version at a time",
        source: "upgrade guide of Coder Classic",
    },
    PathRule {
        from: "*",
        to: "=1.15.0",
        effect: Effect::Faulty("1.15.1"),
        why: "its migration is faulty",
        source: "changelog of 1.15.1",
    },
    PathRule {
        from: "*",
        to: "=1.34.0",
        effect: Effect::Faulty("1.34.1"),
        why: "its migration leaves a dirty database",
        source: "changelog of 1.34.1",
    },
    PathRule {
        from: "*",
        to: "=1.35.0",
        effect: Effect::Faulty("1.35.1"),
        why: "its migration leaves a dirty database",
        source: "changelog of 1.35.1",
    },
    PathRule {
        from: ">=1.0.0, <1.30.0",
        to: ">=1.30.0, <2.0.0",
        effect: Effect::Warn,
        why: "the migration to 1.30 turns the ids of the database into UUIDs, which takes its time",
        source: "changelog of 1.30.0",
    },
    PathRule {
        from: ">=1.0.0, <1.37.0",
        to: ">=1.37.0, <2.0.0",
        effect: Effect::Warn,
        why: "1.37 drops the table environment_stats: to go back takes steps by hand beside a restored database",
        source: "changelog of 1.37.0",
    },
    PathRule {
        from: ">=1.0.0, <1.40.0",
        to: ">=1.40.0, <2.0.0",
        effect: Effect::Warn,
        why: "workspaces must be rebuilt after the upgrade to 1.40",
        source: "changelog of 1.40.0",
    },
    PathRule {
        from: CLASSIC,
        to: ">=1.45.0, <2.0.0",
        effect: Effect::Warn,
        why: "1.44 is the last series of Coder Classic that is known",
        source: "end of life of Coder Classic",
    },
    // Coder v2.
    PathRule {
        from: "*",
        to: "<1.0.0",
        effect: Effect::Warn,
        why: "before 2.5 migrations do not run in one transaction: one that is killed leaves a dirty database",
        source: "coder/coder #4613, #10966",
    },
    PathRule {
        from: "*",
        to: ">=2.0.0, <2.5.0",
        effect: Effect::Warn,
        why: "before 2.5 migrations do not run in one transaction: one that is killed leaves a dirty database",
        source: "coder/coder #4613, #10966",
    },
    PathRule {
        from: ">=2.26.0, <2.26.6",
        to: ">=2.27.0",
        effect: Effect::StopAt(">=2.26.6, <2.27.0"),
        why: "the migration of the table api_keys from there to 2.27 locks Coder out; 2.26.6 prepares it",
        source: "coder/coder #20899, #20906",
    },
    PathRule {
        from: ">=2.26.0, <2.27.0",
        to: ">=2.27.0",
        effect: Effect::AdviseRecreate,
        why: "with a large table api_keys the migration to 2.27 waits for the locks of servers that still run",
        source: "coder/coder #21309",
    },
    PathRule {
        from: ">=2.0.0, <2.34.0",
        to: ">=2.34.0",
        effect: Effect::Warn,
        why: "from 2.34 on the variables of the AI gateway are written into the database at the first start, and a server whose \
              variables differ from that later does not start; several of its migrations cannot be undone",
        source: "release notes of 2.34",
    },
    PathRule {
        from: ">=2.0.0, <2.39.0",
        to: ">=2.39.0",
        effect: Effect::Recreate,
        why: "where workspace quotas are enforced, servers before and from 2.39 must not work on one database at a time",
        source: "release notes of 2.39",
    },
];
