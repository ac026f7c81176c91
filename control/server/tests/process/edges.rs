//! Edges that attach over the Unix socket and over mutual TLS.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use adit_control_api::digest::SecretDigest;
use adit_control_api::edge_link::{
    ALPN, CONTROL_TLS_NAME, Connection, ConnectionKey, Disconnect, EdgeInfo, EdgeReceiver, EdgeSession, Link,
    LinkError, RegisterOutcome, Rival,
};
use adit_control_api::snapshot::{RouteSnapshot, SnapshotDelta};
use adit_control_api::{ConnIndex, TunnelId};
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::Notify;
use tokio::task::{LocalSet, spawn_local};
use tokio_util::compat::{TokioAsyncReadCompatExt, TokioAsyncWriteCompatExt};
use uuid::Uuid;

use crate::lab::{Control, PATIENCE, config, tunnel_body};

/// What an edge keeps of control's news.
#[derive(Default)]
struct Edge {
    held: RefCell<RouteSnapshot>,
    disconnects: RefCell<Vec<Disconnect>>,
    rivals: RefCell<Vec<Rival>>,
    run: Uuid,
    news: Notify,
}

struct Receiver(Rc<Edge>);

impl EdgeReceiver for Receiver {
    fn handle_snapshot(&self, snapshot: RouteSnapshot) {
        self.0.held.borrow_mut().replace(snapshot);
        self.0.news.notify_one();
    }
    fn handle_delta(&self, delta: SnapshotDelta) {
        self.0.held.borrow_mut().apply(delta).unwrap();
        self.0.news.notify_one();
    }
    fn handle_disconnect(&self, target: Disconnect) {
        self.0.disconnects.borrow_mut().push(target);
        self.0.news.notify_one();
    }
    fn handle_replaced(&self, by: Rival) {
        self.0.rivals.borrow_mut().push(by);
        self.0.news.notify_one();
    }
}

impl Edge {
    async fn until(&self, what: &str, ready: impl Fn(&Self) -> bool) {
        let waiting = async {
            while !ready(self) {
                self.news.notified().await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting)
            .await
            .unwrap_or_else(|_| panic!("waited too long until {what}"));
    }

    async fn attach(
        self: &Rc<Self>,
        name: &str,
        stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    ) -> Result<EdgeSession, LinkError> {
        let (reader, writer) = tokio::io::split(stream);
        let link = Link::over(reader.compat(), writer.compat_write());
        spawn_local(link.driver);
        let info = EdgeInfo {
            name: name.into(),
            colo: "LAB".into(),
            region: "WEU".into(),
            run: self.run,
            generation: self.held.borrow().generation,
            version: "0.1.0".into(),
        };
        link.gate.attach(&info, Receiver(self.clone())).await
    }

    async fn attach_unix(self: &Rc<Self>, name: &str, control: &Control) -> EdgeSession {
        let path = control.addresses["edge_socket"].as_str().unwrap();
        self.attach(name, UnixStream::connect(path).await.unwrap())
            .await
            .unwrap()
    }
}

fn run<F: Future<Output = ()>>(test: F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, test);
}

fn create(control: &Control, name: &str) -> TunnelId {
    let made = control
        .call(
            "POST",
            &control.account_path("/cfd_tunnel"),
            Some(&tunnel_body(name)),
        )
        .result();
    made["id"].as_str().unwrap().parse().unwrap()
}

fn secret() -> SecretDigest {
    SecretDigest::of(&(0..32).collect::<Vec<u8>>())
}

fn connection(control: &Control, tunnel: TunnelId, connector: u128, index: u8) -> Connection {
    Connection {
        key: ConnectionKey {
            tunnel,
            connector: Uuid::from_u128(connector).into(),
            index: ConnIndex(index),
            connection: Uuid::new_v4().into(),
        },
        account: control.cert.account_id.parse().unwrap(),
        version: "2026.1.0".into(),
        arch: "linux_amd64".into(),
        features: vec!["serialized_headers".into()],
        origin_address: "192.0.2.7".parse().unwrap(),
        opened_at: SystemTime::now(),
    }
}

