//! Coder as it runs, whoever has installed it: known by its pods, where no record of helm tells of it.

use semver::Version;
use serde_json::Value;

use crate::api::ProductLine;
use crate::core::helm::ownership::{Owner, RELEASE_NAME};
use crate::core::object::pod_spec;
use crate::core::plan::checks::line_of;
use crate::core::rollout::image::Image;

/// Where the charts of Coder say what an object is.
const NAME: &str = "app.kubernetes.io/name";
/// Names that only servers of Coder Classic have.
const CLASSIC: [&str; 2] = ["coderd", "cemanager"];
/// Name of the container of Coder v2's server, and of its chart.
const CODER: &str = "coder";
/// Words of a command that make something else of the same image: a workspace proxy, a provisioner.
const OTHERS: [&str; 2] = ["wsproxy", "provisionerd"];

/// A workload, or a pod of its own, that exists.
#[derive(Clone, Debug, PartialEq)]
pub struct LiveWorkload {
    /// The object, with its kind and without its status.
    pub object: Value,
    /// Whom it belongs to, as its labels and annotations say.
    pub owner: Owner,
}

/// What an object has to do with a release.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Relation {
    /// It says that it belongs to the release.
    Marked,
    /// It runs what the chart runs, and belongs to no release of helm.
    Unmarked,
    /// It runs what the chart runs, and says that it belongs to another release of this namespace.
    Another(String),
    /// Nothing.
    None,
}

/// What a workload or pod has to do with a release of this chart. One that is being deleted has nothing to do with any.
pub fn relation(object: &Value, release: &str, namespace: &str, chart: &str) -> Relation {
    if !object["metadata"]["deletionTimestamp"].is_null() {
        return Relation::None;
    }
    let owner = Owner::of_object(object, release, namespace);
    let named = object["metadata"]["annotations"][RELEASE_NAME] == release;
    if owner == Owner::Release || named && !matches!(owner, Owner::Other { .. }) {
        return Relation::Marked;
    }
    if !runs(object, chart) {
        return Relation::None;
    }
    match owner {
        Owner::Other { release, namespace: place } if place == namespace => Relation::Another(release),
        Owner::Other { .. } | Owner::Nobody | Owner::Tool(_) | Owner::Release => Relation::Unmarked,
    }
}

/// Whether the pods run what this chart runs: servers of Coder, or provisioners of it.
fn runs(object: &Value, chart: &str) -> bool {
    let provisioners = chart.ends_with("provisioner");
    containers(object).any(|container| {
        if provisioners {
            says(container, "provisionerd") || labelled(object, chart)
        } else {
            is_server(object, container)
        }
    })
}

/// Whether the pods of an object serve Coder.
pub fn serves(object: &Value) -> bool {
    containers(object).any(|container| is_server(object, container))
}

fn is_server(object: &Value, container: &Value) -> bool {
    if OTHERS.iter().any(|word| says(container, word)) || labelled(object, "coder-workspace") {
        return false;
    }
    let (name, image) = (text(&container["name"]), text(&container["image"]));
    let repository = Image::of(image).repository;
    CLASSIC.contains(&name)
        || line_of(image).is_some()
        || name == CODER && (labelled(object, CODER) || repository.rsplit('/').next() == Some(CODER))
}

/// The product line of Coder that these objects run, and the highest version that their images name.
pub fn running(live: &[LiveWorkload]) -> Option<(ProductLine, Option<Version>)> {
    let servers = live.iter().flat_map(|live| containers(&live.object).map(|container| (&live.object, container)));
    let servers: Vec<&Value> =
        servers.filter(|(object, container)| is_server(object, container)).map(|(_, container)| container).collect();
    let first = servers.first()?;
    let product = line_of_server(first);
    let highest = servers.iter().filter_map(|server| Image::of(text(&server["image"])).version()).max();
    Some((product, highest))
}

/// The product line of a server, by its image or else by the name of its container.
fn line_of_server(server: &Value) -> ProductLine {
    let named = if CLASSIC.contains(&text(&server["name"])) { ProductLine::V1 } else { ProductLine::V2 };
    line_of(text(&server["image"])).unwrap_or(named)
}

impl LiveWorkload {
    /// The object, as Kind/name.
    pub fn name(&self) -> String {
        format!("{}/{}", text(&self.object["kind"]), text(&self.object["metadata"]["name"]))
    }

    /// The image of its server, or else of its first container.
    pub fn image(&self) -> &str {
        let server = containers(&self.object).find(|container| is_server(&self.object, container));
        let first = server.or_else(|| containers(&self.object).next());
        first.map_or("", |container| text(&container["image"]))
    }
}

/// These objects as a manifest, for what is judged by manifests.
pub fn manifest(live: &[LiveWorkload]) -> String {
    live.iter().flat_map(|live| ["---\n".to_owned(), live.object.to_string(), "\n".to_owned()]).collect()
}

fn containers(object: &Value) -> impl Iterator<Item = &Value> {
    pod_spec(object)["containers"].as_array().into_iter().flatten()
}

