//! One HTTP/1.1 request and its whole answer, over TCP or TLS with the system's roots.
//!
//! Each exchange has its own connection: commands make few. Limits: [`TIME_MAX`] from dialling to the last
//! byte, [`ANSWER_BYTES_MAX`] of body.

use std::sync::Arc;
use std::time::Duration;

use ::http::header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, HOST, USER_AGENT};
use ::http::uri::Scheme;
use ::http::{Method, Uri};
use adit_connector::edge_proxy::{TraversalError, traverse};
use adit_proto::traversal::{Proxy, ProxyError};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::proxy;

/// How long one exchange may take.
const TIME_MAX: Duration = Duration::from_secs(15);

/// How many bytes an answer may have: a page of the longest listing is far below.
const ANSWER_BYTES_MAX: usize = 16 << 20;

/// Makes exchanges; keeps the TLS roots once they were needed.
#[derive(Default)]
pub(crate) struct HttpClient {
    tls: std::cell::OnceCell<Arc<ClientConfig>>,
}

/// What is asked.
pub(crate) struct Request {
    /// Method.
    pub(crate) method: Method,
    /// Absolute address.
    pub(crate) url: String,
    /// Value of the Authorization header.
    pub(crate) authorization: Option<String>,
    /// JSON body.
    pub(crate) body: Option<Vec<u8>>,
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Reply {
    /// Status code.
    pub(crate) status: u16,
    /// The Content-Type header.
    pub(crate) content_type: Option<String>,
    /// The whole body.
    pub(crate) body: Vec<u8>,
}

/// Why no answer came.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    /// The address cannot be used.
    #[error("'{url}' is not an address like http://127.0.0.1:7080/client/v4")]
    Address { url: String },
    /// Nobody listens, or the name does not resolve.
    #[error("cannot connect to {authority}")]
    Connect {
        authority: String,
        #[source]
        source: std::io::Error,
    },
    /// The environment's proxy cannot be understood.
    #[error("HTTPS_PROXY cannot be used")]
    ProxyText(#[source] ProxyError),
    /// The proxy does not let us through.
    #[error("cannot connect to {authority}")]
    Proxy {
        authority: String,
        #[source]
        source: TraversalError,
    },
    /// No certificate of the system can be used.
    #[error("cannot load the system's certificates")]
    Roots,
    /// The TLS handshake failed.
    #[error("cannot speak TLS with {authority}")]
    Tls {
        authority: String,
        #[source]
        source: std::io::Error,
    },
    /// The exchange broke off.
    #[error("the exchange with {authority} failed")]
    Exchange {
        authority: String,
        #[source]
        source: hyper::Error,
    },
    /// The answer is too large or broke off.
    #[error("cannot read the answer of {authority}")]
    Body {
        authority: String,
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// No answer in time.
    #[error("{authority} did not answer within {TIME_MAX:?}")]
    TooSlow { authority: String },
}

impl HttpClient {
    /// Makes one exchange.
    pub(crate) async fn exchange(&self, request: Request) -> Result<Reply, HttpError> {
        let unusable = || HttpError::Address {
            url: request.url.clone(),
        };
        let uri: Uri = request.url.parse().map_err(|_| unusable())?;
        let authority = uri.authority().ok_or_else(unusable)?.to_string();
        let secure = match uri.scheme() {
            Some(scheme) if *scheme == Scheme::HTTP => false,
            Some(scheme) if *scheme == Scheme::HTTPS => true,
            Some(_) | None => return Err(unusable()),
        };
        let exchange = self.exchange_with(&uri, &authority, secure, request);
        let in_time = tokio::time::timeout(TIME_MAX, Box::pin(exchange)).await;
        in_time.map_err(|_| HttpError::TooSlow {
            authority: authority.clone(),
        })?
    }

    async fn exchange_with(
        &self,
        uri: &Uri,
        authority: &str,
        secure: bool,
        request: Request,
    ) -> Result<Reply, HttpError> {
        let host = uri
            .host()
            .unwrap_or_default()
            .trim_start_matches('[')
            .trim_end_matches(']')
            .to_owned();
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let refused = |source| HttpError::Connect {
            authority: authority.to_owned(),
            source,
        };
        if !secure {
            let stream = TcpStream::connect((host.as_str(), port)).await.map_err(refused)?;
            return send(stream, uri, authority, request).await;
        }
        let proxy = proxy::of_environment(&host, port).map_err(HttpError::ProxyText)?;
        let stream = match proxy {
            Some(proxy) => through(proxy.proxy(), authority, (&host, port)).await?,
            None => TcpStream::connect((host.as_str(), port)).await.map_err(refused)?,
        };
        let failed = |source| HttpError::Tls {
            authority: authority.to_owned(),
            source,
        };
        let name = ServerName::try_from(host).map_err(|error| failed(std::io::Error::other(error)))?;
        let connector = TlsConnector::from(self.tls()?);
        let stream = connector.connect(name, stream).await.map_err(failed)?;
        send(stream, uri, authority, request).await
    }

    fn tls(&self) -> Result<Arc<ClientConfig>, HttpError> {
        if let Some(config) = self.tls.get() {
            return Ok(Arc::clone(config));
        }
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
        let builder = builder.map_err(|_| HttpError::Roots)?;
        let config = Arc::new(builder.with_root_certificates(roots).with_no_client_auth());
        Ok(Arc::clone(self.tls.get_or_init(|| config)))
    }
}

/// A connection that the proxy has made.
async fn through(proxy: &Proxy, authority: &str, (host, port): (&str, u16)) -> Result<TcpStream, HttpError> {
    let failed = |source| HttpError::Proxy {
        authority: authority.to_owned(),
        source,
    };
    let dialled = TcpStream::connect((proxy.host(), proxy.port())).await;
    let mut stream = dialled.map_err(|source| {
        failed(TraversalError::Unreachable {
            proxy: proxy.to_string(),
            source,
        })
    })?;
    traverse(&mut stream, proxy, host, port).await.map_err(failed)?;
    Ok(stream)
}

async fn send<S>(stream: S, uri: &Uri, authority: &str, request: Request) -> Result<Reply, HttpError>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let failed = |source| HttpError::Exchange {
        authority: authority.to_owned(),
        source,
    };
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    // Ends when `sender` and the answer's body are gone; its error also reaches the answer below.
    tokio::spawn(connection);
    let request = encode(uri, authority, request)?;
    let answer = sender.send_request(request).await.map_err(failed)?;
    read(answer, authority).await
}

fn encode(uri: &Uri, authority: &str, request: Request) -> Result<::http::Request<Full<Bytes>>, HttpError> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut builder = ::http::Request::builder()
        .method(request.method)
        .uri(path)
        .header(HOST, authority)
        .header(USER_AGENT, concat!("adit/", env!("CARGO_PKG_VERSION")))
        .header(ACCEPT, "application/json;version=1");
    if let Some(authorization) = request.authorization {
        builder = builder.header(AUTHORIZATION, authorization);
    }
    if request.body.is_some() {
        builder = builder.header(CONTENT_TYPE, "application/json");
    }
    let body = Full::new(Bytes::from(request.body.unwrap_or_default()));
    builder
        .body(body)
        .map_err(|_| HttpError::Address { url: request.url })
}

async fn read(answer: ::http::Response<Incoming>, authority: &str) -> Result<Reply, HttpError> {
    let status = answer.status().as_u16();
    let content_type = answer
        .headers()
        .get(CONTENT_TYPE)
        .and_then(|value| value.to_str().ok());
    let content_type = content_type.map(str::to_owned);
    let limited = Limited::new(answer.into_body(), ANSWER_BYTES_MAX);
    let body = limited.collect().await.map_err(|source| HttpError::Body {
        authority: authority.to_owned(),
        source,
    })?;
    Ok(Reply {
        status,
        content_type,
        body: body.to_bytes().to_vec(),
    })
}