fn accepted(outcome: &RegisterOutcome) -> bool {
    matches!(outcome, RegisterOutcome::Accepted(_))
}

fn connections(control: &Control, tunnel: TunnelId) -> Value {
    control
        .call(
            "GET",
            &control.account_path(&format!("/cfd_tunnel/{tunnel}/connections")),
            None,
        )
        .result()
}

#[test]
fn an_edge_learns_of_every_write() {
    let dir = tempfile::tempdir().unwrap();
    let control = Control::start(dir.path());
    let tunnel = create(&control, "lab");
    run(async {
        let edge = Rc::new(Edge::default());
        let session = edge.attach_unix("edge-1", &control).await;
        edge.until("the snapshot is here", |edge| {
            edge.held.borrow().tunnels.contains_key(&tunnel)
        })
        .await;
        let body = json!({"type": "dns", "user_hostname": "app.test", "overwrite_existing": false});
        control
            .call(
                "PUT",
                &control.zone_path(&format!("/tunnels/{tunnel}/routes")),
                Some(&body),
            )
            .result();
        edge.until("the route is here", |edge| edge.held.borrow().routes.size() == 1)
            .await;
        let rules = json!({"config": {"ingress": [{"service": "http_status:404"}]}});
        let path = control.account_path(&format!("/cfd_tunnel/{tunnel}/configurations"));
        control.call("PUT", &path, Some(&rules)).result();
        edge.until("the version is here", |edge| {
            edge.held.borrow().tunnels[&tunnel].config_version == 1
        })
        .await;
        let held = session.configuration(&tunnel).await.unwrap().unwrap();
        assert_eq!(
            (
                held.version,
                serde_json::from_slice::<Value>(&held.config).unwrap()
            ),
            (1, rules["config"].clone())
        );
    });
}

#[test]
fn connections_are_judged_seen_and_cut_off() {
    let dir = tempfile::tempdir().unwrap();
    let control = Control::start(dir.path());
    let tunnel = create(&control, "lab");
    run(async {
        let edge = Rc::new(Edge::default());
        let session = edge.attach_unix("edge-1", &control).await;
        edge.until("the snapshot is here", |edge| {
            edge.held.borrow().tunnels.contains_key(&tunnel)
        })
        .await;
        let wrong = session
            .register(&connection(&control, tunnel, 1, 0), &SecretDigest::of(b"x"))
            .await
            .unwrap();
        assert!(!accepted(&wrong));
        let first = connection(&control, tunnel, 1, 0);
        assert!(accepted(&session.register(&first, &secret()).await.unwrap()));
        for connector in [2, 3] {
            let outcome = session
                .register(&connection(&control, tunnel, connector, 0), &secret())
                .await
                .unwrap();
            assert_eq!(accepted(&outcome), connector == 2, "the limit is 2 replicas");
        }
        let clients = connections(&control, tunnel);
        assert_eq!(clients.as_array().unwrap().len(), 2);
        assert_eq!(clients[0]["conns"][0]["colo_name"], "LAB");
        assert_eq!(clients[0]["conns"][0]["origin_ip"], "192.0.2.7");

        let path = control.account_path(&format!("/cfd_tunnel/{tunnel}"));
        assert_eq!(control.call("DELETE", &path, None).refusal(), (400, 1022));
        let one = format!("{path}/connections?client_id={}", first.key.connector);
        control.call("DELETE", &one, None).result();
        edge.until("one replica is cut off", |edge| {
            edge.disconnects.borrow().len() == 1
        })
        .await;
        assert_eq!(edge.disconnects.borrow()[0].connector, Some(first.key.connector));
        control
            .call("DELETE", &format!("{path}?cascade=true"), None)
            .result();
        edge.until("all are cut off", |edge| edge.disconnects.borrow().len() == 2)
            .await;
        edge.until("the tunnel is gone", |edge| edge.held.borrow().tunnels.is_empty())
            .await;
    });
}

