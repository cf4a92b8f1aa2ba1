//! A change that ends verified, with servers, pods and objects as they really are.

mod answers;
mod backup;
mod ending;
mod images;
mod interruptions;
mod large;
mod migration;
mod quiesce;
mod real_server;
mod recreate;
mod replicas;
mod servers;
mod shapes;
mod sidecars;
mod stand_in;
mod tls_only;
mod verified;
mod wrapped;
