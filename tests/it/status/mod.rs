//! What people are told while something waits or fails.

mod alerts;
mod brakes;
mod cause_first;
mod dashboard;
mod nothing_silent;
