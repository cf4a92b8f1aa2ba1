//! What a change waits for.

mod shown;
mod waiting;
