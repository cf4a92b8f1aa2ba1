//! Changes that others make after a verified upgrade.

mod noticed;
mod restarts;
