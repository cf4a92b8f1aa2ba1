//! The command `status`: where upgrades stand.

use std::time::Duration;

use clap::Args;
use kube::ResourceExt;

use super::error::PluginError;
use super::follow;
use super::live_release::LiveRelease;
use super::output::Output;
use super::session::{Session, SessionArgs, print};
use crate::core::overview::{Overview, Standing, list};
use crate::core::text::duration::duration;

/// What `status` is told.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = format!("{HELP}\n\n{EXIT_CODES}\n{OF_SEVERAL}"))]
pub struct StatusArgs {
    /// Name of the CoderUpgrade; without it the one of the namespace, or a list of several
    #[arg(value_name = "NAME")]
    name: Option<String>,

    /// List the CoderUpgrades of all namespaces
    #[arg(short = 'A', long, conflicts_with_all = ["name", "watch"])]
    all_namespaces: bool,

    /// How it is printed
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,

    /// Follow the upgrade until it is verified, has failed, or waits for a person
    #[arg(short, long)]
    watch: bool,

    /// With --watch, stop following after this time, for example 45m
    #[arg(long, value_name = "TIME", value_parser = duration, requires = "watch")]
    timeout: Option<Duration>,

    /// Cluster, namespace and user.
    #[command(flatten)]
    session: SessionArgs,
}

/// What the exit codes mean, for the help of all commands that follow an upgrade.
pub const EXIT_CODES: &str = "\
Exit codes:
  0  verified: Coder runs at what the spec asks for
  1  it cannot be told: no connection, a missing right, no such object, wrong flags
  2  failed: a person must cure what the output names
  3  waiting: a person must let it go on, with the command that the output names
  4  at work, or it goes on by itself; with --watch only when --timeout is over";

const HELP: &str = "\
At a terminal --watch draws the screen again whenever something changes; elsewhere it prints a line for what is new,
and the whole screen at the end. It watches the objects and does not ask again and again.";

/// Of the exit code for a list.
const OF_SEVERAL: &str = "Of several CoderUpgrades, the exit code is that of the one which needs a person most.";

/// Shows where upgrades stand.
pub async fn run(args: &StatusArgs, program: &'static str) -> Result<u8, PluginError> {
    let mut session = Session::open(&args.session, program).await?;
    let upgrades = match &args.name {
        Some(name) => vec![session.upgrade(name).await?],
        None => session.upgrades(args.all_namespaces).await?,
    };
    if let [upgrade] = upgrades.as_slice() {
        session.namespace = upgrade.namespace().unwrap_or(session.namespace);
        if args.watch {
            return follow::until_settled(&session, &upgrade.name_any(), args.output, args.timeout).await;
        }
        let overview = LiveRelease::read(&session, upgrade).await.told(&session, upgrade);
        print(&args.output.of(&overview, Overview::text)?)?;
        return Ok(overview.standing.exit_code());
    }
    if args.watch {
        let names: Vec<String> = upgrades.iter().map(ResourceExt::name_any).collect();
        let text = format!("--watch follows one CoderUpgrade, and there are several: {}", names.join(", "));
        return Err(PluginError::Pointless(text));
    }
    let overviews: Vec<Overview> =
        upgrades.iter().map(|upgrade| LiveRelease::default().told(&session, upgrade)).collect();
    print(&args.output.of(&overviews, |all| list(all))?)?;
    let worst = overviews.iter().map(|overview| overview.standing).min();
    Ok(worst.unwrap_or(Standing::Verified).exit_code())
}
