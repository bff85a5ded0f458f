//! TLS on both sides, over rustls: certificates in, wrapped streams out.
//!
//! `server` makes one acceptor per listener configuration, `upstream` one connector per set of roots, the command line
//! a `pinned` connection. Protocols are TLS 1.2 and 1.3 with ring; ALPN names HTTP/1.1 only.

mod pinned;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore, ServerConfig};

use super::stream::{Stream, Transport};
use crate::files::read_settings;

pub use pinned::connect_pinned;

const ALPN_HTTP1: &[u8] = b"http/1.1";

/// A certificate or key file that cannot be used.
#[derive(Debug)]
pub struct TlsFileError {
    path: PathBuf,
    reason: String,
}

impl TlsFileError {
    fn new(path: &Path, reason: impl fmt::Display) -> Self {
        Self {
            path: path.to_owned(),
            reason: reason.to_string(),
        }
    }
}

impl fmt::Display for TlsFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.reason)
    }
}

impl std::error::Error for TlsFileError {}

fn pem(path: &Path) -> Result<Vec<u8>, TlsFileError> {
    read_settings(path).map_err(|error| TlsFileError::new(path, error))
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsFileError> {
    let certificates = CertificateDer::pem_slice_iter(&pem(path)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| TlsFileError::new(path, error))?;
    if certificates.is_empty() {
        return Err(TlsFileError::new(path, "holds no certificate"));
    }
    Ok(certificates)
}

/// The roots of one PEM file: what a provider's `ca` setting names.
pub fn ca_file_roots(path: &Path) -> Result<RootCertStore, TlsFileError> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots
            .add(certificate)
            .map_err(|error| TlsFileError::new(path, error))?;
    }
    Ok(roots)
}

/// The roots that this machine trusts. Empty on a machine without any; then every HTTPS dial fails.
pub fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    // Single unusable certificates in a system store are common and no reason to trust none.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// Wraps callers' connections.
#[derive(Clone)]
pub struct TlsAcceptor(monoio_rustls::TlsAcceptor);

impl TlsAcceptor {
    /// Reads a certificate chain and its key, both PEM.
    pub fn from_files(chain: &Path, key: &Path) -> Result<Self, TlsFileError> {
        let private_key = PrivateKeyDer::from_pem_slice(&pem(key)?)
            .map_err(|error| TlsFileError::new(key, error))?;
        let mut config =
            ServerConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(|error| TlsFileError::new(chain, error))?
                .with_no_client_auth()
                .with_single_cert(certificates(chain)?, private_key)
                .map_err(|error| TlsFileError::new(chain, error))?;
        config.alpn_protocols = vec![ALPN_HTTP1.to_vec()];
        Ok(Self(Arc::new(config).into()))
    }

    /// Performs the handshake; a failed one costs the connection only.
    pub async fn accept(&self, stream: Stream) -> io::Result<Stream> {
        let hangup = stream.hangup();
        let Transport::Tcp(tcp) = stream.transport else {
            return Err(io::Error::new(
                io::ErrorKind::Unsupported,
                "TLS is for TCP listeners",
            ));
        };
        let wrapped = self.0.accept(tcp).await?;
        Ok(Stream::with_hangup(
            Transport::TlsServer(Box::new(wrapped)),
            hangup,
        ))
    }
}

/// Wraps connections to providers.
#[derive(Clone)]
pub struct TlsConnector(monoio_rustls::TlsConnector);

impl TlsConnector {
    /// Trusts exactly `roots`; certificates and names are always checked.
    pub fn new(roots: RootCertStore) -> Result<Self, io::Error> {
        let mut config =
            ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(io::Error::other)?
                .with_root_certificates(roots)
                .with_no_client_auth();
        config.alpn_protocols = vec![ALPN_HTTP1.to_vec()];
        Ok(Self(Arc::new(config).into()))
    }

    /// Performs the handshake for `host`, a DNS name or an IP address.
    pub async fn connect(&self, host: &str, stream: Stream) -> io::Result<Stream> {
        let name = ServerName::try_from(host.to_owned()).map_err(io::Error::other)?;
        let hangup = stream.hangup();
        let Transport::Tcp(tcp) = stream.transport else {
            return Err(io::Error::new(io::ErrorKind::Unsupported, "TLS is for TCP"));
        };
        let wrapped = self.0.connect(name, tcp).await;
        let wrapped = wrapped.map_err(|error| explained(error.into()))?;
        Ok(Stream::with_hangup(
            Transport::TlsClient(Box::new(wrapped)),
            hangup,
        ))
    }
}

/// The same error in words of what to do about it, where that is known: most self-signed certificates are made so.
fn explained(error: io::Error) -> io::Error {
    if !error.to_string().contains("CaUsedAsEndEntity") {
        return error;
    }
    io::Error::other(
        "its certificate is an authority's (CA:TRUE), which is no server's: make one with basicConstraints CA:FALSE, or \
         one that the authority signs",
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::{CertificateError, Error, OtherError};

    #[test]
    fn an_authoritys_certificate_in_a_servers_place_is_told_with_the_remedy() {
        #[derive(Debug)]
        struct CaUsedAsEndEntity;
        impl fmt::Display for CaUsedAsEndEntity {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{self:?}")
            }
        }
        impl std::error::Error for CaUsedAsEndEntity {}
        let of = |certificate| {
            let error = Error::InvalidCertificate(certificate);
            explained(io::Error::new(io::ErrorKind::InvalidData, error)).to_string()
        };
        let authoritys = CertificateError::Other(OtherError(Arc::new(CaUsedAsEndEntity)));
        assert!(of(authoritys).contains("basicConstraints CA:FALSE"));
        let expired = CertificateError::Expired;
        assert_eq!(
            of(expired.clone()),
            Error::InvalidCertificate(expired).to_string()
        );
    }
}
