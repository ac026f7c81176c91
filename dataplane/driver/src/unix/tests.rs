//! Unix streams carry bytes in both modes, and dialling one fails as the file system says.

use std::os::unix::net::UnixListener;
use std::thread;
use std::time::Instant;

use std::io::{Read, Write};

use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;
use crate::testing::{modes, on_core};

#[test]
fn an_origin_on_a_unix_socket_answers() {
    const LENGTH: usize = 1 << 20;
    for io in modes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("origin");
        let listener = UnixListener::bind(&path).unwrap();
        let origin = thread::spawn(move || {
            let (mut socket, _) = listener.accept().unwrap();
            let mut request = [0; 4];
            socket.read_exact(&mut request).unwrap();
            socket.write_all(&vec![9; LENGTH]).unwrap();
        });
        on_core(io, move || {
            let path = path.clone();
            async move {
                let mut stream = dial(io, &path, Duration::from_secs(10)).await.unwrap();
                stream.write_all(b"send").await.unwrap();
                let mut response = Vec::new();
                stream.read_to_end(&mut response).await.unwrap();
                assert!(response == vec![9; LENGTH]);
            }
        });
        origin.join().unwrap();
    }
}

#[test]
fn a_missing_socket_is_not_found_and_a_dead_one_refuses() {
    for io in modes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("origin");
        on_core(io, move || {
            let path = path.clone();
            async move {
                let timeout = Duration::from_secs(10);
                let missing = dial(io, &path, timeout).await.unwrap_err();
                assert_eq!(missing.kind(), io::ErrorKind::NotFound);
                drop(UnixListener::bind(&path).unwrap());
                let dead = dial(io, &path, timeout).await.unwrap_err();
                assert_eq!(dead.kind(), io::ErrorKind::ConnectionRefused);
            }
        });
    }
}

#[test]
fn a_full_queue_is_waited_for_until_the_deadline() {
    for io in modes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("origin");
        on_core(io, move || {
            let path = path.clone();
            async move {
                let listener = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
                listener.bind(&SockAddr::unix(&path).unwrap()).unwrap();
                listener.listen(0).unwrap();
                let first = dial(io, &path, Duration::from_secs(10)).await.unwrap();
                let started = Instant::now();
                let full = dial(io, &path, Duration::from_millis(30)).await.unwrap_err();
                assert_eq!(full.kind(), io::ErrorKind::TimedOut);
                assert!(started.elapsed() >= Duration::from_millis(30));
                let waiting = tokio::task::spawn_local({
                    let path = path.clone();
                    async move { dial(io, &path, Duration::from_secs(10)).await.map(drop) }
                });
                tokio::task::yield_now().await;
                listener.accept().unwrap();
                waiting.await.unwrap().unwrap();
                drop(first);
            }
        });
    }
}
