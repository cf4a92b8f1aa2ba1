//! No process outlives the node, even if the node is killed.
//!
//! The kernel kills a container's first process with the node, but not what that one has started (helm below the runner,
//! say). A guardian process waits for the end of a pipe that only the node holds open, and then kills whatever carries the
//! node's mark in its environment: what the end of a machine, or of a control group, would do.

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use super::NodeError;

/// Names the node in the environment of all its processes.
pub const NODE_MARK: &str = "TESTBED_NODE";

/// Waits until its input ends, then kills the marked processes until there are none. It needs nothing but a shell, because
/// the program that the node is part of may be any test.
const SCRIPT: &str = r#"
cat > /dev/null
found=yes
while [ -n "$found" ]; do
  found=
  for process in /proc/[0-9]*; do
    if tr '\0' '\n' < "$process/environ" | grep -qxF "$MARK"; then
      found=yes
      kill -KILL "${process#/proc/}"
    fi
  done
  if [ -n "$found" ]; then sleep 0.05; fi
done
"#;

/// The node's hold on its guardian; dropping it ends the node's processes.
#[derive(Debug)]
pub struct Guardian {
    child: Child,
    input: Option<ChildStdin>,
}

impl Guardian {
    /// Starts the guardian of the node that lives in `directory`.
    pub fn start(directory: &Path) -> Result<Self, NodeError> {
        let mark = format!("{NODE_MARK}={}", directory.display());
        // In a group of its own, so that Ctrl-C in a terminal does not end it first.
        let spawned = Command::new("sh")
            .args(["-c", SCRIPT])
            .env("MARK", mark)
            .env_remove(NODE_MARK)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        let mut child = spawned.map_err(NodeError::file("sh"))?;
        let input = child.stdin.take();
        Ok(Self { child, input })
    }
}

impl Drop for Guardian {
    fn drop(&mut self) {
        drop(self.input.take());
        if let Err(error) = self.child.wait() {
            tracing::error!(%error, "the guardian of the node's processes was not waited for");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marked_processes_end_with_the_node_and_others_do_not() {
        let directory = tempfile::tempdir().unwrap();
        let guardian = Guardian::start(directory.path()).unwrap();
        let sleep = |mark: &Path| Command::new("sleep").arg("60").env(NODE_MARK, mark).spawn().unwrap();
        let (mut ours, mut other) = (sleep(directory.path()), sleep(&directory.path().join("other")));
        drop(guardian);
        assert!(!ours.wait().unwrap().success());
        assert!(other.try_wait().unwrap().is_none());
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
