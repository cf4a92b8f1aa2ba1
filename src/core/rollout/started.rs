//! Whether a pod of the new version may have begun its work: from then on the database may be migrated.

use std::collections::BTreeSet;

use serde_json::Value;

use super::image::{is_older, similar};
use super::verify::WorkloadPods;
use super::workload::{PodFacts, WorkloadFacts};
use crate::core::helm::documents::Documents;

/// The images that the pods of a manifest run, those of init containers included.
pub fn images(documents: &Documents) -> BTreeSet<String> {
    documents.objects().flat_map(|(_, object)| images_in(object)).collect()
}

/// The images that the pods of an object run: all that stand under the key `image`, wherever that is. So those of kinds that
/// this program does not know are found as well.
pub fn images_in(object: &Value) -> BTreeSet<String> {
    found_in(object, |map| map.get("image")?.as_str())
}

/// The names of the containers of a manifest, those of init containers included.
pub fn containers(documents: &Documents) -> BTreeSet<String> {
    documents.objects().flat_map(|(_, object)| containers_in(object)).collect()
}

/// The names of the containers of an object: whatever has a name and an image.
pub fn containers_in(object: &Value) -> BTreeSet<String> {
    found_in(object, |map| map.get("image").and_then(|_| map.get("name")?.as_str()))
}

fn found_in(object: &Value, look: impl Fn(&serde_json::Map<String, Value>) -> Option<&str>) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut left = vec![object];
    while let Some(value) = left.pop() {
        match value {
            Value::Object(map) => {
                found.extend(look(map).map(ToOwned::to_owned));
                left.extend(map.values());
            }
            Value::Array(items) => left.extend(items),
            _ => {}
        }
    }
    found
}

/// What tells the containers of the new version from those of the old one, and from those that admission webhooks add.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Versions {
    old: BTreeSet<String>,
    /// Images that only the new version has.
    new: BTreeSet<String>,
    /// Names of the containers of the chart's own pod templates; empty if a plan of an older operator does not say.
    names: BTreeSet<String>,
}

impl Versions {
    /// The versions before and after a change. `old` are the images of the release that the plan starts from.
    pub fn between(old: &BTreeSet<String>, images: &BTreeSet<String>, containers: &BTreeSet<String>) -> Self {
        let new = images.difference(old).cloned().collect();
        Self { old: old.clone(), new, names: containers.clone() }
    }

    /// Whether a container is one of the new version. An image that a webhook has rewritten is known again by its name and
    /// tag; where even these are gone, the name of the container decides whether it is the chart's.
    pub fn is_new(&self, name: &str, image: &str) -> bool {
        if self.old.contains(image) {
            return false;
        }
        if self.has_new(image) {
            return true;
        }
        // A pod of a yet earlier version may still be ending, and has migrated nothing that the old version had not.
        let is_old = self.old.iter().any(|old| similar(old, image) || is_older(image, old));
        !is_old && (self.names.is_empty() || self.names.contains(name))
    }

    /// Whether an image is one that only the new version has.
    pub fn has_new(&self, image: &str) -> bool {
        !self.old.contains(image) && self.new.iter().any(|new| similar(new, image))
    }

    /// Whether there is an image that only the new version has.
    pub fn differ(&self) -> bool {
        !self.new.is_empty()
    }
}

/// Whether a container of the new version was started in a pod. Pods that run the same images as before (they are pinned by
/// the values) migrate nothing, and neither do containers that the chart does not have.
pub fn is_started(pod: &PodFacts, versions: &Versions) -> bool {
    containers_of(pod).any(|(name, image)| versions.is_new(name, image) && began(pod, name))
}

/// Whether a pod has a container of the new version.
pub fn is_new(pod: &PodFacts, versions: &Versions) -> bool {
    containers_of(pod).any(|(name, image)| versions.is_new(name, image))
}

/// Whether a container was started in a pod, of whomever, with an image that only the new version has.
pub fn runs(pod: &PodFacts, versions: &Versions) -> bool {
    containers_of(pod).any(|(name, image)| versions.has_new(image) && began(pod, name))
}

fn began(pod: &PodFacts, container: &str) -> bool {
    pod.containers.iter().any(|found| found.name == container && found.started)
}

fn containers_of(pod: &PodFacts) -> impl Iterator<Item = &(String, String)> {
    pod.images.iter().chain(&pod.init_images)
}

