//! The command `doctor`: looks at the installation of the operator, and says what to do about what it lacks.

mod granted;
mod trial;

use clap::Args;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, PostParams};
use kube::{Api, ResourceExt};

use super::error::PluginError;
use super::output::Output;
use super::session::{Session, SessionArgs, print};
use crate::api::{API_GROUP, CoderUpgrade};
use crate::core::doctor::{DoctorLine, controller, definition, exit_code, person, text};

/// The label of the controller in deploy/controller.
const CONTROLLER: &str = "app.kubernetes.io/name=coder-upgrade-operator";
/// What the commands of this program do with `CoderUpgrades`.
const VERBS: [&str; 4] = ["get", "list", "watch", "patch"];

/// What `doctor` is told.
#[derive(Clone, Debug, Args)]
#[command(after_long_help = HELP)]
pub struct DoctorArgs {
    /// Name of the CoderUpgrade for which a plan is tried; by default the first of the namespace
    #[arg(value_name = "NAME")]
    name: Option<String>,

    /// Start no pod: image, repository and policies for pods are not looked at then
    #[arg(long)]
    no_pod: bool,

    /// How it is printed
    #[arg(short, long, value_enum, default_value_t)]
    output: Output,

    /// Cluster, namespace and user.
    #[command(flatten)]
    session: SessionArgs,
}

const HELP: &str = "\
Looks at the definition, the controller, the rights of the runner and your own, and whether the API server accepts a
CoderUpgrade (as a dry run). Then it starts a pod as the runner's, which makes the plan of a CoderUpgrade as the command
`plan` does and writes nothing: so the image is pulled, and the repository is asked, from within the cluster. The pod is
deleted at the end.

Exit codes:
  0  nothing is wrong
  1  it cannot be told: no connection, wrong flags
  2  something does not work; each problem has a line that begins with next:";

/// Looks at everything, and prints what was found.
pub async fn run(args: &DoctorArgs, program: &'static str) -> Result<u8, PluginError> {
    let session = Session::open(&args.session, program).await?;
    let version = session.ask("ask for the version of the API server", session.client.apiserver_version()).await?;
    let mut lines = vec![DoctorLine::ok("API server", format!("{} at {}", version.git_version, session.server))];
    let known = look_at_definition(&session, &mut lines).await?;
    let controllers = look_at_controller(&session, &mut lines).await?;
    lines.push(granted::look(&session).await?);
    if known {
        look_at_person(&session, &mut lines).await?;
        let accepted = look_at_admission(&session).await;
        lines.push(accepted);
        if !args.no_pod {
            lines.extend(trial::look(&session, args.name.as_deref(), &controllers).await?);
        }
    }
    print(&args.output.of(&lines, |lines| text(lines))?)?;
    Ok(exit_code(&lines))
}

/// What cannot be looked at for a missing right is a note; everything else is an error.
fn or_note<T>(subject: &str, asked: Result<T, PluginError>) -> Result<Result<T, DoctorLine>, PluginError> {
    match asked {
        Ok(found) => Ok(Ok(found)),
        Err(error @ PluginError::Forbidden(_)) => {
            let told = error.to_string();
            let finding = told.lines().next().unwrap_or_default().to_owned();
            Ok(Err(DoctorLine::note(subject, finding, "ask somebody who has this right to run the doctor")))
        }
        Err(error) => Err(error),
    }
}

/// Whether the cluster knows the kind.
async fn look_at_definition(session: &Session, lines: &mut Vec<DoctorLine>) -> Result<bool, PluginError> {
    let api: Api<CustomResourceDefinition> = Api::all(session.client.clone());
    let name = format!("coderupgrades.{API_GROUP}");
    let found = session.ask(&format!("read CustomResourceDefinition/{name}"), api.get_opt(&name)).await;
    match or_note("definition", found)? {
        Ok(found) => {
            lines.push(definition(found.as_ref()));
            Ok(found.is_some())
        }
        Err(note) => {
            lines.push(note);
            Ok(true)
        }
    }
}

async fn look_at_controller(session: &Session, lines: &mut Vec<DoctorLine>) -> Result<Vec<Deployment>, PluginError> {
    let api: Api<Deployment> = Api::all(session.client.clone());
    let parameters = ListParams::default().labels(CONTROLLER);
    let asked = session.ask("list the Deployments of all namespaces", api.list(&parameters));
    match or_note("controller", asked.await)? {
        Ok(found) => {
            lines.extend(controller(&found.items, env!("CARGO_PKG_VERSION")));
            Ok(found.items)
        }
        Err(note) => {
            lines.push(note);
            Ok(Vec::new())
        }
    }
}

async fn look_at_person(session: &Session, lines: &mut Vec<DoctorLine>) -> Result<(), PluginError> {
    let api: Api<SelfSubjectAccessReview> = Api::all(session.client.clone());
    let mut denied = Vec::new();
    for verb in VERBS {
        let attributes = ResourceAttributes {
            namespace: Some(session.namespace.clone()),
            verb: Some(verb.into()),
            group: Some(API_GROUP.into()),
            resource: Some("coderupgrades".into()),
            ..ResourceAttributes::default()
        };
        let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
        let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
        let answer = session.ask("ask for your rights", api.create(&PostParams::default(), &review)).await?;
        if !answer.status.is_some_and(|status| status.allowed) {
            denied.push(verb);
        }
    }
    lines.push(person(&denied, &session.namespace));
    Ok(())
}

/// Whether the API server, with all policies and webhooks in it, accepts a `CoderUpgrade`.
async fn look_at_admission(session: &Session) -> DoctorLine {
    let mut sample = CoderUpgrade::new("coder-upgrade-doctor", crate::api::CoderUpgradeSpec::default());
    sample.spec.suspend = true;
    let parameters = PostParams { dry_run: true, field_manager: None };
    let doing = format!("try a CoderUpgrade in namespace {}", session.namespace);
    match session.ask(&doing, session.api::<CoderUpgrade>().create(&parameters, &sample)).await {
        Ok(accepted) => {
            DoctorLine::ok("admission", format!("a CoderUpgrade is accepted (dry run, {})", accepted.name_any()))
        }
        Err(PluginError::Forbidden(text)) => {
            DoctorLine::note("admission", text, "nothing, if you do not create CoderUpgrades")
        }
        Err(error) => {
            let remedy = "have the policy or webhook changed that the message names";
            DoctorLine::problem("admission", error.to_string(), remedy)
        }
    }
}
