//! Where the chart and the values come from.

use kube::KubeSchema;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where the chart comes from: a repository (the default) or a packaged chart kept in the cluster.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("!has(self.repository) || self.repository.matches('^(https?|oci)://[^ ]+$')")
    .message("chart.repository must begin with https://, http:// or oci://, for example https://helm.coder.com/v2")
    .field_path(".repository"))]
#[x_kube(validation = Rule::new("!has(self.archive) || !(has(self.repository) || has(self.credentialsSecretRef) || has(self.caSecretRef))")
    .message("chart.archive replaces the repository: remove chart.repository, chart.credentialsSecretRef and chart.caSecretRef, or remove chart.archive")
    .field_path(".archive"))]
#[x_kube(validation = Rule::new("!has(self.credentialsSecretRef) || has(self.repository)")
    .message("chart.credentialsSecretRef needs chart.repository: the official repositories ask for no credentials, and yours must not be sent to them")
    .field_path(".credentialsSecretRef"))]
#[x_kube(validation = Rule::new("!has(self.repository) || !self.repository.matches('[@?#]')")
    .message("chart.repository must be an address alone, without user, password or query: name a Secret in chart.credentialsSecretRef")
    .field_path(".repository"))]
#[x_kube(validation = Rule::new("!has(self.plainHTTP) || !self.plainHTTP || (has(self.repository) && !self.repository.startsWith('https://'))")
    .message("chart.plainHTTP is for oci:// registries without TLS, and for credentials that are sent to an http:// repository")
    .field_path(".plainHTTP"))]
#[x_kube(validation = Rule::new("!has(self.credentialsSecretRef) || !has(self.repository) || !self.repository.startsWith('http://') || (has(self.plainHTTP) && self.plainHTTP)")
    .message("chart.credentialsSecretRef would be sent to an http:// repository without encryption: use https://, or set chart.plainHTTP: true if that is meant")
    .field_path(".credentialsSecretRef"))]
#[x_kube(validation = Rule::new("!has(self.archiveCredentials) || (has(self.repository) && !self.repository.startsWith('oci://'))")
    .message("chart.archiveCredentials needs a chart.repository with an index (https:// or http://) that leads to the other address")
    .field_path(".archiveCredentials"))]
#[x_kube(validation = Rule::new("!has(self.archiveCredentials) || !self.archiveCredentials.address.startsWith('http://') || (has(self.plainHTTP) && self.plainHTTP)")
    .message("chart.archiveCredentials would be sent to an http:// address without encryption: use https://, or set chart.plainHTTP: true if that is meant")
    .field_path(".archiveCredentials"))]
pub struct ChartSource {
    /// Address of the chart repository: `https://`, `http://` or `oci://`. It must be one that the controller allows
    /// (--allowed-repositories), as must what its index and redirects lead to. Default: the official repository of the
    /// product line that is installed (`https://helm.coder.com/v2` for Coder v2 and for a first install,
    /// `https://helm.coder.com` for Coder Classic).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 2048))]
    pub repository: Option<String>,

    /// Name of the chart in the repository, for example coder-provisioner for external provisioners.
    #[serde(default = "default_chart_name")]
    #[schemars(length(min = 1, max = 250), regex(pattern = "^[a-zA-Z0-9][a-zA-Z0-9._-]*$"))]
    pub name: String,

    /// Secret in the same namespace with the credentials of the repository: of type kubernetes.io/basic-auth (keys
    /// username and password), of type kubernetes.io/dockerconfigjson for an `oci://` registry, or of any type with these
    /// keys and the label coderupgrade.dev/credentials: repository. They are sent to the repository alone, never to where
    /// its index or a redirect leads.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials_secret_ref: Option<NameRef>,

    /// Credentials for packages that the index of the repository lists at another address. helm has --pass-credentials for
    /// this, and sends those of the repository wherever the index leads; here the address is named, and nothing else gets them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive_credentials: Option<ArchiveCredentials>,

    /// Secret in the same namespace whose key ca.crt holds the certificates (PEM) that the repository's
    /// certificate is checked against.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca_secret_ref: Option<NameRef>,

    /// Speak HTTP without TLS to an `oci://` registry; or send the credentials to an `http://` repository, where whoever
    /// listens on the way can read them.
    #[serde(default, rename = "plainHTTP")]
    pub plain_http: bool,

    /// SHA-256 of the packaged chart, as sha256: and 64 hex digits. A package with another digest is refused, wherever it
    /// comes from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(regex(pattern = "^sha256:[a-f0-9]{64}$"))]
    pub digest: Option<String>,

    /// A packaged chart (.tgz) kept in the cluster, for clusters that reach no repository. The controller must allow archives
    /// (--allowed-repositories).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub archive: Option<ChartArchive>,
}

impl Default for ChartSource {
    fn default() -> Self {
        Self {
            repository: None,
            name: default_chart_name(),
            credentials_secret_ref: None,
            archive_credentials: None,
            ca_secret_ref: None,
            plain_http: false,
            digest: None,
            archive: None,
        }
    }
}

fn default_chart_name() -> String {
    "coder".into()
}

/// Credentials for packages at another address than that of the index.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("self.address.matches('^https?://[^ @?#]+$')")
    .message("chart.archiveCredentials.address must be an address that begins with https:// or http://, without user, password or query")
    .field_path(".address"))]
pub struct ArchiveCredentials {
    /// Where the packages lie: `https://` or `http://`, with all below it. It must be one that the controller allows
    /// (--allowed-repositories).
    #[schemars(length(min = 1, max = 2048))]
    pub address: String,

    /// Secret in the same namespace, as in credentialsSecretRef; it may be the same one.
    pub secret_ref: NameRef,
}

/// A packaged chart in a Secret or in a ConfigMap (binaryData).
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, KubeSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
#[x_kube(validation = Rule::new("has(self.secretKeyRef) != has(self.configMapKeyRef)")
    .message("chart.archive needs exactly one of secretKeyRef and configMapKeyRef"))]
pub struct ChartArchive {
    /// The Secret and the key that hold the packaged chart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_ref: Option<DataRef>,

    /// The ConfigMap and the key (in binaryData) that hold the packaged chart.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub config_map_key_ref: Option<DataRef>,
}

/// One object in the same namespace; the field says of which kind.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct NameRef {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

impl From<&str> for NameRef {
    fn from(name: &str) -> Self {
        Self { name: name.into() }
    }
}

/// One key of one object in the same namespace.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct DataRef {
    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,

    /// Key in the object.
    #[schemars(length(min = 1, max = 253))]
    pub key: String,
}

/// A file of Helm values in a Secret or a ConfigMap of the same namespace.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ValuesRef {
    /// Secret or ConfigMap.
    pub kind: ReferenceKind,

    /// Name of the object.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,

    /// Key whose text is a YAML file of values.
    #[serde(default = "default_values_key")]
    #[schemars(length(min = 1, max = 253))]
    pub key: String,

    /// Go on without it if the object or the key does not exist.
    #[serde(default)]
    pub optional: bool,
}

fn default_values_key() -> String {
    "values.yaml".into()
}

/// Kind of an object that holds values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema, strum::Display)]
pub enum ReferenceKind {
    /// A Secret: for values that hold credentials.
    Secret,
    /// A `ConfigMap`: for values that anybody may read.
    ConfigMap,
}
