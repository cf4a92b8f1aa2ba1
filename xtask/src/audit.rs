//! `cargo xtask audit`: the rights that the operator has, beside those that it used.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use coder_upgrade_operator::core::rights::{Right, base};
use serde_json::Value;
use testbed::Cluster;

use crate::{Result, workspace};

/// Compare what the operator may do with what it did, by the audit log of a running cluster.
///
/// A right of the controller or the runner that was never used fails, and so does a request for which one was missing, but for the
/// exceptions in xtask/src/audit.rs, each with its reason. It says something of a cluster on which all stories ran: after some of them
/// most rights are unused.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Directory of the cluster, which was started with --audit-log; `target/cluster` of this workspace if not given.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

/// Where the rights of the controller stand.
const CONTROLLER_FILES: [&str; 2] = ["deploy/controller/cluster-role.yaml", "deploy/controller/leader-election.yaml"];
const CONTROLLER: &str = "coder-upgrade-operator";
const RUNNER: &str = "coder-upgrade-runner";

/// Rights that no story uses: who, group, resource, verb (`*` for all of a resource), and why they are granted all the same.
const UNUSED: &[(&str, &str, &str, &str, &str)] = &[
    (CONTROLLER, "", "pods", "get", "a pod that holds up an uninstall is read by its name, as other objects are"),
    (CONTROLLER, "apps", "daemonsets", "get", DAEMON_SETS),
    (RUNNER, "apps", "daemonsets", "*", DAEMON_SETS),
    (RUNNER, "snapshot.storage.k8s.io", "volumesnapshots", "get", "read only where a step that was killed had made it"),
    (RUNNER, "apps", "replicasets", "get", "the rights to read what runs are the same for each kind"),
    (RUNNER, "", "configmaps", "update", GRANTED),
    (RUNNER, "", "services", "update", GRANTED),
    (RUNNER, "", "serviceaccounts", "update", GRANTED),
    (RUNNER, "apps", "deployments", "update", GRANTED),
    (RUNNER, "apps", "statefulsets", "update", GRANTED),
    (RUNNER, "networking.k8s.io", "ingresses", "update", GRANTED),
    (RUNNER, "networking.k8s.io", "networkpolicies", "update", GRANTED),
    (RUNNER, "rbac.authorization.k8s.io", "roles", "update", GRANTED),
    (RUNNER, "rbac.authorization.k8s.io", "rolebindings", "update", GRANTED),
    (RUNNER, "", "serviceaccounts", "list", KINDS),
    (RUNNER, "networking.k8s.io", "ingresses", "list", KINDS),
    (RUNNER, "networking.k8s.io", "networkpolicies", "*", KINDS),
    (RUNNER, "rbac.authorization.k8s.io", "roles", "list", KINDS),
    (RUNNER, "rbac.authorization.k8s.io", "rolebindings", "list", KINDS),
];
/// helm replaces objects only with --force.
const GRANTED: &str = "Roles of charts grant it, and nobody may grant what they lack";
const DAEMON_SETS: &str = "a chart may have one beside Coder, and no chart of the stories has";
/// helm lists a kind when it looks for what it made before.
const KINDS: &str = "each kind that charts consist of has the same verbs, and no story has helm do this with this one";

/// Stories in which rights are missing on purpose: what the names of their namespaces begin with, and why.
const WITHOUT_RIGHTS: &[(&str, &str)] = &[
    ("rights-", "the runner has no rights, or gets them one by one"),
    ("rightless-", "the runner has no rights"),
    ("least-", "the runner has what one chart takes"),
    ("any-", "the chart has Roles in a namespace that the runner was given later"),
    ("incurable-", "the chart has an object of a kind that the runner was not given"),
    ("custom-unread-", "the runner may not read the owner of a claim"),
    ("cluster-roles-", "the chart has objects outside of all namespaces"),
    ("hidden-", "an object says that it belongs to a release in a namespace of others"),
    ("ailing-doctor-", "the doctor looks at a namespace without the rights of the runner"),
];

/// Requests that may be refused anywhere: who, group, resource, verb, and what follows.
const REFUSED: &[(&str, &str, &str, &str, &str)] = &[
    (RUNNER, "", "namespaces", "get", "helm 3 asks so after it found no object, and goes on"),
    (
        RUNNER,
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        "list",
        "a template looks them up: the plan names the missing right",
    ),
];

