//! The service against a scripted control on a Unix socket; the test is all the cores.

use std::cell::{Cell, RefCell};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use adit_control_api::digest::SecretDigest;
use adit_control_api::edge_link::{
    self, Accepted, Connection, ConnectionKey, Disconnect, EdgeInfo, IssuedCertificate, ReceiverHandle,
    RegisterOutcome, Rival,
};
use adit_control_api::edge_link_capnp::{edge_gate, edge_session};
use adit_control_api::snapshot::{RouteSnapshot, RouteTarget, SnapshotDelta, TunnelEntry};
use adit_driver::mailbox;
use adit_wire::{ConnIndex, ConnectionId, ConnectorId, TunnelId};
use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::{RpcSystem, twoparty};
use tokio::net::UnixListener;
use tokio::task::{AbortHandle, LocalSet, spawn_local};
use tokio::time::{sleep, timeout};
use tokio_util::compat::{TokioAsyncReadCompatExt, TokioAsyncWriteCompatExt};
use uuid::Uuid;

use super::certificate::obtain;
use super::{Service, ServiceHandle, ServiceSettings};
use crate::config::ControlAddress;
use crate::cross_core::CoreMessage;
use crate::state::SnapshotFile;

const DEADLINE: Duration = Duration::from_secs(30);
const HOUR: Duration = Duration::from_secs(3_600);
/// A life of which a third is left soon.
const SHORT_LIFE: Duration = Duration::from_secs(3);
const TUNNEL: TunnelId = TunnelId(Uuid::from_u128(1));

/// What control was told, and how it behaves.
#[derive(Default)]
struct Control {
    attached: RefCell<Vec<EdgeInfo>>,
    receivers: RefCell<Vec<ReceiverHandle>>,
    links: RefCell<Vec<AbortHandle>>,
    registered: RefCell<Vec<ConnectionId>>,
    unregistered: RefCell<Vec<ConnectionId>>,
    reported: RefCell<Vec<Vec<ConnectionId>>>,
    resyncs: RefCell<Vec<u64>>,
    issued: Cell<usize>,
    /// How long the next certificate lives, an hour unless told otherwise.
    certificate_life: Cell<Option<Duration>>,
    /// Takes registrations and never answers.
    is_silent: Cell<bool>,
}

impl Control {
    /// Serves on `socket` until aborted; links that are up stay.
    fn listen(self: &Rc<Self>, socket: &Path) -> AbortHandle {
        // A control that was killed leaves its socket behind.
        let _ = std::fs::remove_file(socket);
        let listener = UnixListener::bind(socket).unwrap();
        let control = self.clone();
        let accepting = spawn_local(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let (reader, writer) = stream.into_split();
                let network = twoparty::VatNetwork::new(
                    reader.compat(),
                    writer.compat_write(),
                    Side::Server,
                    edge_link::reader_options(),
                );
                let gate: edge_gate::Client = capnp_rpc::new_client(Gate(control.clone()));
                let link = spawn_local(RpcSystem::new(Box::new(network), Some(gate.client)));
                control.links.borrow_mut().push(link.abort_handle());
            }
        });
        accepting.abort_handle()
    }

    fn cut_links(&self) {
        self.links.borrow_mut().drain(..).for_each(|link| link.abort());
        self.receivers.borrow_mut().clear();
    }

    fn receiver(&self) -> ReceiverHandle {
        self.receivers.borrow().last().unwrap().clone()
    }

    async fn send(&self, snapshot: &RouteSnapshot) {
        for part in edge_link::split_snapshot(snapshot).unwrap() {
            self.receiver().snapshot_part(&part).await.unwrap();
        }
    }
}

struct Gate(Rc<Control>);
struct Session(Rc<Control>);

impl edge_gate::Server for Gate {
    async fn attach(
        self: Rc<Self>,
        params: edge_gate::AttachParams,
        mut results: edge_gate::AttachResults,
    ) -> Result<(), capnp::Error> {
        let params = params.get()?;
        self.0
            .receivers
            .borrow_mut()
            .push(ReceiverHandle::new(params.get_receiver()?));
        self.0
            .attached
            .borrow_mut()
            .push(edge_link::read_edge_info(params.get_edge()?)?);
        results
            .get()
            .set_session(capnp_rpc::new_client(Session(self.0.clone())));
        Ok(())
    }
}

