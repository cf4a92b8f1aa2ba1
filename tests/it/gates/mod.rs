//! What a change waits for.

mod waiting;
