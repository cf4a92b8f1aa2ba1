//! A Kubernetes operator that upgrades Coder safely.
//!
//! A person declares a version in a [`api::CoderUpgrade`]; the controller runs the workflow of Coder's own upgrade guide
//! in Jobs; the result is verified against the pods that run. The modules depend on each other in one direction:
//!
//! ```text
//! api ← core ← controller | runner | plugin ← cli ← log ← main
//! ```
//!
//! - [`api`]: the `CoderUpgrade` object, its conditions and reasons.
//! - [`core`]: pure decisions.
//! - [`controller`]: observes, has it decided, carries it out.
//! - [`runner`]: the program inside the Jobs.
//! - [`plugin`]: the commands for people at a terminal.
//! - [`access`]: how the API server is reached.
//! - [`log`]: the log, without secrets.

pub mod access;
pub mod api;
pub mod cli;
pub mod controller;
pub mod core;
pub mod log;
pub mod plugin;
pub mod runner;
