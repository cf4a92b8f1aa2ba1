//! Whether a pod of the new version may have begun its work: from then on the database may be migrated.

use std::collections::BTreeSet;

use super::documents::Documents;
use super::verify::Observed;
use super::workload::PodFacts;

/// The images that the pods of a manifest run, those of init containers included.
#[must_use]
pub fn images(documents: &Documents) -> BTreeSet<String> {
    let mut images = BTreeSet::new();
    for (name, object) in documents.objects() {
        let pod = match name.kind.as_str() {
            "Pod" => &object["spec"],
            "CronJob" => &object["spec"]["jobTemplate"]["spec"]["template"]["spec"],
            _ => &object["spec"]["template"]["spec"],
        };
        let lists = ["initContainers", "containers"].iter().filter_map(|list| pod[*list].as_array());
        images.extend(lists.flatten().filter_map(|container| container["image"].as_str()).map(Into::into));
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
    let mut images = pod.images.iter().map(|(_, image)| image).chain(&pod.init_images);
    images.any(|image| !old_images.contains(image)) && pod.containers.iter().any(|container| container.started)
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
";
        let images = images(&Documents::parse(manifest, "ns").unwrap());
        assert_eq!(images.into_iter().collect::<Vec<_>>(), ["clean:1", "coder:1", "migrate:1", "proxy:1"]);
    }
}
