//! The pure part: facts in, decisions out. No client, no clock, no environment, no logging.

pub mod decide;
pub mod job;
pub mod observed;
pub mod plan;
pub mod report;
pub mod request;
pub mod retry;
pub mod summary;