impl edge_session::Server for Session {
    async fn register(
        self: Rc<Self>,
        params: edge_session::RegisterParams,
        mut results: edge_session::RegisterResults,
    ) -> Result<(), capnp::Error> {
        let connection = edge_link::read_connection(params.get()?.get_connection()?)?;
        self.0.registered.borrow_mut().push(connection.key.connection);
        if self.0.is_silent.get() {
            std::future::pending::<()>().await;
        }
        let accepted = Accepted {
            remotely_managed: true,
            config_version: 4,
        };
        edge_link::write_accepted(accepted, results.get().init_outcome().init_accepted());
        Ok(())
    }

    async fn unregister(
        self: Rc<Self>,
        params: edge_session::UnregisterParams,
        _: edge_session::UnregisterResults,
    ) -> Result<(), capnp::Error> {
        let key = edge_link::read_key(params.get()?.get_connection()?)?;
        self.0.unregistered.borrow_mut().push(key.connection);
        Ok(())
    }

    async fn report_connections(
        self: Rc<Self>,
        params: edge_session::ReportConnectionsParams,
        _: edge_session::ReportConnectionsResults,
    ) -> Result<(), capnp::Error> {
        let mut living = Vec::new();
        for item in params.get()?.get_connections()? {
            living.push(edge_link::read_connection(item)?.key.connection);
        }
        self.0.reported.borrow_mut().push(living);
        Ok(())
    }

    async fn resync(
        self: Rc<Self>,
        params: edge_session::ResyncParams,
        _: edge_session::ResyncResults,
    ) -> Result<(), capnp::Error> {
        self.0.resyncs.borrow_mut().push(params.get()?.get_generation());
        Ok(())
    }

    async fn issue_tunnel_certificate(
        self: Rc<Self>,
        params: edge_session::IssueTunnelCertificateParams,
        mut results: edge_session::IssueTunnelCertificateResults,
    ) -> Result<(), capnp::Error> {
        let request = params.get()?.get_request()?.into();
        let request = rcgen::CertificateSigningRequestParams::from_der(&request).unwrap();
        let ca_key = rcgen::KeyPair::generate().unwrap();
        let ca = rcgen::CertificateParams::default();
        let issuer = rcgen::Issuer::from_params(&ca, &ca_key);
        let chain_pem = request.signed_by(&issuer).unwrap().pem();
        let not_after = SystemTime::now() + self.0.certificate_life.get().unwrap_or(HOUR);
        let issued = IssuedCertificate {
            root_pem: chain_pem.clone(),
            chain_pem,
            not_after,
        };
        edge_link::write_certificate(&issued, results.get().init_certificate());
        self.0.issued.set(self.0.issued.get() + 1);
        Ok(())
    }
}

/// A service with a control that is not up yet, and the mailboxes of two cores.
struct Rig {
    dir: tempfile::TempDir,
    control: Rc<Control>,
    service: Rc<Service>,
    handle: ServiceHandle,
    cores: Vec<mailbox::Receiver<CoreMessage>>,
}

impl Rig {
    fn start(dir: tempfile::TempDir) -> Self {
        let (senders, cores) = (0..2).map(|_| mailbox::mailbox(64)).unzip();
        let settings = ServiceSettings {
            edge: EdgeInfo {
                name: "edge-1".into(),
                colo: "LAB".into(),
                region: "WEU".into(),
                run: Uuid::nil(),
                generation: 0,
                version: "test".into(),
            },
            control: ControlAddress::Socket(dir.path().join("edge.sock")),
            snapshot_file: SnapshotFile::in_dir(dir.path()),
        };
        let (service, handle) = Service::start(settings, senders);
        Self {
            dir,
            control: Rc::default(),
            service,
            handle,
            cores,
        }
    }

    fn listen(&self) -> AbortHandle {
        self.control.listen(&self.dir.path().join("edge.sock"))
    }

    async fn attach(&self) {
        let before = self.control.attached.borrow().len();
        let _listening = self.listen();
        until(|| self.control.attached.borrow().len() > before && self.service.is_attached()).await;
    }

    /// The next generation of routes that every core hears of.
    async fn heard_routes(&mut self) -> u64 {
        let mut heard = Vec::new();
        for core in &mut self.cores {
            match core.recv().await {
                Some(CoreMessage::Routes(routes)) => heard.push(routes.generation),
                _ => panic!("something else than routes"),
            }
        }
        assert_eq!(heard[0], heard[1]);
        heard[0]
    }

