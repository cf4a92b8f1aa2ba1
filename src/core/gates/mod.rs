//! Gates: what a change waits for.

pub mod dependencies;
pub mod request;
pub mod window;
