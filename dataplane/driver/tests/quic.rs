//! Two endpoints over loopback, in both I/O modes: bytes, ends, codes, limits, and which core gets what.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]
#![expect(clippy::print_stdout, reason = "a skipped mode is named")]

use std::cell::RefCell;
use std::net::{SocketAddr, UdpSocket};
use std::rc::Rc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use adit_driver::core::{CoreContext, Cores};
use adit_driver::kernel::{IoChoice, IoMode, probe};
use adit_driver::quic::{
    ClientConfig, Connection, Endpoint, EndpointOptions, ReadError, RecvStream, ServerConfig,
    TransportSettings, WindowBudget, WriteError, client_config, server_config,
};
use adit_driver::udp;
use bytes::Bytes;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};

const NAME: &str = "edge.test";
const DEADLINE: Duration = Duration::from_secs(60);

fn modes() -> Vec<IoMode> {
    let mut modes = vec![IoMode::Portable];
    match probe(IoChoice::Uring) {
        Ok(_) => modes.push(IoMode::Uring),
        Err(error) => println!("skipped: io_uring mode: {error}"),
    }
    modes
}

fn configs(settings: &TransportSettings) -> (ServerConfig, ClientConfig) {
    let made = rcgen::generate_simple_self_signed(vec![NAME.into()]).unwrap();
    let certificate: CertificateDer<'static> = made.cert.der().clone();
    let key = PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut server = rustls::ServerConfig::builder_with_provider(provider.clone())
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    server.alpn_protocols = vec![b"argotunnel".to_vec()];
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let mut client = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    client.alpn_protocols = vec![b"argotunnel".to_vec()];
    (
        server_config(server, settings).unwrap(),
        client_config(client, settings).unwrap(),
    )
}

/// Runs `main` on `count` cores and fails the test when one panics or the deadline passes.
fn on_cores<F, Fut>(count: usize, io: IoMode, main: F)
where
    F: Fn(CoreContext) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = ()> + 'static,
{
    let cores = Cores::spawn(count, io, "test", move |context| {
        let main = main(context);
        async move {
            tokio::time::timeout(DEADLINE, main)
                .await
                .expect("done before the deadline")
        }
    })
    .expect("cores start");
    cores.wait().expect("no core panicked");
}

/// Runs `test` on one core with a connected pair.
fn on_pair<F, Fut>(settings: TransportSettings, test: F)
where
    F: Fn(Connection, Connection) -> Fut + Send + Sync + Clone + 'static,
    Fut: Future<Output = ()> + 'static,
{
    for io in modes() {
        let (server, client) = configs(&settings);
        let test = test.clone();
        on_cores(1, io, move |context| {
            let (server, client, test) = (server.clone(), client.clone(), test.clone());
            async move {
                let socket = udp::bind_group(loopback(), 1).unwrap().remove(0);
                let listener = Endpoint::listen(socket, server, EndpointOptions::new(context)).unwrap();
                let dialler = Endpoint::client(loopback(), EndpointOptions::new(context)).unwrap();
                let (near, far) = tokio::join!(
                    dialler.dial(&client, listener.local_addr(), NAME),
                    listener.accept()
                );
                let (near, far) = (near.unwrap(), far.unwrap());
                assert_eq!(far.alpn().as_deref(), Some(b"argotunnel".as_slice()));
                test(near, far).await;
                dialler.close(0, b"");
                dialler.idle().await;
                listener.idle().await;
                assert_eq!(listener.stats().connections, 0);
            }
        });
    }
}

fn loopback() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn pattern(start: usize, length: usize) -> Bytes {
    (start..start + length)
        .map(|at| (at % 251) as u8)
        .collect::<Vec<_>>()
        .into()
}

/// Packets grow to what the settings allow on a route like loopback's, whose frames take 64 KiB.
fn packets_grow_to(settings: TransportSettings, expected: u16) {
    on_pair(settings, move |near, far| async move {
        // Probes go out beside data, so there is some until both sides have found their size.
        while near.stats().mtu < expected || far.stats().mtu < expected {
            let (mut send, _recv) = near.open_bi().await.unwrap();
            send.write(pattern(0, 20_000)).await.unwrap();
            send.finish();
            let (mut back, mut recv) = far.accept_bi().await.unwrap();
            while recv.read_chunk().await.unwrap().is_some() {}
            back.write(pattern(0, 20_000)).await.unwrap();
            back.finish();
        }
        let found = [near.stats().mtu, far.stats().mtu];
        assert_eq!(found, [expected; 2], "neither side went beyond the limit");
    });
}

