//! Everything a container is started with.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::api::core::v1::Container;
use kube::ResourceExt;
use serde_json::json;

use crate::node::NodeError;
use crate::node::backoff::{self, BackOff};
use crate::node::environment::{Variables, command, variables};
use crate::node::guardian::NODE_MARK;
use crate::node::images::{ExecHandling, Program};
use crate::node::paths::MountTable;
use crate::node::pod::PodRuntime;
use crate::node::sources::{Sources, Unmet};
use crate::node::volumes::{self, Volumes};
use crate::pod_faults::{PULL_ERROR, START_DELAY};

/// Names the container in its processes' environment, so that all of them can be found when it ends.
pub const CONTAINER_MARK: &str = "TESTBED_CONTAINER";
/// Pause before an image is pulled again for the first time. A kubelet's is 10 s; tests wait for less.
const PULL_PAUSE: Duration = Duration::from_secs(1);
/// Where clients in a pod expect its token.
const TOKEN_MOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Everything a container is started with.
#[derive(Debug, Clone)]
pub struct Launch {
    /// What is run, with real paths.
    pub program: Program,
    /// The whole environment.
    pub variables: Variables,
    /// Mount paths, for the commands of probes and hooks.
    pub mounts: MountTable,
    /// Working directory.
    pub directory: PathBuf,
    /// What becomes of `exec` probes and hooks.
    pub exec: ExecHandling,
    /// Time before its start, like a slow image pull.
    pub start_delay: Duration,
}

/// Why a container was not started; it is tried again.
#[derive(Debug, thiserror::Error)]
pub enum NotStarted {
    /// The image cannot be pulled (on request).
    #[error("Failed to pull image \"{image}\": {message}")]
    Pull { image: String, message: String },
    /// Something its environment or mounts need is missing.
    #[error("Error: {0}")]
    Config(#[from] Unmet),
    /// The program cannot be started.
    #[error("Error: failed to start `{program}`: {source}")]
    Start { program: String, source: io::Error },
}

impl NotStarted {
    /// The reason in the container's status, in a kubelet's words.
    pub fn reason(&self, first: bool) -> &'static str {
        match self {
            Self::Pull { .. } if first => "ErrImagePull",
            Self::Pull { .. } => "ImagePullBackOff",
            Self::Config(_) => "CreateContainerConfigError",
            Self::Start { .. } => "RunContainerError",
        }
    }

    /// The message in the container's status: as in the event, but what is missing is named without more words.
    pub fn message(&self) -> String {
        match self {
            Self::Config(unmet) => unmet.message.clone(),
            Self::Pull { .. } | Self::Start { .. } => self.to_string(),
        }
    }

    /// The pauses before it is tried again, up to the limit of `restarts` for an image.
    pub fn back_off(&self, restarts: BackOff) -> BackOff {
        match self {
            Self::Pull { .. } => BackOff { base: PULL_PAUSE, ..restarts },
            Self::Config(_) | Self::Start { .. } => backoff::OBJECTS,
        }
    }
}

/// Resolves the image, reads what the environment refers to, and lays out the container's directories.
pub async fn prepare(
    pod: &PodRuntime,
    container: &Container,
    volumes: &Volumes,
    restarts: i32,
) -> Result<Launch, NotStarted> {
    let image = container.image.as_deref().unwrap_or_default();
    if let Some(message) = pull_error(pod) {
        return Err(NotStarted::Pull { image: image.to_owned(), message });
    }
    let home = fresh(pod.dir.join("home").join(&container.name))?;
    let mounts = volumes::mounts(container, volumes)?;
    let root = pod.dir.join("root").join(&container.name);
    volumes::link_root(&root, &mounts)?;

    let resolved = pod.node.images.resolve(image, &[]);
    let mut base = pod_variables(pod);
    base.extend([
        (CONTAINER_MARK.to_owned(), format!("{}/{}/{restarts}", pod.uid, container.name)),
        ("PATH".to_owned(), search_path(pod, &resolved.tools)?),
        ("HOME".to_owned(), text(&home)),
        ("TMPDIR".to_owned(), text(&temporary(pod, &mounts)?)),
        ("POD_ROOT".to_owned(), text(&root)),
    ]);
    let claim = volumes::claim_directory(pod, container, &mounts);
    base.extend(claim.map(|directory| ("POD_CLAIM_DIR".to_owned(), text(&directory))));
    let kubeconfig = kubeconfig(pod, container, &mounts)?;
    base.extend(kubeconfig.map(|file| ("KUBECONFIG".to_owned(), text(&file))));
    base.extend(resolved.env);

    let sources = Sources::read(&pod.node.client, &pod.namespace, container).await.map_err(Unmet::from)?;
    let variables = variables(&pod.object(), container, &base, &sources, pod.address, &mounts)?;
    let resolved = pod.node.images.resolve(image, &command(container, &variables, &mounts));
    let wanted = container.working_dir.as_deref().map(|directory| PathBuf::from(mounts.translate(directory)));
    Ok(Launch {
        program: resolved.program,
        directory: wanted.filter(|directory| directory.is_dir()).unwrap_or(home),
        exec: resolved.exec,
        variables,
        mounts,
        start_delay: start_delay(pod)?,
    })
}

