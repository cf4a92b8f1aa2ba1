//! The objects that the operator creates. Pure, as [`crate::core`] is.

mod job;

pub use job::{RunnerDefaults, job};
