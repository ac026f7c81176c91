//! The API's listener: HTTP/1.1 with a limit on everything a caller can hold open.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::{Service as _, service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::silent::Silent;

/// Connections at once. Above it, one that has no request under way is closed for the next, the longest
/// silent first, so half heads keep nobody out. If all have one, callers wait in the kernel's queue.
const CONNECTIONS_MAX: usize = 512;

/// Largest body: a configuration of the largest size, and its wrapping.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// Largest head; hyper answers 431 above it.
const HEAD_BYTES_MAX: usize = 32 * 1024;

/// How long a head may take, and a kept connection may idle.
const HEAD_TIME: Duration = Duration::from_secs(10);

/// Pause after a failed accept, so that the loop does not spin while descriptors are short.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The other end of the connection that a request came on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

/// Serves `router` until `stop` resolves; then no connection is accepted, and what runs has `stop_time`.
pub(super) async fn serve(
    listener: TcpListener,
    router: Router,
    stop: impl Future<Output = ()>,
    stop_time: Duration,
    on_accept_failed: impl Fn(),
) {
    let router = router.layer(DefaultBodyLimit::max(BODY_BYTES_MAX));
    let slots = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let silent = Silent::default();
    let graceful = GracefulShutdown::new();
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIME)
        .max_buf_size(HEAD_BYTES_MAX);
    let accept = async {
        loop {
            match listener.accept().await {
                Ok((stream, address)) => {
                    if slots.available_permits() == 0 {
                        silent.close_oldest();
                    }
                    let Ok(slot) = slots.clone().acquire_owned().await else {
                        return;
                    };
                    let routes = TowerToHyperService::new(router.clone());
                    let seat = silent.seat();
                    let talking = seat.clone();
                    let service = service_fn(move |mut request: hyper::Request<Incoming>| {
                        request.extensions_mut().insert(Peer(address));
                        talking.speaks();
                        let (answer, talking) = (routes.call(request), talking.clone());
                        async move {
                            let answer = answer.await;
                            talking.is_silent();
                            answer
                        }
                    });
                    let connection = graceful.watch(http.serve_connection(TokioIo::new(stream), service));
                    tokio::spawn(async move {
                        tokio::select! {
                            ended = connection => if let Err(error) = ended {
                                tracing::debug!(%error, "an API connection ended badly");
                            },
                            () = seat.closed() => tracing::debug!("a silent API connection made room"),
                        }
                        seat.speaks();
                        drop(slot);
                    });
                }
                Err(error) => {
                    on_accept_failed();
                    tracing::error!(%error, "cannot accept an API connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    tokio::select! {
        () = accept => {}
        () = stop => {}
    }
    drop(listener);
    if tokio::time::timeout(stop_time, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!("some API requests were cut off by the stop");
    }
}