#[test]
fn jumbo_frames_are_used_where_the_route_takes_them() {
    packets_grow_to(TransportSettings::default(), 8952);
}

#[test]
fn packets_keep_to_the_usual_size_when_jumbo_is_off() {
    let usual = TransportSettings::default().mtu_max;
    let settings = TransportSettings {
        jumbo_mtu_max: usual,
        ..TransportSettings::default()
    };
    packets_grow_to(settings, usual);
}

#[test]
fn megabytes_pass_both_ways_in_order() {
    const TOTAL: usize = 32 << 20;
    const CHUNK: usize = 60_000;
    async fn send(connection: Connection) {
        let (mut send, mut recv) = connection.open_bi().await.unwrap();
        let writing = async {
            let mut at = 0;
            while at < TOTAL {
                let length = CHUNK.min(TOTAL - at);
                send.write(pattern(at, length)).await.unwrap();
                at += length;
            }
            send.finish();
        };
        let reading = async {
            let mut at = 0;
            while let Some(chunk) = recv.read_chunk().await.unwrap() {
                assert_eq!(chunk, pattern(at, chunk.len()));
                at += chunk.len();
            }
            assert_eq!(at, TOTAL);
        };
        tokio::join!(writing, reading);
    }
    on_pair(TransportSettings::default(), |near, far| async move {
        let echo = async {
            let (mut send, mut recv) = far.accept_bi().await.unwrap();
            while let Some(chunk) = recv.read_chunk().await.unwrap() {
                send.write(chunk).await.unwrap();
            }
            send.finish();
        };
        tokio::join!(send(near), echo);
    });
}

#[test]
fn many_streams_run_at_once() {
    on_pair(TransportSettings::default(), |near, far| async move {
        let serving = tokio::task::spawn_local(async move {
            while let Ok((mut send, mut recv)) = far.accept_bi().await {
                tokio::task::spawn_local(async move {
                    while let Some(chunk) = recv.read_chunk().await.unwrap() {
                        send.write(chunk).await.unwrap();
                    }
                    send.finish();
                });
            }
        });
        let asking: Vec<_> = (0..500)
            .map(|index| {
                let near = near.clone();
                tokio::task::spawn_local(async move {
                    let (mut send, mut recv) = near.open_bi().await.unwrap();
                    send.write(pattern(index, 100)).await.unwrap();
                    send.finish();
                    let mut got = Vec::new();
                    while let Some(chunk) = recv.read_chunk().await.unwrap() {
                        got.extend_from_slice(&chunk);
                    }
                    assert_eq!(got, pattern(index, 100));
                })
            })
            .collect();
        for task in asking {
            task.await.unwrap();
        }
        near.close(0, b"");
        serving.await.unwrap();
    });
}

#[test]
fn a_slow_reader_holds_the_writer_back_at_one_window() {
    let settings = TransportSettings {
        stream_window_bytes: 64 << 10,
        send_window_bytes: 64 << 10,
        ..Default::default()
    };
    on_pair(settings, |near, far| async move {
        let (mut send, _recv) = near.open_bi().await.unwrap();
        let written = Rc::new(RefCell::new(0));
        let counter = written.clone();
        let writing = tokio::task::spawn_local(async move {
            for _ in 0..64 {
                send.write(pattern(0, 16 << 10)).await.unwrap();
                *counter.borrow_mut() += 16 << 10;
            }
            send.finish();
        });
        let (_send, mut recv) = far.accept_bi().await.unwrap();
        // What is in flight is bounded by both windows, however long nobody reads.
        let mut previous = usize::MAX;
        while previous != *written.borrow() {
            previous = *written.borrow();
            tokio::time::timeout(Duration::from_millis(200), near.closed())
                .await
                .unwrap_err();
        }
        assert!(
            previous <= 192 << 10,
            "{previous} bytes were accepted ahead of the reader"
        );
        let mut total = 0;
        while let Some(chunk) = recv.read_chunk().await.unwrap() {
            total += chunk.len();
        }
        assert_eq!(total, 1 << 20);
        writing.await.unwrap();
    });
}

