//! What somebody asked the API server for, as the server's own audit log tells it.

use serde_json::Value;

use super::World;

/// Answered requests of a user, as the audit log has them.
pub fn requests(world: &World, user: &str) -> Vec<Value> {
    let log = std::fs::read_to_string(world.cluster.dir().join("logs/audit.log")).unwrap();
    // The last line may be in the middle of being written.
    let entries = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    entries.filter(|entry| entry["user"]["username"] == user && entry["stage"] == "ResponseComplete").collect()
}

/// The name of the runner of a namespace.
pub fn runner(world: &World) -> String {
    format!("system:serviceaccount:{}:coder-upgrade-runner", world.namespace)
}