#[test]
fn after_a_kill_the_edges_report_brings_every_registration_back() {
    let dir = tempfile::tempdir().unwrap();
    let control = Control::start(dir.path());
    let tunnel = create(&control, "lab");
    run(async {
        let edge = Rc::new(Edge::default());
        let session = edge.attach_unix("edge-1", &control).await;
        edge.until("the snapshot is here", |edge| {
            !edge.held.borrow().tunnels.is_empty()
        })
        .await;
        let living: Vec<_> = (0..4)
            .map(|index| connection(&control, tunnel, 1, index))
            .collect();
        for connection in &living {
            assert!(accepted(&session.register(connection, &secret()).await.unwrap()));
        }
        control.kill();
        assert!(
            session.register(&living[0], &secret()).await.is_err(),
            "a dead control must not answer"
        );
        let held = edge.held.borrow().generation;
        let control = Control::start(dir.path());
        let session = edge.attach_unix("edge-1", &control).await;
        edge.until("a newer snapshot is here", |edge| {
            edge.held.borrow().generation > held
        })
        .await;
        assert_eq!(connections(&control, tunnel), json!([]));
        assert_eq!(session.report_connections(&living).await.unwrap(), []);
        assert_eq!(
            connections(&control, tunnel)[0]["conns"]
                .as_array()
                .unwrap()
                .len(),
            4
        );
    });
}

#[test]
fn an_edge_that_leaves_is_seen_as_pending_and_a_resync_sends_everything_again() {
    let dir = tempfile::tempdir().unwrap();
    let control = Control::start(dir.path());
    let tunnel = create(&control, "lab");
    run(async {
        let (near, far) = (Rc::new(Edge::default()), Rc::new(Edge::default()));
        let near_session = near.attach_unix("near", &control).await;
        let far_session = far.attach_unix("far", &control).await;
        far.until("the snapshot is here", |edge| {
            !edge.held.borrow().tunnels.is_empty()
        })
        .await;
        *far.held.borrow_mut() = RouteSnapshot::default();
        far_session.resync(0).await.unwrap();
        far.until("the snapshot is here again", |edge| {
            !edge.held.borrow().tunnels.is_empty()
        })
        .await;

        let old = connection(&control, tunnel, 1, 0);
        near_session.register(&old, &secret()).await.unwrap();
        far_session
            .register(&connection(&control, tunnel, 1, 0), &secret())
            .await
            .unwrap();
        near.until("the replaced one is named", |edge| {
            !edge.disconnects.borrow().is_empty()
        })
        .await;
        assert_eq!(near.disconnects.borrow()[0].connection, Some(old.key.connection));

        // The second attachment of a name ends the first, which is told who made it.
        let again = Rc::new(Edge {
            run: Uuid::from_u128(1),
            ..Edge::default()
        });
        again.attach_unix("far", &control).await;
        far.until("the rival is named", |edge| !edge.rivals.borrow().is_empty())
            .await;
        assert_eq!(far.rivals.borrow()[0].edge.run, again.run);
        assert_eq!(far.rivals.borrow()[0].address, "control's own machine");
        assert!(
            far_session
                .register(&connection(&control, tunnel, 1, 1), &secret())
                .await
                .is_err()
        );
        assert_eq!(
            connections(&control, tunnel)[0]["conns"][0]["is_pending_reconnect"],
            true
        );
    });
}

#[test]
fn an_edge_gets_its_tunnel_certificate_over_the_link() {
    let dir = tempfile::tempdir().unwrap();
    let control = Control::start(dir.path());
    run(async {
        let edge = Rc::new(Edge::default());
        let session = edge.attach_unix("edge-1", &control).await;
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
        let request = CertificateParams::default().serialize_request(&key).unwrap();
        let issued = session.issue_tunnel_certificate(request.der()).await.unwrap();
        let root = std::fs::read_to_string(config(dir.path()).state_dir.join("ca.pem")).unwrap();
        assert_eq!(issued.root_pem, root);
        assert!(issued.chain_pem.starts_with("-----BEGIN CERTIFICATE-----"));
        assert!(issued.not_after > SystemTime::now() + Duration::from_secs(80 * 24 * 3600));
        let error = session.issue_tunnel_certificate(b"nonsense").await.unwrap_err();
        let LinkError::Rpc(error) = error else {
            panic!("refused by control")
        };
        assert!(
            error.to_string().contains("not a signed PKCS #10 request"),
            "{error}"
        );
    });
}

