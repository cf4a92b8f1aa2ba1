//! What can be built, and how.

use std::time::Duration;

use sha2::{Digest, Sha256};

/// A program that the test bed can build.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub enum Component {
    /// The store of the API server.
    Etcd,
    /// The API server.
    KubeApiserver,
    /// Deployments, Jobs, service accounts, garbage collection, hostPath volumes …
    KubeControllerManager,
    /// Binds pods to the node.
    KubeScheduler,
    /// Runs the pods of a real node.
    Kubelet,
    /// Leads connections to Services to their pods, on a real node.
    KubeProxy,
    /// Answers the names of Services, on a real node.
    Coredns,
    /// The command line of Kubernetes.
    Kubectl,
    /// Helm 4, which the operator runs.
    Helm,
    /// Helm 3, for releases made by it.
    Helm3,
    /// A registry of charts (OCI distribution).
    Registry,
    /// Says what GitOps tools read from an object.
    GitopsStatus,
    /// Says what GitHub would refuse in a workflow.
    Actionlint,
    /// Fetches what Flux applies.
    SourceController,
    /// Applies it, and waits for it.
    KustomizeController,
}

/// What every cluster needs; the others are built on demand.
pub const CLUSTER: [Component; 6] = [
    Component::Etcd,
    Component::KubeApiserver,
    Component::KubeControllerManager,
    Component::KubeScheduler,
    Component::Kubectl,
    Component::Helm,
];

/// What a cluster with a real node needs besides.
pub const REAL_NODE: [Component; 3] = [Component::Kubelet, Component::KubeProxy, Component::Coredns];

/// A Go module with pinned sums that requires programs of one release.
struct Module {
    /// The module whose version is the version of the programs.
    release: &'static str,
    go_mod: &'static str,
    go_sum: &'static str,
    /// The sources of its own program, if its programs are not only those of other modules.
    sources: &'static [(&'static str, &'static str)],
    /// `-X` settings of the linker; `{version}`, `{major}` and `{minor}` are replaced.
    ///
    /// Without them the API server reports a version that clients cannot parse.
    settings: &'static [&'static str],
}

macro_rules! module {
    ($dir:literal, $release:literal, $settings:expr) => {
        module!($dir, $release, $settings, [])
    };
    ($dir:literal, $release:literal, $settings:expr, [$($source:literal),*]) => {
        Module {
            release: $release,
            go_mod: include_str!(concat!("../../components/", $dir, "/go.mod")),
            go_sum: include_str!(concat!("../../components/", $dir, "/go.sum")),
            sources: &[$(($source, include_str!(concat!("../../components/", $dir, "/", $source)))),*],
            settings: $settings,
        }
    };
}

static ETCD: Module = module!("etcd", "go.etcd.io/etcd/server/v3", &[]);
static KUBERNETES: Module = module!(
    "kubernetes",
    "k8s.io/kubernetes",
    &[
        "k8s.io/component-base/version.gitVersion={version}",
        "k8s.io/component-base/version.gitMajor={major}",
        "k8s.io/component-base/version.gitMinor={minor}",
        "k8s.io/component-base/version.gitTreeState=clean",
    ]
);
static HELM: Module = module!("helm", "helm.sh/helm/v4", &["helm.sh/helm/v4/internal/version.version={version}"]);
static HELM3: Module = module!("helm3", "helm.sh/helm/v3", &["helm.sh/helm/v3/internal/version.version={version}"]);
static COREDNS: Module = module!("coredns", "github.com/coredns/coredns", &[], ["main.go"]);
static GITOPS_STATUS: Module = module!("gitops-status", "github.com/fluxcd/cli-utils", &[], ["main.go", "lua.go"]);
static ACTIONLINT: Module =
    module!("actionlint", "github.com/rhysd/actionlint", &["github.com/rhysd/actionlint.version={version}"]);
static FLUX_SOURCE: Module = module!("flux", "github.com/fluxcd/source-controller", &[]);
static FLUX_KUSTOMIZE: Module = module!("flux", "github.com/fluxcd/kustomize-controller", &[]);
static REGISTRY: Module = module!(
    "registry",
    "github.com/distribution/distribution/v3",
    &["github.com/distribution/distribution/v3/version.version={version}"]
);

