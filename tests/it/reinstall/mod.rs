//! The last resort: uninstall, wait, install; and the way back to the saved release.

mod never_uninstalled;
mod restore;
mod steps;
mod stories;
mod whole;
