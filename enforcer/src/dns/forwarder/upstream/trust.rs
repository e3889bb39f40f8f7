//! Whose certificates are believed.

use std::{io, path::Path, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    crypto::ring,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};

/// The CAs of those who are asked.
pub struct Trust(Arc<RootCertStore>);

impl Trust {
    /// Nobody's.
    pub fn none() -> Self {
        Self(Arc::new(RootCertStore::empty()))
    }

    /// The CAs of a file in PEM, or else the system's.
    ///
    /// # Errors
    /// If there is none.
    pub fn load(file: Option<&Path>) -> io::Result<Self> {
        let (roots, whence) = match file {
            Some(file) => (of_file(file)?, file.display().to_string()),
            // Some of the system's may be in a form that cannot be read; others are enough.
            None => (rustls_native_certs::load_native_certs().certs, "the system".into()),
        };
        let mut store = RootCertStore::empty();
        if store.add_parsable_certificates(roots).0 == 0 {
            let message = format!(
                "{whence} has no CA certificate to know encrypted upstreams by; install ca-certificates, or name a file in PEM with --dns-ca"
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        Ok(Self(Arc::new(store)))
    }

    /// For connections on which a protocol is spoken, if it has an ALPN name.
    ///
    /// # Errors
    /// If the library was built without TLS 1.2 and 1.3.
    pub fn client(&self, alpn: Option<&[u8]>) -> io::Result<Arc<ClientConfig>> {
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(io::Error::other)?;
        let mut config = builder.with_root_certificates(Arc::clone(&self.0)).with_no_client_auth();
        config.alpn_protocols.extend(alpn.map(<[u8]>::to_vec));
        Ok(Arc::new(config))
    }
}

/// How a connection to a server whose certificate is for a name becomes one by TLS.
pub struct Handshake {
    name: ServerName<'static>,
    connector: TlsConnector,
}

impl Handshake {
    /// With a server's name, and whom to trust.
    pub fn new(name: ServerName<'static>, config: Arc<ClientConfig>) -> Self {
        Self { name, connector: config.into() }
    }

    /// Begins TLS on a connection.
    ///
    /// # Errors
    /// If the server does not speak TLS, or its certificate is not trusted or for another name.
    pub async fn on(&self, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
        self.connector.connect(self.name.clone(), stream).await
    }
}

fn of_file(file: &Path) -> io::Result<Vec<CertificateDer<'static>>> {
    let refused = |error: rustls::pki_types::pem::Error| {
        let message = format!("cannot read CA certificates in {}: {error}", file.display());
        io::Error::new(io::ErrorKind::InvalidInput, message)
    };
    CertificateDer::pem_file_iter(file).map_err(refused)?.map(|certificate| certificate.map_err(refused)).collect()
}

#[cfg(test)]
mod tests {
    use super::Trust;

    #[test]
    fn a_file_without_certificates_is_no_trust() {
        let folder = tempfile::tempdir().unwrap();
        let refusal = |name: &str, text: Option<&str>| {
            let file = folder.path().join(name);
            text.map_or(Ok(()), |text| std::fs::write(&file, text)).unwrap();
            let message = Trust::load(Some(&file)).err().unwrap().to_string();
            message.replace(&folder.path().display().to_string(), "")
        };
        assert!(refusal("absent", None).starts_with("cannot read CA certificates in /absent: "));
        assert!(refusal("empty", Some("")).starts_with("/empty has no CA certificate"));
        let noise = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        assert!(refusal("noise", Some(noise)).starts_with("/noise has no CA certificate"));
    }
}
