//! The rights that every runner needs, and those that it needs for the public charts of Coder: the one table of them.

use std::collections::{BTreeMap, BTreeSet};

use super::{ALL, Grants, Right, RightsGroup, VERBS, distinct};

/// API groups, resources, verbs: each verb on each resource of each group.
type RightsRow = (&'static [&'static str], &'static [&'static str], &'static [&'static str]);

/// What is done with an object of a release: helm reads and writes it and waits for it, a repair deletes it.
pub const MANAGED: &[&str] = &["get", "list", "watch", "create", "update", "patch", "delete"];
const READ: &[&str] = &["get", "list", "watch"];

/// What the runner itself does, whichever the chart is.
const OWN: &[(&str, &[RightsRow])] = &[
    (
        "The runner's own work: it reads its order, reports in its own Job, and holds the lock of the release.",
        &[
            (&["coderupgrade.dev"], &["coderupgrades"], &["get"]),
            (&["batch"], &["jobs"], &["get", "patch"]),
            (&["coordination.k8s.io"], &["leases"], &["get", "create", "patch", "update"]),
        ],
    ),
    (
        "helm's records of the release, saved plans, and values in Secrets and ConfigMaps.",
        &[(&[""], &["secrets"], MANAGED), (&[""], &["configmaps"], READ)],
    ),
    (
        "The backup that spec.backup asks for: a Job is made from a CronJob, or snapshots are made of claims. None is ever \
         deleted.",
        &[
            (&["batch"], &["jobs"], &["list", "watch", "create"]),
            (&["batch"], &["cronjobs"], &["get"]),
            (&["snapshot.storage.k8s.io"], &["volumesnapshots"], &["get", "list", "watch", "create"]),
        ],
    ),
    (
        "What runs: the progress of a rollout, which pods to ask for their version, the volumes that must be the same \
         afterwards, and the Deployments that are scaled to zero for the time of a change.",
        &[
            (&[""], &["persistentvolumeclaims", "pods", "services"], READ),
            (&["apps"], &["daemonsets", "deployments", "replicasets", "statefulsets"], READ),
            (&["networking.k8s.io"], &["ingresses"], READ),
            (&["apps"], &["deployments"], &["patch"]),
        ],
    ),
    (
        "While a Deployment or StatefulSet is replaced, its pods serve on: they get the labels of the new selector, and those \
         that nobody takes over are deleted. A claim is enlarged, or marked so that helm keeps it.",
        &[
            (&["apps"], &["replicasets"], &["patch", "delete"]),
            (&[""], &["pods"], &["patch", "delete"]),
            (&[""], &["persistentvolumeclaims"], &["patch"]),
        ],
    ),
    ("Why a pod does not start.", &[(&[""], &["events"], &["list"]), (&[""], &["pods/log"], &["get"])]),
    (
        "Whether the new pods will have room, and who else sets the number of replicas. Without these rights the plan says \
         nothing about it.",
        &[
            (&[""], &["limitranges", "resourcequotas"], &["list"]),
            (&["autoscaling"], &["horizontalpodautoscalers"], &["list"]),
        ],
    ),
];

/// What of that lies outside of all namespaces.
const CLUSTER: &[(&str, &[RightsRow])] = &[(
    "PersistentVolumes belong to no namespace. The runner reads those of the release's claims: their phase, and what would \
     happen to the data if a claim were deleted. Their storage classes tell whether a volume can grow; a class of snapshots that \
     spec.backup names is asked for.",
    &[
        (&[""], &["persistentvolumes"], &["get"]),
        (&["storage.k8s.io"], &["storageclasses"], &["get"]),
        (&["snapshot.storage.k8s.io"], &["volumesnapshotclasses"], &["get"]),
    ],
)];

/// The objects that the public charts consist of.
const OBJECTS: (&str, &[RightsRow]) = (
    "The objects of the charts.",
    &[
        (&[""], &["configmaps", "secrets", "serviceaccounts", "services"], MANAGED),
        (&["apps"], &["deployments", "statefulsets"], MANAGED),
        (&["networking.k8s.io"], &["ingresses", "networkpolicies"], MANAGED),
        ROLES,
    ],
);
const ROLES: RightsRow = (&["rbac.authorization.k8s.io"], &["rolebindings", "roles"], MANAGED);

