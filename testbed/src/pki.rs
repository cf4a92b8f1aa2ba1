//! Keys and certificates of one cluster, recreated each time and signed by an authority of its own.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

use crate::control_plane::Network;
use crate::private_file;

/// Why keys and certificates could not be made.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// The generator refused.
    #[error("cannot make the key or certificate of {subject}: {source}")]
    Generate {
        /// Whose certificate.
        subject: String,
        /// Its reason.
        source: rcgen::Error,
    },
    /// A file could not be written.
    #[error("cannot write {}: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// A certificate and its key, both PEM, and the files that hold them.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The certificate, PEM.
    pub certificate: String,
    /// Its private key, PKCS #8 PEM.
    pub key: String,
    /// The file of the certificate.
    pub certificate_file: PathBuf,
    /// The file of the key, readable by the owner only.
    pub key_file: PathBuf,
}

/// All keys and certificates of a cluster.
#[derive(Debug, Clone)]
pub struct Pki {
    /// The authority's certificate, PEM. It signed all the others.
    pub authority: String,
    /// The file of the authority's certificate.
    pub authority_file: PathBuf,
    /// What the API server shows to its clients.
    pub api_server: Certificate,
    /// What the API server shows to the node when it asks for logs.
    pub api_server_to_node: Certificate,
    /// What the node shows to the API server.
    pub node: Certificate,
    /// The file of the key that signs service account tokens.
    pub service_account_key_file: PathBuf,
    /// The file of the key that checks them.
    pub service_account_public_key_file: PathBuf,
}

/// What a certificate is for.
enum Usage<'a> {
    /// A server under these names and addresses.
    Server(&'a [String]),
    /// A client in this group.
    Client(&'a str),
}

impl Pki {
    /// Makes everything and writes it below `dir`.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn create(dir: &Path, node_name: &str, network: &Network) -> Result<Self, PkiError> {
        fs::create_dir_all(dir).map_err(|source| PkiError::Write { path: dir.to_owned(), source })?;
        let authority = authority()?;
        let api_names = [
            "localhost",
            &network.api_server.to_string(),
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
            &network.kubernetes_service.to_string(),
        ];
        let api_server = issue(dir, &authority, "kube-apiserver", &Usage::Server(&api_names.map(str::to_owned)))?;
        let to_node = issue(dir, &authority, "kube-apiserver-kubelet-client", &Usage::Client("system:masters"))?;
        let node_names = [node_name.to_owned(), network.node.to_string()];
        let node = issue(dir, &authority, node_name, &Usage::Server(&node_names))?;

        let tokens = generate_key("service accounts")?;
        let (key_file, public_key_file) = (dir.join("service-account.key"), dir.join("service-account.pub"));
        write(&key_file, &tokens.serialize_pem())?;
        write(&public_key_file, &tokens.public_key_pem())?;
        let authority_file = dir.join("ca.crt");
        write(&authority_file, &authority.pem())?;
        Ok(Self {
            authority: authority.pem(),
            authority_file,
            api_server,
            api_server_to_node: to_node,
            node,
            service_account_key_file: key_file,
            service_account_public_key_file: public_key_file,
        })
    }
}

/// The key of the authority is never written anywhere: nothing is signed later.
fn authority() -> Result<CertifiedIssuer<'static, KeyPair>, PkiError> {
    let subject = "coder-upgrade-testbed";
    let failed = |source| PkiError::Generate { subject: subject.to_owned(), source };
    let mut params = CertificateParams::new([]).map_err(failed)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    params.distinguished_name.push(DnType::CommonName, subject);
    CertifiedIssuer::self_signed(params, generate_key(subject)?).map_err(failed)
}

fn issue(
    dir: &Path,
    authority: &CertifiedIssuer<'static, KeyPair>,
    subject: &str,
    usage: &Usage<'_>,
) -> Result<Certificate, PkiError> {
    let failed = |source| PkiError::Generate { subject: subject.to_owned(), source };
    let names = match usage {
        Usage::Server(names) => names.to_vec(),
        Usage::Client(_) => Vec::new(),
    };
    let mut params = CertificateParams::new(names).map_err(failed)?;
    params.distinguished_name.push(DnType::CommonName, subject);
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    match usage {
        Usage::Server(_) => params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth],
        Usage::Client(group) => {
            params.distinguished_name.push(DnType::OrganizationName, *group);
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        }
    }
    let key = generate_key(subject)?;
    let certificate = params.signed_by(&key, authority).map_err(failed)?.pem();
    let key = key.serialize_pem();
    let (certificate_file, key_file) = (dir.join(format!("{subject}.crt")), dir.join(format!("{subject}.key")));
    write(&certificate_file, &certificate)?;
    write(&key_file, &key)?;
    Ok(Certificate { certificate, key, certificate_file, key_file })
}

fn generate_key(subject: &str) -> Result<KeyPair, PkiError> {
    KeyPair::generate().map_err(|source| PkiError::Generate { subject: subject.to_owned(), source })
}

fn write(path: &Path, text: &str) -> Result<(), PkiError> {
    private_file::write(path, text).map_err(|source| PkiError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn keys_are_readable_by_the_owner_only() {
        let dir = tempfile::tempdir().unwrap();
        let pki = Pki::create(dir.path(), "node-1", &Network::loopback()).unwrap();
        for file in [&pki.api_server.key_file, &pki.node.key_file, &pki.service_account_key_file] {
            assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o077, 0, "{}", file.display());
        }
        assert!(pki.node.certificate.starts_with("-----BEGIN CERTIFICATE-----"));
    }
}
