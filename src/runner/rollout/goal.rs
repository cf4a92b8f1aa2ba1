//! What a change must lead to.

use std::time::Duration;

use crate::{
    api::ClaimStatus,
    core::rollout::{health::Fault, verify::Expected},
    runner::coder::token::Token,
};

/// What must be true.
pub struct Goal<'a> {
    /// Number of the revision that must stay the newest, and deployed.
    pub revision: i32,
    /// What the pods must answer.
    pub expected: Expected,
    /// The claims as they were.
    pub claims: &'a [ClaimStatus],
    /// How long to wait until everything is right.
    pub timeout: Duration,
    /// How long it must stay right without a break.
    pub soak: Duration,
    /// With this, Coder itself must find itself well, too.
    pub token: Option<&'a Token>,
    /// What Coder found wrong with itself before; none if nobody knows.
    pub health: Option<&'a [Fault]>,
}
