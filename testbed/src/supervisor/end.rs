//! When a cluster has to end.

use std::fmt;
use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::process::{Handled, Identity};

/// Why a cluster ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reason {
    /// SIGTERM or SIGINT.
    Asked,
    /// The process that wanted it is gone.
    OwnerGone,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Asked => "asked to stop",
            Self::OwnerGone => "the owner is gone",
        })
    }
}

/// Everything that ends a cluster; made before anything is started, so that nothing is missed.
#[derive(Debug)]
pub(super) struct End {
    terminate: Signal,
    interrupt: Signal,
    owner: Owner,
}

#[derive(Debug)]
enum Owner {
    None,
    Gone,
    Alive(Handled),
}

impl End {
    /// Begins to listen. `owner` is the process whose end is the cluster's end.
    pub(super) fn new(owner: Option<u32>) -> io::Result<Self> {
        let owner = match owner.map(|pid| Identity::of(pid).map(Identity::open)) {
            None => Owner::None,
            Some(None) => Owner::Gone,
            Some(Some(opened)) => opened?.map_or(Owner::Gone, Owner::Alive),
        };
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())?, owner })
    }

    /// Returns when the cluster has to end. May be dropped and called again.
    pub(super) async fn reached(&mut self) -> io::Result<Reason> {
        let owner_gone = async {
            match &self.owner {
                Owner::None => std::future::pending().await,
                Owner::Gone => Ok(()),
                Owner::Alive(process) => process.ended().await,
            }
        };
        tokio::select! {
            _ = self.terminate.recv() => Ok(Reason::Asked),
            _ = self.interrupt.recv() => Ok(Reason::Asked),
            gone = owner_gone => gone.map(|()| Reason::OwnerGone),
        }
    }
}
