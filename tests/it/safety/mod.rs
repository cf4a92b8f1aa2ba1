//! Promises that no failure, neighbour or restart may break.

mod locks;
mod never_forgotten;
mod no_way_back;
mod outlives;
mod planted;
mod rights;
mod whose_word;
