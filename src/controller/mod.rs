//! The controller: observe → decide → at most one write, for each `CoderUpgrade` that something happened to.
//!
//! It keeps nothing in memory that it needs: its caches wake it and may tell that nothing is to be done. It knows
//! neither helm nor Secrets.

mod client;
mod context;
mod drain;
mod drift;
mod execute;
mod health;
mod leader;
mod metrics;
mod observe;
mod owned;
mod places;
mod reconcile;
mod request;
mod run;
mod words;

pub use run::{ControllerArgs, run};
