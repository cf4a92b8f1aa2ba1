//! The images of the node: this workspace's programs, laid out as images and imported, because there is no registry.
//!
//! The operator's image holds what the Dockerfile lists. Coder and its databases are coder-sim, in every version for which a
//! chart is packaged; what the node tells coder-sim elsewhere is in the environment of its images.

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use semver::Version;

use super::dockerfile::{self, Copied};
use super::oci::{Archive, Config, Files};
use crate::charts::{Catalog, charts_dir};
use crate::components::{Binaries, Component};
use crate::node::digest_of;
use crate::servers::{self, CoderServers};

/// What holds the namespaces of a pod.
pub(super) const PAUSE: &str = "localhost/pause:1";
/// The cluster's DNS.
pub(super) const COREDNS: &str = "localhost/coredns:1";
/// Programs of this machine, for hooks and sidecars that run a script.
pub(super) const TOOLS: &str = "docker.io/mesh/testbed-host:1";
/// What is in it.
const TOOL_PROGRAMS: [&str; 9] = ["sh", "sleep", "true", "false", "cat", "echo", "touch", "ls", "date"];
/// Has the images of Coder v2, too: an admission webhook may have pods take them from there.
const MIRROR: &str = "mirror.local:5000";
/// Charts that tests package themselves.
const PACKAGED_BY_TESTS: [(&str, &str); 9] = [
    ("coder-v1", "1.15.2"),
    ("coder-v1", "1.17.1"),
    ("coder-v1", "1.18.0"),
    ("coder-v2", "2.26.0"),
    ("coder-v2", "2.26.5"),
    ("coder-v2", "2.26.6"),
    ("coder-v2", "2.26.7"),
    ("coder-v2", "2.27.8"),
    ("coder-v2", "2.39.0"),
];
/// Builds of Coder that a company has made, and an image that is in the wrong place: version and name.
const OWN_BUILDS: [(&str, &str); 3] = [
    ("2.30.0", "docker.io/coderenvs/coder-service:v2.30.0"),
    ("2.31.7-acme1", "ghcr.io/coder/coder:v2.31.7-acme1"),
    ("2.31.7", "ghcr.io/coder/coder@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"),
];
/// What is ready and does nothing, as every image that the process node does not know.
const IDLE: [&str; 3] = ["docker.io/library/pause:1", "docker.io/mesh/proxy:1", "example.com/thing:1"];
/// The overlay of charts whose images cannot be pulled: there are none.
const NEVER_PUBLISHED: &str = "pull-error";
/// A real `PostgreSQL`, for rows that must survive; see [`postgres`].
const POSTGRES: &str = "localhost/postgresql:1";
/// Where its container keeps the data: below the mount of a volume, whose own directory belongs to somebody else.
const POSTGRES_START: &str = "\
    [ -s \"$PGDATA/PG_VERSION\" ] || initdb --auth=trust --no-locale --encoding=UTF8
    exec postgres -c listen_addresses= -c unix_socket_directories=/tmp";
/// The program that all images of Coder hold.
const SIM: &str = "/usr/local/bin/coder-sim";
/// Its other names: those that the charts of Coder call, and those of parts of Coder Classic.
const SIM_LINKS: [&str; 7] = [
    "/opt/coder",
    "/usr/local/bin/coder",
    "/usr/local/bin/cemanager",
    "/usr/local/bin/coderd",
    "/usr/local/bin/envproxy",
    "/usr/local/bin/dashboard",
    "/usr/local/bin/pause",
];

/// Where an image has its list of certificate authorities.
const AUTHORITIES: &str = "/etc/ssl/certs/ca-certificates.crt";

