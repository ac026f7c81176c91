//! Listeners share ports, survive shortages and close; dials end by success, refusal or deadline.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr, TcpStream};
use std::rc::Rc;
use std::time::Instant;

use tokio::io::AsyncReadExt;
use tokio::task::spawn_local;

use super::*;
use crate::testing::{modes, on_core};

const LOCALHOST: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

fn listen(io: IoMode) -> (Listener, SocketAddr) {
    let listener = bind_group(LOCALHOST, 1).unwrap().remove(0);
    let listener = Listener::from_std(listener, io).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

#[test]
fn a_group_shares_one_port_and_is_never_empty() {
    let group = bind_group(LOCALHOST, 3).unwrap();
    let ports: BTreeSet<_> = group
        .iter()
        .map(|listener| listener.local_addr().unwrap().port())
        .collect();
    assert_eq!((group.len(), ports.len()), (3, 1));
    assert_eq!(
        bind_group(LOCALHOST, 0).unwrap_err().kind(),
        io::ErrorKind::InvalidInput
    );
}

#[test]
fn an_ipv6_wildcard_takes_ipv4_too() {
    let Ok(group) = bind_group(SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0)), 1) else {
        println!("skipped: this machine has no IPv6");
        return;
    };
    let port = group[0].local_addr().unwrap().port();
    TcpStream::connect((Ipv4Addr::LOCALHOST, port)).unwrap();
}

#[test]
fn every_connection_to_a_group_is_accepted_by_one_of_its_listeners() {
    const CONNECTIONS: usize = 64;
    for io in modes() {
        on_core(io, move || async move {
            let group = bind_group(LOCALHOST, 2).unwrap();
            let address = group[0].local_addr().unwrap();
            let peers: Vec<_> = (0..CONNECTIONS)
                .map(|_| TcpStream::connect(address).unwrap())
                .collect();
            let mut expected: BTreeSet<_> = peers.iter().map(|peer| peer.local_addr().unwrap()).collect();
            let (sender, mut accepted) = tokio::sync::mpsc::channel(CONNECTIONS);
            for listener in group {
                let sender = sender.clone();
                let listener = Listener::from_std(listener, io).unwrap();
                spawn_local(async move {
                    while let Ok((stream, peer)) = listener.accept().await {
                        sender.send((stream, peer)).await.unwrap();
                    }
                });
            }
            while !expected.is_empty() {
                let (_, peer) = accepted.recv().await.unwrap();
                assert!(expected.remove(&peer), "{peer} connected once");
            }
        });
    }
}

#[test]
fn accepted_and_dialled_sockets_send_small_writes_at_once() {
    on_core(IoMode::Portable, || async {
        let (listener, address) = listen(IoMode::Portable);
        let peer = TcpStream::connect(address).unwrap();
        let (_stream, from) = listener.accept().await.unwrap();
        assert_eq!(from, peer.local_addr().unwrap());
    });
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    sockopt::no_delay(SockRef::from(&socket)).unwrap();
    sockopt::keep_alive(SockRef::from(&socket), Duration::from_millis(1)).unwrap();
    assert!(socket.tcp_nodelay().unwrap());
    assert_eq!(socket.tcp_keepalive_time().unwrap(), Duration::from_secs(1));
}

#[test]
fn a_dropped_accept_future_loses_no_connection() {
    for io in modes() {
        on_core(io, move || async move {
            let (listener, address) = listen(io);
            for _ in 0..10 {
                {
                    let mut accepting = Box::pin(listener.accept());
                    assert!(futures_util::poll!(&mut accepting).is_pending());
                }
                let peer = TcpStream::connect(address).unwrap();
                let (_, from) = listener.accept().await.unwrap();
                assert_eq!(from, peer.local_addr().unwrap());
            }
        });
    }
}

#[test]
fn closing_ends_a_waiting_accept_and_refuses_connections() {
    for io in modes() {
        on_core(io, move || async move {
            let (listener, address) = listen(io);
            let listener = Rc::new(listener);
            let accepting = spawn_local({
                let listener = Rc::clone(&listener);
                async move { listener.accept().await.map(drop) }
            });
            // Proves that the accept is waiting: it takes a connection, and another one waits after it.
            drop(TcpStream::connect(address).unwrap());
            accepting.await.unwrap().unwrap();
            let accepting = spawn_local({
                let listener = Rc::clone(&listener);
                async move { listener.accept().await.map(drop) }
            });
            tokio::task::yield_now().await;
            listener.close();
            let error = accepting.await.unwrap().unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotConnected);
            assert!(listener.accept().await.is_err());
            assert!(TcpStream::connect(address).is_err());
            listener.close();
        });
    }
}

