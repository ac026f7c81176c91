//! A plain HTTP/1.1 origin to measure against: `/`, `/bytes/N`, `POST /sink`.

use std::convert::Infallible;

use anyhow::{Context as _, Result};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

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
    let listener = TcpListener::bind(origin.listen).await;
    let listener = listener.with_context(|| format!("cannot listen on {}", origin.listen))?;
    report::print(&format!("listening on http://{}\n", listener.local_addr()?))?;
    loop {
        let (stream, _) = listener.accept().await.context("cannot accept a connection")?;
        // Small answers must not wait for more; if it cannot be set, they do.
        let _delayed = stream.set_nodelay(true);
        // Ends with its connection, whose failure concerns the other side only.
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service_fn(answer)));
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
