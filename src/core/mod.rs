//! The pure part: facts in, decisions out. No client, no clock, no environment, no logging.

pub(crate) mod allowed;
pub mod decide;
pub(crate) mod doctor;
pub(crate) mod gates;
pub mod helm;
pub(crate) mod object;
pub(crate) mod outbound;
pub(crate) mod overview;
pub mod plan;
pub(crate) mod repair;
pub mod report;
pub mod rights;
pub(crate) mod rollout;
pub(crate) mod steps;
pub mod text;
