//! Names that people and other programs meet in the cluster.

/// The API group of the operator. Coder's own group is `coder.com`; this one is ours.
pub const API_GROUP: &str = "coderupgrade.dev";

/// Holds a `CoderUpgrade` in the cluster while a change of its release is under way, and never longer.
pub const FINALIZER: &str = "coderupgrade.dev/change-under-way";

/// Annotations, as people set them or the runner writes them.
pub mod annotation {
    /// Set by a person or a pipeline to any new value: look for the newest version again, or start over after a failure.
    pub const REQUESTED_AT: &str = "coderupgrade.dev/requested-at";
    /// Set by a person to let exactly one plan or step begin: the plan's id, or the plan's id, a slash and the step (repair or
    /// reinstall), as status.approval gives it.
    pub const APPROVE: &str = "coderupgrade.dev/approve";
    /// Written by the runner into its own Job: progress while it runs and the outcome at the end, as JSON.
    pub const REPORT: &str = "coderupgrade.dev/report";
    /// Written by the controller into a Job of its own: when it let the Job start, or asked last for a pod that could not be
    /// created.
    pub const STARTED_AT: &str = "coderupgrade.dev/started-at";
    /// Written by the controller into a Job of its own: digest of the settings that its pod was built with.
    pub const SETTINGS: &str = "coderupgrade.dev/settings";
    /// Written by the runner into the Lease of a release: the highest version of which a pod may have started and migrated the
    /// database.
    pub const HIGHEST_STARTED: &str = "coderupgrade.dev/highest-started-version";
}

/// Labels of the objects that the operator creates.
pub mod label {
    /// Name of the `CoderUpgrade` that a Job or a plan Secret belongs to.
    pub const UPGRADE: &str = "coderupgrade.dev/upgrade";
    /// UID of that `CoderUpgrade`: a namesake that was created later is somebody else.
    pub const UPGRADE_UID: &str = "coderupgrade.dev/upgrade-uid";
    /// The step that a Job performs, in lower case.
    pub const STEP: &str = "coderupgrade.dev/step";
    /// Number of the attempt that a Job belongs to.
    pub const ATTEMPT: &str = "coderupgrade.dev/attempt";
    /// Id of the plan; also a label of the Helm release record that the plan's upgrade made.
    pub const PLAN: &str = "coderupgrade.dev/plan";
    /// Label of a Secret with a part of a plan that takes more than one Secret: its number. The first one has none.
    pub const PLAN_PART: &str = "coderupgrade.dev/plan-part";
    /// Label of a Helm release record: its own number. helm hands the labels of a revision on to the next one, whoever
    /// makes that; this one tells which revision they were meant for.
    pub const REVISION: &str = "coderupgrade.dev/revision";
    /// Label of a Helm release record that restored the saved release instead of making the upgrade: its own number, too.
    pub const RESTORED: &str = "coderupgrade.dev/restored";
    /// Set by a person to `repository`: the credentials in this Secret may be sent to a chart repository. Secrets of the types
    /// kubernetes.io/basic-auth and kubernetes.io/dockerconfigjson need no label.
    pub const CREDENTIALS: &str = "coderupgrade.dev/credentials";
    /// Label of `ReplicaSets` and pods that serve on while a workload is recreated: name of the workload. As an annotation of a
    /// Deployment: it is paused for that.
    pub const BRIDGE: &str = "coderupgrade.dev/bridge";
}