/// Why the runner has rights that it does not use.
const GRANTED: &str = "Kubernetes lets nobody grant a right that they lack, so the runner holds what the charts' own Roles \
                       grant. It does not use these: no code of it executes anything in a pod or deletes a \
                       PersistentVolumeClaim.";

/// What the Role of Coder v2 grants in a namespace with workspaces: 0.x every verb, written as *, later charts these eight.
const V2: (&str, &[RightsRow]) = (
    "Granted by the charts of Coder v2 and of its provisioners. Those of 0.x grant the verb *, which only its holder can do.",
    &[(&[""], &["persistentvolumeclaims", "pods"], &[ALL]), (&["apps"], &["deployments"], &VERBS)],
);

/// What the Roles of Coder Classic grant: each resource in each group, whether it is in that group or not.
const CLASSIC: &[(&str, &[RightsRow])] = &[
    (
        "Granted by the charts of Coder Classic from 1.21 on; those up to 1.28 name each resource in each group. Leave this out if \
         you do not run Coder Classic.",
        &[
            (
                &["", "apps", "networking.k8s.io"],
                &[
                    "deployments",
                    "events",
                    "networkpolicies",
                    "persistentvolumeclaims",
                    "pods",
                    "pods/exec",
                    "pods/log",
                    "secrets",
                    "serviceaccounts",
                    "services",
                ],
                &VERBS,
            ),
            (&["metrics.k8s.io", "storage.k8s.io"], &["pods", "storageclasses"], READ),
        ],
    ),
    (
        "Granted by the ingress controller in the charts of Coder Classic before 1.21. Leave this out if you do not run them.",
        &[(&[""], &["endpoints"], READ), (&["networking.k8s.io"], &["ingresses/status"], &["update"])],
    ),
];

fn rights(rows: &[RightsRow]) -> BTreeSet<Right> {
    let right = |(groups, resources, verbs): &RightsRow| {
        let of = |group: &'static str| resources.iter().map(move |resource| (group, *resource));
        let pairs: Vec<_> = groups.iter().flat_map(|group| of(group)).collect();
        pairs.into_iter().flat_map(|(group, resource)| verbs.iter().map(move |verb| Right::new(group, resource, verb)))
    };
    rows.iter().flat_map(|row| right(row).collect::<Vec<_>>()).collect()
}

fn part((why, rows): &(&str, &[RightsRow])) -> RightsGroup {
    RightsGroup { why: (*why).to_owned(), rights: rights(rows) }
}

/// What the runner itself does in the namespace of the release.
pub fn own() -> Vec<RightsGroup> {
    OWN.iter().map(part).collect()
}

/// What the runner itself reads outside of all namespaces.
pub fn own_in_cluster() -> Vec<RightsGroup> {
    CLUSTER.iter().map(part).collect()
}

/// Why a chart's Roles are part of what the runner may do.
pub fn granted(rights: BTreeSet<Right>) -> RightsGroup {
    RightsGroup { why: format!("Granted by the chart's own Roles. {GRANTED}"), rights }
}

/// What suffices for every public chart of Coder v2, of its provisioners and of Coder Classic, and in `workspaces`, which are
/// the namespaces that `coder.serviceAccount.workspaceNamespaces` names.
#[must_use]
pub fn base(workspaces: &[String]) -> Grants {
    let v2 = RightsGroup { why: format!("{} {GRANTED}", V2.0), ..part(&V2) };
    let mut home = own();
    home.extend([part(&OBJECTS), v2.clone()]);
    home.extend(CLASSIC.iter().map(part));
    let roles = RightsGroup {
        why: "The Roles of the chart for workspaces in this namespace.".into(),
        rights: rights(&[ROLES]),
    };
    let elsewhere = distinct(vec![roles, v2]);
    Grants {
        home: distinct(home),
        elsewhere: workspaces
            .iter()
            .map(|namespace| (namespace.clone(), elsewhere.clone()))
            .collect::<BTreeMap<_, _>>(),
        cluster: own_in_cluster(),
    }
}
