//! Finds the programs of this workspace that cargo built.

use std::path::{Path, PathBuf};

use super::ClusterError;

/// Overrides where to look.
const VARIABLE: &str = "TESTBED_BIN_DIR";

/// The directory that holds the program `name`.
pub(super) fn bin_dir_with(name: &'static str) -> Result<PathBuf, ClusterError> {
    let dirs = match std::env::var_os(VARIABLE) {
        Some(dir) => vec![PathBuf::from(dir)],
        None => candidates(std::env::current_exe().ok().as_deref()),
    };
    if let Some(dir) = dirs.iter().find(|dir| dir.join(name).is_file()) {
        return Ok(dir.clone());
    }
    let searched: Vec<_> = dirs.iter().map(|dir| dir.display().to_string()).collect();
    Err(ClusterError::NotBuilt { name, searched: searched.join(", ") })
}

/// Beside the running program; one above for tests (`target/debug/deps/NAME-HASH`); else the workspace's own target.
fn candidates(current: Option<&Path>) -> Vec<PathBuf> {
    let beside = current.and_then(Path::parent);
    let above = beside.filter(|dir| dir.ends_with("deps") || dir.ends_with("examples")).and_then(Path::parent);
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
    let built = ["debug", "release"].map(|profile| target.join(profile));
    above.or(beside).map(Path::to_owned).into_iter().chain(built).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_looks_above_its_own_directory() {
        let found = candidates(Some(Path::new("/w/target/debug/deps/cluster-0123")));
        assert_eq!(found[0], Path::new("/w/target/debug"));
        let found = candidates(Some(Path::new("/w/target/release/xtask")));
        assert_eq!(found[0], Path::new("/w/target/release"));
    }
}