/// Whether the object, or its pods, are labelled as this.
fn labelled(object: &Value, name: &str) -> bool {
    [&object["metadata"], &object["spec"]["template"]["metadata"]].iter().any(|of| of["labels"][NAME] == name)
}

fn says(container: &Value, word: &str) -> bool {
    let words = ["command", "args"].into_iter().flat_map(|key| container[key].as_array().into_iter().flatten());
    words.into_iter().any(|said| said == word)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    fn deployment(metadata: &Value, container: &Value) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
            "spec": {"template": {"metadata": {"labels": metadata["labels"]}, "spec": {"containers": [
                {"name": "proxy", "image": "mesh/proxy:1"}, container
            ]}}},
        })
    }

    #[rstest]
    #[case::annotated(json!({"annotations": {RELEASE_NAME: "coder"}}), json!({"name": "x", "image": "y"}), Relation::Marked)]
    #[case::applied(json!({"labels": {NAME: "coder"}}), json!({"name": "coder", "image": "mirror/x:1"}), Relation::Unmarked)]
    #[case::no_label(json!({}), json!({"name": "main", "image": "ghcr.io/coder/coder:v2.30.0"}), Relation::Unmarked)]
    #[case::mirror(json!({}), json!({"name": "coder", "image": "registry:5000/mirror/coder:v2.30.0"}), Relation::Unmarked)]
    #[case::classic(json!({}), json!({"name": "coderd", "image": "registry:5000/x:1.44.0"}), Relation::Unmarked)]
    #[case::of_pulumi(
        json!({"labels": {"app.kubernetes.io/managed-by": "pulumi"}}),
        json!({"name": "main", "image": "ghcr.io/coder/coder:v2.30.0"}),
        Relation::Unmarked
    )]
    #[case::second(
        json!({"annotations": {RELEASE_NAME: "other", "meta.helm.sh/release-namespace": "ns"}}),
        json!({"name": "coder", "image": "ghcr.io/coder/coder:v2.30.0"}),
        Relation::Another("other".into())
    )]
    #[case::going(
        json!({"annotations": {RELEASE_NAME: "coder"}, "deletionTimestamp": "2026-01-01T00:00:00Z"}),
        json!({"name": "coder", "image": "ghcr.io/coder/coder:v2.30.0"}),
        Relation::None
    )]
    #[case::proxy(
        json!({}),
        json!({"name": "coder", "image": "ghcr.io/coder/coder:v2.30.0", "args": ["wsproxy", "server"]}),
        Relation::None
    )]
    #[case::provisioner(
        json!({}),
        json!({"name": "coder", "image": "ghcr.io/coder/coder:v2.30.0", "args": ["provisionerd", "start"]}),
        Relation::None
    )]
    #[case::workspace(
        json!({"labels": {NAME: "coder-workspace"}}),
        json!({"name": "coder", "image": "ghcr.io/coder/coder:v2.30.0"}),
        Relation::None
    )]
    #[case::database(json!({"labels": {NAME: "postgres"}}), json!({"name": "postgres", "image": "postgres:17"}), Relation::None)]
    #[case::another_coder(json!({}), json!({"name": "coder", "image": "acme/deploy-tool:1"}), Relation::None)]
    fn coder_is_known_by_what_it_runs(#[case] metadata: Value, #[case] container: Value, #[case] expected: Relation) {
        assert_eq!(relation(&deployment(&metadata, &container), "coder", "ns", "coder"), expected);
    }

    #[test]
    fn a_provisioner_is_known_by_its_command() {
        let container =
            json!({"name": "coder", "image": "ghcr.io/coder/coder:v2.30.0", "args": ["provisionerd", "start"]});
        let found = relation(&deployment(&json!({}), &container), "provisioner", "ns", "coder-provisioner");
        assert_eq!(found, Relation::Unmarked);
        let server = json!({"name": "coder", "image": "ghcr.io/coder/coder:v2.30.0", "args": ["server"]});
        let found = relation(&deployment(&json!({}), &server), "provisioner", "ns", "coder-provisioner");
        assert_eq!(found, Relation::None);
    }

    #[test]
    fn line_and_version_are_those_of_the_newest_server() {
        let live = |name: &str, image: &str| LiveWorkload {
            object: deployment(&json!({"name": name}), &json!({"name": name, "image": image})),
            owner: Owner::Nobody,
        };
        let v2 = [live("coder", "a/coder/coder:v2.30.0"), live("coder", "a/coder/coder:v2.31.0-rc.1")];
        assert_eq!(running(&v2), Some((ProductLine::V2, Version::parse("2.31.0-rc.1").ok())));
        let classic = [live("cemanager", "docker.io/coderenvs/coder-service:1.20.0"), live("timescale", "x:1")];
        assert_eq!(running(&classic), Some((ProductLine::V1, Version::parse("1.20.0").ok())));
        assert_eq!(running(&[live("coderd", "mirror/of-something@sha256:abc")]), Some((ProductLine::V1, None)));
        assert_eq!(running(&[]), None);
        assert_eq!((v2[0].name().as_str(), v2[0].image()), ("Deployment/coder", "a/coder/coder:v2.30.0"));
    }
}
