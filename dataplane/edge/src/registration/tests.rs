//! An edge's cores and its service thread in this process, against scripted connectors over loopback.
//!
//! Control is never there: the edge decides by a snapshot on disk, as after a start without control.

mod http2;

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use adit_control_api::digest::SecretDigest;
use adit_control_api::edge_link::EdgeInfo;
use adit_control_api::snapshot::{RouteSnapshot, RouteTarget, TunnelEntry};
use adit_driver::core::{CoreContext, Cores};
use adit_driver::kernel::{IoChoice, IoMode, probe};
use adit_driver::mailbox;
use adit_driver::patience::Patience;
use adit_driver::quic::{
    self, ClientConfig, Endpoint, EndpointOptions, ServerConfig, TransportSettings, client_config,
    server_config,
};
use adit_driver::tcp::{self, Listener};
use adit_driver::udp;
use adit_proto::ejection::{self, Trier};
use adit_proto::exchange::delivery::{Doubted, Search};
use adit_proto::exchange::edge::Trailers;
use adit_proto::steering::{NoConnection, Tried};
use adit_wire::framing::RPC_READER_OPTIONS;
use adit_wire::registration::{ClientInfo, ConnectionOptions, RegisterRequest, RegisterResponse, TunnelAuth};
use adit_wire::tunnelrpc_capnp::registration_server;
use adit_wire::{ConnIndex, ConnectorId, Hostname, TunnelId, TunnelSecret};
use bytes::Bytes;
use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::{RpcSystem, twoparty};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};
use tokio_util::compat::{TokioAsyncReadCompatExt, TokioAsyncWriteCompatExt};
use uuid::Uuid;

use super::{CoreState, serve};
use crate::config::ControlAddress;
use crate::control_link::{Service, ServiceHandle, ServiceSettings};
use crate::cross_core::{self, CoreMessage, MAILBOX_MESSAGES_MAX};
use crate::metrics::CoreMetrics;
use crate::open::stream::{ExchangeStream, RecvError, SendError};
use crate::state::SnapshotFile;
use crate::tunnel_http2::accept::{self, Door, TunnelTls};
use crate::tunnels::{Choice, Tunnels, Wanted};

const NAME: &str = "quic.cftunnel.com";
const CORES: usize = 2;
const DEADLINE: Duration = Duration::from_secs(30);
const TUNNEL: TunnelId = TunnelId(Uuid::from_u128(1));
const SECRET: &[u8] = b"thirty-two bytes of tunnel secret";

/// Two cores over loopback, in one I/O mode after the other. Both serve; `script` runs on core 0.
fn on_edge<F, Fut>(script: F)
where
    F: Fn(Rc<Core>) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = ()> + 'static,
{
    for io in modes() {
        let dir = tempfile::tempdir().unwrap();
        SnapshotFile::in_dir(dir.path()).save(&snapshot()).unwrap();
        let (senders, inboxes): (Vec<_>, Vec<_>) =
            (0..CORES).map(|_| mailbox::mailbox(MAILBOX_MESSAGES_MAX)).unzip();
        let service = start_service(dir.path().to_owned(), senders.clone());
        let Configs {
            server,
            client,
            tls,
            tls_client,
        } = configs();
        let sockets = udp::bind_group(loopback(), CORES).unwrap();
        let edge = sockets[0].local_addr().unwrap();
        let listeners = tcp::bind_group(loopback(), CORES).unwrap();
        let edge_tcp = listeners[0].local_addr().unwrap();
        let parts = sockets.into_iter().zip(listeners).zip(inboxes);
        let parts = parts.map(|((udp, tcp), inbox)| Some((udp, tcp, inbox)));
        let parts = Mutex::new(parts.collect());
        let rig = Arc::new(Rig {
            parts,
            senders,
            service,
            server,
            client,
            edge,
            tls,
            tls_client,
            edge_tcp,
        });
        let (done, is_done) = tokio::sync::watch::channel(false);
        let script = script.clone();
        let cores = Cores::spawn(CORES, io, "edge-test", move |context| {
            let (rig, script) = (rig.clone(), script.clone());
            let (done, mut is_done) = (done.clone(), is_done.clone());
            async move {
                let core = Core::start(context, &rig);
                if context.id.0 == 0 {
                    timeout(DEADLINE, script(core))
                        .await
                        .expect("done before the deadline");
                    done.send_replace(true);
                } else {
                    is_done.wait_for(|is_done| *is_done).await.unwrap();
                }
            }
        })
        .unwrap();
        cores.wait().unwrap();
    }
}