/// Why the images cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A file cannot be read or written.
    #[error("cannot make the images of the node: {0}")]
    File(#[from] io::Error),
    /// The Dockerfile lists something that is not known here.
    #[error("the Dockerfile: {0}")]
    Dockerfile(String),
    /// The list of charts cannot be read.
    #[error(transparent)]
    Charts(#[from] crate::charts::ChartError),
}

/// Writes all images to the archive `path`: those of Coder with the program `sim`, those of real servers, and that of the operator if
/// its program exists.
pub(super) fn write(
    path: &Path,
    sim: &Path,
    servers: Option<&CoderServers>,
    operator: &Path,
    binaries: &Binaries,
) -> Result<PathBuf, ImageError> {
    let mut archive = Archive::create(path)?;
    coder(&mut archive, sim)?;
    for (version, server) in servers.into_iter().flat_map(CoderServers::programs) {
        real_coder(&mut archive, version, &server)?;
    }
    tools(&mut archive)?;
    if let Some(programs) = postgres_programs() {
        postgres(&mut archive, &programs)?;
    }
    let coredns = binary(binaries, Component::Coredns)?;
    let mut files = Files::default();
    program(&mut files, coredns, "/coredns")?;
    let layer = archive.layer(&files)?;
    let config = Config { entrypoint: vec!["/coredns".into()], ..Config::default() };
    archive.image(&layer, &config, &[COREDNS.to_owned()])?;
    if operator.is_file() {
        let name = format!("coder-upgrade-operator:v{}", env!("CARGO_PKG_VERSION"));
        operator_image(&mut archive, operator, binary(binaries, Component::Helm)?, &name)?;
        if let Some(helm3) = binaries.get(Component::Helm3) {
            operator_image(&mut archive, operator, helm3, &format!("{name}-helm3"))?;
        }
    }
    Ok(archive.finish()?)
}

/// The image of Coder in every version, of its databases, and of what holds a pod.
fn coder(archive: &mut Archive, sim: &Path) -> Result<(), ImageError> {
    let mut files = Files::default();
    program(&mut files, sim, SIM)?;
    for link in SIM_LINKS {
        files.link(SIM, link);
    }
    // The image of Coder is an Alpine with its shell and tools; these two are what tests call.
    for name in ["sh", "cat"] {
        program(&mut files, &Path::new("/bin").join(name), &format!("/bin/{name}"))?;
    }
    // Its HTTP client does not start without any.
    files.copy(authorities(), AUTHORITIES);
    files.shared_directory("/tmp");
    files.shared_directory("/home/coder");
    let layer = archive.layer(&files)?;
    let config = |arguments: &[&str], version: Option<&str>| Config {
        entrypoint: std::iter::once(SIM).chain(arguments.iter().copied()).map(str::to_owned).collect(),
        env: ["PATH=/usr/local/bin:/bin", "HOME=/home/coder", "POD_IP=0.0.0.0"]
            .map(str::to_owned)
            .into_iter()
            .chain(version.map(|version| format!("CODER_SIM_VERSION={version}")))
            .collect(),
        user: String::new(),
    };
    // The server of Coder v2 has a user of its own, so that a pod with runAsNonRoot and no runAsUser starts.
    let server = |version: &str| Config { user: "1000:1000".into(), ..config(&[], Some(version)) };
    let mut idle: Vec<_> = [PAUSE].iter().chain(&IDLE).map(|name| (*name).to_owned()).collect();
    let mut databases = vec!["docker.io/library/postgres:16".to_owned()];
    for (chart, version) in versions()? {
        if chart == "coder-v2" || chart == "coder-provisioner" {
            let image = format!("ghcr.io/coder/coder:v{version}");
            let by_digest = format!("ghcr.io/coder/coder@{}", digest_of(&format!("v{version}")));
            let mirrored = format!("{MIRROR}/{image}");
            archive.image(&layer, &server(&version), &[image, by_digest, mirrored])?;
            idle.push(format!("example.com/thing:{version}"));
            continue;
        }
        let image = |name: &str| format!("docker.io/coderenvs/{name}:{version}");
        archive.image(&layer, &config(&[], Some(&version)), &[image("coder-service")])?;
        for part in ["dashboard", "envproxy"] {
            archive.image(&layer, &config(&[part], Some(&version)), &[image(part)])?;
        }
        idle.push(image("nginx-ingress-controller"));
        databases.push(image("timescale"));
    }
    archive.image(&layer, &config(&["pause"], None), &idle)?;
    archive.image(&layer, &config(&["database"], None), &databases)?;
    for (version, name) in OWN_BUILDS {
        archive.image(&layer, &server(version), &[name.to_owned()])?;
    }
    Ok(())
}

/// The image of a real `PostgreSQL`, whose container keeps its data in `/data/rows`; `None` where the distribution's is not
/// installed.
#[must_use]
pub fn postgres_image() -> Option<&'static str> {
    postgres_programs().map(|_| POSTGRES)
}

