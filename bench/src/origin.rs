//! An origin, plain HTTP/1.1 and with TLS also HTTP/2, to measure against: `/`, `/bytes/N`, `POST /sink`.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use crate::args;
use crate::filler::Filler;
use crate::report;

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
                http1.serve_connection(stream, service_fn(answer)).await.ok()
            }
        });
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Filler>, Infallible> {
    let path = request.uri().path().to_owned();
    let sized = path.strip_prefix("/bytes/").and_then(|size| size.parse().ok());
    let (status, bytes) = match (request.method(), path.as_str(), sized) {
        (&Method::GET | &Method::HEAD, _, Some(bytes)) => (StatusCode::OK, bytes),
        (&Method::POST | &Method::PUT, "/sink", _) => (swallow(request.into_body()).await, 0),
        (&Method::GET | &Method::HEAD, "/", _) => (StatusCode::OK, PAGE_BYTES),
        _ => (StatusCode::NOT_FOUND, 0),
    };
    let mut response = Response::new(Filler::new(bytes));
    *response.status_mut() = status;
    Ok(response)
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
