//! How helm is called.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use child_process::Limits;
use tokio::io::AsyncWriteExt;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::failure::{HelmFailure, OutOfMemoryKills};
use super::output::{self, HelmOutput};
use super::outside;
use crate::core::outbound::Outbound;
use crate::core::text::bounded;
use crate::runner::error::Error;

/// What a client needs to find the cluster in which its pod runs.
const IN_CLUSTER: [&str; 2] = ["KUBERNETES_SERVICE_HOST", "KUBERNETES_SERVICE_PORT"];
/// Memory that a helm process gets that changes nothing, in bytes. An upgrade of a Coder chart takes less than 100 MiB.
const MEMORY: u64 = 1 << 30;
/// Address space that Go's runtime reserves when it starts and never uses, in bytes: 1197 MiB with helm 3.21 and 4.2.
const RESERVED: u64 = 1200 << 20;
/// What a helm process gets that changes nothing.
const LIMITS: Limits = Limits { address_space: RESERVED + MEMORY, file: 64 << 20 };
/// Most that it may print, in bytes: a rendered release with its chart, which must fit into a Secret when packed.
const OUTPUT: usize = 24 << 20;
/// How long it may take to render or to rehearse.
const RENDER_TIME: Duration = Duration::from_secs(10 * 60);

/// The major version of helm: some flags have other names in each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Major {
    /// Helm 3.
    Three,
    /// Helm 4.
    Four,
}

/// The helm in PATH, with everything that it writes kept below one directory.
#[derive(Clone, Debug)]
pub struct Helm {
    major: Major,
    home: PathBuf,
    /// The kubeconfig that it uses instead of that of the environment.
    kubeconfig: Option<PathBuf>,
    /// The way to repositories.
    outbound: Arc<Outbound>,
    /// It asks a registry, and not the API server.
    outside: bool,
}

impl Helm {
    /// Looks for helm and asks for its version. `work_dir` is where it may write.
    pub async fn detect(work_dir: &Path) -> Result<Self, Error> {
        let home = work_dir.join("helm");
        tokio::fs::create_dir_all(home.join("tmp")).await.map_err(|e| Error::io("create", &home, e))?;
        let outbound = Arc::new(outside::told());
        outside::write_authorities(&outbound, &home).await?;
        let mut helm = Self { major: Major::Four, home, kubeconfig: None, outbound, outside: false };
        let printed = helm.capture(["version", "--short"], None).await?.map_err(Error::helm)?;
        let printed = String::from_utf8_lossy(&printed).trim().to_owned();
        helm.major = match printed.trim_start_matches('v').split('.').next() {
            Some("3") => Major::Three,
            Some("4") => Major::Four,
            _ => return Err(Error::HelmUnknown(printed)),
        };
        tracing::info!("helm {printed}");
        Ok(helm)
    }

    /// The same helm against the cluster of another kubeconfig, and of no other: without this file it finds none. What it
    /// learns of that cluster is kept beside the file.
    pub fn against(&self, kubeconfig: PathBuf) -> Self {
        Self { kubeconfig: Some(kubeconfig), ..self.clone() }
    }

    /// The same helm for asking a registry: by way of the proxy, and with the authorities of the controller's flags.
    pub fn outside(&self) -> Self {
        Self { outside: true, ..self.clone() }
    }

    /// The way to repositories.
    pub fn outbound(&self) -> &Outbound {
        &self.outbound
    }

    /// The major version.
    pub fn major(&self) -> Major {
        self.major
    }

    /// Directory for what helm reads and writes.
    pub fn home(&self) -> &Path {
        &self.home
    }

    /// File with the credentials of OCI registries, in the format of docker.
    pub fn registry_config(&self) -> PathBuf {
        self.home.join("registry.json")
    }