/// What every container of the pod is told.
fn pod_variables(pod: &PodRuntime) -> Variables {
    let object = pod.object();
    let hostname = object.spec.as_ref().and_then(|spec| spec.hostname.clone()).unwrap_or_else(|| object.name_any());
    let (host, port) = &pod.node.api_server;
    [
        (NODE_MARK, text(&pod.node.dir)),
        ("HOSTNAME", hostname),
        ("KUBERNETES_SERVICE_HOST", host.clone()),
        ("KUBERNETES_SERVICE_PORT", port.to_string()),
        ("KUBERNETES_SERVICE_PORT_HTTPS", port.to_string()),
        ("KUBERNETES_PORT", format!("tcp://{host}:{port}")),
        ("POD_IP", pod.address.to_string()),
        ("CODER_SIM_NAMESPACE", pod.namespace.clone()),
        ("CODER_SIM_RESOLVER", pod.node.control_url.clone()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// The delay that an annotation of the pod asks for.
fn start_delay(pod: &PodRuntime) -> Result<Duration, Unmet> {
    let object = pod.object();
    let Some(delay) = object.annotations().get(START_DELAY) else { return Ok(Duration::ZERO) };
    let delay: kube::core::Duration = delay.parse().map_err(|error| Unmet::new(format!("{START_DELAY}: {error}")))?;
    Ok(delay.into())
}

/// Why the image cannot be pulled, if an annotation of the pod asks for that.
fn pull_error(pod: &PodRuntime) -> Option<String> {
    pod.object().annotations().get(PULL_ERROR).cloned()
}

/// The image's tools first, then what this machine has.
fn search_path(pod: &PodRuntime, tools: &BTreeMap<String, PathBuf>) -> Result<String, Unmet> {
    let own = std::env::var("PATH").unwrap_or_else(|_| "/usr/local/bin:/usr/bin:/bin".to_owned());
    if tools.is_empty() {
        return Ok(own);
    }
    let directory = pod.node.tools(tools).map_err(Unmet::from)?;
    Ok(format!("{}:{own}", directory.display()))
}

/// The directory for temporary files: the volume at `/tmp`, or one of the pod's own.
fn temporary(pod: &PodRuntime, mounts: &MountTable) -> Result<PathBuf, Unmet> {
    match mounts.iter().find(|(path, _)| *path == "/tmp") {
        Some((_, real)) => Ok(real.to_owned()),
        None => make(pod.dir.join("tmp")),
    }
}

/// Writes a kubeconfig that reads the pod's token from its file, so that a renewed token is seen; `None` for pods that
/// have no token.
fn kubeconfig(pod: &PodRuntime, container: &Container, mounts: &MountTable) -> Result<Option<PathBuf>, Unmet> {
    let Some((_, token)) = mounts.iter().find(|(path, _)| *path == TOKEN_MOUNT) else { return Ok(None) };
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "pod", "cluster": {
            "server": pod.node.api_server_url, "certificate-authority": pod.node.ca_file}}],
        "users": [{"name": "pod", "user": {"tokenFile": token.join("token")}}],
        "contexts": [{"name": "pod", "context": {"cluster": "pod", "user": "pod", "namespace": pod.namespace}}],
        "current-context": "pod",
    });
    let file = pod.dir.join("kubeconfig").join(&container.name);
    write(file, config.to_string().as_bytes()).map(Some)
}

/// An empty directory: what a container wrote outside of its volumes is gone when it is started again.
fn fresh(directory: PathBuf) -> Result<PathBuf, Unmet> {
    match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(NodeError::file(&directory)(error).into()),
        _ => make(directory),
    }
}

fn make(directory: PathBuf) -> Result<PathBuf, Unmet> {
    fs::create_dir_all(&directory).map_err(NodeError::file(&directory))?;
    Ok(directory)
}

fn write(file: PathBuf, content: &[u8]) -> Result<PathBuf, Unmet> {
    if let Some(directory) = file.parent() {
        make(directory.to_owned())?;
    }
    fs::write(&file, content).map_err(NodeError::file(&file))?;
    Ok(file)
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
