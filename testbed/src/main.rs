//! `testbed serve`: the process that holds a cluster together. People use `cargo xtask cluster`, which starts it.

use std::process::ExitCode;

use clap::Parser;
use testbed::real_node::first_process;
use testbed::supervisor::options::ServeOptions;
use testbed::supervisor::serve;
use tracing_subscriber::EnvFilter;

/// Without `RUST_LOG`. The client reports each refused request by itself; while a server starts, that is only noise.
const LOG_FILTER: &str = "info,kube_client::client::builder=off";

/// The supervisor of the test bed.
#[derive(Debug, Parser)]
enum Command {
    /// Run a cluster until SIGTERM, or until its owner ends.
    Serve(ServeOptions),
    /// Be the first process in the namespaces of a real node, until SIGTERM.
    FirstProcess(first_process::Arguments),
}

#[tokio::main]
async fn main() -> ExitCode {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new(LOG_FILTER));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false).init();
    let options = match Command::parse() {
        Command::Serve(options) => options,
        Command::FirstProcess(arguments) => {
            return match first_process::run(&arguments).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    tracing::error!(%error, "the node's namespaces cannot be prepared");
                    ExitCode::FAILURE
                }
            };
        }
    };
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::warn!("a TLS provider was installed already");
    }
    match serve(options).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE, // told and logged by `serve`
    }
}