    /// helm with these arguments, and without whatever settings the environment would give it.
    pub fn command<I: AsRef<OsStr>>(&self, arguments: impl IntoIterator<Item = I>) -> Command {
        let mut command = Command::new("helm");
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("HELM_") {
                command.env_remove(name);
            }
        }
        command
            .args(arguments)
            .env("HELM_CACHE_HOME", self.home.join("cache"))
            .env("HELM_CONFIG_HOME", self.home.join("config"))
            .env("HELM_DATA_HOME", self.home.join("data"))
            .env("HELM_REGISTRY_CONFIG", self.registry_config())
            .env("TMPDIR", self.home.join("tmp"))
            .current_dir(&self.home);
        if self.outside {
            outside::tell(&self.outbound, &self.home, &mut command);
        }
        if let Some(kubeconfig) = &self.kubeconfig {
            command.env("KUBECONFIG", kubeconfig).env("KUBECACHEDIR", kubeconfig.with_extension("cache"));
            // Without a kubeconfig, or with an empty one, helm would take the pod's own cluster and ServiceAccount.
            for name in IN_CLUSTER {
                command.env_remove(name);
            }
        }
        command
    }

    /// Runs helm to its end and gives what it printed, with `input` as its standard input. What it says on stderr is
    /// logged. Dropping the future kills helm, so this is for commands that change nothing.
    ///
    /// It gets as much memory and time as no chart, repository or record of Coder needs: [`Error::HelmExcess`] beyond that.
    pub async fn capture<I: AsRef<OsStr>>(
        &self,
        arguments: impl IntoIterator<Item = I>,
        input: Option<&str>,
    ) -> Result<Result<Vec<u8>, HelmFailure>, Error> {
        self.capture_within(RENDER_TIME, arguments, input).await
    }

    /// As [`Self::capture`], with its own limit of time.
    pub async fn capture_within<I: AsRef<OsStr>>(
        &self,
        time: Duration,
        arguments: impl IntoIterator<Item = I>,
        input: Option<&str>,
    ) -> Result<Result<Vec<u8>, HelmFailure>, Error> {
        let arguments: Vec<OsString> = arguments.into_iter().map(|a| a.as_ref().to_owned()).collect();
        tracing::debug!("helm {}", arguments.join(OsStr::new(" ")).to_string_lossy());
        let mut command = self.command(&arguments);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let kills = OutOfMemoryKills::now();
        let mut child = child_process::spawn(command, Some(LIMITS)).await.map_err(Error::HelmMissing)?;
        let ended = timeout(time, self.converse(&mut child, input.unwrap_or_default())).await;
        let Ok(ended) = ended else { return Err(Error::HelmExcess(Excess::Time(time))) };
        let (status, printed, said) = ended?;
        if status.success() {
            return Ok(Ok(printed));
        }
        if let Some(excess) = Excess::of(&said.first) {
            return Err(Error::HelmExcess(excess));
        }
        Ok(Err(HelmFailure::of(status, &said.last, kills)))
    }

    /// Tells helm its input and hears it to its end: how it ended, what it printed and what it said.
    async fn converse(&self, child: &mut Child, input: &str) -> Result<(ExitStatus, Vec<u8>, HelmOutput), Error> {
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let told = async {
            let Some(mut stdin) = stdin else { return Ok(()) };
            let written = stdin.write_all(input.as_bytes()).await;
            // helm may end without reading: what it says about that is the better error.
            let written = written.or_else(|e| if e.kind() == ErrorKind::BrokenPipe { Ok(()) } else { Err(e) });
            written.map_err(Error::HelmMissing)
        };
        let printed = async {
            let Some(stdout) = stdout else { return Ok(Vec::new()) };
            let printed = output::all(stdout, OUTPUT).await.map_err(Error::HelmMissing)?;
            printed.ok_or(Error::HelmExcess(Excess::Output(OUTPUT)))
        };
        let said = async {
            let Some(stderr) = stderr else { return Ok(HelmOutput::default()) };
            Ok::<_, Error>(output::listen(stderr).await)
        };
        let ended = async { child.wait().await.map_err(Error::HelmMissing) };
        let ((), printed, said, status) = tokio::try_join!(told, printed, said, ended)?;
        Ok((status, printed, said))
    }
}

/// What helm took more of than it gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Excess {
    /// Time.
    Time(Duration),
    /// Output, in bytes.
    Output(usize),
    /// Memory.
    Memory,
    /// Size of a file.
    File,
}

impl Excess {
    /// What Go's runtime says when it gets no more memory, or may not write on.
    fn of(said: &str) -> Option<Self> {
        let begins = |texts: &[&str]| said.lines().any(|line| texts.iter().any(|text| line.starts_with(text)));
        if begins(&["fatal error: runtime: out of memory", "fatal error: runtime: cannot allocate memory"])
            || begins(&[
                "runtime: cannot allocate memory",
                "fatal error: out of memory",
                "fatal error: failed to reserve",
            ])
        {
            return Some(Self::Memory);
        }
        (begins(&["SIGXFSZ:"]) || said.contains("file too large")).then_some(Self::File)
    }
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mebibytes = |bytes: u64| bytes >> 20;
        match self {
            Self::Time(time) => write!(f, "helm did not end within {} s", time.as_secs()),
            Self::Output(most) => write!(f, "helm printed more than {}", bounded::size(*most)),
            Self::Memory => write!(f, "helm needed more than {} MiB of memory", mebibytes(MEMORY)),
            Self::File => write!(f, "helm was to write a file of more than {} MiB", mebibytes(LIMITS.file)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What helm is told of a variable: a value, or that it is not set; nothing if it inherits the variable.
    fn told(helm: &Helm, name: &str) -> Vec<Option<OsString>> {
        let command = helm.command(["list"]);
        let variables = command.as_std().get_envs().filter(|(key, _)| *key == name);
        variables.map(|(_, value)| value.map(OsStr::to_owned)).collect()
    }

    #[test]
    fn against_another_cluster_the_one_of_the_pod_is_out_of_reach() {
        let outbound = Outbound { https: Some("http://proxy:3128".into()), ..Outbound::default() };
        let helm = Helm {
            major: Major::Four,
            home: "/work/helm".into(),
            kubeconfig: None,
            outbound: Arc::new(outbound),
            outside: false,
        };
        assert_eq!(told(&helm, "HTTPS_PROXY"), [], "the API server is asked without a proxy");
        assert_eq!(told(&helm.outside(), "HTTPS_PROXY"), [Some("http://proxy:3128".into())]);
        let other = helm.against("/work/rehearsal/kubeconfig".into());
        for name in IN_CLUSTER {
            assert_eq!((told(&helm, name), told(&other, name)), (vec![], vec![None]), "{name}");
        }
        assert_eq!(told(&other, "KUBECONFIG"), [Some("/work/rehearsal/kubeconfig".into())]);
    }
}