impl Component {
    /// The program's name, as in commands and file names.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::KubeApiserver => "kube-apiserver",
            Self::KubeControllerManager => "kube-controller-manager",
            Self::KubeScheduler => "kube-scheduler",
            Self::Kubelet => "kubelet",
            Self::KubeProxy => "kube-proxy",
            Self::Coredns => "coredns",
            Self::Kubectl => "kubectl",
            Self::Helm => "helm",
            Self::Helm3 => "helm3",
            Self::Registry => "registry",
            Self::GitopsStatus => "gitops-status",
            Self::Actionlint => "actionlint",
            Self::SourceController => "source-controller",
            Self::KustomizeController => "kustomize-controller",
        }
    }

    /// The module whose version is that of the component.
    pub(super) fn release(self) -> &'static str {
        self.module().release
    }

    /// The version that is built, with its `v`.
    #[must_use]
    pub fn version(self) -> &'static str {
        required_version(self.module().go_mod, self.release()).unwrap_or_default()
    }

    /// How long a first build takes on 2 cores, with nothing in Go's build cache.
    #[must_use]
    pub const fn typical_build(self) -> Duration {
        Duration::from_secs(match self {
            Self::Etcd => 30,
            Self::KubeApiserver => 230,
            Self::KubeControllerManager | Self::Registry | Self::Coredns | Self::KustomizeController => 60,
            Self::KubeScheduler => 5,
            Self::Actionlint => 15,
            Self::Kubelet => 40,
            Self::KubeProxy => 10,
            Self::Kubectl | Self::GitopsStatus => 20,
            Self::Helm => 90,
            Self::Helm3 => 55,
            Self::SourceController => 420,
        })
    }

    /// The Go package of its `main`.
    pub(super) const fn package(self) -> &'static str {
        match self {
            Self::Etcd => "go.etcd.io/etcd/server/v3",
            Self::KubeApiserver => "k8s.io/kubernetes/cmd/kube-apiserver",
            Self::KubeControllerManager => "k8s.io/kubernetes/cmd/kube-controller-manager",
            Self::KubeScheduler => "k8s.io/kubernetes/cmd/kube-scheduler",
            Self::Kubelet => "k8s.io/kubernetes/cmd/kubelet",
            Self::KubeProxy => "k8s.io/kubernetes/cmd/kube-proxy",
            Self::Coredns | Self::GitopsStatus => ".",
            Self::Kubectl => "k8s.io/kubernetes/cmd/kubectl",
            Self::Helm => "helm.sh/helm/v4/cmd/helm",
            Self::Helm3 => "helm.sh/helm/v3/cmd/helm",
            Self::Registry => "github.com/distribution/distribution/v3/cmd/registry",
            Self::Actionlint => "github.com/rhysd/actionlint/cmd/actionlint",
            Self::SourceController => "github.com/fluxcd/source-controller",
            Self::KustomizeController => "github.com/fluxcd/kustomize-controller",
        }
    }

    /// Arguments with which the program ends at once, and prints its version if it knows it.
    pub(super) const fn version_arguments(self) -> &'static [&'static str] {
        match self {
            Self::Kubectl => &["version", "--client"],
            Self::Helm | Self::Helm3 => &["version"],
            Self::Coredns => &["-version"],
            Self::SourceController | Self::KustomizeController => &["--help"],
            _ => &["--version"],
        }
    }

    /// Whether the program tells its version when asked with those arguments. Flux' controllers know none; their entry in the
    /// cache is named after the sums of what they were built from.
    pub(super) const fn tells_its_version(self) -> bool {
        !matches!(self, Self::SourceController | Self::KustomizeController)
    }

    /// The files of its module.
    pub(super) fn module_files(self) -> impl Iterator<Item = (&'static str, &'static str)> {
        let module = self.module();
        [("go.mod", module.go_mod), ("go.sum", module.go_sum)].into_iter().chain(module.sources.iter().copied())
    }

    /// The oldest Go that builds its module.
    pub(super) fn go_version(self) -> &'static str {
        self.module().go_mod.lines().find_map(|line| line.strip_prefix("go ")).unwrap_or_default().trim()
    }

    /// What `go build -ldflags` gets: no debug information, and the version.
    pub(super) fn linker_flags(self) -> String {
        let version = self.version();
        let mut parts = version.trim_start_matches('v').split('.');
        let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
        let fill = |text: &str| text.replace("{version}", version).replace("{major}", major).replace("{minor}", minor);
        let settings = self.module().settings.iter().map(|setting| format!(" -X {}", fill(setting)));
        format!("-s -w{}", settings.collect::<String>())
    }

    /// Names one build: other sums or flags are another entry of the cache.
    pub(super) fn digest(self) -> String {
        let module = self.module();
        let mut digest = Sha256::new();
        let flags = self.linker_flags();
        let sources = module.sources.iter().map(|(_, text)| *text);
        for part in [module.go_mod, module.go_sum, self.package(), &flags].into_iter().chain(sources) {
            digest.update(part.len().to_le_bytes());
            digest.update(part);
        }
        let digest: [u8; 32] = digest.finalize().into();
        let first = digest.iter().take(6).fold(0_u64, |number, &byte| number << 8 | u64::from(byte));
        format!("{first:012x}")
    }

    const fn module(self) -> &'static Module {
        match self {
            Self::Etcd => &ETCD,
            Self::KubeApiserver
            | Self::KubeControllerManager
            | Self::KubeScheduler
            | Self::Kubectl
            | Self::Kubelet
            | Self::KubeProxy => &KUBERNETES,
            Self::Coredns => &COREDNS,
            Self::Helm => &HELM,
            Self::Helm3 => &HELM3,
            Self::Registry => &REGISTRY,
            Self::GitopsStatus => &GITOPS_STATUS,
            Self::Actionlint => &ACTIONLINT,
            Self::SourceController => &FLUX_SOURCE,
            Self::KustomizeController => &FLUX_KUSTOMIZE,
        }
    }
}