    async fn register(&self, n: u128, secret: &[u8]) -> RegisterOutcome {
        self.handle
            .register(connection(n), SecretDigest::of(secret))
            .await
    }
}

fn run(test: impl AsyncFnOnce()) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let within = async { timeout(DEADLINE, test()).await.expect("done before the deadline") };
    LocalSet::new().block_on(&runtime, within);
}

fn rig() -> Rig {
    Rig::start(tempfile::tempdir().unwrap())
}

#[test]
fn snapshots_and_deltas_reach_every_core_and_the_disk_and_a_gap_asks_for_all() {
    run(async || {
        let mut rig = rig();
        assert_eq!(rig.heard_routes().await, 0);
        rig.attach().await;
        assert_eq!(rig.control.attached.borrow()[0].name, "edge-1");
        rig.control.send(&snapshot(5)).await;
        assert_eq!(rig.heard_routes().await, 5);
        let delta = |from, to| serde_json::to_vec(&snapshot(from).delta_to(&snapshot(to))).unwrap();
        rig.control.receiver().delta(&delta(5, 6)).await.unwrap();
        assert_eq!(rig.heard_routes().await, 6);
        // Late, then too early: neither may change anything.
        rig.control.receiver().delta(&delta(4, 5)).await.unwrap();
        rig.control.receiver().delta(&delta(8, 9)).await.unwrap();
        until(|| rig.control.resyncs.borrow().as_slice() == [6]).await;
        rig.control.send(&snapshot(9)).await;
        assert_eq!(rig.heard_routes().await, 9);
        let file = SnapshotFile::in_dir(rig.dir.path());
        until(|| {
            file.load()
                .is_some_and(|stored| stored.same_content(&snapshot(9)))
        })
        .await;

        // A restart without control starts from the disk, and tells control what it holds.
        let mut again = Rig::start(rig.dir);
        assert_eq!(again.heard_routes().await, 9);
        again.attach().await;
        assert_eq!(again.control.attached.borrow()[0].generation, 9);
    });
}

/// Prints what one more hostname costs an edge beside many:
/// `cargo test -p adit-edge --lib cost_of_a_delta -- --ignored --nocapture`.
#[test]
#[ignore = "a measurement"]
fn cost_of_a_delta() {
    const ROUTES: u64 = 100_000;
    const DELTAS: u64 = 40;
    run(async || {
        let mut rig = rig();
        assert_eq!(rig.heard_routes().await, 0);
        rig.attach().await;
        rig.control.send(&snapshot(ROUTES)).await;
        assert_eq!(rig.heard_routes().await, ROUTES);
        let file = SnapshotFile::in_dir(rig.dir.path());
        until(|| file.load().is_some()).await;
        let (started, before) = (Instant::now(), cpu());
        for from in ROUTES..ROUTES + DELTAS {
            let delta = SnapshotDelta {
                from,
                to: from + 1,
                routes_set: [(
                    format!("h{from}.test").parse().unwrap(),
                    RouteTarget::Tunnel(TUNNEL),
                )]
                .into(),
                ..Default::default()
            };
            let body = serde_json::to_vec(&delta).unwrap();
            rig.control.receiver().delta(&body).await.unwrap();
            assert_eq!(rig.heard_routes().await, from + 1);
        }
        let (heard, spent) = (started.elapsed(), cpu() - before);
        println!(
            "a delta heard: {:?}, {:?} of CPU",
            heard / DELTAS as u32,
            spent / DELTAS as u32
        );
        until(|| {
            file.load()
                .is_some_and(|stored| stored.generation == ROUTES + DELTAS)
        })
        .await;
        let written = rig.service.metrics.snapshot_bytes_written.get();
        println!("bytes written: {written}");
    });
}

/// CPU time of all threads that live.
fn cpu() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let of_task = |task: std::fs::DirEntry| {
        let line = std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        line.split(' ')
            .next()
            .and_then(|run| run.parse().ok())
            .unwrap_or(0)
    };
    Duration::from_nanos(tasks.map(|task| of_task(task.unwrap())).sum())
}

#[test]
fn control_decides_while_it_answers_and_the_snapshot_when_it_does_not() {
    run(async || {
        let rig = rig();
        let RegisterOutcome::Refused(refused) = rig.register(1, b"right").await else {
            panic!("accepted by an edge that knows nothing");
        };
        assert_eq!(refused.code, "no-snapshot");
        rig.attach().await;
        rig.control.send(&snapshot(5)).await;
        assert!(accepted_as(&rig.register(2, b"whatever control says").await, 4));
        rig.control.is_silent.set(true);
        assert!(
            accepted_as(&rig.register(3, b"right").await, -1),
            "after two seconds of silence"
        );
        assert!(!accepted_as(&rig.register(4, b"wrong").await, -1));
        assert_eq!(*rig.control.registered.borrow(), [2, 3, 4].map(id));
        assert_eq!(rig.service.metrics.registrations_decided_alone.get(), 3);
    });
}

