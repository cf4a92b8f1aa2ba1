//! The steps of an upgrade, decided: what is left to do of each, and on which objects.

pub mod backup;
pub mod backup_objects;
pub mod drain;
pub mod keep;
pub mod pause;
pub mod restore;
pub mod uninstall;
pub mod upgrade;
