//! Memory and time of the controller's process, from the kernel.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use testbed::Cluster;

use crate::Result;

/// The controller of a cluster.
pub struct Controller {
    /// Its directory in /proc.
    directory: PathBuf,
}

/// An amount of memory or storage.
#[derive(Clone, Copy)]
pub struct Bytes(u64);

impl fmt::Display for Bytes {
    #[allow(clippy::cast_precision_loss)] // shown with one decimal
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1} MiB", self.0 as f64 / f64::from(1 << 20))
    }
}

/// Resident memory of a process.
#[derive(Clone, Copy)]
pub struct Memory {
    resident: Bytes,
    anonymous: Bytes,
}

impl fmt::Display for Memory {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (heap and stacks: {})", self.resident, self.anonymous)
    }
}

impl Controller {
    /// The process that runs `binary` as the controller of this cluster.
    pub fn find(cluster: &Cluster, binary: &Path) -> Result<Self> {
        let wanted = binary.canonicalize()?;
        let cluster = cluster.dir().to_string_lossy();
        for entry in fs::read_dir("/proc")? {
            let directory = entry?.path();
            // Processes end while we look, and those of others cannot be read.
            let Ok(program) = fs::read_link(directory.join("exe")) else { continue };
            let Ok(environment) = fs::read(directory.join("environ")) else { continue };
            let Ok(arguments) = fs::read(directory.join("cmdline")) else { continue };
            let ours = String::from_utf8_lossy(&environment).contains(&*cluster);
            if program == wanted && ours && arguments.split(|byte| *byte == 0).any(|argument| argument == b"controller")
            {
                return Ok(Self { directory });
            }
        }
        Err(format!("no process runs {} as the controller", binary.display()).into())
    }

    /// Resident memory: all of it, and the part that is not the program's own file.
    pub fn memory(&self) -> Result<Memory> {
        let status = fs::read_to_string(self.directory.join("status"))?;
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name));
            let kibibytes = line.and_then(|line| line.trim().strip_suffix("kB"));
            let kibibytes = kibibytes.ok_or_else(|| format!("/proc does not tell {name}"))?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(Bytes(kibibytes.trim().parse::<u64>()? * 1024))
        };
        Ok(Memory { resident: field("VmRSS:")?, anonymous: field("RssAnon:")? })
    }

    /// Time on a processor so far, of all its threads.
    pub fn time(&self) -> Result<Duration> {
        let mut nanoseconds = 0;
        for entry in fs::read_dir(self.directory.join("task"))? {
            let statistics = fs::read_to_string(entry?.path().join("schedstat"))?;
            nanoseconds += statistics.split(' ').next().unwrap_or_default().parse::<u64>()?;
        }
        Ok(Duration::from_nanos(nanoseconds))
    }
}

/// Size of a file.
pub fn size(file: &Path) -> Result<Bytes> {
    Ok(Bytes(fs::metadata(file)?.len()))
}