/// The image of a real server, as Coder's own has it.
fn real_coder(archive: &mut Archive, version: &Version, server: &Path) -> Result<(), ImageError> {
    let mut files = Files::default();
    program(&mut files, server, "/opt/coder")?;
    files.copy(authorities(), AUTHORITIES);
    files.shared_directory("/tmp");
    files.shared_directory("/home/coder");
    let layer = archive.layer(&files)?;
    let settings = servers::SETTINGS.map(|(name, value)| format!("{name}={value}"));
    let config = Config {
        entrypoint: vec!["/opt/coder".into()],
        env: ["PATH=/opt".into(), "HOME=/home/coder".into()].into_iter().chain(settings).collect(),
        user: "1000:1000".into(),
    };
    archive.image(&layer, &config, &[servers::image(version)])?;
    Ok(())
}

/// The directory of its programs, among them the one that says where the rest is.
fn postgres_programs() -> Option<PathBuf> {
    servers::postgres_programs().filter(|directory| directory.join("pg_config").exists())
}

/// The image of the distribution's `PostgreSQL`, which works as the user nobody and listens at a socket in `/tmp` alone.
fn postgres(archive: &mut Archive, programs: &Path) -> Result<(), ImageError> {
    let mut files = Files::default();
    for name in ["initdb", "postgres", "psql"] {
        program(&mut files, &programs.join(name), &format!("{}/{name}", programs.display()))?;
    }
    let asked = Command::new(programs.join("pg_config")).args(["--pkglibdir", "--sharedir"]).output()?;
    for directory in String::from_utf8_lossy(&asked.stdout).lines() {
        files.tree(Path::new(directory))?;
    }
    program(&mut files, Path::new("/bin/sh"), "/bin/sh")?;
    // It asks for the name of its user.
    files.copy("/etc/passwd", "/etc/passwd");
    files.shared_directory("/tmp");
    let layer = archive.layer(&files)?;
    let config = Config {
        entrypoint: ["/bin/sh", "-c", POSTGRES_START].map(str::to_owned).into(),
        env: ["PGDATA=/data/rows", "PGHOST=/tmp", "PGUSER=nobody", "PGDATABASE=postgres", "TZ=GMT"]
            .map(str::to_owned)
            .into_iter()
            .chain([format!("PATH={}:/bin", programs.display())])
            .collect(),
        user: "65534:65534".into(),
    };
    archive.image(&layer, &config, &[POSTGRES.to_owned()])?;
    Ok(())
}

/// The image of this machine's programs, as the process node has them.
fn tools(archive: &mut Archive) -> Result<(), ImageError> {
    let mut files = Files::default();
    for name in TOOL_PROGRAMS {
        program(&mut files, &Path::new("/bin").join(name), &format!("/bin/{name}"))?;
    }
    files.shared_directory("/tmp");
    let layer = archive.layer(&files)?;
    let config = Config { env: vec!["PATH=/bin".into()], ..Config::default() };
    archive.image(&layer, &config, &[TOOLS.to_owned(), "docker.io/library/testbed-host:1".to_owned()])?;
    Ok(())
}

/// Chart and version of everything that has an image.
fn versions() -> Result<BTreeSet<(String, String)>, ImageError> {
    let Catalog(repositories) = Catalog::read(&charts_dir())?;
    let rows = repositories.into_values().flatten().filter(|row| row.overlay.as_deref() != Some(NEVER_PUBLISHED));
    let by_tests = PACKAGED_BY_TESTS.map(|(chart, version)| (chart.to_owned(), version.to_owned()));
    Ok(rows.map(|row| (row.chart, row.version)).chain(by_tests).collect())
}