type Part = (UdpSocket, TcpListener, mailbox::Receiver<CoreMessage>);

/// What the cores are made of.
struct Rig {
    parts: Mutex<Vec<Option<Part>>>,
    senders: Vec<mailbox::Sender<CoreMessage>>,
    service: ServiceHandle,
    server: ServerConfig,
    client: ClientConfig,
    edge: SocketAddr,
    tls: TunnelTls,
    tls_client: Arc<rustls::ClientConfig>,
    edge_tcp: SocketAddr,
}

/// One core of the edge, and an endpoint for connectors beside it.
struct Core {
    tunnels: Rc<Tunnels>,
    metrics: Arc<CoreMetrics>,
    io: IoMode,
    dialler: Endpoint,
    client: ClientConfig,
    edge: SocketAddr,
    tls_client: Arc<rustls::ClientConfig>,
    edge_tcp: SocketAddr,
}

impl Core {
    fn start(context: CoreContext, rig: &Rig) -> Rc<Self> {
        let index = usize::from(context.id.0);
        let (socket, listener, inbox) = rig.parts.lock().unwrap()[index].take().unwrap();
        let endpoint = Endpoint::listen(socket, rig.server.clone(), EndpointOptions::new(context)).unwrap();
        let tunnels = Rc::new(Tunnels::new(
            context,
            rig.senders.clone(),
            1,
            Duration::ZERO,
            ejection::Settings::default(),
        ));
        let strays = tunnels.clone();
        endpoint.set_stray_sink(move |core, packet| strays.pass_stray(core, packet));
        spawn_local(cross_core::run(inbox, tunnels.clone(), endpoint.clone(), || {}));
        let metrics = Arc::<CoreMetrics>::default();
        let state = Rc::new(CoreState {
            tunnels: tunnels.clone(),
            service: rig.service.clone(),
            metrics: metrics.clone(),
            windows: quic::WindowBudget::new(0),
            peers: Arc::default(),
            colo: "LAB".into(),
            unregistered_quic: Default::default(),
            grace_period: Duration::from_secs(5),
        });
        let listener = Listener::from_std(listener, context.io).unwrap();
        let running = std::future::pending();
        let door = Door::new(rig.tls.clone(), state.clone());
        spawn_local(accept::run(listener, door, running));
        spawn_local(async move {
            while let Some(connection) = endpoint.accept().await {
                spawn_local(serve(connection, state.clone()));
            }
        });
        Rc::new(Self {
            tunnels,
            metrics,
            dialler: Endpoint::client(loopback(), EndpointOptions::new(context)).unwrap(),
            io: context.io,
            client: rig.client.clone(),
            edge: rig.edge,
            tls_client: rig.tls_client.clone(),
            edge_tcp: rig.edge_tcp,
        })
    }

    async fn dial(&self) -> quic::Connection {
        self.dialler.dial(&self.client, self.edge, NAME).await.unwrap()
    }

    async fn connect(&self, connector: u128, index: u8) -> Connector {
        let connector = Connector::over(self.dial().await, connector, index).await;
        connector.register(TUNNEL, SECRET).await.unwrap();
        connector
    }

    /// Registers connections of one replica until both cores own one; the kernel chooses the cores.
    async fn connect_to_both_cores(&self) -> Vec<Connector> {
        let mut connectors = Vec::new();
        while self.cores().len() < CORES {
            let index = u8::try_from(connectors.len()).unwrap();
            connectors.push(self.connect(7, index).await);
            let count = connectors.len();
            until(|| self.choices().len() == count).await;
        }
        connectors
    }

    fn cores(&self) -> std::collections::BTreeSet<u16> {
        self.choices().iter().map(|choice| choice.core.0).collect()
    }

