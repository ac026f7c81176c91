//! One connection to the target, HTTP/1.1 or HTTP/2, and one exchange on it.

use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use http::header::HOST;
use http::{Method, Request, Response, StatusCode, Version};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper::upgrade::Upgraded;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

use crate::filler::Filler;
use crate::target::Target;
use crate::websocket::{self, End};

/// Limit for dialling and the TLS handshake.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(10);

/// HTTP/2 windows: large enough that the generator is never what a transfer waits for.
const WINDOW_BYTES: u32 = 8 << 20;

/// What a WebSocket exchange sends and expects back: the size of a small chat message.
const MESSAGE: [u8; 128] = [b'm'; 128];

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
    WebSocket(Box<TokioIo<Upgraded>>),
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
                if !self.target.fresh {
                    *slot = Some(Handle::H1(sender));
                }
                return Ok(answer);
            }
            Handle::WebSocket(mut io) => {
                websocket::send(&mut *io, End::Client, &MESSAGE).await?;
                let message = websocket::receive(&mut *io)
                    .await?
                    .context("the other end closed")?;
                ensure!(message == MESSAGE, "another message came back");
                *slot = Some(Handle::WebSocket(io));
                return Ok(Answer {
                    status: 200,
                    bytes: MESSAGE.len() as u64,
                });
            }
            Handle::H2(mut sender) => {
                if !self.target.fresh {
                    *slot = Some(Handle::H2(sender.clone()));
                }
                drop(slot);
                sender.ready().await?;
                sender.send_request(request).await?
            }
        };
        read(response).await
    }

    /// Sends a request and returns its answer with the body still to be read.
    pub(crate) async fn begin(&self, method: Method) -> Result<Response<Incoming>> {
        let request = self.request(method, 0)?;
        let mut slot = self.handle.lock().await;
        match slot.take() {
            Some(Handle::H1(mut sender)) => {
                sender.ready().await?;
                Ok(sender.send_request(request).await?)
            }
            Some(Handle::H2(mut sender)) => {
                sender.ready().await?;
                Ok(sender.send_request(request).await?)
            }
            Some(Handle::WebSocket(_)) | None => bail!("the connection is not for this"),
        }
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
            // Only using it tells.
            Self::WebSocket(_) => false,
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
        return handshake(stream, target).await;
    };
    let stream = TlsConnector::from(config.clone())
        .connect(name.clone(), stream)
        .await;
    let stream = stream.with_context(|| format!("cannot speak TLS with {}", target.address))?;
    if target.h2 && stream.get_ref().1.alpn_protocol() != Some(b"h2") {
        bail!("{} does not offer HTTP/2", target.address);
    }
    handshake(stream, target).await
}

async fn handshake<S>(stream: S, target: &Target) -> Result<Handle>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let io = TokioIo::new(stream);
    // A connection's task ends with the connection; its error reaches the exchanges on it.
    if target.h2 {
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .initial_stream_window_size(WINDOW_BYTES)
            .initial_connection_window_size(WINDOW_BYTES);
        let (sender, connection) = builder.handshake(io).await?;
        tokio::spawn(connection);
        Ok(Handle::H2(sender))
    } else {
        let (sender, connection) = http1::handshake(io).await?;
        tokio::spawn(connection.with_upgrades());
        if target.websocket {
            return Ok(Handle::WebSocket(Box::new(TokioIo::new(
                upgrade(sender, target).await?,
            ))));
        }
        Ok(Handle::H1(sender))
    }
}

/// Connects and upgrades at `target`'s path; what comes back carries bare bytes.
pub(crate) async fn open_stream(target: &Target) -> Result<TokioIo<Upgraded>> {
    let target = Target {
        websocket: true,
        ..target.clone()
    };
    match dial(&target).await? {
        Handle::WebSocket(io) => Ok(*io),
        Handle::H1(_) | Handle::H2(_) => bail!("the connection was not upgraded"),
    }
}

/// Turns a connection into a byte stream to `target`'s path.
async fn upgrade(mut sender: http1::SendRequest<Filler>, target: &Target) -> Result<Upgraded> {
    let builder = Request::builder().uri(&target.path).header(HOST, &target.host);
    let mut request = builder
        .body(Filler::new(0))
        .context("the URL or host cannot be sent")?;
    websocket::ask(request.headers_mut());
    let response = sender.send_request(request).await?;
    ensure!(
        response.status() == StatusCode::SWITCHING_PROTOCOLS,
        "the upgrade was answered with status {}",
        response.status()
    );
    hyper::upgrade::on(response).await.context("the upgrade failed")
}

async fn read(response: Response<Incoming>) -> Result<Answer> {
    let status = response.status().as_u16();
    let mut body = response.into_body();
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame?.data_ref().map_or(0, |data| data.len() as u64);
    }
    Ok(Answer { status, bytes })
}
