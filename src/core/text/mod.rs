//! Texts and data from outside: read within limits, and cleaned of secrets.

pub(crate) mod bounded;
pub mod causes;
pub(crate) mod confidential;
pub mod digest;
pub(crate) mod display;
pub(crate) mod duration;
pub(crate) mod layout;
pub(crate) mod log_format;
pub(crate) mod nesting;
pub(crate) mod quantity;
pub(crate) mod redact;
pub mod yaml;
