//! What is installed in a cluster: the API and the manifests.

mod api;
mod controller;
mod manifests;
