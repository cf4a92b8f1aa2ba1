//! The command `rights`: prints what grants the runner its rights.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::builder::NonEmptyStringValueParser;
use clap::{ArgGroup, Args};
use kube::ResourceExt;

use super::desk::{self, Desk, Wanted};
use super::error::PreviewError;
use crate::access::Access;
use crate::core::allowed::Repositories;
use crate::core::rights::{ACCOUNT, RoleNames, base, needs, yaml};
use crate::runner::secrets::Secrets;
use crate::runner::steps::plan;

/// What `rights` is told.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = HELP, group(ArgGroup::new("what").required(true).multiple(true).args(["name", "file", "namespace"])))]
pub struct RightsArgs {
    /// Name of a CoderUpgrade in the cluster, for exactly what its chart needs; with --file, which of those in the file
    #[arg(value_name = "NAME")]
    name: Option<String>,

    /// File with a CoderUpgrade, for exactly what its chart needs; - is standard input
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,

    /// Namespace of the release
    #[arg(short, long, value_parser = NonEmptyStringValueParser::new())]
    namespace: Option<String>,

    /// The runner's `ServiceAccount`; by default spec.job.serviceAccountName of the CoderUpgrade, or coder-upgrade-runner
    #[arg(long, value_name = "NAME")]
    service_account: Option<String>,

    /// Further namespaces in which the chart of Coder v2 makes Roles (coder.serviceAccount.workspaceNamespaces). With NAME or
    /// --file the chart itself says which
    #[arg(long, value_name = "NAMESPACE", value_delimiter = ',', conflicts_with_all = ["name", "file"])]
    workspace_namespaces: Vec<String>,

    /// Suppress progress output
    #[arg(short, long)]
    quiet: bool,

    /// Cluster and user.
    #[command(flatten)]
    access: Access,
}

const HELP: &str = "\
Kubernetes lets nobody grant a right that they lack. Coder's charts contain Roles, so the
runner must hold what those grant, beside the rights to read and write the objects of the
release. Two sets are offered:

  -n NAMESPACE
      What suffices for every public chart of Coder v2, of its provisioners and of Coder
      Classic, and for the repairs. No cluster is asked. It is what deploy/runner contains.

  NAME or --file FILE
      The least that suffices for one CoderUpgrade. The release is read, the chart is fetched
      and the upgrade is rehearsed with the rights of your kubeconfig and the helm in your
      PATH, as `plan` does it. Listed is what its objects take, what its Roles grant, also in
      other namespaces, and what its templates look up. Nothing is written to the cluster.
      Of a path over several versions it is that of the next one.

Roles of the second kind have names of their own (coder-upgrade-runner:NAME). Applied beside
the first they add what is missing; applied alone they are all that the runner may do.
Whoever applies them must hold these rights, as an administrator does.

Examples:
  Let the runner work in a namespace:
    coder-upgrade-operator rights -n coder | kubectl apply -f -

  The same, and in two namespaces with workspaces:
    coder-upgrade-operator rights -n coder --workspace-namespaces team-a,team-b | kubectl apply -f -

  An upgrade was refused for a right that the runner lacks:
    coder-upgrade-operator rights coder -n coder | kubectl apply -f -

  The least that this file takes, instead of the set for every chart:
    coder-upgrade-operator rights -f coder.yaml | kubectl apply -f -

  From the image:
    docker run --rm REGISTRY/coder-upgrade-operator:TAG rights -n coder | kubectl apply -f -";

/// Prints the objects as YAML.
pub async fn run(args: RightsArgs, secrets: Secrets) -> ExitCode {
    let printed = tokio::select! {
        printed = Box::pin(print(&args, &secrets)) => printed,
        stopped = tokio::signal::ctrl_c() => Err(stopped.map_or_else(PreviewError::Signals, |()| PreviewError::Stopped)),
    };
    match printed {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            secrets.say(&format!("error: {failure}"));
            ExitCode::FAILURE
        }
    }
}

async fn print(args: &RightsArgs, secrets: &Secrets) -> Result<(), PreviewError> {
    let text = if args.name.is_none() && args.file.is_none() {
        let account = args.service_account.clone().unwrap_or_else(|| ACCOUNT.into());
        let names = RoleNames { namespace: args.namespace.clone(), account, upgrade: None };
        yaml(&base(&args.workspace_namespaces), &names)
    } else {
        least(args, secrets).await?
    };
    std::io::stdout().write_all(text.as_bytes()).map_err(|error| PreviewError::Print(error.to_string()))
}

/// What one `CoderUpgrade` takes.
async fn least(args: &RightsArgs, secrets: &Secrets) -> Result<String, PreviewError> {
    let (file, namespace) = (args.file.as_deref(), args.namespace.as_deref());
    let wanted = Wanted { name: args.name.as_deref(), file, namespace, access: &args.access };
    let directory = tempfile::tempdir().map_err(PreviewError::Scratch)?;
    let Desk { ctx, upgrade, .. } = desk::set(&wanted, directory.path(), secrets, args.quiet).await?;
    // Who runs this may fetch from wherever they want.
    let allowed = Repositories::any();
    let takes = Box::pin(plan::takes(&ctx, &upgrade, &allowed)).await?;
    let account = args.service_account.clone().unwrap_or_else(|| upgrade.spec.job.service_account_name.clone());
    let names = RoleNames { namespace: Some(ctx.namespace.clone()), account, upgrade: Some(upgrade.name_any()) };
    Ok(yaml(&needs(&takes), &names))
}
