//! A tunnel client that is not a connector: it speaks QUIC to an edge and then whatever a test wants to say.
//!
//! It uses the driver's endpoint in portable mode on a thread of its own; the edge under test is another
//! process.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use adit_driver::core::{CoreContext, Cores};
use adit_driver::kernel::IoMode;
use adit_driver::quic::{
    ClientConfig, Connection, DialError, Endpoint, EndpointOptions, TransportSettings, client_config,
};
use adit_wire::credentials::Credentials;
use adit_wire::ids::{ConnIndex, ConnectorId, TunnelId};
use adit_wire::registration::{ClientInfo, ConnectionOptions, RegisterRequest, RegisterResponse, TunnelAuth};
use adit_wire::tunnelrpc_capnp::registration_server;
use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::{RpcSystem, twoparty};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use tokio_util::compat::{TokioAsyncReadCompatExt as _, TokioAsyncWriteCompatExt as _};
use uuid::Uuid;

/// The only name a tunnel certificate must have for QUIC.
const SERVER_NAME: &str = "quic.cftunnel.com";

/// How long a stranger's whole visit may take.
const VISIT_MAX: Duration = Duration::from_secs(120);

/// The stranger's endpoint and what it needs to dial.
#[derive(Clone)]
pub struct Stranger {
    endpoint: Endpoint,
    roots: Arc<rustls::RootCertStore>,
    edge: SocketAddr,
}

/// Runs `visit` on a core of its own, to its end; it dials `edge` trusting the roots in `cacert`.
///
/// # Panics
/// When `visit` panics or takes more than two minutes.
#[track_caller]
pub fn visit<F, Fut>(edge: SocketAddr, cacert: &Path, visit: F)
where
    F: Fn(Stranger) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let mut roots = rustls::RootCertStore::empty();
    for certificate in CertificateDer::pem_file_iter(cacert).expect("a PEM file") {
        roots.add(certificate.expect("a certificate")).expect("a root");
    }
    let roots = Arc::new(roots);
    let cores = Cores::spawn(1, IoMode::Portable, "stranger", move |context: CoreContext| {
        let (roots, visit) = (Arc::clone(&roots), visit.clone());
        async move {
            let any = SocketAddr::from(([127, 0, 0, 1], 0));
            let endpoint = Endpoint::client(any, EndpointOptions::new(context)).expect("a UDP socket");
            let stranger = Stranger {
                endpoint: endpoint.clone(),
                roots,
                edge,
            };
            tokio::time::timeout(VISIT_MAX, visit(stranger))
                .await
                .expect("the visit ends in time");
            endpoint.close(0, b"");
        }
    });
    cores
        .expect("a thread")
        .wait()
        .expect("the stranger's visit went as scripted");
}

impl Stranger {
    /// Connects as a connector does.
    ///
    /// # Errors
    /// When the handshake fails.
    pub async fn connect(&self) -> Result<Connection, DialError> {
        self.connect_as(b"argotunnel").await
    }

    /// Connects with another application protocol.
    ///
    /// # Errors
    /// When the handshake fails.
    pub async fn connect_as(&self, protocol: &[u8]) -> Result<Connection, DialError> {
        self.endpoint
            .dial(&self.config(protocol), self.edge, SERVER_NAME)
            .await
    }

    /// Registers `connection` with these credentials; the refusal's text if there is one. The control stream
    /// stays open until the connection ends.
    ///
    /// # Errors
    /// What the edge says, or what went wrong.
    pub async fn register(connection: &Connection, credentials: &[u8]) -> Result<(), String> {
        let (send, recv) = connection.open_bi().await.map_err(|error| error.to_string())?;
        let network = twoparty::VatNetwork::new(
            recv.compat(),
            send.compat_write(),
            Side::Client,
            capnp::message::ReaderOptions::new(),
        );
        let mut system = RpcSystem::new(Box::new(network), None);
        let server: registration_server::Client = system.bootstrap(Side::Server);
        tokio::task::spawn_local(system);
        let mut call = server.register_connection_request();
        request(credentials)?.write(call.get());
        let answer = call.send().promise.await.map_err(|error| error.to_string())?;
        // The client must live as long as the connection: dropping it ends the control stream.
        std::mem::forget(server);
        let read = || -> Result<RegisterResponse, String> {
            let result = answer
                .get()
                .and_then(|results| results.get_result())
                .map_err(|error| error.to_string())?;
            RegisterResponse::read(result).map_err(|error| error.to_string())
        };
        match read()? {
            RegisterResponse::Registered(_) => Ok(()),
            RegisterResponse::Refused(refusal) => Err(refusal.cause),
        }
    }

    fn config(&self, protocol: &[u8]) -> ClientConfig {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = rustls::ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3 is there");
        let mut config = config
            .with_root_certificates(Arc::clone(&self.roots))
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        client_config(config, &TransportSettings::default()).expect("usable settings")
    }
}

fn request(credentials: &[u8]) -> Result<RegisterRequest, String> {
    let credentials = Credentials::parse(credentials).map_err(|error| error.to_string())?;
    Ok(RegisterRequest {
        auth: TunnelAuth {
            account_tag: credentials.account_tag,
            secret: credentials.secret,
        },
        tunnel_id: credentials.tunnel_id.unwrap_or(TunnelId(Uuid::nil())),
        conn_index: ConnIndex(0),
        options: ConnectionOptions {
            client: ClientInfo {
                connector_id: ConnectorId(Uuid::new_v4()),
                features: std::collections::BTreeSet::new(),
                version: "stranger".to_owned(),
                arch: "linux_amd64".to_owned(),
            },
            origin_local_ip: None,
            replace_existing: false,
            compression_quality: 0,
            num_previous_attempts: 0,
        },
    })
}