/// Compares and says what differs.
pub fn run(args: Args) -> Result<()> {
    let dir = args.dir.unwrap_or_else(|| workspace::target().join("cluster"));
    let findings = findings(&Cluster::attach(dir)?)?;
    if findings.is_empty() {
        println!("each right was used, and none was missing");
        return Ok(());
    }
    Err(findings.join("\n").into())
}

/// What differs, a line each.
pub fn findings(cluster: &Cluster) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for (who, granted) in [(CONTROLLER, of_controller()?), (RUNNER, of_runner())] {
        let Requests { done, refused } = requests(cluster, who)?;
        let unused = granted.iter().filter(|right| !done.contains(right) && !is_listed(UNUSED, who, right));
        found.extend(unused.map(|right| format!("{who} never used the right to {}", words(right))));
        let refused = refused.iter().filter(|(right, _)| !is_listed(REFUSED, who, right));
        found.extend(refused.map(|(right, place)| format!("{who} lacked the right to {} {place}", words(right))));
    }
    Ok(found)
}

fn is_listed(exceptions: &[(&str, &str, &str, &str, &str)], who: &str, right: &Right) -> bool {
    let verbs = ["*", &right.verb];
    exceptions.iter().any(|(of, group, resource, verb, _)| {
        *of == who && *group == right.group && *resource == right.resource && verbs.contains(verb)
    })
}

fn words(right: &Right) -> String {
    let group = if right.group.is_empty() { String::new() } else { format!(".{}", right.group) };
    format!("{} {}{group}", right.verb, right.resource)
}

/// What the shipped Roles grant the controller.
fn of_controller() -> Result<BTreeSet<Right>> {
    let mut rights = BTreeSet::new();
    for file in CONTROLLER_FILES {
        let text = std::fs::read_to_string(workspace::root().join(file))?;
        for object in serde_saphyr::from_multiple::<Value>(&text)? {
            for rule in object["rules"].as_array().into_iter().flatten() {
                let list = |name: &str| {
                    let items = rule[name].as_array().cloned().unwrap_or_default();
                    items.iter().filter_map(|item| Some(item.as_str()?.to_owned())).collect::<Vec<_>>()
                };
                for group in list("apiGroups") {
                    for resource in list("resources") {
                        rights.extend(list("verbs").iter().map(|verb| Right::new(&group, &resource, verb)));
                    }
                }
            }
        }
    }
    Ok(rights)
}

/// What the runner needs for its own work and for the objects of the charts; what it has only because the charts grant it is
/// not used by anybody here.
fn of_runner() -> BTreeSet<Right> {
    let grants = base(&[]);
    let own = grants.home.into_iter().filter(|group| !group.why.starts_with("Granted by"));
    own.chain(grants.cluster).flat_map(|group| group.rights).collect()
}

/// What somebody asked the API server for.
#[derive(Default)]
struct Requests {
    done: BTreeSet<Right>,
    /// With the namespace of whom it was refused first.
    refused: BTreeMap<Right, String>,
}

fn requests(cluster: &Cluster, account: &str) -> Result<Requests> {
    let mut requests = Requests::default();
    for line in cluster.audit_lines(&format!(":{account}\""))? {
        let entry: Value = serde_json::from_str(&line)?;
        let user = entry["user"]["username"].as_str().unwrap_or_default();
        let object = &entry["objectRef"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if !user.starts_with("system:serviceaccount:") || !user.ends_with(&format!(":{account}")) || object.is_null() {
            continue;
        }
        let mut resource = text(&object["resource"]);
        if let Some(part) = object["subresource"].as_str() {
            resource = format!("{resource}/{part}");
        }
        let right = Right::new(&text(&object["apiGroup"]), &resource, &text(&entry["verb"]));
        if entry["annotations"]["authorization.k8s.io/decision"] != "forbid" {
            requests.done.insert(right);
            continue;
        }
        // What is asked for may lie in another namespace, or in none.
        let namespace = user.rsplit(':').nth(1).unwrap_or_default();
        if !WITHOUT_RIGHTS.iter().any(|(prefix, _)| namespace.starts_with(prefix)) {
            requests.refused.entry(right).or_insert_with(|| format!("in the story of namespace {namespace}"));
        }
    }
    Ok(requests)
}
