//! Whether a pod of the new version may have begun its work: from then on the database may be migrated.

use std::collections::BTreeSet;

use serde_json::Value;

use super::documents::Documents;
use super::verify::Observed;
use super::workload::{PodFacts, WorkloadFacts};

/// The images that the pods of a manifest run, those of init containers included.
#[must_use]
pub fn images(documents: &Documents) -> BTreeSet<String> {
    documents.objects().flat_map(|(_, object)| images_in(object)).collect()
}

/// The images that the pods of an object run: all that stand under the key `image`, wherever that is. So those of kinds that
/// this program does not know are found as well.
#[must_use]
pub fn images_in(object: &Value) -> BTreeSet<String> {
    let mut images = BTreeSet::new();
    let mut left = vec![object];
    while let Some(value) = left.pop() {
        match value {
            Value::Object(map) => {
                images.extend(map.get("image").and_then(Value::as_str).map(ToOwned::to_owned));
                left.extend(map.values());
            }
            Value::Array(items) => left.extend(items),
            _ => {}
        }
    }
    images
}

/// Whether a container was started in a pod with an image that the old version does not have. A pod that runs the same
/// images as before (they are pinned by the values) migrates nothing.
#[must_use]
pub fn new_version_started(observed: &[Observed], old_images: &BTreeSet<String>) -> bool {
    let mut pods = observed.iter().flat_map(|observed| &observed.pods).map(|asked| &asked.pod);
    pods.any(|pod| is_started(pod, old_images))
}

/// The same for one pod.
#[must_use]
pub fn is_started(pod: &PodFacts, old_images: &BTreeSet<String>) -> bool {
    is_new(pod, old_images) && began(pod)
}

/// Whether a pod has an image that the old version does not have.
#[must_use]
pub fn is_new(pod: &PodFacts, old_images: &BTreeSet<String>) -> bool {
    pod_images(pod).any(|image| !old_images.contains(image))
}

/// Whether a container was started in a pod with one of these images.
#[must_use]
pub fn runs(pod: &PodFacts, new_images: &BTreeSet<String>) -> bool {
    pod_images(pod).any(|image| new_images.contains(image)) && began(pod)
}

fn began(pod: &PodFacts) -> bool {
    pod.containers.iter().any(|container| container.started)
}

fn pod_images(pod: &PodFacts) -> impl Iterator<Item = &String> {
    pod.images.iter().map(|(_, image)| image).chain(&pod.init_images)
}

/// Whether a workload of the new version is left that makes pods: one may start when nobody looks any more.
#[must_use]
pub fn may_start(observed: &[Observed], old_images: &BTreeSet<String>) -> bool {
    observed.iter().any(|observed| {
        let new = |workload: &WorkloadFacts| workload.images.iter().any(|(_, image)| !old_images.contains(image));
        let makes_pods = observed.workload.as_ref().is_some_and(|workload| workload.desired > 0 && new(workload));
        makes_pods || observed.pods.iter().any(|asked| !asked.pod.leaving && is_new(&asked.pod, old_images))
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::core::verify::Asked;
    use crate::core::workload::ContainerFacts;

    #[rstest]
    #[case::old(&["coder:1"], true, false)]
    #[case::new(&["coder:2"], true, true)]
    #[case::new_but_not_started(&["coder:2"], false, false)]
    #[case::one_of_them_is_new(&["coder:1", "sidecar:2"], true, true)]
    fn a_pod_of_the_new_version_counts_once_a_container_was_started(
        #[case] images: &[&str],
        #[case] started: bool,
        #[case] expected: bool,
    ) {
        let pod = PodFacts {
            images: images.iter().map(|image| ("c".to_owned(), (*image).to_owned())).collect(),
            containers: vec![ContainerFacts { started, ..ContainerFacts::default() }],
            ..PodFacts::default()
        };
        let asked = |pod| Asked { pod, ..Asked::default() };
        let observed = [Observed { pods: vec![asked(pod.clone())], ..Observed::default() }];
        let old = BTreeSet::from(["coder:1".to_owned()]);
        assert_eq!(new_version_started(&observed, &old), expected);
        // The image of an init container, which migrates in Coder Classic.
        let images = pod.images.iter().map(|(_, image)| image.clone()).collect();
        let init = PodFacts { images: vec![], init_images: images, ..pod };
        let observed = [Observed { pods: vec![asked(init)], ..Observed::default() }];
        assert_eq!(new_version_started(&observed, &old), expected);
    }

    #[test]
    fn all_images_of_a_manifest_are_known() {
        let manifest = r"
kind: Deployment
apiVersion: apps/v1
metadata: {name: a}
spec: {template: {spec: {initContainers: [{image: migrate:1}], containers: [{image: coder:1}, {image: proxy:1}]}}}
---
kind: CronJob
apiVersion: batch/v1
metadata: {name: b}
spec: {jobTemplate: {spec: {template: {spec: {containers: [{image: clean:1}]}}}}}
---
kind: Rollout
apiVersion: argoproj.io/v1alpha1
metadata: {name: c}
spec: {workload: {pods: [{image: rolled:1}]}}
";
        let images = images(&Documents::parse(manifest, "ns").unwrap());
        assert_eq!(images.into_iter().collect::<Vec<_>>(), ["clean:1", "coder:1", "migrate:1", "proxy:1", "rolled:1"]);
    }
}