/// Whether a workload of the new version is left that makes pods: one may start when nobody looks any more.
pub fn may_start(observed: &[WorkloadPods], versions: &Versions) -> bool {
    observed.iter().any(|observed| {
        let new = |workload: &WorkloadFacts| workload.images.iter().any(|(name, image)| versions.is_new(name, image));
        let makes_pods = observed.workload.as_ref().is_some_and(|workload| workload.desired > 0 && new(workload));
        makes_pods || observed.pods.iter().any(|asked| !asked.pod.leaving && is_new(&asked.pod, versions))
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::core::rollout::verify::PodAnswer;
    use crate::core::rollout::workload::ContainerFacts;

    fn versions() -> Versions {
        let images = ["coder:2", "sidecar:2"].map(str::to_owned).into();
        let containers = ["coder", "sidecar"].map(str::to_owned).into();
        Versions::between(&BTreeSet::from(["coder:1".to_owned()]), &images, &containers)
    }

    #[rstest]
    #[case::old(&[("coder", "coder:1", true)], false, false)]
    #[case::new(&[("coder", "coder:2", true)], true, true)]
    #[case::new_but_not_started(&[("coder", "coder:2", false)], true, false)]
    #[case::one_of_them_is_new(&[("coder", "coder:1", true), ("sidecar", "sidecar:2", true)], true, true)]
    #[case::an_injected_one_runs(&[("coder", "coder:2", false), ("proxy", "mesh/proxy:1", true)], true, false)]
    #[case::an_old_pod_with_an_injected_one(&[("coder", "coder:1", true), ("proxy", "mesh/proxy:1", true)], false, false)]
    #[case::an_old_pod_from_a_mirror(&[("coder", "mirror/coder:1", true)], false, false)]
    #[case::a_new_one_from_a_mirror(&[("coder", "mirror/coder:2@sha256:ab", true)], true, true)]
    #[case::a_digest_for_a_tag(&[("coder", "coder@sha256:ab", true)], true, true)]
    #[case::an_image_that_nobody_knows(&[("coder", "other:9", true)], true, true)]
    fn a_pod_of_the_new_version_counts_once_its_own_container_was_started(
        #[case] containers: &[(&str, &str, bool)],
        #[case] new: bool,
        #[case] expected: bool,
    ) {
        let images: Vec<_> = containers.iter().map(|(name, image, _)| ((*name).into(), (*image).into())).collect();
        let started = |(name, _, started): &(&str, &str, bool)| ContainerFacts {
            name: (*name).into(),
            started: *started,
            ..ContainerFacts::default()
        };
        let pod = PodFacts {
            images: images.clone(),
            containers: containers.iter().map(started).collect(),
            ..PodFacts::default()
        };
        // Init containers migrate in Coder Classic.
        let init = PodFacts { images: vec![], init_images: images, ..pod.clone() };
        for pod in [pod, init] {
            assert_eq!((is_new(&pod, &versions()), is_started(&pod, &versions())), (new, expected));
            let observed =
                [WorkloadPods { pods: vec![PodAnswer { pod, ..PodAnswer::default() }], ..WorkloadPods::default() }];
            assert_eq!(may_start(&observed, &versions()), new);
        }
    }

    #[rstest]
    #[case::yet_older("coder:v2.30.0", false)]
    #[case::yet_older_from_a_mirror("mirror/coder:v2.30.0@sha256:ab", false)]
    #[case::older_than_the_old_and_wanted("other/coder:v2.31.5", true)]
    #[case::a_build_of_the_new_one("mirror/coder:v2.31.7-acme1", true)]
    #[case::a_build_of_the_old_one("mirror/coder:v2.31.6-acme1", true)]
    #[case::a_tag_that_is_no_version("mirror/coder:stable", true)]
    #[case::another_image("proxy:v1.0.0", true)]
    fn a_pod_of_a_yet_older_version_is_none_of_the_new_one(#[case] image: &str, #[case] new: bool) {
        let set = |images: &[&str]| images.iter().map(|image| (*image).to_owned()).collect::<BTreeSet<_>>();
        let versions =
            Versions::between(&set(&["coder:v2.31.6"]), &set(&["coder:v2.31.7", "coder:v2.31.5"]), &set(&["coder"]));
        assert_eq!(versions.is_new("coder", image), new);
    }

    #[test]
    fn a_plan_without_names_takes_every_container_for_the_charts() {
        let set = |image: &str| BTreeSet::from([image.to_owned()]);
        let versions = Versions::between(&set("coder:1"), &set("coder:2"), &BTreeSet::new());
        assert!(versions.is_new("proxy", "mesh/proxy:1"));
    }

    #[test]
    fn names_and_images_are_found_wherever_they_stand() {
        let manifest = r"
kind: Deployment
apiVersion: apps/v1
metadata: {name: a}
spec: {template: {spec: {initContainers: [{name: migrate, image: migrate:1}], containers: [{name: coder, image: coder:1}, {name: proxy, image: proxy:1}]}}}
---
kind: CronJob
apiVersion: batch/v1
metadata: {name: b}
spec: {jobTemplate: {spec: {template: {spec: {containers: [{name: clean, image: clean:1}]}}}}}
---
kind: Rollout
apiVersion: argoproj.io/v1alpha1
metadata: {name: c}
spec: {workload: {pods: [{image: rolled:1}]}}
";
        let documents = Documents::parse(manifest, "ns").unwrap();
        let found = images(&documents).into_iter().collect::<Vec<_>>();
        assert_eq!(found, ["clean:1", "coder:1", "migrate:1", "proxy:1", "rolled:1"]);
        assert_eq!(containers(&documents).into_iter().collect::<Vec<_>>(), ["clean", "coder", "migrate", "proxy"]);
    }
}
