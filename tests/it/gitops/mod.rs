//! What tools read from a CoderUpgrade: none takes it for done before the version that is asked for is verified.

mod argocd;
mod controllers;
mod flux;
mod kstatus;
mod pipelines;
mod reader;
mod recording;
mod renovate;
mod story;
mod wait;
