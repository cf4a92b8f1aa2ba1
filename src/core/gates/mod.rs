//! The gates of a planned change: what they ask, in which order, and what they say. The controller asks them before it begins;
//! the command `plan` shows what they say now.

pub mod approval;
pub mod claim;
pub mod dependencies;
pub mod grant;
pub mod request;
pub mod window;

use jiff::Timestamp;
use kube::ResourceExt;

use self::dependencies::{Obstacle, Sibling, obstacle};
use self::window::{Opening, Schedule};
use crate::api::{CoderUpgrade, Forecast, Phase, Reason};
use crate::core::report::Problem;

/// What is asked before a planned change begins. Places and backups come after them.
pub const BEFORE_A_CHANGE: [Gate; 5] =
    [Gate::Claim, Gate::Suspension, Gate::Dependencies, Gate::Approval, Gate::Window];
/// The same before a repair that was approved by itself.
pub const BEFORE_A_REPAIR: [Gate; 4] = [Gate::Claim, Gate::Suspension, Gate::Dependencies, Gate::Window];
/// The same before a plan is made.
pub const BEFORE_A_PLAN: [Gate; 2] = [Gate::Claim, Gate::Suspension];

/// A gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// One release, one `CoderUpgrade`.
    Claim,
    /// spec.suspend.
    Suspension,
    /// spec.dependsOn.
    Dependencies,
    /// spec.approval, and repairs beyond spec.recovery.
    Approval,
    /// spec.window.
    Window,
}

/// What the gates are asked with.
#[derive(Clone, Copy, Debug)]
pub struct GateFacts<'a> {
    /// The object.
    pub upgrade: &'a CoderUpgrade,
    /// Another one that had the release first.
    pub claimed_by: Option<&'a str>,
    /// The objects that spec.dependsOn leads to.
    pub siblings: &'a [Sibling],
    /// The planned change; none before there is a plan.
    pub plan: Option<PlannedChange<'a>>,
    /// The present time.
    pub now: Timestamp,
}

/// A planned change.
#[derive(Clone, Copy, Debug)]
pub struct PlannedChange<'a> {
    /// What it foresees.
    pub forecast: &'a Forecast,
    /// What is to be said while a person must still allow something of it.
    pub waiting: Option<&'a str>,
}

/// What a gate says.
#[derive(Debug)]
pub enum GateState {
    /// It may begin.
    Open,
    /// It may not begin yet.
    Closed(Closed),
    /// What the spec says of the gate cannot be read.
    Broken(Box<Problem>),
}

/// Why it may not begin yet.
#[derive(Debug)]
pub struct Closed {
    /// The phase meanwhile.
    pub phase: Phase,
    /// The reason of the condition and of the event.
    pub reason: Reason,
    /// Whether somebody should look.
    pub warning: bool,
    /// What is waited for.
    pub message: String,
    /// When it is looked at again, if nothing happens before.
    pub until: Option<Timestamp>,
}

impl Gate {
    /// Whether a change may begin.
    pub fn ask(self, facts: &GateFacts<'_>) -> GateState {
        match self {
            Self::Claim => claim(facts),
            Self::Suspension => suspension(facts),
            Self::Dependencies => dependencies(facts),
            Self::Approval => approval(facts),
            Self::Window => window(facts),
        }
    }

    /// The field of the spec that asks for it, if one does.
    pub fn field(self, facts: &GateFacts<'_>) -> Option<&'static str> {
        let spec = &facts.upgrade.spec;
        match self {
            Self::Claim => facts.claimed_by.map(|_| "spec.release"),
            Self::Suspension => spec.suspend.then_some("spec.suspend"),
            Self::Dependencies => (!spec.depends_on.is_empty()).then_some("spec.dependsOn"),
            Self::Approval => Some(approval::asked_for(spec, facts.plan?.forecast)?.field),
            Self::Window => spec.window.as_ref().map(|_| "spec.window"),
        }
    }

    /// What it says where it is open.
    pub fn passed(self, facts: &GateFacts<'_>) -> String {
        match self {
            Self::Claim | Self::Suspension => String::new(),
            Self::Dependencies => format!("Ready: {}.", facts.upgrade.spec.dependencies().join(", ")),
            Self::Approval => "This plan is approved.".into(),
            Self::Window => "The window is open.".into(),
        }
    }
}

fn claim(facts: &GateFacts<'_>) -> GateState {
    let Some(other) = facts.claimed_by else { return GateState::Open };
    let release = &facts.upgrade.spec.release;
    GateState::Closed(Closed {
        phase: Phase::Pending,
        reason: Reason::ReleaseClaimed,
        warning: true,
        message: format!("CoderUpgrade {other} is for release {release} already. Delete one of the two."),
        until: None,
    })
}

fn suspension(facts: &GateFacts<'_>) -> GateState {
    if !facts.upgrade.spec.suspend {
        return GateState::Open;
    }
    GateState::Closed(Closed {
        phase: Phase::Suspended,
        reason: Reason::Suspended,
        warning: false,
        message: "Nothing new is begun while spec.suspend is true.".into(),
        until: None,
    })
}

fn dependencies(facts: &GateFacts<'_>) -> GateState {
    let name = facts.upgrade.name_any();
    let Some(obstacle) = obstacle(&name, &facts.upgrade.spec.dependencies(), facts.siblings) else {
        return GateState::Open;
    };
    let (warning, message) = match obstacle {
        Obstacle::Missing(name) => (
            true,
            format!(
                "CoderUpgrade {name} must be ready first (spec.dependsOn), but does not exist in this namespace. Create it, or \
                 take it out of spec.dependsOn."
            ),
        ),
        Obstacle::NotReady(name, phase) => {
            (false, format!("CoderUpgrade {name} must be ready first (spec.dependsOn); it is {phase}."))
        }
        Obstacle::Circle(names) => (
            true,
            format!(
                "spec.dependsOn goes round in a circle, so that none of them ever begins: {}. Take one of them out of the \
                 spec.dependsOn of the one before it.",
                names.join(" after ")
            ),
        ),
    };
    let (phase, reason) = (Phase::AwaitingDependency, Reason::AwaitingDependency);
    GateState::Closed(Closed { phase, reason, warning, message, until: None })
}

fn approval(facts: &GateFacts<'_>) -> GateState {
    let Some(waiting) = facts.plan.and_then(|plan| plan.waiting) else { return GateState::Open };
    GateState::Closed(Closed {
        phase: Phase::AwaitingApproval,
        reason: Reason::AwaitingApproval,
        warning: false,
        message: waiting.to_owned(),
        until: None,
    })
}

fn window(facts: &GateFacts<'_>) -> GateState {
    let Some(window) = &facts.upgrade.spec.window else { return GateState::Open };
    let schedule = match Schedule::read(window) {
        Ok(schedule) => schedule,
        Err(problem) => return GateState::Broken(problem),
    };
    match schedule.at(facts.now) {
        Opening::Open => GateState::Open,
        Opening::ClosedUntil(opens) => GateState::Closed(Closed {
            phase: Phase::AwaitingWindow,
            reason: Reason::AwaitingWindow,
            warning: false,
            message: format!("The window is closed (spec.window); it opens on {}.", schedule.shown(opens)),
            until: Some(opens),
        }),
    }
}
