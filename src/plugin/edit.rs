//! The commands that change one field of the object: `upgrade`, `retry`, `suspend` and `resume`.

use std::time::Duration;

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::error::PluginError;
use super::follow;
use super::output::Output;
use super::session::{Session, SessionArgs, print};
use super::status::EXIT_CODES;
use crate::api::annotation;
use crate::core::text::duration::duration;

/// Whether the upgrade is followed.
#[derive(Clone, Debug, Args)]
pub struct FollowArgs {
    /// Follow the upgrade until it is verified, has failed, or waits for a person, as `status --watch` does
    #[arg(short, long)]
    wait: bool,

    /// With --wait, stop following after this time, for example 45m
    #[arg(long, value_name = "TIME", value_parser = duration, requires = "wait")]
    timeout: Option<Duration>,
}

/// What `upgrade` is told.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = format!("With --wait:\n{EXIT_CODES}"))]
pub struct UpgradeArgs {
    /// Name of the CoderUpgrade
    #[arg(value_name = "NAME")]
    name: String,

    /// Version of the chart, for example 2.31.7
    #[arg(long, value_name = "VERSION")]
    version: String,

    /// Whether the upgrade is followed.
    #[command(flatten)]
    follow: FollowArgs,

    /// Cluster, namespace and user.
    #[command(flatten)]
    session: SessionArgs,
}

/// What `retry`, `suspend` and `resume` are told.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = format!("With --wait:\n{EXIT_CODES}"))]
pub struct EditArgs {
    /// Name of the CoderUpgrade
    #[arg(value_name = "NAME")]
    name: String,

    /// Whether the upgrade is followed.
    #[command(flatten)]
    follow: FollowArgs,

    /// Cluster, namespace and user.
    #[command(flatten)]
    session: SessionArgs,
}

/// What `suspend` is told.
#[derive(Clone, Debug, Args)]
pub struct SuspendArgs {
    /// Name of the CoderUpgrade
    #[arg(value_name = "NAME")]
    name: String,

    /// Cluster, namespace and user.
    #[command(flatten)]
    session: SessionArgs,
}

impl FollowArgs {
    /// Follows the upgrade if that is wanted. Returns the exit code.
    pub async fn follow(&self, session: &Session, name: &str) -> Result<u8, PluginError> {
        if !self.wait {
            return Ok(0);
        }
        follow::until_settled(session, name, Output::Text, self.timeout).await
    }
}

/// Declares another version.
pub async fn upgrade(args: &UpgradeArgs, program: &'static str) -> Result<u8, PluginError> {
    let session = Session::open(&args.session, program).await?;
    let before = session.upgrade(&args.name).await?;
    let version = args.version.as_str();
    session.patch(&args.name, "set spec.version", &json!({"spec": {"version": version}})).await?;
    let before = before.spec.version.as_deref().unwrap_or("the newest stable version");
    print(&format!("CoderUpgrade {}: spec.version set to {version} (before: {before})\n", args.name))?;
    args.follow.follow(&session, &args.name).await
}

/// Asks for another attempt.
pub async fn retry(args: &EditArgs, program: &'static str) -> Result<u8, PluginError> {
    let now = Timestamp::now().to_string();
    let patch = json!({"metadata": {"annotations": {annotation::REQUESTED_AT: now}}});
    let doing = format!("set the annotation {}", annotation::REQUESTED_AT);
    edit(args, program, (&doing, &patch), "another attempt was asked for").await
}

/// Has nothing new begin.
pub async fn suspend(args: &SuspendArgs, program: &'static str) -> Result<u8, PluginError> {
    let session = Session::open(&args.session, program).await?;
    session.patch(&args.name, "set spec.suspend", &json!({"spec": {"suspend": true}})).await?;
    let told = "nothing new is begun from now on; a change that has begun is finished";
    print(&format!("CoderUpgrade {}: {told}\n", args.name))?;
    Ok(0)
}

/// Lets it go on.
pub async fn resume(args: &EditArgs, program: &'static str) -> Result<u8, PluginError> {
    let patch = json!({"spec": {"suspend": false}});
    edit(args, program, ("set spec.suspend", &patch), "it goes on").await
}

async fn edit(
    args: &EditArgs,
    program: &'static str,
    (doing, patch): (&str, &Value),
    told: &str,
) -> Result<u8, PluginError> {
    let session = Session::open(&args.session, program).await?;
    session.patch(&args.name, doing, patch).await?;
    print(&format!("CoderUpgrade {}: {told}\n", args.name))?;
    args.follow.follow(&session, &args.name).await
}