impl std::fmt::Display for Component {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

/// The version in the `require` line of `module`, in a block or alone.
fn required_version<'a>(go_mod: &'a str, module: &str) -> Option<&'a str> {
    go_mod.lines().find_map(|line| {
        let mut words = line.trim().trim_start_matches("require ").split_whitespace();
        (words.next() == Some(module)).then(|| words.next().filter(|word| word.starts_with('v')))?
    })
}

#[cfg(test)]
mod tests {
    use clap::ValueEnum;

    use super::*;

    #[test]
    fn every_component_has_a_version_and_a_go_version() {
        for component in Component::value_variants() {
            assert!(component.version().starts_with('v'), "{component}: {:?}", component.version());
            assert!(component.go_version().starts_with("1."), "{component}");
            assert_eq!(component.to_possible_value().unwrap().get_name(), component.name());
        }
    }

    #[test]
    fn the_version_is_read_from_the_requirement_and_not_from_the_tool_line() {
        let go_mod =
            "tool example.org/a\n\nrequire (\n\texample.org/a/b v9.9.9\n\texample.org/a v1.2.3 // indirect\n)\n";
        assert_eq!(required_version(go_mod, "example.org/a"), Some("v1.2.3"));
        assert_eq!(required_version("require example.org/a v1.0.0", "example.org/a"), Some("v1.0.0"));
        assert_eq!(required_version(go_mod, "example.org/c"), None);
    }

    #[test]
    fn kubernetes_is_told_its_version() {
        let flags = Component::KubeApiserver.linker_flags();
        assert!(flags.starts_with("-s -w -X k8s.io/component-base/version.gitVersion=v1."), "{flags}");
        assert!(flags.contains("version.gitMajor=1 "), "{flags}");
    }

    #[test]
    fn programs_of_one_module_have_entries_of_their_own() {
        assert_ne!(Component::KubeApiserver.digest(), Component::Kubectl.digest());
    }
}
