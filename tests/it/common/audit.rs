//! What somebody asked the API server for, as the server's own audit log tells it.

use serde_json::Value;

use super::World;

pub const CONTROLLER: &str = "system:serviceaccount:coder-upgrade-operator:coder-upgrade-operator";

/// Answered requests of a user, as the audit log has them.
pub fn requests(world: &World, user: &str) -> Vec<Value> {
    let lines = world.cluster.audit_lines(user).unwrap();
    let entries = lines.iter().map(|line| serde_json::from_str::<Value>(line).unwrap());
    entries.filter(|entry| entry["user"]["username"] == user && entry["stage"] == "ResponseComplete").collect()
}

/// Answered requests of the controller about objects of the namespace.
pub fn of_controller(world: &World) -> Vec<Value> {
    let mut entries = requests(world, CONTROLLER);
    entries.retain(|entry| entry["objectRef"]["namespace"] == *world.namespace);
    entries
}

/// The name of the runner of a namespace.
pub fn runner(world: &World) -> String {
    format!("system:serviceaccount:{}:coder-upgrade-runner", world.namespace)
}
