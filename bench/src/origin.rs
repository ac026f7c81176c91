//! An origin, plain HTTP/1.1 and with TLS also HTTP/2, to measure against.
//!
//! | Path | Answers |
//! |---|---|
//! | `/` | 1 KB |
//! | `/bytes/N` | N bytes |
//! | `POST /sink` | swallows its body |
//! | `/events/N` | a server-sent event every N milliseconds, each with the time it was made |
//! | `/ws` | WebSocket echo |
//! | `/raw/source/N`, `/raw/sink/N` | after an upgrade, N bytes of a bare byte stream |

mod events;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Either};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::args;
use crate::filler::Filler;
use crate::report;
use crate::websocket::{self, End};

pub(crate) use self::events::{Events, stamp};

/// Every body there is.
type Reply = Either<Filler, Events>;

/// Size of the answer to `/`.
const PAGE_BYTES: u64 = 1024;

/// Serves until the process is stopped.
pub(crate) fn run(origin: &args::Origin) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start a runtime")?.block_on(serve(origin))
}

async fn serve(origin: &args::Origin) -> Result<()> {
    let plain = listen(origin.listen).await?;
    report::print(&format!("listening on http://{}\n", plain.local_addr()?))?;
    let Some(address) = origin.tls_listen else {
        return accept(&plain, None).await;
    };
    let acceptor = acceptor(origin)?;
    let tls = listen(address).await?;
    report::print(&format!("listening on https://{}\n", tls.local_addr()?))?;
    tokio::try_join!(accept(&plain, None), accept(&tls, Some(acceptor)))?;
    Ok(())
}

async fn listen(address: SocketAddr) -> Result<TcpListener> {
    let listener = TcpListener::bind(address).await;
    listener.with_context(|| format!("cannot listen on {address}"))
}

fn acceptor(origin: &args::Origin) -> Result<TlsAcceptor> {
    let (cert, key) = origin
        .cert
        .as_ref()
        .zip(origin.key.as_ref())
        .context("TLS needs --cert and --key")?;
    let chain = CertificateDer::pem_file_iter(cert)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .with_context(|| format!("cannot read certificates from {}", cert.display()))?;
    let key = PrivateKeyDer::from_pem_file(key).with_context(|| format!("cannot read {}", key.display()))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = builder.with_no_client_auth().with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn accept(listener: &TcpListener, tls: Option<TlsAcceptor>) -> Result<()> {
    loop {
        let (stream, _) = listener.accept().await.context("cannot accept a connection")?;
        // Small answers must not wait for more; if it cannot be set, they do.
        let _delayed = stream.set_nodelay(true);
        let tls = tls.clone();
        // Ends with its connection, whose failure concerns the other side only.
        tokio::spawn(async move {
            let http1 = http1::Builder::new();
            let Some(tls) = tls else {
                return http1
                    .serve_connection(TokioIo::new(stream), service_fn(answer))
                    .with_upgrades()
                    .await
                    .ok();
            };
            let stream = tls.accept(stream).await.ok()?;
            let is_h2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
            let stream = TokioIo::new(stream);
            if is_h2 {
                let http2 = http2::Builder::new(TokioExecutor::new());
                http2.serve_connection(stream, service_fn(answer)).await.ok()
            } else {
                http1
                    .serve_connection(stream, service_fn(answer))
                    .with_upgrades()
                    .await
                    .ok()
            }
        });
    }
}

async fn answer(mut request: Request<Incoming>) -> Result<Response<Reply>, Infallible> {
    let path = request.uri().path().to_owned();
    let number = |start: &str| path.strip_prefix(start).and_then(|rest| rest.parse::<u64>().ok());
    let end = match path.as_str() {
        "/ws" => Some(After::Echo),
        _ => (number("/raw/source/").map(After::Source)).or_else(|| number("/raw/sink/").map(After::Sink)),
    };
    if let Some(end) = end {
        return Ok(upgrade(&mut request, end));
    }
    if let Some(pause) = number("/events/") {
        let mut response = Response::new(Either::Right(Events::new(Duration::from_millis(pause.max(1)))));
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        // Asks nginx to pass each event on as it comes.
        headers.insert("x-accel-buffering", HeaderValue::from_static("no"));
        return Ok(response);
    }
    let (status, bytes) = match (request.method(), path.as_str(), number("/bytes/")) {
        (&Method::GET | &Method::HEAD, _, Some(bytes)) => (StatusCode::OK, bytes),
        (&Method::POST | &Method::PUT, "/sink", _) => (swallow(request.into_body()).await, 0),
        (&Method::GET | &Method::HEAD, "/", _) => (StatusCode::OK, PAGE_BYTES),
        _ => (StatusCode::NOT_FOUND, 0),
    };
    Ok(plain(status, bytes))
}

fn plain(status: StatusCode, bytes: u64) -> Response<Reply> {
    let mut response = Response::new(Either::Left(Filler::new(bytes)));
    *response.status_mut() = status;
    response
}

/// What follows an upgrade.
#[derive(Debug, Clone, Copy)]
enum After {
    /// Each message comes back.
    Echo,
    /// So many bytes follow.
    Source(u64),
    /// So many bytes are read, and one byte says that they were.
    Sink(u64),
}

fn upgrade(request: &mut Request<Incoming>, after: After) -> Response<Reply> {
    let mut response = plain(StatusCode::SWITCHING_PROTOCOLS, 0);
    if !websocket::grant(request.headers(), response.headers_mut()) {
        return plain(StatusCode::UPGRADE_REQUIRED, 0);
    }
    let upgraded = hyper::upgrade::on(request);
    // Ends with its connection, whose failure concerns the other side only.
    tokio::spawn(async move {
        let mut io = TokioIo::new(upgraded.await?);
        match after {
            After::Echo => {
                while let Some(message) = websocket::receive(&mut io).await? {
                    websocket::send(&mut io, End::Server, &message).await?;
                }
            }
            After::Source(bytes) => crate::raw::write(&mut io, bytes).await?,
            After::Sink(bytes) => {
                crate::raw::read(&mut io, bytes).await?;
                io.write_all(&[1]).await?;
            }
        }
        io.shutdown().await?;
        anyhow::Ok(())
    });
    response
}

/// Reads a body to its end; a body that breaks off is not a success.
async fn swallow(mut body: Incoming) -> StatusCode {
    while let Some(frame) = body.frame().await {
        if frame.is_err() {
            return StatusCode::BAD_REQUEST;
        }
    }
    StatusCode::OK
}
