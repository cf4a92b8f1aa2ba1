//! The integration tests: one program, its modules named after what they show. `common` is the world that they share.
// A test may; clippy does not see helper functions as tests.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
mod documented;
mod drift;
mod gates;
mod gitops;
mod install;
mod plan;
mod plugin;
mod real_node;
mod reinstall;
mod repair;
mod safety;
mod status;
mod structure;
mod upgrade;
mod words;
mod workflows;
