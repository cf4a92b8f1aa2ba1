//! The objects that the operator creates. Pure, as [`crate::core`] is.

pub mod backup;
mod job;
mod outbound;

pub use job::{RunnerDefaults, job, settings};
