//! What is installed in a cluster: the API and the manifests.

mod api;
mod apply;
mod controller;
mod documents;
mod image;
mod manifests;
mod packages;
