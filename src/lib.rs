//! A Kubernetes operator that upgrades Coder safely.
