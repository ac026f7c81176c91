//! One connection to the target, HTTP/1.1 or HTTP/2, and one exchange on it.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use http::header::HOST;
use http::{Method, Request, Version};
use http_body_util::BodyExt as _;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

use crate::filler::Filler;
use crate::target::Target;

/// Limit for dialling and the TLS handshake.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);

/// HTTP/2 windows: large enough that the generator is never what a transfer waits for.
const WINDOW_BYTES: u32 = 8 << 20;

/// What an exchange was.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    /// Status code.
    pub(crate) status: u16,
    /// Bytes of body read.
    pub(crate) bytes: u64,
}

/// A connection that is made again when it was lost.
pub(crate) struct Connection {
    target: Target,
    // Held while an HTTP/1.1 exchange runs; on HTTP/2 only while a handle is cloned or made.
    handle: Mutex<Option<Handle>>,
}

enum Handle {
    H1(http1::SendRequest<Filler>),
    H2(http2::SendRequest<Filler>),
}

impl Connection {
    /// Connects.
    pub(crate) async fn open(target: Target) -> Result<Self> {
        let handle = dial(&target).await?;
        Ok(Self {
            target,
            handle: Mutex::new(Some(handle)),
        })
    }

    /// Sends one request and reads its answer to the end; connects first if the connection was lost.
    pub(crate) async fn exchange(&self, method: Method, body_bytes: u64) -> Result<Answer> {
        let request = self.request(method, body_bytes)?;
        let mut slot = self.handle.lock().await;
        let handle = match slot.take() {
            Some(handle) if !handle.is_closed() => handle,
            Some(_) | None => dial(&self.target).await?,
        };
        let response = match handle {
            Handle::H1(mut sender) => {
                // The handle returns to its slot only after a whole exchange: a broken one is dropped.
                sender.ready().await?;
                let answer = read(sender.send_request(request).await?).await?;
                *slot = Some(Handle::H1(sender));
                return Ok(answer);
            }
            Handle::H2(mut sender) => {
                *slot = Some(Handle::H2(sender.clone()));
                drop(slot);
                sender.ready().await?;
                sender.send_request(request).await?
            }
        };
        read(response).await
    }

    fn request(&self, method: Method, body_bytes: u64) -> Result<Request<Filler>> {
        let builder = Request::builder().method(method);
        let builder = if self.target.h2 {
            let scheme = if self.target.tls.is_some() {
                "https"
            } else {
                "http"
            };
            let uri = format!("{scheme}://{}{}", self.target.host, self.target.path);
            builder.version(Version::HTTP_2).uri(uri)
        } else {
            builder.uri(&self.target.path).header(HOST, &self.target.host)
        };
        builder
            .body(Filler::new(body_bytes))
            .context("the URL or host cannot be sent")
    }
}

impl Handle {
    fn is_closed(&self) -> bool {
        match self {
            Self::H1(sender) => sender.is_closed(),
            Self::H2(sender) => sender.is_closed(),
        }
    }
}

async fn dial(target: &Target) -> Result<Handle> {
    let dialling = Box::pin(dial_without_limit(target));
    let in_time = tokio::time::timeout(CONNECT_TIME_MAX, dialling).await;
    in_time.with_context(|| {
        format!(
            "{} did not take the connection within {CONNECT_TIME_MAX:?}",
            target.address
        )
    })?
}

async fn dial_without_limit(target: &Target) -> Result<Handle> {
    let stream = TcpStream::connect(target.address).await;
    let stream = stream.with_context(|| format!("cannot connect to {}", target.address))?;
    stream.set_nodelay(true)?;
    let Some((config, name)) = &target.tls else {
        return handshake(stream, target.h2).await;
    };
    let stream = TlsConnector::from(config.clone())
        .connect(name.clone(), stream)
        .await;
    let stream = stream.with_context(|| format!("cannot speak TLS with {}", target.address))?;
    if target.h2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        bail!("{} does not offer HTTP/2", target.address);
    }
    handshake(stream, target.h2).await
}

async fn handshake<S>(stream: S, h2: bool) -> Result<Handle>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let io = TokioIo::new(stream);
    // A connection's task ends with the connection; its error reaches the exchanges on it.
    if h2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES);
        let (sender, connection) = builder.handshake(io).await?;
        tokio::spawn(connection);
        Ok(Handle::H2(sender))
    } else {
        let (sender, connection) = http1::handshake(io).await?;
        tokio::spawn(connection);
        Ok(Handle::H1(sender))
    }
}

async fn read(response: http::Response<hyper::body::Incoming>) -> Result<Answer> {
    let status = response.status().as_u16();
    let mut body = response.into_body();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame?.data_ref().map_or(0, |data| data.len() as u64);
    }
    Ok(Answer { status, bytes })
}
