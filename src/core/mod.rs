//! The pure part: facts in, decisions out. No client, no clock, no environment, no logging.

pub mod classify;
pub mod decide;
pub mod digest;
pub mod documents;
pub mod drain;
pub mod endpoint;
pub mod guard;
pub mod history;
pub mod job;
pub mod keep;
pub mod ladder;
pub mod manifest;
pub mod observed;
pub mod plan;
pub mod progress;
pub mod redact;
pub mod report;
pub mod request;
pub mod retry;
pub mod summary;
pub mod uninstall;
pub mod values;
pub mod verify;
pub mod version;
pub mod workload;