#[test]
fn what_lives_is_reported_after_every_attachment_and_its_end_at_once() {
    run(async || {
        let rig = rig();
        rig.attach().await;
        rig.control.send(&snapshot(5)).await;
        until(|| rig.control.reported.borrow().len() == 1).await;
        assert!(rig.control.reported.borrow()[0].is_empty());
        for n in [1, 2, 3] {
            assert!(accepted_as(&rig.register(n, b"right").await, 4));
        }
        rig.handle.left(connection(2).key);
        until(|| rig.control.unregistered.borrow().as_slice() == [id(2)]).await;

        rig.control.cut_links();
        until(|| !rig.service.is_attached()).await;
        // Nobody to tell: the next report does.
        rig.handle.left(connection(3).key);
        rig.attach().await;
        until(|| rig.control.reported.borrow().len() == 2).await;
        assert_eq!(rig.control.reported.borrow()[1], [id(1)]);
    });
}

#[test]
fn a_registration_nobody_waits_for_any_more_is_taken_back() {
    run(async || {
        let rig = rig();
        rig.attach().await;
        rig.control.send(&snapshot(5)).await;
        rig.control.is_silent.set(true);
        let asking = timeout(Duration::from_millis(100), rig.register(1, b"right"));
        assert!(asking.await.is_err());
        rig.control.is_silent.set(false);
        // Its time with control runs out, the snapshot accepts it, and nobody takes the answer.
        until(|| rig.service.metrics.registrations_decided_alone.get() == 1).await;
        until(|| rig.control.unregistered.borrow().as_slice() == [id(1)]).await;
        assert!(rig.service.living().is_empty());
    });
}

#[test]
fn a_registration_that_the_edge_refuses_alone_is_taken_back_from_control() {
    run(async || {
        let rig = rig();
        rig.attach().await;
        rig.control.send(&snapshot(5)).await;
        rig.control.is_silent.set(true);
        assert!(!accepted_as(&rig.register(1, b"wrong").await, -1));
        // Control may accept it after all, and would count a connection that nobody serves.
        until(|| rig.control.unregistered.borrow().as_slice() == [id(1)]).await;
    });
}

#[test]
fn an_edge_whose_place_was_taken_does_not_take_it_back_at_once() {
    run(async || {
        let rig = rig();
        rig.attach().await;
        let rival = Rival {
            edge: EdgeInfo {
                run: Uuid::from_u128(1),
                ..rig.control.attached.borrow()[0].clone()
            },
            address: "192.0.2.9:1024".into(),
        };
        for (replaced, pause) in [(1, 1), (2, 2)] {
            rig.control.receiver().replaced(&rival).await.unwrap();
            let start = Instant::now();
            rig.control.cut_links();
            until(|| rig.control.attached.borrow().len() == replaced + 1 && rig.service.is_attached()).await;
            assert!(
                start.elapsed() >= Duration::from_secs(pause),
                "{:?}",
                start.elapsed()
            );
        }
    });
}

#[test]
fn disconnects_reach_every_core() {
    run(async || {
        let mut rig = rig();
        assert_eq!(rig.heard_routes().await, 0);
        rig.attach().await;
        let target = Disconnect {
            tunnel: TUNNEL,
            connector: Some(ConnectorId(Uuid::from_u128(7))),
            connection: None,
            reason: "the tunnel is deleted".into(),
        };
        rig.control.receiver().disconnect(&target).await.unwrap();
        for core in &mut rig.cores {
            let Some(CoreMessage::Disconnect {
                tunnel,
                connector,
                connection,
            }) = core.recv().await
            else {
                panic!("something else than a disconnect");
            };
            assert_eq!((tunnel, connector, connection), (TUNNEL, target.connector, None));
        }
    });
}

