//! The pure part: facts in, decisions out. No client, no clock, no environment, no logging.

pub mod plan;
pub mod report;
