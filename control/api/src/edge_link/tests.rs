//! The link over a real Unix socket pair, with a scripted control behind it.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::{Duration, UNIX_EPOCH};

use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::{RpcSystem, twoparty};
use tokio::net::UnixStream;
use tokio::task::{LocalSet, spawn_local};
use tokio_util::compat::{TokioAsyncReadCompatExt, TokioAsyncWriteCompatExt};
use uuid::Uuid;

use super::*;
use crate::digest::SecretDigest;
use crate::edge_link_capnp::{edge_gate, edge_session};
use crate::snapshot::{RouteSnapshot, RouteTarget, SnapshotDelta};

#[derive(Default)]
struct Scripted {
    attached: RefCell<Vec<EdgeInfo>>,
    registered: RefCell<Vec<Connection>>,
    reported: RefCell<Vec<Connection>>,
}

struct Gate(Rc<Scripted>);
struct Session(Rc<Scripted>);

impl edge_gate::Server for Gate {
    async fn attach(
        self: Rc<Self>,
        params: edge_gate::AttachParams,
        mut results: edge_gate::AttachResults,
    ) -> Result<(), capnp::Error> {
        let params = params.get()?;
        self.0
            .attached
            .borrow_mut()
            .push(read_edge_info(params.get_edge()?)?);
        let receiver = ReceiverHandle::new(params.get_receiver()?);
        results
            .get()
            .set_session(capnp_rpc::new_client(Session(self.0.clone())));
        spawn_local(async move {
            for part in split_snapshot(&snapshot(20_000)).unwrap() {
                receiver.snapshot_part(&part).await.unwrap();
            }
            receiver
                .delta(&serde_json::to_vec(&snapshot(1).delta_to(&snapshot(2))).unwrap())
                .await
                .unwrap();
            receiver.disconnect(&disconnect()).await.unwrap();
            receiver.replaced(&rival()).await.unwrap();
        });
        Ok(())
    }
}

impl edge_session::Server for Session {
    async fn register(
        self: Rc<Self>,
        params: edge_session::RegisterParams,
        mut results: edge_session::RegisterResults,
    ) -> Result<(), capnp::Error> {
        let params = params.get()?;
        let connection = read_connection(params.get_connection()?)?;
        let known = SecretDigest::of(b"right").as_bytes() == params.get_secret_digest()?;
        let outcome = results.get().init_outcome();
        if known {
            write_accepted(
                Accepted {
                    remotely_managed: true,
                    config_version: 3,
                },
                outcome.init_accepted(),
            );
        } else {
            write_refused(&refused(), outcome.init_refused());
        }
        self.0.registered.borrow_mut().push(connection);
        Ok(())
    }

    async fn report_connections(
        self: Rc<Self>,
        params: edge_session::ReportConnectionsParams,
        mut results: edge_session::ReportConnectionsResults,
    ) -> Result<(), capnp::Error> {
        let params = params.get()?;
        assert_eq!(params.get_first(), self.0.reported.borrow().is_empty());
        for item in params.get_connections()? {
            self.0.reported.borrow_mut().push(read_connection(item)?);
        }
        if params.get_last() {
            let mut rejected = results.get().init_rejected(1);
            write_key(
                &self.0.reported.borrow()[0].key,
                rejected.reborrow().get(0).init_key(),
            );
            write_refused(&refused(), rejected.get(0).init_refused());
        }
        Ok(())
    }
}

fn snapshot(generation: u64) -> RouteSnapshot {
    let target = RouteTarget::Tunnel(TunnelId(Uuid::from_u128(1)));
    RouteSnapshot {
        generation,
        routes: (0..generation)
            .map(|n| (format!("h{n}.example.test").parse().unwrap(), target.clone()))
            .collect(),
        ..RouteSnapshot::default()
    }
}

fn disconnect() -> Disconnect {
    Disconnect {
        tunnel: TunnelId(Uuid::from_u128(1)),
        connector: Some(ConnectorId(Uuid::from_u128(2))),
        connection: None,
        reason: "the tunnel is deleted".into(),
    }
}

fn rival() -> Rival {
    Rival {
        edge: EdgeInfo {
            run: Uuid::from_u128(10),
            ..info()
        },
        address: "192.0.2.9:1024".into(),
    }
}

fn refused() -> Refused {
    Refused {
        cause: "Unauthorized: Invalid tunnel secret".into(),
        code: "bad-secret".into(),
        should_retry: false,
        retry_after: Duration::from_secs(30),
    }
}

fn connection(n: u128) -> Connection {
    Connection {
        key: ConnectionKey {
            tunnel: TunnelId(Uuid::from_u128(1)),
            connector: ConnectorId(Uuid::from_u128(2)),
            index: ConnIndex(3),
            connection: ConnectionId(Uuid::from_u128(n)),
        },
        account: "acct".parse().unwrap(),
        version: "1.0".into(),
        arch: "linux_amd64".into(),
        features: vec!["serialized_headers".into()],
        origin_address: "192.0.2.1".parse().unwrap(),
        opened_at: UNIX_EPOCH + Duration::from_millis(1_700_000_000_123),
    }
}

fn info() -> EdgeInfo {
    EdgeInfo {
        name: "edge-1".into(),
        colo: "LAB".into(),
        region: "WEU".into(),
        run: Uuid::from_u128(9),
        generation: 7,
        version: "0.1.0".into(),
    }
}

enum News {
    Snapshot(RouteSnapshot),
    Delta(SnapshotDelta),
    Disconnect(Disconnect),
    Replaced(Rival),
}