    /// Every connection in the order in which attempts would go to them.
    fn choices(&self) -> Vec<Choice> {
        let (mut choices, mut tried) = (Vec::new(), Tried::default());
        while let Ok(choice) = self.tunnels.choose(&wanted(&host("a.test"), &tried)) {
            tried.connections.push(choice.id);
            choices.push(choice);
        }
        choices
    }

    fn on_core(&self, core: u16) -> Choice {
        self.choices()
            .into_iter()
            .find(|choice| choice.core.0 == core)
            .unwrap()
    }
}

/// A scripted connector's connection: registers, and answers data streams by their first byte.
struct Connector {
    connection: quic::Connection,
    client: registration_server::Client,
    connector: u128,
    index: u8,
}

impl Connector {
    async fn over(connection: quic::Connection, connector: u128, index: u8) -> Self {
        let (send, recv) = connection.open_bi().await.unwrap();
        let network = twoparty::VatNetwork::new(
            recv.compat(),
            send.compat_write(),
            Side::Client,
            RPC_READER_OPTIONS,
        );
        let mut system = RpcSystem::new(Box::new(network), None);
        let client = system.bootstrap(Side::Server);
        spawn_local(system);
        spawn_local(answer_streams(connection.clone()));
        Self {
            connection,
            client,
            connector,
            index,
        }
    }

    /// The refusal's cause, if it is refused.
    async fn register(&self, tunnel: TunnelId, secret: &[u8]) -> Result<(), String> {
        register(&self.client, (self.connector, self.index), tunnel, secret).await
    }

    async fn tell_configuration(&self, config: &str) -> Result<(), capnp::Error> {
        let mut call = self.client.update_local_configuration_request();
        call.get().set_config(config.as_bytes());
        call.send().promise.await.map(|_| ())
    }
}

/// The refusal's cause, if it is refused.
async fn register(
    client: &registration_server::Client,
    (connector, index): (u128, u8),
    tunnel: TunnelId,
    secret: &[u8],
) -> Result<(), String> {
    let request = RegisterRequest {
        auth: TunnelAuth {
            account_tag: "acct".parse().unwrap(),
            secret: TunnelSecret::new(secret.to_vec()),
        },
        tunnel_id: tunnel,
        conn_index: ConnIndex(index),
        options: ConnectionOptions {
            client: ClientInfo {
                connector_id: ConnectorId(Uuid::from_u128(connector)),
                features: Default::default(),
                version: "test".into(),
                arch: "linux_amd64".into(),
            },
            origin_local_ip: None,
            replace_existing: false,
            compression_quality: 0,
            num_previous_attempts: 0,
        },
    };
    let mut call = client.register_connection_request();
    request.write(call.get());
    let response = call.send().promise.await.unwrap();
    match RegisterResponse::read(response.get().unwrap().get_result().unwrap()).unwrap() {
        RegisterResponse::Registered(_) => Ok(()),
        RegisterResponse::Refused(error) => Err(error.cause),
    }
}

/// `e…` is echoed, `r` is reset, `s` stops the request and answers "stopped".
async fn answer_streams(connection: quic::Connection) {
    while let Ok((mut send, mut recv)) = connection.accept_bi().await {
        spawn_local(async move {
            let mut first = true;
            while let Ok(Some(chunk)) = recv.read_chunk().await {
                match chunk[0] {
                    b'r' if first => return send.reset(3),
                    b's' if first => {
                        recv.stop(4);
                        send.write(Bytes::from_static(b"stopped")).await.unwrap();
                        return send.finish();
                    }
                    _ => send.write(chunk).await.unwrap(),
                }
                first = false;
            }
            send.finish();
        });
    }
}

async fn read_all(stream: &mut ExchangeStream) -> Result<Vec<u8>, RecvError> {
    let mut all = Vec::new();
    while let Some(chunk) = stream.recv.read_chunk().await? {
        all.extend_from_slice(&chunk);
    }
    Ok(all)
}

