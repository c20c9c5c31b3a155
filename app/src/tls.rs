//! TLS 1.3 of every door, from the certificate and key that the options name; and the client's side of it for our own
//! programs.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use tokio_rustls::rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls13_signature};
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use tokio_rustls::rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error as TlsError, PeerIncompatible, RootCertStore,
    ServerConfig, SignatureScheme, version,
};

use crate::failure::Failure;

/// The certificate and key of the doors.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tls {
    /// The chain of certificates, PEM, the server's own first; empty for no TLS.
    pub certificate: PathBuf,
    /// Its private key, PEM; empty for no TLS.
    pub key: PathBuf,
}

/// What the doors take, and what our own simulated patients need to come in.
#[derive(Debug, Clone)]
pub struct Doors {
    /// For HTTP and WebSockets.
    pub http: Arc<ServerConfig>,
    /// For MQTT: the same without protocol names, which MQTT clients choose as they like.
    pub mqtt: Arc<ServerConfig>,
    /// For a client in this very process: it accepts this certificate and no other, whatever names stand in it.
    pub own: Arc<ClientConfig>,
}

impl Tls {
    /// Which of the two options is missing while the other one is given.
    #[must_use]
    pub fn missing(&self) -> Option<&'static str> {
        match (self.certificate.as_os_str().is_empty(), self.key.as_os_str().is_empty()) {
            (true, false) => Some("tls.certificate"),
            (false, true) => Some("tls.key"),
            _ => None,
        }
    }

    /// Reads both files; nothing where neither is named.
    ///
    /// # Errors
    /// [`Failure::Failed`] naming the file at fault.
    pub fn doors(&self) -> Result<Option<Doors>, Failure> {
        if self.certificate.as_os_str().is_empty() {
            return Ok(None);
        }
        let chain = read(&self.certificate, "tls.certificate")?;
        let http = api::server::tls_config(&chain, &read(&self.key, "tls.key")?).map_err(|e| {
            let (certificate, key) = (self.certificate.display(), self.key.display());
            Failure::because(format_args!("tls.certificate {certificate} and tls.key {key}"), e)
        })?;
        let mut mqtt = (*http).clone();
        mqtt.alpn_protocols.clear();
        let own = certificates(&chain).map_err(|e| Failure::because(self.certificate.display(), e))?;
        let own = own.into_iter().next().map(pinned).transpose();
        let own = own.map_err(|e| Failure::because("TLS", e))?;
        Ok(own.map(|own| Doors {
            http,
            mqtt: Arc::new(mqtt),
            own,
        }))
    }
}

fn read(path: &Path, option: &str) -> Result<Vec<u8>, Failure> {
    std::fs::read(path).map_err(|e| Failure::because(format_args!("{option} {}", path.display()), e))
}

fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    match found {
        Ok(found) if found.is_empty() => Err("there is no certificate in PEM in it".to_owned()),
        found => found.map_err(|e| e.to_string()),
    }
}

/// A client that trusts those who are signed by the certificates in `ca` (PEM; a self-signed server's own will do),
/// else whom this machine trusts.
///
/// # Errors
/// [`Failure::WrongUse`] naming the file, [`Failure::Failed`] where this machine trusts nobody.
pub fn client(ca: Option<&Path>) -> Result<Arc<ClientConfig>, Failure> {
    let mut roots = RootCertStore::empty();
    if let Some(path) = ca {
        let wrong = |e: String| Failure::WrongUse(format!("--ca {}: {e}", path.display()));
        let pem = std::fs::read(path).map_err(|e| wrong(e.to_string()))?;
        for certificate in certificates(&pem).map_err(wrong)? {
            roots.add(certificate).map_err(|e| wrong(e.to_string()))?;
        }
    } else {
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            let what = "this machine trusts no certificate: name the server's with --ca, or install ca-certificates";
            return Err(Failure::Failed(what.to_owned()));
        }
    }
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&version::TLS13])
        .map_err(|e| Failure::because("TLS", e))?;
    Ok(Arc::new(config.with_root_certificates(roots).with_no_client_auth()))
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(aws_lc_rs::default_provider())
}

fn pinned(certificate: CertificateDer<'static>) -> Result<Arc<ClientConfig>, TlsError> {
    let provider = provider();
    let verifier = Pinned {
        certificate,
        provider: Arc::clone(&provider),
    };
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(&[&version::TLS13])?;
    let config = config.dangerous().with_custom_certificate_verifier(Arc::new(verifier));
    Ok(Arc::new(config.with_no_client_auth()))
}

/// Accepts one certificate, byte for byte; who shows it must still prove to hold its key.
#[derive(Debug)]
struct Pinned {
    certificate: CertificateDer<'static>,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, TlsError> {
        if *end_entity == self.certificate {
            Ok(ServerCertVerified::assertion())
        } else {
            Err(CertificateError::ApplicationVerificationFailure.into())
        }
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        Err(PeerIncompatible::ServerDoesNotSupportTls12Or13.into())
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, TlsError> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

/// A connection, with TLS or without.
pub trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<S: AsyncRead + AsyncWrite + Unpin + Send> Wire for S {}

/// Connects to `address` (host and port), through TLS where `tls` says how.
///
/// # Errors
/// What went wrong, with the address.
pub async fn connect(address: &str, tls: Option<&Arc<ClientConfig>>) -> Result<Box<dyn Wire>, String> {
    let wrong = |e: &dyn std::fmt::Display| format!("{address}: {e}");
    let stream = TcpStream::connect(address).await.map_err(|e| wrong(&e))?;
    let _ = stream.set_nodelay(true);
    let Some(config) = tls else {
        return Ok(Box::new(stream));
    };
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let name = ServerName::try_from(host.to_owned()).map_err(|e| wrong(&e))?;
    let secured = TlsConnector::from(Arc::clone(config)).connect(name, stream).await;
    Ok(Box::new(secured.map_err(|e| wrong(&e))?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_files_or_neither_and_each_is_named_when_it_is_at_fault() {
        let dir = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let write = |name: &str, text: &str| {
            let path = dir.path().join(name);
            std::fs::write(&path, text).unwrap();
            path
        };
        let certificate = write("c.pem", &made.cert.pem());
        let key = write("k.pem", &made.signing_key.serialize_pem());
        let (junk, gone) = (write("junk.pem", "junk"), dir.path().join("gone.pem"));
        let tls = |certificate: &Path, key: &Path| Tls {
            certificate: certificate.to_owned(),
            key: key.to_owned(),
        };
        assert!(tls(&certificate, &key).doors().unwrap().is_some());
        assert!(tls(Path::new(""), Path::new("")).doors().unwrap().is_none());
        assert_eq!(tls(&certificate, Path::new("")).missing(), Some("tls.key"));
        assert_eq!(tls(Path::new(""), &key).missing(), Some("tls.certificate"));
        for (wrong, part) in [
            (tls(&gone, &key), "tls.certificate"),
            (tls(&certificate, &gone), "gone.pem"),
            (tls(&junk, &key), "certificate"),
            (tls(&certificate, &junk), "key file"),
        ] {
            let told = wrong.doors().unwrap_err().to_string();
            assert!(told.contains(part), "{told}");
        }
        assert!(client(Some(&certificate)).is_ok());
        assert!(matches!(client(Some(&junk)), Err(Failure::WrongUse(_))));
    }
}
