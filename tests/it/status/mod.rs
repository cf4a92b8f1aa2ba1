//! What people are told while something waits or fails.

mod brakes;
mod nothing_silent;