/// Sends on a new stream for as long as the peer takes it; counts what was handed over.
async fn send_for_ever(connection: &Connection, written: Rc<RefCell<usize>>) -> RecvStream {
    let (mut send, recv) = connection.open_bi().await.unwrap();
    tokio::task::spawn_local(async move {
        while send.write(pattern(0, 8 << 10)).await.is_ok() {
            *written.borrow_mut() += 8 << 10;
        }
    });
    recv
}

#[test]
fn streams_that_nobody_reads_leave_the_others_their_connection() {
    const STALLED: usize = 300;
    let settings = TransportSettings {
        peer_streams_max: 400,
        ..Default::default()
    };
    on_pair(settings, |near, far| async move {
        let written = Rc::new(RefCell::new(0));
        let mut unread = Vec::new();
        for _ in 0..STALLED {
            // Held, so that nobody is told to stop.
            let answer = send_for_ever(&near, written.clone()).await;
            unread.push((answer, far.accept_bi().await.unwrap()));
        }
        for index in 0..50 {
            let asking = async {
                let (mut send, mut recv) = near.open_bi().await.unwrap();
                send.write(pattern(index, 20_000)).await.unwrap();
                send.finish();
                while recv.read_chunk().await.unwrap().is_some() {}
            };
            let answering = async {
                let (mut send, mut recv) = far.accept_bi().await.unwrap();
                while let Some(chunk) = recv.read_chunk().await.unwrap() {
                    send.write(chunk).await.unwrap();
                }
                send.finish();
            };
            tokio::join!(asking, answering);
        }
        let held = *written.borrow();
        assert!(
            held <= STALLED * ((64 << 10) + (8 << 10)),
            "{held} bytes lie unread"
        );
        near.close(0, b"");
    });
}

#[test]
fn the_window_of_a_fast_reader_grows_and_is_given_back() {
    let budget = WindowBudget::new(64 << 20);
    let settings = TransportSettings {
        window_budget: budget.clone(),
        ..Default::default()
    };
    on_pair(settings, move |near, far| {
        let budget = budget.clone();
        async move {
            let _answer = send_for_ever(&near, Rc::default()).await;
            let (_send, mut recv) = far.accept_bi().await.unwrap();
            // Like a visitor who takes what comes: sooner or later he waits for more.
            while budget.taken() < 192 << 10 {
                recv.read_chunk().await.unwrap().unwrap();
            }
            drop(recv);
            assert_eq!(budget.taken(), 0);
            near.close(0, b"");
        }
    });
}

#[test]
fn the_window_of_a_slow_reader_stays_what_it_was() {
    let budget = WindowBudget::new(64 << 20);
    let settings = TransportSettings {
        window_budget: budget.clone(),
        ..Default::default()
    };
    on_pair(settings, move |near, far| {
        let budget = budget.clone();
        async move {
            let written = Rc::new(RefCell::new(0));
            let _answer = send_for_ever(&near, written.clone()).await;
            let (_send, mut recv) = far.accept_bi().await.unwrap();
            for _ in 0..100 {
                // The writer is ahead by a window whenever the reader comes back.
                let mut before = usize::MAX;
                while before != *written.borrow() {
                    before = *written.borrow();
                    tokio::time::timeout(Duration::from_millis(10), near.closed())
                        .await
                        .unwrap_err();
                }
                recv.read_chunk().await.unwrap().unwrap();
            }
            assert_eq!(budget.taken(), 0);
            near.close(0, b"");
        }
    });
}

#[test]
fn whoever_asks_a_connection_again_and_again_waits_once() {
    on_pair(TransportSettings::default(), |near, _far| async move {
        let before = near.waiting();
        let mut closed = std::pin::pin!(near.closed());
        let mut doubted = std::pin::pin!(near.doubted());
        for _ in 0..1_000 {
            tokio::select! {
                biased;
                _ = &mut closed => panic!("nobody has closed it"),
                () = &mut doubted => panic!("nobody is late"),
                () = tokio::task::yield_now() => {}
            }
        }
        // And those who have given up do not wait.
        for _ in 0..1_000 {
            tokio::select! {
                biased;
                _ = near.closed() => panic!("nobody has closed it"),
                () = near.doubted() => panic!("nobody is late"),
                () = tokio::task::yield_now() => {}
            }
        }
        assert_eq!(near.waiting(), before + 2);
    });
}

