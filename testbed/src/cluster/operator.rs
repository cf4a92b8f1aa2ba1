//! Loads the operator into a cluster, from the manifests that everybody uses.

use std::path::{Path, PathBuf};

use super::{Cluster, ToolError};

/// The namespace of the controller, as in `deploy/controller`.
pub const OPERATOR_NAMESPACE: &str = "coder-upgrade-operator";
/// The namespace that `deploy/runner` is written for.
const RUNNER_NAMESPACE: &str = "coder";

impl Cluster {
    /// Applies `deploy/default` (CRD, rights, controller) and waits until the controller is available. `CoderUpgrades` may
    /// name whatever they want: see `testbed/operator`.
    ///
    /// # Errors
    /// When kubectl fails, with what it said.
    pub async fn load_operator(&self) -> Result<(), ToolError> {
        self.load_operator_from(&Path::new(env!("CARGO_MANIFEST_DIR")).join("operator")).await
    }

    /// As [`Cluster::load_operator`], with the manifests as they are in `deploy/default`: the controller allows what it
    /// allows by default.
    ///
    /// # Errors
    /// When kubectl fails, with what it said.
    pub async fn load_operator_as_deployed(&self) -> Result<(), ToolError> {
        self.load_operator_from(&deploy("default")).await
    }

    async fn load_operator_from(&self, manifests: &Path) -> Result<(), ToolError> {
        self.kubectl(&["apply", "--server-side", "-k", &manifests.to_string_lossy()]).await?;
        self.kubectl(&["wait", "--for=condition=Established", "--timeout=30s", "crd/coderupgrades.coderupgrade.dev"])
            .await?;
        let available = ["wait", "--for=condition=Available", "--timeout=120s", "deployment/coder-upgrade-operator"];
        self.kubectl(&[&available[..], &["--namespace", OPERATOR_NAMESPACE]].concat()).await?;
        Ok(())
    }

    /// Gives the runner its rights in `namespace`, which is created if it does not exist.
    ///
    /// # Errors
    /// When kubectl fails, with what it said.
    pub async fn allow_runner(&self, namespace: &str) -> Result<(), ToolError> {
        let manifests = self.kubectl(&["kustomize", &deploy("runner").to_string_lossy()]).await?;
        let create = format!("apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {namespace}\n");
        let all = format!("{create}---\n{}", for_namespace(&manifests, namespace));
        self.kubectl_with_input(&["apply", "--server-side", "-f", "-"], &all).await?;
        Ok(())
    }
}

fn deploy(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(name)
}

/// The runner's manifests for another namespace: each `namespace:`, and the name that ends with it.
fn for_namespace(manifests: &str, namespace: &str) -> String {
    let (namespace_line, name_end) = (format!("namespace: {RUNNER_NAMESPACE}"), format!(":{RUNNER_NAMESPACE}"));
    let lines = manifests.lines().map(|line| match line.trim_start() {
        text if text == namespace_line => line.replace(&namespace_line, &format!("namespace: {namespace}")),
        text if text.starts_with("name: ") && text.ends_with(&name_end) => {
            format!("{}:{namespace}", line.trim_end_matches(&name_end))
        }
        _ => line.to_owned(),
    });
    lines.fold(String::new(), |text, line| text + &line + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn manifests_move_to_another_namespace() {
        let manifests = "metadata:\n  name: coder-upgrade-runner:coder\nsubjects:\n- name: coder-upgrade-runner\n  \
                         namespace: coder\n";
        let moved = for_namespace(manifests, "staging");
        assert!(moved.contains("  name: coder-upgrade-runner:staging\n"), "{moved}");
        assert!(moved.contains("- name: coder-upgrade-runner\n  namespace: staging\n"), "{moved}");
    }
}
