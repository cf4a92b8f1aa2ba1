//! Failures of helm that are repaired in place.

mod bridge;
mod corrected;
mod custom_resources;
mod guide;
mod in_place;
