//! The commands for people at a terminal.

mod bad_input;
mod commands;
mod doctor;
mod names;
mod setup;
mod shown;
mod status;