struct Receiver(tokio::sync::mpsc::Sender<News>);

impl EdgeReceiver for Receiver {
    fn handle_snapshot(&self, snapshot: RouteSnapshot) {
        self.0.try_send(News::Snapshot(snapshot)).unwrap();
    }
    fn handle_delta(&self, delta: SnapshotDelta) {
        self.0.try_send(News::Delta(delta)).unwrap();
    }
    fn handle_disconnect(&self, target: Disconnect) {
        self.0.try_send(News::Disconnect(target)).unwrap();
    }
    fn handle_replaced(&self, by: Rival) {
        self.0.try_send(News::Replaced(by)).unwrap();
    }
}

/// Runs `test` as the edge of a link whose control is scripted.
fn with_link<F: Future<Output = ()>>(test: impl FnOnce(EdgeGate, Rc<Scripted>) -> F) {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let scripted = Rc::new(Scripted::default());
        let (reader, writer) = theirs.into_split();
        let network = twoparty::VatNetwork::new(
            reader.compat(),
            writer.compat_write(),
            Side::Server,
            reader_options(),
        );
        let gate: edge_gate::Client = capnp_rpc::new_client(Gate(scripted.clone()));
        spawn_local(RpcSystem::new(Box::new(network), Some(gate.client)));
        let (reader, writer) = ours.into_split();
        let link = Link::over(reader.compat(), writer.compat_write());
        spawn_local(link.driver);
        tokio::time::timeout(Duration::from_secs(20), test(link.gate, scripted))
            .await
            .unwrap();
    });
}

#[test]
fn an_attached_edge_receives_a_large_snapshot_and_all_that_follows_in_order() {
    with_link(|gate, control| async move {
        let (sender, mut news) = tokio::sync::mpsc::channel(8);
        let _session = gate.attach(&info(), Receiver(sender)).await.unwrap();
        assert_eq!(*control.attached.borrow(), [info()]);
        let Some(News::Snapshot(got)) = news.recv().await else {
            panic!("a snapshot comes first")
        };
        assert!(got.same_content(&snapshot(20_000)) && got.generation == 20_000);
        let Some(News::Delta(delta)) = news.recv().await else {
            panic!("then a delta")
        };
        assert_eq!((delta.from, delta.to, delta.routes_set.len()), (1, 2, 1));
        let Some(News::Disconnect(target)) = news.recv().await else {
            panic!("then a disconnect")
        };
        assert_eq!(target, disconnect());
        let Some(News::Replaced(by)) = news.recv().await else {
            panic!("and who replaced it")
        };
        assert_eq!(by, rival());
    });
}

#[test]
fn registrations_carry_every_field_and_both_outcomes() {
    with_link(|gate, control| async move {
        let (sender, _news) = tokio::sync::mpsc::channel(8);
        let session = gate.attach(&info(), Receiver(sender)).await.unwrap();
        let accepted = session
            .register(&connection(1), &SecretDigest::of(b"right"))
            .await
            .unwrap();
        assert_eq!(
            accepted,
            RegisterOutcome::Accepted(Accepted {
                remotely_managed: true,
                config_version: 3
            })
        );
        let outcome = session
            .register(&connection(2), &SecretDigest::of(b"wrong"))
            .await
            .unwrap();
        assert_eq!(outcome, RegisterOutcome::Refused(refused()));
        assert_eq!(*control.registered.borrow(), [connection(1), connection(2)]);
    });
}

#[test]
fn a_long_report_travels_in_parts_and_an_empty_one_in_one() {
    with_link(|gate, control| async move {
        let (sender, _news) = tokio::sync::mpsc::channel(8);
        let session = gate.attach(&info(), Receiver(sender)).await.unwrap();
        let living: Vec<_> = (0..1201).map(connection).collect();
        let rejected = session.report_connections(&living).await.unwrap();
        assert_eq!(*control.reported.borrow(), living);
        assert_eq!(
            rejected,
            [Rejection {
                key: connection(0).key,
                refused: refused()
            }]
        );
    });
}

#[test]
fn long_texts_of_a_connector_are_clipped_and_do_not_fail_the_call() {
    with_link(|gate, control| async move {
        let (sender, _news) = tokio::sync::mpsc::channel(8);
        let session = gate.attach(&info(), Receiver(sender)).await.unwrap();
        let long = Connection {
            version: "é".repeat(5000),
            features: vec!["f".repeat(5000); FEATURES_MAX * 3],
            ..connection(1)
        };
        session
            .register(&long, &SecretDigest::of(b"right"))
            .await
            .unwrap();
        let got = control.registered.borrow()[0].clone();
        assert_eq!(got.version, "é".repeat(TEXT_BYTES_MAX / 2));
        assert_eq!(got.features.len(), FEATURES_MAX);
    });
}

#[test]
fn parts_out_of_order_are_refused_and_a_fresh_start_works() {
    let parts = split_snapshot(&snapshot(20_000)).unwrap();
    assert!(parts.len() > 1 && parts.iter().all(|part| part.body.len() <= PART_BYTES_MAX));
    let mut assembly = SnapshotAssembly::default();
    assert!(matches!(
        assembly.handle_part(&parts[1]),
        Err(PartError::OutOfOrder { .. })
    ));
    assembly.handle_part(&parts[0]).unwrap();
    assembly.handle_part(&parts[0]).unwrap();
    let mut done = None;
    for part in &parts[1..] {
        done = assembly.handle_part(part).unwrap();
    }
    assert!(done.unwrap().same_content(&snapshot(20_000)));
}
