//! Before anything changes: what is declared, where charts come from, what is foreseen and refused.

mod allowed;
mod allowed_sources;
mod bad_input;
mod checks;
mod company;
mod hostile_input;
mod inner_database;
mod networks;
mod other_release;
mod owners;
mod path;
mod plan_command;
mod post_renderer;
mod refusals;
mod rehearsal;
mod sources;
mod texts;
mod values;
mod yaml;
