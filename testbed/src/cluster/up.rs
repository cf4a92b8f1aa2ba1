//! Starts the supervisor of a new cluster and listens to it until the cluster is ready.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{ChildStdout, Command};
use tokio::task::spawn_blocking;

use super::{
    Cluster, ClusterError, ClusterOptions, OPERATOR_PROGRAM, OPERATOR_VARIABLE, Progress, locate, node_choice,
};
use crate::components::{self, Binaries, CLUSTER, Component, REAL_NODE};
use crate::supervisor::directory::SUPERVISOR_LOG;
use crate::supervisor::event::Event;
use crate::supervisor::options::ServeOptions;
use crate::supervisor::state::{ClusterState, NodeKind};
use crate::tail;

pub(super) async fn up(options: ClusterOptions) -> Result<Cluster, ClusterError> {
    let bin_dir = locate::bin_dir_with("testbed")?;
    let named = || std::env::var_os(OPERATOR_VARIABLE).map(PathBuf::from);
    let dir = directory(options.dir.as_deref())?;
    let node = node_choice::choose(&options, &dir, &bin_dir)?;
    let binaries = binaries(node, options.helm3, options.progress.clone()).await?;
    let serve = ServeOptions {
        dir: dir.clone(),
        bin_dir: bin_dir.clone(),
        operator: options.operator.or_else(named).unwrap_or_else(|| bin_dir.join(OPERATOR_PROGRAM)),
        components: binaries.iter().map(|(component, path)| (component, path.to_owned())).collect(),
        images: options.images,
        coder_binaries: options.coder_binaries,
        lb_release_delay: options.lb_release_delay,
        restart_back_off: options.restart_back_off,
        node,
        audit_log: options.audit_log,
        owner_pid: options.owner_pid,
        remove_dir: options.dir.is_none(),
        detach: true,
    };
    start(&bin_dir.join("testbed"), &serve, &options.progress).await?;
    let cluster = Cluster::attach(&dir)?;
    if options.load_operator {
        (options.progress)("loading the operator");
        cluster.load_operator().await?;
    }
    Ok(cluster)
}

/// The absolute path of the new cluster's directory, after making sure that it is nobody else's.
fn directory(wanted: Option<&Path>) -> Result<PathBuf, ClusterError> {
    let Some(wanted) = wanted else {
        let made = tempfile::Builder::new().prefix("coder-upgrade-testbed-").tempdir();
        let failed = |source| ClusterError::Directory { dir: std::env::temp_dir(), source };
        return made.map(tempfile::TempDir::keep).map_err(failed);
    };
    let failed = |source| ClusterError::Directory { dir: wanted.to_owned(), source };
    fs::create_dir_all(wanted).map_err(failed)?;
    let dir = fs::canonicalize(wanted).map_err(failed)?;
    match ClusterState::read(&dir)? {
        Some(state) if state.is_alive() => Err(ClusterError::AlreadyRunning(wanted.to_owned())),
        Some(_) => Ok(dir),
        // A supervisor that was killed in its first moment left only its lock and its log.
        None if dir.join(SUPERVISOR_LOG).exists() => Ok(dir),
        None if fs::read_dir(&dir).map_err(failed)?.next().is_none() => Ok(dir),
        None => Err(ClusterError::ForeignDirectory(wanted.to_owned())),
    }
}

async fn binaries(node: NodeKind, helm3: bool, progress: Progress) -> Result<Binaries, ClusterError> {
    let mut wanted = CLUSTER.to_vec();
    if node == NodeKind::Real {
        wanted.extend(REAL_NODE);
    }
    if helm3 {
        wanted.push(Component::Helm3);
    }
    let ensured = spawn_blocking(move || {
        components::ensure(&wanted, &|event| {
            if !matches!(event, components::Progress::Checking { .. }) {
                progress(&event.to_string());
            }
        })
    });
    Ok(ensured.await.map_err(|error| ClusterError::Start(io::Error::other(error)))??)
}

/// Starts the supervisor and returns when it says that everything runs.
async fn start(program: &Path, serve: &ServeOptions, progress: &Progress) -> Result<(), ClusterError> {
    let log_path = serve.dir.join(SUPERVISOR_LOG);
    let failed = |source| ClusterError::Directory { dir: serve.dir.clone(), source };
    fs::create_dir_all(serve.dir.join("logs")).map_err(failed)?;
    let log = File::create(&log_path).map_err(failed)?;
    let mut command = Command::new(program);
    command.args(serve.to_arguments()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log);
    let mut supervisor = command.spawn().map_err(ClusterError::Start)?;
    let events = supervisor.stdout.take().ok_or_else(|| ClusterError::Start(io::Error::other("no output")))?;
    match listen(events, progress).await.map_err(ClusterError::Start)? {
        Some(Event::Ready) => Ok(()),
        Some(Event::Failed { message }) => Err(ClusterError::Failed { message }),
        Some(Event::Starting { .. }) | None => {
            let tail = tail::of_file(&log_path);
            Err(ClusterError::Failed { message: format!("the end of {}:\n{tail}", log_path.display()) })
        }
    }
}

/// Passes on what the supervisor says; returns its last word.
async fn listen(events: ChildStdout, progress: &Progress) -> io::Result<Option<Event>> {
    let mut lines = BufReader::new(events).lines();
    while let Some(line) = lines.next_line().await? {
        match serde_json::from_str(&line)? {
            Event::Starting { what } => progress(&format!("starting {what}")),
            last => return Ok(Some(last)),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_with_other_files_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        assert!(directory(Some(dir.path())).is_ok());
        fs::write(dir.path().join("thesis.tex"), "").unwrap();
        assert!(matches!(directory(Some(dir.path())), Err(ClusterError::ForeignDirectory(_))));
    }

    #[test]
    fn what_a_killed_supervisor_left_is_taken_over() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("logs")).unwrap();
        fs::write(dir.path().join(SUPERVISOR_LOG), "").unwrap();
        assert!(directory(Some(dir.path())).is_ok());
    }
}
