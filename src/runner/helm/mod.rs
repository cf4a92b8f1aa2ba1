//! helm: the program that is run, and the records that it keeps.

mod cli;
mod download;
mod failure;
pub mod held_release;
mod index;
pub mod merge_base;
mod output;
pub mod outside;
pub mod package;
pub mod record;
pub mod repository;
mod run;
pub mod source;
pub mod storage;
pub mod upgrade;

pub use cli::{Excess, Helm, Major};
pub use failure::HelmFailure;
