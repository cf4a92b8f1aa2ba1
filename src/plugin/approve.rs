//! The command `approve`: shows what waits for an approval, asks, and lets it begin.

use std::io::BufRead;

use clap::Args;
use serde_json::json;

use super::edit::FollowArgs;
use super::error::PluginError;
use super::session::{Session, SessionArgs, print};
use super::status::EXIT_CODES;
use crate::api::annotation;
use crate::core::overview::question;
use crate::core::text::display::printable;

/// What `approve` is told.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = format!("Exactly what was shown is approved: if another plan is made meanwhile, the approval does not count.\n\nWith --wait:\n{EXIT_CODES}"))]
pub struct ApproveArgs {
    /// Name of the CoderUpgrade
    #[arg(value_name = "NAME")]
    name: String,

    /// Do not ask
    #[arg(short, long)]
    yes: bool,

    /// Whether the upgrade is followed.
    #[command(flatten)]
    follow: FollowArgs,

    /// Cluster, namespace and user.
    #[command(flatten)]
    session: SessionArgs,
}

/// Shows what waits, asks, and approves exactly that.
pub async fn run(args: &ApproveArgs, program: &'static str) -> Result<u8, PluginError> {
    let session = Session::open(&args.session, program).await?;
    let upgrade = session.upgrade(&args.name).await?;
    let name = &args.name;
    let Some((value, text)) = question(&upgrade) else {
        let phase = upgrade.status.map(|status| status.phase).unwrap_or_default();
        return Err(PluginError::Pointless(format!(
            "nothing of CoderUpgrade {name} waits for an approval: it is {phase}"
        )));
    };
    print(&printable(&text))?;
    if !args.yes {
        print(&format!(
            "\nFields and values of the plan: {program} plan {name} -n {}\nApprove this? [y/N] ",
            session.namespace
        ))?;
        let mut answer = String::new();
        let read = std::io::stdin().lock().read_line(&mut answer);
        read.map_err(|source| PluginError::Terminal { doing: "read the answer", source })?;
        if !matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes") {
            return Err(PluginError::Pointless("not approved; nothing was changed".into()));
        }
    }
    let patch = json!({"metadata": {"annotations": {annotation::APPROVE: value}}});
    session.patch(name, &format!("set the annotation {}", annotation::APPROVE), &patch).await?;
    print(&format!("CoderUpgrade {name}: {value} is approved\n"))?;
    args.follow.follow(&session, name).await
}