#[test]
fn writers_share_a_connection_whose_window_is_full() {
    const WRITERS: usize = 32;
    const TOTAL: usize = 32 << 20;
    const SENT_AHEAD: usize = 256 << 10;
    let settings = TransportSettings {
        // Nobody waits for the window of a stream.
        stream_window_bytes: 4 << 20,
        send_window_bytes: SENT_AHEAD as u64,
        ..Default::default()
    };
    on_pair(settings, |near, far| async move {
        for _ in 0..WRITERS {
            let (mut send, _recv) = near.open_bi().await.unwrap();
            tokio::task::spawn_local(async move {
                // Like one that reads from a socket in between.
                while send.write(pattern(0, 16 << 10)).await.is_ok() {
                    tokio::task::yield_now().await;
                }
            });
        }
        let received = Rc::new(RefCell::new([0; WRITERS]));
        let enough = Rc::new(tokio::sync::Notify::new());
        for index in 0..WRITERS {
            let (_send, mut recv) = far.accept_bi().await.unwrap();
            let (received, enough) = (received.clone(), enough.clone());
            tokio::task::spawn_local(async move {
                while let Ok(Some(chunk)) = recv.read_chunk().await {
                    received.borrow_mut()[index] += chunk.len();
                    if received.borrow().iter().sum::<usize>() >= TOTAL {
                        enough.notify_one();
                    }
                }
            });
        }
        // Whoever comes now does not have to wait until all of them have had their turn.
        let (mut send, _recv) = near.open_bi().await.unwrap();
        while received.borrow().iter().sum::<usize>() < TOTAL / 2 {
            tokio::task::yield_now().await;
        }
        let before = *received.borrow();
        send.write(pattern(0, 1 << 10)).await.unwrap();
        let after = *received.borrow();
        let meanwhile: usize = after.iter().sum::<usize>() - before.iter().sum::<usize>();
        assert!(
            // What was written before goes before; a turn of all writers would come on top.
            meanwhile <= SENT_AHEAD + WRITERS * (16 << 10) / 2,
            "{meanwhile} bytes went before"
        );
        enough.notified().await;
        let slowest = *received.borrow().iter().min().unwrap();
        near.close(0, b"");
        let mean = TOTAL / WRITERS;
        assert!(
            slowest >= mean / 2,
            "the slowest has {slowest} bytes of {mean} in the mean"
        );
    });
}

#[test]
fn one_read_takes_all_that_has_arrived_and_the_next_one_finds_the_end() {
    on_pair(TransportSettings::default(), |near, far| async move {
        let (mut send, _recv) = near.open_bi().await.unwrap();
        send.write(pattern(0, 50_000)).await.unwrap();
        send.finish();
        // Ready once everything was acknowledged, so all of it has arrived.
        assert_eq!(send.stopped().await, None);
        let (_far_send, mut far_recv) = far.accept_bi().await.unwrap();
        let mut chunks = far_recv.read_chunks().await.unwrap().unwrap();
        assert_eq!(chunks.len(), 50_000);
        let mut at = 0;
        while let Some(chunk) = chunks.pop() {
            assert_eq!(chunk, pattern(at, chunk.len()));
            at += chunk.len();
        }
        assert!(far_recv.read_chunks().await.unwrap().is_none());
        assert!(far_recv.read_chunk().await.unwrap().is_none());
    });
}

#[test]
fn a_flood_is_read_in_bounded_parts() {
    let settings = TransportSettings {
        jumbo_mtu_max: 1452,
        ..TransportSettings::default()
    };
    on_pair(settings, |near, far| async move {
        let (mut send, _recv) = near.open_bi().await.unwrap();
        let sent = 1 << 20;
        let writing = tokio::task::spawn_local(async move {
            send.write(pattern(0, sent)).await.unwrap();
            send.finish();
            send.stopped().await
        });
        let (_far_send, mut far_recv) = far.accept_bi().await.unwrap();
        let mut at = 0;
        let mut largest = 0;
        while let Some(mut chunks) = far_recv.read_chunks().await.unwrap() {
            largest = largest.max(chunks.len());
            while let Some(chunk) = chunks.pop() {
                assert_eq!(chunk, pattern(at, chunk.len()));
                at += chunk.len();
            }
        }
        assert_eq!(at, sent);
        assert!((10_000..=200_000).contains(&largest), "{largest} bytes at once");
        assert_eq!(writing.await.unwrap(), None);
    });
}