#[test]
fn an_exchange_reaches_connections_of_its_own_and_of_the_other_core() {
    on_edge(|core| async move {
        let _connectors = core.connect_to_both_cores().await;
        assert_eq!(core.tunnels.route(&host("a.test")).ok(), Some(TUNNEL));
        assert_eq!(core.tunnels.route(&host("x.b.test")).ok(), Some(TUNNEL));
        assert_eq!(core.tunnels.route(&host("b.test")).ok(), None);
        assert_eq!(
            core.choices()[0].core.0,
            0,
            "a connection of the visitor's core comes first"
        );
        for owner in [0, 1] {
            let choice = core.on_core(owner);
            let mut stream = crate::open::open(&core.tunnels, &choice).await.unwrap();
            let body = Bytes::from(vec![b'e'; 3 << 20]);
            let writing = async {
                for chunk in body.chunks(50_000) {
                    stream
                        .send
                        .write(body.slice_ref(chunk), &mut patient())
                        .await
                        .unwrap();
                }
                stream.send.finish();
            };
            let reading = async {
                let mut size = 0;
                while let Some(chunk) = stream.recv.read_chunk().await.unwrap() {
                    size += chunk.len();
                }
                size
            };
            let ((), size) = tokio::join!(writing, reading);
            assert_eq!(size, body.len(), "through core {owner}");
        }
    });
}

#[test]
fn resets_stops_and_losses_cross_cores() {
    on_edge(|core| async move {
        let connectors = core.connect_to_both_cores().await;
        for owner in [0, 1] {
            let choice = core.on_core(owner);
            let mut reset = crate::open::open(&core.tunnels, &choice).await.unwrap();
            reset
                .send
                .write(Bytes::from_static(b"r"), &mut patient())
                .await
                .unwrap();
            assert_eq!(read_all(&mut reset).await, Err(RecvError::Reset));

            let mut stopped = crate::open::open(&core.tunnels, &choice).await.unwrap();
            stopped
                .send
                .write(Bytes::from_static(b"s"), &mut patient())
                .await
                .unwrap();
            assert_eq!(read_all(&mut stopped).await.unwrap(), b"stopped");
            let error = loop {
                if let Err(error) = stopped
                    .send
                    .write(Bytes::from_static(b"more"), &mut patient())
                    .await
                {
                    break error;
                }
                tokio::task::yield_now().await;
            };
            assert_eq!(error, SendError::Stopped);

            let mut lost = crate::open::open(&core.tunnels, &choice).await.unwrap();
            lost.send
                .write(Bytes::from_static(b"e"), &mut patient())
                .await
                .unwrap();
            assert_eq!(lost.recv.read_chunk().await.unwrap().unwrap(), b"e"[..]);
            let index = usize::from(choice.index().0);
            connectors[index].connection.close(0, b"");
            assert_eq!(read_all(&mut lost).await, Err(RecvError::Lost));
            until(|| core.choices().iter().all(|other| other.id != choice.id)).await;
            match crate::open::open(&core.tunnels, &choice).await {
                Ok(mut late) => assert_eq!(read_all(&mut late).await, Err(RecvError::NotOpened)),
                Err(error) => assert_eq!((error, owner), (crate::open::OpenError::Gone, 0)),
            }
        }
    });
}

#[test]
fn an_unregistered_connection_gets_nothing_new_and_closes_when_its_exchanges_end() {
    on_edge(|core| async move {
        let connectors = core.connect_to_both_cores().await;
        for owner in [0, 1] {
            let choice = core.on_core(owner);
            let mut running = crate::open::open(&core.tunnels, &choice).await.unwrap();
            running
                .send
                .write(Bytes::from_static(b"e"), &mut patient())
                .await
                .unwrap();
            let connector = &connectors[usize::from(choice.index().0)];
            connector
                .client
                .unregister_connection_request()
                .send()
                .promise
                .await
                .unwrap();
            until(|| core.choices().iter().all(|other| other.id != choice.id)).await;
            running
                .send
                .write(Bytes::from_static(b"nd"), &mut patient())
                .await
                .unwrap();
            running.send.finish();
            assert_eq!(read_all(&mut running).await.unwrap(), b"end");
            drop(running);
            connector.connection.closed().await;
        }
    });
}

