//! Texts and data from outside: read within limits, and cleaned of secrets.

pub mod bounded;
pub mod confidential;
pub mod digest;
pub mod display;
pub mod log_format;
pub mod nesting;
pub mod quantity;
pub mod redact;
pub mod yaml;
