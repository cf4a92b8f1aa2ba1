//! Failures of helm that are repaired in place.

mod bridge;
mod chart_rules;
mod corrected;
mod custom_resources;
mod guide;
mod in_place;
