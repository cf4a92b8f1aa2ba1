//! Annotations with which a pod asks for faults, on either kind of node.

/// A duration before its containers start.
pub(crate) const START_DELAY: &str = "testbed.coderupgrade.dev/start-delay";
/// Its images cannot be pulled. The process node says why in the words of the annotation, a real one in those of containerd.
pub(crate) const PULL_ERROR: &str = "testbed.coderupgrade.dev/pull-error";