#[test]
fn a_reconnect_replaces_the_connection_of_its_slot_wherever_it_lives() {
    on_edge(|core| async move {
        let mut last = core.connect(7, 0).await;
        until(|| core.choices().len() == 1).await;
        for _ in 0..8 {
            let before = core.choices()[0].id;
            let newer = core.connect(7, 0).await;
            last.connection.closed().await;
            // News of the new connection may come from the other core.
            until(|| matches!(&core.choices()[..], [choice] if choice.id != before)).await;
            let mut stream = crate::open::open(&core.tunnels, &core.choices()[0])
                .await
                .unwrap();
            stream
                .send
                .write(Bytes::from_static(b"echo"), &mut patient())
                .await
                .unwrap();
            stream.send.finish();
            assert_eq!(read_all(&mut stream).await.unwrap(), b"echo");
            assert!(!newer.connection.is_closed());
            last = newer;
        }
    });
}

#[test]
fn strangers_are_refused_with_a_cause_and_leave_nothing_behind() {
    on_edge(|core| async move {
        let other = TunnelId(Uuid::from_u128(2));
        let wrong = Connector::over(core.dial().await, 7, 0).await;
        let cause = wrong.register(TUNNEL, b"something else").await.unwrap_err();
        assert!(cause.starts_with("Unauthorized:"), "{cause}");
        let again = wrong.register(TUNNEL, SECRET).await.unwrap_err();
        assert_eq!(again, "this connection has asked to register before");
        let unknown = Connector::over(core.dial().await, 7, 0).await;
        let cause = unknown.register(other, SECRET).await.unwrap_err();
        assert!(cause.starts_with("Unauthorized:"), "{cause}");
        wrong.connection.closed().await;
        unknown.connection.closed().await;
        let host = host("a.test");
        assert_eq!(
            core.tunnels
                .choose(&wanted(&host, &Tried::default()))
                .unwrap_err(),
            NoConnection::Down
        );
    });
}

#[test]
fn a_tunnel_takes_as_many_replicas_as_it_may() {
    on_edge(|core| async move {
        let _first = core.connect(1, 0).await;
        let second = core.connect(2, 0).await;
        let third = Connector::over(core.dial().await, 3, 0).await;
        let cause = third.register(TUNNEL, SECRET).await.unwrap_err();
        assert!(cause.contains("limit of 2 replicas"), "{cause}");
        let _more_of_the_second = core.connect(2, 1).await;
        second.connection.close(0, b"");
    });
}

#[test]
fn what_is_no_message_before_registration_closes_the_connection_at_once() {
    on_edge(|core| async move {
        // Segment tables that announce 512 MiB in one segment, and 2^32 segments.
        for bomb in [[0, 0, 0, 0, 0, 0, 0, 4], [255; 8]] {
            let connection = core.dial().await;
            let (mut send, _recv) = connection.open_bi().await.unwrap();
            send.write(Bytes::copy_from_slice(&bomb)).await.unwrap();
            let error = timeout(Duration::from_secs(3), connection.closed())
                .await
                .unwrap();
            assert_eq!(error.application_code(), Some(0));
        }
    });
}

#[test]
fn a_replica_gets_only_hostnames_it_told_of_and_a_bad_telling_costs_nothing() {
    on_edge(|core| async move {
        let connector = core.connect(7, 0).await;
        until(|| core.choices().len() == 1).await;
        for bad in ["", "null", "{\"ingress\":7}"] {
            assert!(connector.tell_configuration(bad).await.is_err());
        }
        assert_eq!(core.choices().len(), 1);
        let config = r#"{"ingress":[{"hostname":"x.b.test","service":"http://h:1"},
            {"service":"http_status:404"}]}"#;
        connector.tell_configuration(config).await.unwrap();
        until(|| core.choices().is_empty()).await;
        assert!(
            core.tunnels
                .choose(&wanted(&host("x.b.test"), &Tried::default()))
                .is_ok()
        );
        let refused = core
            .tunnels
            .choose(&wanted(&host("a.test"), &Tried::default()))
            .unwrap_err();
        assert_eq!(refused, NoConnection::NotServed);
    });
}

