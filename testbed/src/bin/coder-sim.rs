//! Stands for Coder, and for its database, in the pods of the test bed. See [`testbed::sim`].

use std::process::ExitCode;

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    testbed::sim::run(std::env::args().collect(), std::env::vars().collect()).await
}
