//! Which objects may be deleted: those of built-in kinds that hold no data and own none. Whatever an object of another kind
//! may own goes with it, by the garbage collector or by its own controller, so everything else stays.

use crate::core::object::{KindName, ObjectRef};

/// The kinds that may be deleted, by their API group. What a chart renders into Secrets and `ConfigMaps` stands in helm's
/// record of the release, which the plan saves.
const DISPOSABLE: [(&str, &[&str]); 14] = [
    (
        "",
        &[
            "ConfigMap",
            "Endpoints",
            "LimitRange",
            "Pod",
            "PodTemplate",
            "ReplicationController",
            "ResourceQuota",
            "Secret",
            "Service",
            "ServiceAccount",
        ],
    ),
    (
        "admissionregistration.k8s.io",
        &[
            "MutatingAdmissionPolicy",
            "MutatingAdmissionPolicyBinding",
            "MutatingWebhookConfiguration",
            "ValidatingAdmissionPolicy",
            "ValidatingAdmissionPolicyBinding",
            "ValidatingWebhookConfiguration",
        ],
    ),
    ("apps", &["ControllerRevision", "DaemonSet", "Deployment", "ReplicaSet", "StatefulSet"]),
    ("autoscaling", &["HorizontalPodAutoscaler"]),
    ("batch", &["CronJob", "Job"]),
    ("coordination.k8s.io", &["Lease"]),
    ("discovery.k8s.io", &["EndpointSlice"]),
    ("extensions", &["DaemonSet", "Deployment", "Ingress", "NetworkPolicy", "PodSecurityPolicy", "ReplicaSet"]),
    ("flowcontrol.apiserver.k8s.io", &["FlowSchema", "PriorityLevelConfiguration"]),
    ("networking.k8s.io", &["Ingress", "IngressClass", "NetworkPolicy"]),
    ("policy", &["PodDisruptionBudget", "PodSecurityPolicy"]),
    ("rbac.authorization.k8s.io", &["ClusterRole", "ClusterRoleBinding", "Role", "RoleBinding"]),
    ("scheduling.k8s.io", &["PriorityClass"]),
    ("storage.k8s.io", &["StorageClass"]),
];

/// The kinds that are data, or hold the data of others: they stay whether the new chart has them or not.
const DATA: [(&str, &str); 4] = [
    ("", "PersistentVolumeClaim"),
    ("", "PersistentVolume"),
    ("", "Namespace"),
    ("apiextensions.k8s.io", "CustomResourceDefinition"),
];

/// Whether an object may be deleted, to be replaced or because the release has it no more: it is of a built-in kind that
/// holds no data and owns none.
pub fn is_disposable(object: &ObjectRef) -> bool {
    let kinds = DISPOSABLE.iter().find(|(group, _)| *group == object.group());
    kinds.is_some_and(|(_, kinds)| kinds.contains(&object.kind.as_str()))
}

/// Whether an object is data, or holds the data of others: it stays even if nobody takes it back.
pub fn is_data(object: &ObjectRef) -> bool {
    DATA.contains(&(object.group(), object.kind.as_str()))
}

/// Whether a kind may be one of those that may be deleted. A text often tells no group; what only has the name of a built-in
/// kind is found out once the object itself is known.
pub fn may_be_disposable(kind: &str) -> bool {
    DISPOSABLE.iter().any(|(_, kinds)| kinds.contains(&kind))
}

/// Whether one of these objects has that kind and name, and may not be deleted.
pub fn any_stays<'a>(named: &KindName, mut objects: impl Iterator<Item = &'a ObjectRef>) -> bool {
    objects.any(|object| object.kind_name() == *named && !is_disposable(object))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::deployment("apps/v1", "Deployment", true, false)]
    #[case::older_ingress("extensions/v1beta1", "Ingress", true, false)]
    #[case::secret("v1", "Secret", true, false)]
    #[case::claim("v1", "PersistentVolumeClaim", false, true)]
    #[case::namespace("v1", "Namespace", false, true)]
    #[case::definition("apiextensions.k8s.io/v1", "CustomResourceDefinition", false, true)]
    #[case::custom("postgresql.cnpg.io/v1", "Cluster", false, false)]
    #[case::custom_namesake("serving.knative.dev/v1", "Service", false, false)]
    #[case::namesake_of_data("backup.example.com/v1", "PersistentVolumeClaim", false, false)]
    #[case::snapshot("snapshot.storage.k8s.io/v1", "VolumeSnapshot", false, false)]
    #[case::aggregated("apiregistration.k8s.io/v1", "APIService", false, false)]
    #[case::new_kind_of_a_known_group("apps/v2", "Database", false, false)]
    fn only_built_in_kinds_without_data_may_be_deleted(
        #[case] version: &str,
        #[case] kind: &str,
        #[case] disposable: bool,
        #[case] data: bool,
    ) {
        let object = ObjectRef { api_version: version.into(), kind: kind.into(), namespace: None, name: "a".into() };
        assert_eq!((is_disposable(&object), is_data(&object)), (disposable, data));
        assert_eq!(any_stays(&KindName::new(kind, "a"), std::iter::once(&object)), !disposable);
        assert!(!disposable || may_be_disposable(kind));
    }
}
