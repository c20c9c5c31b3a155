//! How the database's nodes know us and we know them: TLS and a password. Options name files; what is secret stays in these.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use scylla::client::session_builder::SessionBuilder;

use crate::store::ViewError;

/// How a connection is made safe and named. Nothing of both by default: nodes on a network of their own.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Access {
    /// With it everything is encrypted, and nodes must prove who they are: by a certificate for the address by which we reach
    /// them, which is their IP address.
    pub tls: Option<Tls>,
    /// With it we say who we are.
    pub login: Option<Login>,
}

/// Whom we believe, and what we show.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Tls {
    /// Who signs the nodes' certificates, PEM; `None` for whom this machine trusts.
    pub ca: Option<PathBuf>,
    /// Our own certificate (the chain) and its key, PEM, for nodes that want one.
    pub own: Option<(PathBuf, PathBuf)>,
}

/// Who we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// The user.
    pub user: String,
    /// The file that holds the password and nothing else; a line's end is no part of it.
    pub password: PathBuf,
}

impl Access {
    /// A session that is opened by it.
    pub(super) fn apply(&self, mut builder: SessionBuilder) -> Result<SessionBuilder, ViewError> {
        if let Some(tls) = &self.tls {
            builder = builder.tls_context(Some(Arc::new(tls.client()?)));
        }
        if let Some(Login { user, password }) = &self.login {
            let read = std::fs::read_to_string(password).map_err(|e| at(password, e))?;
            builder = builder.user(user, read.trim_end_matches(['\r', '\n']));
        }
        Ok(builder)
    }

    /// Which options to look at where nodes do not let us in or are not believed; nothing where something else is wrong.
    pub(super) fn advice(&self, error: &str) -> &'static str {
        let says = |words: &[&str]| words.iter().any(|word| error.contains(word));
        if says(&["UnknownIssuer", "BadSignature"]) {
            " (their certificate is signed by somebody we do not trust: views.tls_ca)"
        } else if says(&["NotValidForName"]) {
            " (their certificate is not for the address by which we reach them: it must bear the IP addresses of nodes)"
        } else if says(&[
            "CertificateRequired",
            "BadCertificate",
            "HandshakeFailure",
            "CertificateUnknown",
        ]) {
            " (they do not take our certificate, or want one: views.tls_certificate, views.tls_key)"
        } else if says(&["InvalidContentType", "corrupt message"]) {
            " (they do not speak TLS there: views.tls)"
        } else if says(&["uthentication"]) {
            " (views.user, views.password_file)"
        } else if self.tls.is_none() && says(&["end of file", "EOF", "reset", "closed", "Broken pipe"]) {
            " (where nodes speak TLS alone: views.tls = true)"
        } else {
            ""
        }
    }
}

impl Tls {
    fn client(&self) -> Result<ClientConfig, ViewError> {
        let mut roots = RootCertStore::empty();
        match &self.ca {
            Some(path) => {
                for certificate in certificates(path)? {
                    roots.add(certificate).map_err(|e| at(path, e))?;
                }
            }
            None => drop(roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs)),
        }
        if roots.is_empty() {
            let nobody = "this machine trusts no certificate: name who signs the nodes' (views.tls_ca)";
            return Err(ViewError::Unavailable(nobody.to_owned()));
        }
        let wrong = |e: rustls::Error| ViewError::Unavailable(format!("TLS: {e}"));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(wrong)?
            .with_root_certificates(roots);
        match &self.own {
            None => Ok(config.with_no_client_auth()),
            Some((chain, key)) => {
                let private = PrivateKeyDer::from_pem_file(key).map_err(|e| at(key, e))?;
                let config = config.with_client_auth_cert(certificates(chain)?, private);
                config.map_err(|e| at(chain, e))
            }
        }
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, ViewError> {
    let found = CertificateDer::pem_file_iter(path).map_err(|e| at(path, e))?;
    let found: Vec<_> = found.collect::<Result<_, _>>().map_err(|e| at(path, e))?;
    if found.is_empty() {
        return Err(at(path, "there is no certificate in PEM in it"));
    }
    Ok(found)
}

fn at(path: &Path, why: impl std::fmt::Display) -> ViewError {
    ViewError::Unavailable(format!("{}: {why}", path.display()))
}
