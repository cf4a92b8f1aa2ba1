//! What people are told while something waits or fails.

mod brakes;
mod cause_first;
mod nothing_silent;