#[test]
fn the_certificate_is_asked_for_until_issued_kept_private_and_good_without_control() {
    run(async || {
        let rig = rig();
        let (service, dir) = (rig.service.clone(), rig.dir.path().to_owned());
        let obtaining = spawn_local(async move { obtain(&service, &dir).await.unwrap() });
        rig.attach().await;
        let first = obtaining.await.unwrap();
        assert_eq!(first.chain().len(), 1);
        let path = rig.dir.path().join("tunnel-certificate.json");
        assert_eq!(
            std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
        rig.control.cut_links();

        // The next start has it before control is there, and another soon after.
        let again = Rig::start(rig.dir);
        let stored = obtain(&again.service, again.dir.path()).await.unwrap();
        assert_eq!(stored.chain(), first.chain());
        again.attach().await;
        until(|| again.control.issued.get() == 1 && stored.chain() != first.chain()).await;
    });
}

#[test]
fn the_certificate_is_renewed_while_the_edge_runs() {
    run(async || {
        let rig = rig();
        rig.control.certificate_life.set(Some(SHORT_LIFE));
        rig.attach().await;
        let certificate = obtain(&rig.service, rig.dir.path()).await.unwrap();
        rig.control.certificate_life.set(None);
        let first = certificate.chain();
        let begin = SystemTime::now();
        until(|| certificate.chain() != first).await;
        assert!(
            begin.elapsed().unwrap() < SHORT_LIFE,
            "before the first one ended"
        );
        assert_eq!(rig.control.issued.get(), 2);
    });
}

#[test]
fn a_stored_certificate_that_cannot_be_used_is_asked_for_anew() {
    run(async || {
        let mut rig = rig();
        rig.attach().await;
        obtain(&rig.service, rig.dir.path()).await.unwrap();
        let path = rig.dir.path().join("tunnel-certificate.json");
        let good: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
        let other = rcgen::KeyPair::generate().unwrap().serialize_pem();
        for (field, bad) in [("chain_pem", ""), ("key_pem", "not a key"), ("key_pem", &other)] {
            let mut broken = good.clone();
            broken[field] = bad.into();
            std::fs::write(&path, broken.to_string()).unwrap();
            rig = Rig::start(rig.dir);
            rig.attach().await;
            let fresh = obtain(&rig.service, rig.dir.path()).await.unwrap();
            assert_eq!((fresh.chain().len(), rig.control.issued.get()), (1, 1), "{field}");
        }
    });
}

#[test]
fn a_disk_that_takes_nothing_costs_a_warning_only() {
    run(async || {
        let mut rig = rig();
        assert_eq!(rig.heard_routes().await, 0);
        rig.attach().await;
        // A directory in the way of the temporary file makes every write fail.
        std::fs::create_dir(rig.dir.path().join("snapshot.new")).unwrap();
        rig.control.send(&snapshot(5)).await;
        assert_eq!(rig.heard_routes().await, 5);
        until(|| rig.service.metrics.snapshot_save_errors.get() == 1).await;
        assert!(accepted_as(&rig.register(1, b"right").await, 4));
    });
}

fn accepted_as(outcome: &RegisterOutcome, version: i32) -> bool {
    matches!(outcome, RegisterOutcome::Accepted(accepted) if accepted.config_version == version)
}

fn id(n: u128) -> ConnectionId {
    ConnectionId(Uuid::from_u128(n))
}

fn connection(n: u128) -> Connection {
    Connection {
        key: ConnectionKey {
            tunnel: TUNNEL,
            connector: ConnectorId(Uuid::from_u128(7)),
            index: ConnIndex(0),
            connection: id(n),
        },
        account: "acct".parse().unwrap(),
        version: "test".into(),
        arch: "linux_amd64".into(),
        features: Vec::new(),
        origin_address: [127, 0, 0, 1].into(),
        opened_at: UNIX_EPOCH,
    }
}

fn snapshot(generation: u64) -> RouteSnapshot {
    let entry = TunnelEntry {
        account: "acct".parse().unwrap(),
        name: "lab".into(),
        secret_digest: SecretDigest::of(b"right"),
        remotely_managed: false,
        config_version: -1,
        replicas_max: 2,
    };
    RouteSnapshot {
        generation,
        routes: (0..generation)
            .map(|n| (format!("h{n}.test").parse().unwrap(), RouteTarget::Tunnel(TUNNEL)))
            .collect(),
        tunnels: [(TUNNEL, entry)].into_iter().collect(),
        management_key: None,
    }
}

/// Waits for a condition that another task brings about; the test's deadline ends a wait in vain.
async fn until(mut condition: impl FnMut() -> bool) {
    while !condition() {
        sleep(Duration::from_millis(1)).await;
    }
}