fn tls_config(dir: &Path, with_certificate: bool) -> rustls::ClientConfig {
    let read = |file: &str| std::fs::read(dir.join(file)).unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots
        .add(CertificateDer::from_pem_slice(&read("ca.pem")).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots);
    let mut config = if with_certificate {
        let certificate = CertificateDer::from_pem_slice(&read("edge.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_slice(&read("edge-key.pem")).unwrap();
        builder.with_client_auth_cert(vec![certificate], key).unwrap()
    } else {
        builder.with_no_client_auth()
    };
    config.alpn_protocols = vec![ALPN.to_vec()];
    config
}

async fn attach_tls(
    edge: &Rc<Edge>,
    name: &str,
    control: &Control,
    tls: rustls::ClientConfig,
) -> Result<EdgeSession, LinkError> {
    let address = control.addresses["edge_listen"].as_str().unwrap();
    let stream = TcpStream::connect(address).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
    let stream = connector
        .connect(ServerName::try_from(CONTROL_TLS_NAME).unwrap(), stream)
        .await
        .unwrap();
    edge.attach(name, stream).await
}

#[test]
fn a_remote_edge_attaches_with_its_certificate_and_under_its_own_name_only() {
    let (dir, out) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let control = Control::start(dir.path());
    let tunnel = create(&control, "lab");
    adit_control::issue_edge_files(&config(dir.path()), "edge-9", out.path()).unwrap();
    run(async {
        let edge = Rc::new(Edge::default());
        let session = attach_tls(&edge, "edge-9", &control, tls_config(out.path(), true))
            .await
            .unwrap();
        edge.until("the snapshot is here", |edge| {
            edge.held.borrow().tunnels.contains_key(&tunnel)
        })
        .await;
        let outcome = session
            .register(&connection(&control, tunnel, 1, 0), &secret())
            .await
            .unwrap();
        assert!(accepted(&outcome));

        let other = Rc::new(Edge::default());
        let refused = attach_tls(&other, "edge-1", &control, tls_config(out.path(), true)).await;
        let Err(LinkError::Rpc(error)) = refused else {
            panic!("another name must be refused")
        };
        assert!(
            error.to_string().contains("certificate is of edge \"edge-9\""),
            "{error}"
        );
        assert!(
            attach_tls(&other, "edge-9", &control, tls_config(out.path(), false))
                .await
                .is_err()
        );
    });
}

#[test]
fn a_hostile_link_is_dropped_and_harms_nobody() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    let dir = tempfile::tempdir().unwrap();
    let control = Control::start(dir.path());
    let tunnel = create(&control, "lab");
    run(async {
        let path = control.addresses["edge_socket"].as_str().unwrap();
        // A message of 4 GiB in one segment, 512 segments, an empty one, and noise.
        let huge = [0, 0, 0, 0, 0xff, 0xff, 0xff, 0x1f];
        let many = [0xff, 0x01, 0, 0, 0xff, 0xff, 0xff, 0xff];
        for bytes in [&huge[..], &many[..], &[0; 8][..], &[0xaa; 4096][..]] {
            let mut stream = UnixStream::connect(path).await.unwrap();
            stream.write_all(bytes).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut rest = Vec::new();
            // Control may answer with an abort or close at once; it must not keep the link.
            let closed = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await;
            assert!(closed.is_ok(), "{bytes:?}");
        }
        let edge = Rc::new(Edge::default());
        let session = edge.attach_unix("edge-1", &control).await;
        assert!(accepted(
            &session
                .register(&connection(&control, tunnel, 1, 0), &secret())
                .await
                .unwrap()
        ));
    });
}
