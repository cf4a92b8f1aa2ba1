//! The parts of a running cluster: processes and tasks, each watched, all stopped in reverse order.

use std::error::Error;
use std::future::Future;
use std::sync::Arc;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::state::{ComponentState, StateError, StateFile};
use crate::control_plane::launch::Running;

/// What runs, in the order in which it was started.
#[derive(Debug)]
pub(super) struct Parts {
    state: Arc<StateFile>,
    running: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    name: &'static str,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Parts {
    /// Nothing yet. What happens to the parts is written to `state`.
    pub(super) fn new(state: Arc<StateFile>) -> Self {
        Self { state, running: Vec::new() }
    }

    /// Takes over a process.
    pub(super) fn add_process(&mut self, mut process: Running) -> Result<(), StateError> {
        let name = process.name;
        let version = process.version.map(str::to_owned);
        let identity = Some(process.identity);
        self.add(name, ComponentState { process: identity, version, ended: None }, async move |stop| {
            tokio::select! {
                how = process.ended() => Some(how),
                () = stop.cancelled() => match process.stop().await {
                    Ok(ended_before) => ended_before,
                    Err(error) => {
                        tracing::error!(%error, component = name, "cannot stop it");
                        None
                    }
                },
            }
        })
    }

    /// Starts a task of this process. It has to end when the token it gets is cancelled.
    pub(super) fn add_task<F, E>(
        &mut self,
        name: &'static str,
        run: impl FnOnce(CancellationToken) -> F,
    ) -> Result<(), StateError>
    where
        F: Future<Output = Result<(), E>> + Send + 'static,
        E: Error + Send,
    {
        let stop = CancellationToken::new();
        let task = run(stop.clone());
        self.add_with(name, ComponentState { process: None, version: None, ended: None }, stop, async move |stop| {
            match task.await {
                _ if stop.is_cancelled() => None,
                Ok(()) => Some("returned".to_owned()),
                Err(error) => Some(error.to_string()),
            }
        })
    }

    fn add<F>(
        &mut self,
        name: &'static str,
        first: ComponentState,
        run: impl FnOnce(CancellationToken) -> F,
    ) -> Result<(), StateError>
    where
        F: Future<Output = Option<String>> + Send + 'static,
    {
        self.add_with(name, first, CancellationToken::new(), run)
    }

    /// `run` returns how the part ended if it ended by itself.
    fn add_with<F>(
        &mut self,
        name: &'static str,
        first: ComponentState,
        stop: CancellationToken,
        run: impl FnOnce(CancellationToken) -> F,
    ) -> Result<(), StateError>
    where
        F: Future<Output = Option<String>> + Send + 'static,
    {
        let run = run(stop.clone());
        let state = Arc::clone(&self.state);
        let task = tokio::spawn(async move {
            if let Some(how) = run.await {
                tracing::error!(component = name, %how, "ended unexpectedly");
                write_end(&state, name, how);
            }
        });
        self.running.push(Part { name, stop, task });
        self.state.update(|state| drop(state.components.insert(name.to_owned(), first)))
    }

    /// Takes over a process that everything else needs: it is stopped last.
    pub(super) fn add_first(&mut self, process: Running) -> Result<(), StateError> {
        self.add_process(process)?;
        self.running.rotate_right(1);
        Ok(())
    }

    /// Waits for the end of these, which have nothing left to run on.
    pub(super) async fn forget(&mut self, names: &[&str]) {
        let ended: Vec<_> = self.running.extract_if(.., |part| names.contains(&part.name)).collect();
        for part in ended {
            part.stop.cancel();
            if let Err(error) = part.task.await {
                tracing::error!(%error, component = part.name, "panicked");
            }
        }
    }

    /// Stops everything, the last one first.
    pub(super) async fn stop(self) {
        for Part { name, stop, task } in self.running.into_iter().rev() {
            stop.cancel();
            if let Err(error) = task.await {
                tracing::error!(%error, component = name, "panicked");
            }
        }
    }
}

fn write_end(state: &StateFile, name: &str, how: String) {
    let written = state.update(|state| {
        if let Some(component) = state.components.get_mut(name) {
            component.ended = Some(how);
        }
    });
    if let Err(error) = written {
        tracing::error!(%error, component = name, "cannot write the state");
    }
}
