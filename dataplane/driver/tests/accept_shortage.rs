//! A listener outlives running out of descriptors. In its own process, because the limit is the process's.
#![expect(clippy::unwrap_used, reason = "a failed step is a failed test")]

use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use adit_driver::core::Cores;
use adit_driver::kernel::{IoChoice, IoMode, probe};
use adit_driver::tcp::{Listener, bind_group};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// Descriptors this test may use; small, so that exhausting them is quick.
const DESCRIPTORS: u64 = 256;

#[test]
fn connections_wait_while_descriptors_are_short_and_are_accepted_afterwards() {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    setrlimit(Resource::RLIMIT_NOFILE, DESCRIPTORS.min(hard), hard).unwrap();
    let mut modes = vec![IoMode::Portable];
    if probe(IoChoice::Auto).unwrap().mode == IoMode::Uring {
        modes.push(IoMode::Uring);
    }
    for io in modes {
        let cores = Cores::spawn(1, io, "shortage", move |_| check(io)).unwrap();
        cores.wait().unwrap();
    }
}

async fn check(io: IoMode) {
    let listener = bind_group(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), 1)
        .unwrap()
        .remove(0);
    let listener = Listener::from_std(listener, io).unwrap();
    let address = listener.local_addr().unwrap();
    let peers: Vec<_> = (0..3).map(|_| TcpStream::connect(address).unwrap()).collect();
    let mut hoard = Vec::new();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        hoard.push(file);
    }
    let short = tokio::time::timeout(Duration::from_millis(60), listener.accept()).await;
    assert!(short.is_err(), "no descriptor was left for {short:?}");
    drop(hoard);
    for peer in &peers {
        let (_, from) = listener.accept().await.unwrap();
        assert_eq!(from, peer.local_addr().unwrap());
    }
}
