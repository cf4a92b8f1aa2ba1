//! The pure part: facts in, decisions out. No client, no clock, no environment, no logging.

pub mod allowed;
pub mod decide;
pub mod gates;
pub mod helm;
pub mod object;
pub mod outbound;
pub mod plan;
pub mod repair;
pub mod report;
pub mod rights;
pub mod rollout;
pub mod steps;
pub mod text;
