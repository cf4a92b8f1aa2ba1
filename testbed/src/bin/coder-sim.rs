//! Stands for Coder in pods.
fn main() {}
