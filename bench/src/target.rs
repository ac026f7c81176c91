//! Where requests go: socket address, TLS settings, Host header and path, worked out once.

use std::net::{SocketAddr, ToSocketAddrs as _};
use std::sync::Arc;

use anyhow::{Context as _, Result, bail};
use http::Uri;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};

use crate::args::Where;

/// A resolved target.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    /// Where to dial.
    pub(crate) address: SocketAddr,
    /// What to send as Host or `:authority`.
    pub(crate) host: String,
    /// Path and query of the URL.
    pub(crate) path: String,
    /// Whether to speak HTTP/2.
    pub(crate) h2: bool,
    /// Whether to upgrade to WebSocket at `path`.
    pub(crate) websocket: bool,
    /// Whether each exchange has a connection of its own.
    pub(crate) fresh: bool,
    /// TLS settings for https.
    pub(crate) tls: Option<(Arc<ClientConfig>, ServerName<'static>)>,
}

impl Target {
    /// Resolves the command line's target.
    pub(crate) fn resolve(to: &Where) -> Result<Self> {
        let uri: Uri = to
            .url
            .parse()
            .with_context(|| format!("'{}' is not a URL", to.url))?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            Some(_) | None => bail!("'{}' must begin with http:// or https://", to.url),
        };
        let name = uri.host().context("the URL has no host")?;
        let bare = name.trim_start_matches('[').trim_end_matches(']');
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let mut addresses = (bare, port)
            .to_socket_addrs()
            .with_context(|| format!("cannot resolve {name}"))?;
        let address = addresses
            .next()
            .with_context(|| format!("{name} has no address"))?;
        let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
        let host = to.host.clone().unwrap_or(authority);
        let tls = if secure {
            Some((client_config(to)?, server_name(to, bare)?))
        } else {
            None
        };
        let path = uri.path_and_query().map_or("/", |path| path.as_str()).to_owned();
        Ok(Self {
            address,
            host,
            path,
            h2: to.h2,
            websocket: false,
            fresh: false,
            tls,
        })
    }

    /// The same target with another path below it.
    pub(crate) fn below(&self, path: &str) -> Self {
        Self {
            path: format!("{}{path}", self.path.trim_end_matches('/')),
            ..self.clone()
        }
    }
}

fn server_name(to: &Where, url_host: &str) -> Result<ServerName<'static>> {
    let name = to.host.as_deref().map_or(url_host, |host| {
        host.rsplit_once(':').map_or(host, |(name, _)| name)
    });
    ServerName::try_from(name.to_owned()).with_context(|| format!("'{name}' cannot be a TLS server name"))
}

fn client_config(to: &Where) -> Result<Arc<ClientConfig>> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder =
        ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let mut config = match &to.cacert {
        _ if to.insecure => {
            let anyone = Arc::new(AnyCertificate(provider));
            builder
                .dangerous()
                .with_custom_certificate_verifier(anyone)
                .with_no_client_auth()
        }
        Some(file) => {
            let mut roots = RootCertStore::empty();
            let certificates = CertificateDer::pem_file_iter(file);
            for certificate in certificates.with_context(|| format!("cannot read {}", file.display()))? {
                roots.add(certificate.with_context(|| format!("{} is not PEM", file.display()))?)?;
            }
            builder.with_root_certificates(roots).with_no_client_auth()
        }
        None => bail!("https needs -k or --cacert FILE"),
    };
    // Each connection makes a full handshake, as that of a new visitor does.
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![if to.h2 {
        b"h2".to_vec()
    } else {
        b"http/1.1".to_vec()
    }];
    Ok(Arc::new(config))
}

/// Accepts any certificate, for `-k`; signatures of the handshake are still checked.
#[derive(Debug)]
struct AnyCertificate(Arc<CryptoProvider>);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(
            message,
            certificate,
            signature,
            &self.0.signature_verification_algorithms,
        )
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
