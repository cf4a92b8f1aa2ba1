//! Repairs in place: which one cures what helm was refused for, and what it may touch.

pub mod bridge;
pub mod disposable;
pub mod escalation;
pub mod volumes;