/// The operator's image.
fn operator_image(archive: &mut Archive, operator: &Path, helm: &Path, name: &str) -> Result<(), ImageError> {
    let (files, config) = operator_files(operator, helm)?;
    let layer = archive.layer(&files)?;
    archive.image(&layer, &config, &[name.to_owned()])?;
    Ok(())
}

/// Lays out the operator's image in the directory `root`, as the Dockerfile lists it; says how a container of it starts.
///
/// # Errors
/// When a file cannot be read or written, or the Dockerfile lists something that is not known here.
pub fn lay_out_operator(root: &Path, operator: &Path, helm: &Path) -> Result<Config, ImageError> {
    let (files, config) = operator_files(operator, helm)?;
    files.unpack(root)?;
    Ok(config)
}

/// What the last stage of the Dockerfile holds.
fn operator_files(operator: &Path, helm: &Path) -> Result<(Files, Config), ImageError> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../Dockerfile"))?;
    let (copied, config) = dockerfile::last_stage(&text).map_err(ImageError::Dockerfile)?;
    let mut files = Files::default();
    for Copied { stage, source, target } in copied {
        match (stage.as_str(), source.as_str()) {
            ("helm", "/helm") => program(&mut files, helm, &target)?,
            ("operator", "/coder-upgrade-operator") => program(&mut files, operator, &target)?,
            ("helm", AUTHORITIES) => files.copy(authorities(), target),
            _ => return Err(ImageError::Dockerfile(format!("{source} of the stage {stage} is not known here"))),
        }
    }
    Ok((files, config))
}

/// This machine's list of certificate authorities: as Debian, or as Fedora has it.
fn authorities() -> &'static str {
    let places = [AUTHORITIES, "/etc/pki/tls/certs/ca-bundle.crt"];
    places.into_iter().find(|place| Path::new(place).exists()).unwrap_or(places[0])
}

fn binary(binaries: &Binaries, component: Component) -> Result<&Path, ImageError> {
    let missing = || io::Error::new(io::ErrorKind::NotFound, format!("{component} was not given"));
    Ok(binaries.get(component).ok_or_else(missing)?)
}

/// A program with the libraries that it is linked to, at the paths where its loader looks for them.
fn program(files: &mut Files, source: &Path, target: &str) -> Result<(), ImageError> {
    files.copy(source, target);
    let output = Command::new("ldd").arg(source).stdin(Stdio::null()).output()?;
    // A static program makes `ldd` fail.
    if output.status.success() {
        let listed = String::from_utf8_lossy(&output.stdout).into_owned();
        libraries(&listed).for_each(|library| files.copy(library, library));
    }
    Ok(())
}

/// The paths in what `ldd` prints: `libc.so.6 => /lib/libc.so.6 (0x…)`, and the loader `/lib64/ld-linux-x86-64.so.2 (0x…)`.
fn libraries(listed: &str) -> impl Iterator<Item = &str> {
    listed.lines().filter_map(|line| line.split_whitespace().find(|word| word.starts_with('/')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_what_ldd_prints() {
        let listed = "\tlinux-vdso.so.1 (0x00007ffd)\n\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)\n\
                      \t/lib64/ld-linux-x86-64.so.2 (0x00007f)\n";
        let found: Vec<_> = libraries(listed).collect();
        assert_eq!(found, ["/lib/x86_64-linux-gnu/libc.so.6", "/lib64/ld-linux-x86-64.so.2"]);
    }

    #[test]
    fn the_operators_image_holds_what_the_dockerfile_lists() {
        let dir = tempfile::tempdir().unwrap();
        let helm = dir.path().join("helm");
        fs::write(&helm, "").unwrap();
        let mut archive = Archive::create(&dir.path().join("images.tar")).unwrap();
        operator_image(&mut archive, &helm, &helm, "operator:1").unwrap();
    }

    #[test]
    fn an_image_that_was_never_published_is_not_made() {
        let versions = versions().unwrap();
        assert!(versions.contains(&("coder-v2".into(), "2.31.7".into())));
        assert!(!versions.contains(&("coder-v2".into(), "2.31.17".into())));
    }
}
