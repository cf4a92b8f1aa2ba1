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
    /// The process that started it gave up before it was ready.
    StarterGone,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Asked => "asked to stop",
            Self::OwnerGone => "the owner is gone",
            Self::StarterGone => "whoever started it has ended",
        })
    }
}

/// Everything that ends a cluster; made before anything is started, so that nothing is missed.
#[derive(Debug)]
pub(super) struct End {
    terminate: Signal,
    interrupt: Signal,
    owner: Other,
    starter: Other,
}

/// Another process whose end matters.
#[derive(Debug)]
enum Other {
    None,
    Gone,
    Alive(Handled),
}

impl Other {
    fn new(pid: Option<u32>) -> io::Result<Self> {
        match pid.map(|pid| Identity::of(pid).map(Identity::open)) {
            None => Ok(Self::None),
            Some(None) => Ok(Self::Gone),
            Some(Some(opened)) => Ok(opened?.map_or(Self::Gone, Self::Alive)),
        }
    }

    async fn gone(&self) -> io::Result<()> {
        match self {
            Self::None => std::future::pending().await,
            Self::Gone => Ok(()),
            Self::Alive(process) => process.ended().await,
        }
    }
}

impl End {
    /// Begins to listen. The end of the process `owner` is the cluster's end, and as long as nobody was told that the
    /// cluster is ready, the end of `starter` is, too.
    pub(super) fn new(owner: Option<u32>, starter: Option<u32>) -> io::Result<Self> {
        let (owner, starter) = (Other::new(owner)?, Other::new(starter)?);
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            owner,
            starter,
        })
    }

    /// Returns when the cluster has to end. May be dropped and called again.
    pub(super) async fn reached(&mut self) -> io::Result<Reason> {
        tokio::select! {
            _ = self.terminate.recv() => Ok(Reason::Asked),
            _ = self.interrupt.recv() => Ok(Reason::Asked),
            gone = self.owner.gone() => gone.map(|()| Reason::OwnerGone),
        }
    }

    /// As [`End::reached`], while somebody waits for the cluster to be ready.
    pub(super) async fn reached_before_ready(&mut self) -> io::Result<Reason> {
        let Self { terminate, interrupt, owner, starter } = self;
        tokio::select! {
            _ = terminate.recv() => Ok(Reason::Asked),
            _ = interrupt.recv() => Ok(Reason::Asked),
            gone = owner.gone() => gone.map(|()| Reason::OwnerGone),
            gone = starter.gone() => gone.map(|()| Reason::StarterGone),
        }
    }
}
