//! The command `history`: the finished attempts.

use clap::Args;

use super::error::PluginError;
use super::output::Output;
use super::session::{Session, SessionArgs, print};
use crate::core::overview::history;

/// What `history` is told.
#[derive(Clone, Debug, Args)]
pub struct HistoryArgs {
    /// Name of the CoderUpgrade
    #[arg(value_name = "NAME")]
    name: String,

    /// How it is printed
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,

    /// Cluster, namespace and user.
    #[command(flatten)]
    session: SessionArgs,
}

/// Shows the finished attempts, the newest first.
pub async fn run(args: &HistoryArgs, program: &'static str) -> Result<u8, PluginError> {
    let session = Session::open(&args.session, program).await?;
    let entries = session.upgrade(&args.name).await?.status.unwrap_or_default().history;
    print(&args.output.of(&entries, |entries| history(entries))?)?;
    Ok(0)
}
