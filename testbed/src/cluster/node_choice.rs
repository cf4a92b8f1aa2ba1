//! Which kind of node a cluster gets.

use std::path::Path;

use super::{ClusterError, ClusterOptions};
use crate::components;
use crate::real_node::{Host, Unfit};
use crate::supervisor::state::NodeKind;

/// What runs the pods of a new cluster.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub enum NodeChoice {
    /// Local processes instead of containers: no root, no packages.
    #[default]
    Process,
    /// kubelet and containerd, in namespaces of their own: takes root and packages of the distribution.
    Real,
    /// A real node if this machine can run one, else local processes; says which, and why.
    Auto,
}

/// Chooses the node of a cluster in `dir`, with the programs of `bin_dir`.
pub(super) fn choose(options: &ClusterOptions, dir: &Path, bin_dir: &Path) -> Result<NodeKind, ClusterError> {
    let cache = components::cache_dir()?;
    let examined = || Host::examine(&[dir, bin_dir, &cache]).map(drop);
    let (kind, line) = decide(options.node, options.images.is_some(), examined)?;
    if let Some(line) = line {
        (options.progress)(&line);
    }
    Ok(kind)
}

/// The node, and what to say about it.
fn decide(
    choice: NodeChoice,
    has_table: bool,
    examine: impl FnOnce() -> Result<(), Unfit>,
) -> Result<(NodeKind, Option<String>), ClusterError> {
    let processes =
        |why: &dyn std::fmt::Display| Ok((NodeKind::Process, Some(format!("node: local processes; {why}"))));
    match choice {
        NodeChoice::Process => Ok((NodeKind::Process, None)),
        NodeChoice::Real if has_table => Err(ClusterError::TableOnRealNode),
        NodeChoice::Real => examine().map(|()| (NodeKind::Real, None)).map_err(ClusterError::Unfit),
        NodeChoice::Auto if has_table => processes(&ClusterError::TableOnRealNode),
        NodeChoice::Auto => match examine() {
            Ok(()) => Ok((NodeKind::Real, Some("node: a real one; this machine has what it takes".to_owned()))),
            Err(unfit) => processes(&unfit),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unfit() -> Unfit {
        Host::examine(&[Path::new("/run/cluster")]).unwrap_err()
    }

    #[test]
    fn auto_takes_the_real_node_only_where_it_can_and_says_why_not() {
        let (kind, line) = decide(NodeChoice::Auto, false, || Ok(())).unwrap();
        assert!(kind == NodeKind::Real && line.unwrap().contains("a real one"));
        let (kind, line) = decide(NodeChoice::Auto, false, || Err(unfit())).unwrap();
        assert_eq!(kind, NodeKind::Process);
        let line = line.unwrap();
        assert!(line.contains("local processes; this machine cannot run a real node: "), "{line}");
        assert_eq!(decide(NodeChoice::Auto, true, || Ok(())).unwrap().0, NodeKind::Process);
    }

    #[test]
    fn who_asks_for_a_real_node_gets_no_other() {
        let error = decide(NodeChoice::Real, false, || Err(unfit())).unwrap_err().to_string();
        assert!(error.contains("/run/cluster lies in /run"), "{error}");
        assert!(decide(NodeChoice::Real, true, || Ok(())).is_err(), "a table of images is for local processes");
    }
}