#[test]
fn reset_and_stop_carry_their_codes() {
    on_pair(TransportSettings::default(), |near, far| async move {
        let (mut send, mut recv) = near.open_bi().await.unwrap();
        send.write(Bytes::from_static(b"x")).await.unwrap();
        let (mut far_send, mut far_recv) = far.accept_bi().await.unwrap();
        assert!(far_recv.read_chunks().await.unwrap().is_some());
        send.reset(7);
        assert!(matches!(far_recv.read_chunks().await, Err(ReadError::Reset(7))));
        recv.stop(9);
        assert_eq!(far_send.stopped().await, Some(9));
        assert!(matches!(
            far_send.write(Bytes::from_static(b"y")).await,
            Err(WriteError::Stopped(9))
        ));
    });
}

#[test]
fn dropped_halves_tell_the_peer() {
    on_pair(TransportSettings::default(), |near, far| async move {
        let (mut send, recv) = near.open_bi().await.unwrap();
        send.write(Bytes::from_static(b"x")).await.unwrap();
        let (mut far_send, mut far_recv) = far.accept_bi().await.unwrap();
        assert!(far_recv.read_chunk().await.unwrap().is_some());
        drop((send, recv));
        assert!(matches!(far_recv.read_chunk().await, Err(ReadError::Reset(0))));
        assert_eq!(far_send.stopped().await, Some(0));
    });
}

#[test]
fn close_reaches_waiting_tasks_with_its_code() {
    on_pair(TransportSettings::default(), |near, far| async move {
        let (_send, mut recv) = near.open_bi().await.unwrap();
        let reading = tokio::task::spawn_local(async move { recv.read_chunk().await });
        let accepting = tokio::task::spawn_local({
            let far = far.clone();
            async move { far.accept_bi().await.map(|_| ()) }
        });
        near.close(42, b"bye");
        assert!(matches!(
            reading.await.unwrap(),
            Err(ReadError::ConnectionLost(_))
        ));
        assert_eq!(far.closed().await.application_code(), Some(42));
        assert_eq!(accepting.await.unwrap().unwrap_err().application_code(), Some(42));
    });
}

#[test]
fn datagrams_arrive() {
    on_pair(TransportSettings::default(), |near, far| async move {
        near.send_datagram(Bytes::from_static(b"ping"));
        assert_eq!(far.read_datagram().await.unwrap(), Bytes::from_static(b"ping"));
    });
}

#[test]
fn a_silent_peer_ends_the_dial_at_the_idle_timeout() {
    for io in modes() {
        let settings = TransportSettings {
            idle_timeout: Duration::from_millis(300),
            ..Default::default()
        };
        let (_, client) = configs(&settings);
        on_cores(1, io, move |context| {
            let client = client.clone();
            async move {
                let silent = UdpSocket::bind(loopback()).unwrap();
                let dialler = Endpoint::client(loopback(), EndpointOptions::new(context)).unwrap();
                let error = dialler
                    .dial(&client, silent.local_addr().unwrap(), NAME)
                    .await
                    .unwrap_err();
                assert!(error.to_string().contains("timed out"), "{error}");
            }
        });
    }
}

#[test]
fn connections_live_on_the_core_that_accepted_them_even_when_their_address_changes() {
    for io in modes() {
        steering(io);
    }
}

