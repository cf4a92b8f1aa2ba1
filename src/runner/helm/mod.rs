//! helm: the program that is run, and the records that it keeps.

mod cli;
mod download;
mod index;
mod output;
pub mod outside;
mod process;
pub mod pull;
pub mod record;
pub mod run;
pub mod storage;
pub mod upgrade;

pub use cli::{Excess, Helm, HelmFailure, Major};