#[test]
fn a_refused_dial_says_so() {
    for io in modes() {
        on_core(io, move || async move {
            let (listener, address) = listen(io);
            drop(listener);
            let error = dial(io, address, &DialOptions::default()).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        });
    }
}

/// A listener whose queue is full: the kernel ignores further SYNs, so dials to it hang.
fn silent_listener() -> (Socket, Vec<Socket>) {
    let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    listener.bind(&LOCALHOST.into()).unwrap();
    listener.listen(0).unwrap();
    let address = listener.local_addr().unwrap();
    let fillers = (0..4).map(|_| {
        let filler = Socket::new(Domain::IPV4, Type::STREAM.nonblocking(), None).unwrap();
        let _ = filler.connect(&address);
        filler
    });
    let fillers = fillers.collect();
    (listener, fillers)
}

#[test]
fn a_dial_without_answer_times_out_and_its_socket_is_closed() {
    for io in modes() {
        on_core(io, move || async move {
            let (listener, _fillers) = silent_listener();
            let address = listener.local_addr().unwrap().as_socket().unwrap();
            let options = DialOptions {
                connect_timeout: Duration::from_millis(50),
                keep_alive: None,
                ..DialOptions::default()
            };
            let started = Instant::now();
            let before = sockets_towards(address);
            let error = dial(io, address, &options).await.unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            assert!(started.elapsed() < Duration::from_secs(5));
            until(|| sockets_towards(address) == before).await;
        });
    }
}

#[test]
fn a_dropped_dial_closes_its_socket() {
    for io in modes() {
        on_core(io, move || async move {
            let (listener, _fillers) = silent_listener();
            let address = listener.local_addr().unwrap().as_socket().unwrap();
            let before = sockets_towards(address);
            let options = DialOptions::default();
            {
                let mut dialling = Box::pin(dial(io, address, &options));
                assert!(futures_util::poll!(&mut dialling).is_pending());
                // The attempt reaches the kernel when the runtime has nothing else to do.
                let connecting = until(|| sockets_towards(address) == before + 1);
                tokio::select! {
                    _ = &mut dialling => unreachable!("nobody answers"),
                    () = connecting => {}
                }
            }
            until(|| sockets_towards(address) == before).await;
        });
    }
}

/// Sockets of this machine that are connecting to `address`. Others with its port number come and go.
fn sockets_towards(address: SocketAddr) -> usize {
    const SYN_SENT: &str = "02";
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let remote = format!(":{:04X}", address.port());
    let rows = table.lines().skip(1).filter(|row| {
        let columns: Vec<_> = row.split_whitespace().collect();
        columns[2].ends_with(&remote) && columns[3] == SYN_SENT
    });
    rows.count()
}

async fn until(condition: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(
            Instant::now() < deadline,
            "the condition holds within its deadline"
        );
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[test]
fn errors_of_accept_are_sorted_by_what_they_concern() {
    for (code, expected) in [
        (libc::ECONNABORTED, Failure::Connection),
        (libc::EINTR, Failure::Connection),
        (libc::EMFILE, Failure::Shortage),
        (libc::ENFILE, Failure::Shortage),
        (libc::ENOMEM, Failure::Shortage),
        (libc::EBADF, Failure::Listener),
        (libc::EINVAL, Failure::Listener),
    ] {
        assert_eq!(
            Failure::of(&io::Error::from_raw_os_error(code)),
            expected,
            "errno {code}"
        );
    }
    assert_eq!(Failure::of(&io::Error::other("no errno")), Failure::Listener);
}

#[test]
fn a_shortage_pauses_longer_each_time_up_to_a_limit() {
    on_core(IoMode::Portable, || async {
        let shortage = io::Error::from_raw_os_error(libc::EMFILE);
        let (listener, address) = listen(IoMode::Portable);
        listener.pause(&shortage).await;
        assert_eq!(listener.shortage_pause.get(), Some(SHORTAGE_PAUSE_MIN));
        listener.pause(&shortage).await;
        assert_eq!(listener.shortage_pause.get(), Some(SHORTAGE_PAUSE_MIN * 2));
        let peer = TcpStream::connect(address).unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        assert_eq!(listener.shortage_pause.get(), None);
        drop(peer);
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
    });
}