/// Two listening cores; clients dial through a relay that changes its port half-way.
fn steering(io: IoMode) {
    const CLIENTS: usize = 16;
    let (server, client) = configs(&TransportSettings::default());
    let sockets = udp::bind_group(loopback(), 2).unwrap();
    let edge = sockets[0].local_addr().unwrap();
    let sockets = Arc::new(Mutex::new(sockets.into_iter().map(Some).collect::<Vec<_>>()));
    let accepted: Arc<[AtomicUsize; 2]> = Arc::default();
    let strays = Arc::new(AtomicUsize::new(0));
    let is_over = Arc::new(AtomicBool::new(false));
    let (counts, stray_count, over) = (accepted.clone(), strays.clone(), is_over.clone());
    let listening = Cores::spawn(2, io, "listen", move |context| {
        let socket = sockets.lock().unwrap()[usize::from(context.id.0)].take().unwrap();
        let (server, counts, strays, over) =
            (server.clone(), counts.clone(), stray_count.clone(), over.clone());
        async move {
            let endpoint = Endpoint::listen(socket, server, EndpointOptions::new(context)).unwrap();
            endpoint.set_stray_sink({
                let strays = strays.clone();
                move |_, _| {
                    strays.fetch_add(1, Ordering::Relaxed);
                }
            });
            while !over.load(Ordering::Relaxed) {
                let next = tokio::time::timeout(Duration::from_millis(20), endpoint.accept());
                let Ok(Some(connection)) = next.await else {
                    continue;
                };
                counts[usize::from(context.id.0)].fetch_add(1, Ordering::Relaxed);
                tokio::task::spawn_local(async move {
                    while let Ok((mut send, mut recv)) = connection.accept_bi().await {
                        while let Ok(Some(chunk)) = recv.read_chunk().await {
                            send.write(chunk).await.unwrap();
                        }
                        send.finish();
                    }
                });
            }
        }
    })
    .unwrap();
    on_cores(1, io, move |context| {
        let client = client.clone();
        async move {
            for _ in 0..CLIENTS {
                let relay = Relay::start(edge);
                let dialler = Endpoint::client(loopback(), EndpointOptions::new(context)).unwrap();
                let connection = dialler.dial(&client, relay.front, NAME).await.unwrap();
                ask(&connection).await;
                relay.change_port();
                ask(&connection).await;
                connection.close(0, b"");
            }
        }
    });
    is_over.store(true, Ordering::Relaxed);
    listening.wait().unwrap();
    let counts = accepted.each_ref().map(|count| count.load(Ordering::Relaxed));
    assert_eq!(
        counts.iter().sum::<usize>(),
        CLIENTS,
        "each client was accepted once: {counts:?}"
    );
    assert!(
        counts.iter().all(|count| *count > 0),
        "both cores took connections: {counts:?}"
    );
    assert_eq!(
        strays.load(Ordering::Relaxed),
        0,
        "every packet arrived on its own core"
    );
}

async fn ask(connection: &Connection) {
    let (mut send, mut recv) = connection.open_bi().await.unwrap();
    send.write(pattern(3, 5000)).await.unwrap();
    send.finish();
    let mut got = Vec::new();
    while let Some(chunk) = recv.read_chunk().await.unwrap() {
        got.extend_from_slice(&chunk);
    }
    assert_eq!(got, pattern(3, 5000));
}

/// Forwards datagrams between one client and the edge, from a port that can be exchanged.
struct Relay {
    front: SocketAddr,
    back: Arc<Mutex<Arc<UdpSocket>>>,
    edge: SocketAddr,
    client: Arc<Mutex<Option<SocketAddr>>>,
    socket: Arc<UdpSocket>,
}

impl Relay {
    fn start(edge: SocketAddr) -> Self {
        let socket = Arc::new(UdpSocket::bind(loopback()).unwrap());
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let relay = Self {
            front: socket.local_addr().unwrap(),
            back: Arc::new(Mutex::new(Arc::new(UdpSocket::bind(loopback()).unwrap()))),
            edge,
            client: Arc::default(),
            socket: socket.clone(),
        };
        relay.listen_back();
        let (back, client) = (relay.back.clone(), relay.client.clone());
        std::thread::spawn(move || {
            let mut buffer = [0; 65_536];
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                *client.lock().unwrap() = Some(from);
                let back = back.lock().unwrap().clone();
                let _ = back.send_to(&buffer[..length], edge);
            }
        });
        relay
    }

    fn change_port(&self) {
        *self.back.lock().unwrap() = Arc::new(UdpSocket::bind(loopback()).unwrap());
        self.listen_back();
    }

    fn listen_back(&self) {
        let back = self.back.lock().unwrap().clone();
        back.set_read_timeout(Some(DEADLINE)).unwrap();
        let (front, client, edge) = (self.socket.clone(), self.client.clone(), self.edge);
        std::thread::spawn(move || {
            let mut buffer = [0; 65_536];
            while let Ok((length, from)) = back.recv_from(&mut buffer) {
                assert_eq!(from, edge);
                let client = client.lock().unwrap().expect("the client spoke first");
                let _ = front.send_to(&buffer[..length], client);
            }
        });
    }
}
