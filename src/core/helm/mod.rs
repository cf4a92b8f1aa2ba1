//! What helm reads, writes and says.

pub mod archive;
pub mod chart;
pub mod documents;
pub mod failures;
pub mod history;
pub mod hooks;
pub mod manifest;
pub mod merge;
pub mod ownership;
pub mod references;
pub mod removed_apis;
pub mod values;
pub mod version;
pub mod workload;
pub mod wrapped;