#[test]
fn other_streams_and_datagrams_disturb_nothing() {
    on_edge(|core| async move {
        let connector = core.connect(7, 0).await;
        let (mut send, mut recv) = connector.connection.open_bi().await.unwrap();
        send.write(Bytes::from_static(b"neither data nor RPC"))
            .await
            .unwrap();
        assert!(
            recv.read_chunk().await.is_err(),
            "a stream that means nothing is reset"
        );
        for datagram in [&b""[..], b"\x00", &[0; 40], &[3; 20]] {
            connector
                .connection
                .send_datagram(Bytes::copy_from_slice(datagram));
        }
        connector.tell_configuration("{\"ingress\":[]}").await.unwrap();
        assert!(!connector.connection.is_closed());
        assert_eq!(core.metrics.registrations_refused.get(), 0);
    });
}

fn start_service(dir: PathBuf, cores: Vec<mailbox::Sender<CoreMessage>>) -> ServiceHandle {
    let (tell, told) = mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        tokio::task::LocalSet::new().block_on(&runtime, async move {
            let settings = ServiceSettings {
                edge: EdgeInfo {
                    name: "edge-1".into(),
                    colo: "LAB".into(),
                    region: "WEU".into(),
                    run: Uuid::nil(),
                    generation: 0,
                    version: "test".into(),
                },
                control: ControlAddress::Socket(dir.join("nobody.sock")),
                snapshot_file: SnapshotFile::in_dir(&dir),
            };
            let (_service, handle) = Service::start(settings, cores);
            tell.send(handle).unwrap();
            std::future::pending::<()>().await;
        });
    });
    told.recv().unwrap()
}

fn snapshot() -> RouteSnapshot {
    let entry = TunnelEntry {
        account: "acct".parse().unwrap(),
        name: "lab".into(),
        secret_digest: SecretDigest::of(SECRET),
        remotely_managed: false,
        config_version: -1,
        replicas_max: 2,
    };
    RouteSnapshot {
        generation: 3,
        routes: ["a.test", "*.b.test"]
            .map(|pattern| (pattern.parse().unwrap(), RouteTarget::Tunnel(TUNNEL)))
            .into_iter()
            .collect(),
        tunnels: [(TUNNEL, entry)].into_iter().collect(),
        management_key: None,
    }
}

/// Both sides' settings, for QUIC and for TCP.
struct Configs {
    server: ServerConfig,
    client: ClientConfig,
    tls: TunnelTls,
    tls_client: Arc<rustls::ClientConfig>,
}

fn configs() -> Configs {
    let names = [NAME, adit_wire::http2::SERVER_NAME].map(String::from);
    let made = rcgen::generate_simple_self_signed(names).unwrap();
    let certificate: CertificateDer<'static> = made.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut server = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key.clone_key())
        .unwrap();
    let certified = CertifiedKey::from_der(vec![certificate.clone()], key, &provider).unwrap();
    let tls = TunnelTls::new(Arc::new(SingleCertAndKey::from(certified))).unwrap();
    server.alpn_protocols = vec![b"argotunnel".to_vec()];
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let mut client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    // As stock connectors: no ALPN.
    let tls_client = Arc::new(client.clone());
    client.alpn_protocols = vec![b"argotunnel".to_vec()];
    let settings = TransportSettings::default();
    Configs {
        server: server_config(server, &settings).unwrap(),
        client: client_config(client, &settings).unwrap(),
        tls,
        tls_client,
    }
}

fn modes() -> Vec<IoMode> {
    let mut modes = vec![IoMode::Portable];
    match probe(IoChoice::Uring) {
        Ok(_) => modes.push(IoMode::Uring),
        Err(error) => println!("skipped: io_uring mode: {error}"),
    }
    modes
}

fn wanted<'a>(host: &'a Hostname, tried: &'a Tried) -> Wanted<'a> {
    Wanted {
        tunnel: TUNNEL,
        host,
        path: "/",
        tried,
        trailers: Trailers::Unwanted,
        upgrade: false,
        search: Search {
            doubted: Doubted::Avoided,
            trier: Trier::No,
        },
    }
}

fn host(text: &str) -> Hostname {
    text.parse().unwrap()
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

/// Waits for a condition that another core brings about; the script's deadline ends a wait in vain.
async fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        sleep(Duration::from_millis(1)).await;
    }
}

/// Longer than any test.
fn patient() -> Patience {
    Patience::new(Duration::from_secs(300))
}
