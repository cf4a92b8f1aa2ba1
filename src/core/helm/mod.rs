//! What helm reads, writes and says.

pub(crate) mod archive;
pub(crate) mod chart;
pub(crate) mod documents;
pub mod failures;
pub(crate) mod history;
pub(crate) mod hooks;
pub(crate) mod manifest;
pub(crate) mod merge;
pub(crate) mod ownership;
pub(crate) mod references;
pub(crate) mod removed_apis;
pub(crate) mod values;
pub(crate) mod version;
pub(crate) mod workload;
pub(crate) mod wrapped;
