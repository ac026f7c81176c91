//! Opening a WebSocket to a service: TCP, TLS, and the request that upgrades.

use std::sync::Arc;
use std::time::Duration;

use adit_driver::pem;
use anyhow::{Context as _, anyhow, bail};
use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{CONNECTION, HOST, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE, USER_AGENT};
use http::uri::Authority;
use http::{HeaderMap, HeaderName, HeaderValue, Request, StatusCode};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use crate::args::lookup::Lookup;
use crate::failure::Failure;

/// From dialling to the answer; a connector gives its origin 30 seconds by itself.
const OPEN_LIMIT: Duration = Duration::from_secs(45);

/// How a service is reached.
pub(in crate::cmd) struct Service {
    /// As in the Host header.
    authority: Authority,
    path: String,
    headers: HeaderMap,
    connect_to: Option<Authority>,
    tls: Arc<ClientConfig>,
}

/// An open WebSocket.
pub(in crate::cmd) struct Opened {
    pub(in crate::cmd) io: TokioIo<Upgraded>,
    /// Whether the connector takes a close as the end of one direction.
    pub(super) is_half_close: bool,
}

/// The edge has answered, but not agreed.
#[derive(Debug, thiserror::Error)]
#[error("the edge answered {status}{}", hint(*status))]
pub(in crate::cmd) struct Refused {
    pub(in crate::cmd) status: StatusCode,
}

impl Service {
    /// Reads the flags; `headers` are `Name: value`.
    pub(super) fn new<'a>(
        flags: &Lookup<'_>,
        headers: impl Iterator<Item = &'a str>,
    ) -> Result<Self, Failure> {
        let hostname = flags.text("hostname").filter(|hostname| !hostname.is_empty());
        let hostname = hostname.ok_or_else(|| {
            Failure::usage("--hostname is needed: the hostname of the service behind the tunnel")
        })?;
        let (authority, path) = place("hostname", &hostname)?;
        let connect_to = flags.text("connect-to").map(|text| place("connect-to", &text));
        let mut all = HeaderMap::new();
        for header in headers {
            let (name, value) = parse_header(header).ok_or_else(|| {
                Failure::usage(format!(
                    "invalid value for --header: '{header}' is not 'Name: value'"
                ))
            })?;
            all.append(name, value);
        }
        for (flag, name) in [
            ("destination", "cf-access-jump-destination"),
            ("service-token-id", "cf-access-client-id"),
            ("service-token-secret", "cf-access-client-secret"),
        ] {
            if let Some(text) = flags.text(flag) {
                let mut value = HeaderValue::try_from(text).map_err(|_| {
                    Failure::usage(format!(
                        "invalid value for --{flag}: it does not fit into a header"
                    ))
                })?;
                value.set_sensitive(flag == "service-token-secret");
                all.insert(HeaderName::from_static(name), value);
            }
        }
        Ok(Self {
            authority,
            path,
            headers: all,
            connect_to: connect_to.transpose()?.map(|(authority, _)| authority),
            tls: tls(flags.text("cacert").as_deref())?,
        })
    }

    /// A path of a host, without headers of our own; `connect_to` is reached in its place.
    pub(in crate::cmd) fn at(
        host: &str,
        path: String,
        connect_to: Option<&str>,
        cacert: Option<&str>,
    ) -> Result<Self, Failure> {
        let (authority, _) = place("management-hostname", host)?;
        let connect_to = connect_to.map(|text| place("connect-to", text)).transpose()?;
        Ok(Self {
            authority,
            path,
            headers: HeaderMap::new(),
            connect_to: connect_to.map(|(authority, _)| authority),
            tls: tls(cacert)?,
        })
    }

    /// The host and port asked for.
    pub(super) fn host(&self) -> &str {
        self.authority.as_str()
    }

    /// Opens a WebSocket.
    pub(in crate::cmd) async fn open(&self) -> anyhow::Result<Opened> {
        let opening = tokio::time::timeout(OPEN_LIMIT, Box::pin(self.upgrade()));
        let opened = opening
            .await
            .map_err(|_| anyhow!("no answer within {OPEN_LIMIT:?}"))
            .flatten();
        opened.with_context(|| format!("cannot reach {}", self.authority))
    }

    async fn upgrade(&self) -> anyhow::Result<Opened> {
        let place = self.connect_to.as_ref().unwrap_or(&self.authority);
        let (host, port) = (bare_host(place), place.port_u16().unwrap_or(443));
        let stream = TcpStream::connect((host, port)).await;
        let stream = stream.with_context(|| format!("cannot connect to {host}:{port}"))?;
        stream.set_nodelay(true).context("cannot switch off delays")?;
        let name = ServerName::try_from(bare_host(&self.authority).to_owned())?;
        let tls = TlsConnector::from(Arc::clone(&self.tls))
            .connect(name, stream)
            .await;
        let tls = tls.context("the TLS handshake failed")?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(tls)).await?;
        // Ends when the upgrade takes the connection over, or with it.
        tokio::spawn(connection.with_upgrades());
        let mut key = [0; 16];
        getrandom::fill(&mut key).context("the system has no randomness")?;
        let key = STANDARD.encode(key);
        let response = sender.send_request(self.request(&key)?).await?;
        let status = response.status();
        if status != StatusCode::SWITCHING_PROTOCOLS {
            return Err(Refused { status }.into());
        }
        let accept = proof(&key);
        if response
            .headers()
            .get("sec-websocket-accept")
            .map(HeaderValue::as_bytes)
            != Some(accept.as_bytes())
        {
            bail!("the answer is no agreement to a WebSocket");
        }
        let is_half_close = response
            .headers()
            .get("adit-half-close")
            .is_some_and(|value| value == "?1");
        Ok(Opened {
            io: TokioIo::new(hyper::upgrade::on(response).await?),
            is_half_close,
        })
    }

    fn request(&self, key: &str) -> anyhow::Result<Request<Empty<Bytes>>> {
        let mut request = Request::get(&self.path)
            .header(HOST, self.authority.as_str())
            .header(USER_AGENT, concat!("adit/", env!("CARGO_PKG_VERSION")))
            .header(CONNECTION, "Upgrade")
            .header(UPGRADE, "websocket")
            .header(SEC_WEBSOCKET_VERSION, "13")
            .header(SEC_WEBSOCKET_KEY, key)
            .body(Empty::new())?;
        request.headers_mut().extend(self.headers.clone());
        Ok(request)
    }
}

/// What to try after a refusal.
fn hint(status: StatusCode) -> &'static str {
    match status.as_u16() {
        401 | 403 => ": it wants --service-token-id and --service-token-secret, or others than these",
        404 => ": no tunnel serves this hostname",
        502 => ": the service cannot be reached, or a bastion needs --destination",
        503 => ": the tunnel has no connection",
        _ => "",
    }
}

/// What proves that a server read `key` (RFC 6455 §4.2.2).
fn proof(key: &str) -> String {
    let text = format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    STANDARD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, text.as_bytes()))
}

fn bare_host(authority: &Authority) -> &str {
    authority.host().trim_start_matches('[').trim_end_matches(']')
}

/// Host, port and path; whatever the scheme, TLS is spoken.
fn place(flag: &str, text: &str) -> Result<(Authority, String), Failure> {
    let rest = text.split_once("://").map_or(text, |(_, rest)| rest);
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let authority: Option<Authority> = authority.parse().ok();
    let authority = authority.filter(|authority| !authority.host().is_empty());
    let authority = authority.ok_or_else(|| {
        Failure::usage(format!(
            "invalid value for --{flag}: '{text}' is not HOST or HOST:PORT"
        ))
    })?;
    Ok((
        authority,
        if path.is_empty() {
            "/".to_owned()
        } else {
            path.to_owned()
        },
    ))
}

fn parse_header(text: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = text.split_once(':')?;
    Some((name.trim().parse().ok()?, value.trim().parse().ok()?))
}

/// Trusts the system's roots and those in `cacert`.
fn tls(cacert: Option<&str>) -> anyhow::Result<Arc<ClientConfig>> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(path) = cacert {
        let added = add_roots(&mut roots, path);
        added.with_context(|| format!("cannot use the certificates in {path}"))?;
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    Ok(Arc::new(
        builder.with_root_certificates(roots).with_no_client_auth(),
    ))
}

fn add_roots(roots: &mut RootCertStore, path: &str) -> anyhow::Result<()> {
    for certificate in pem::certificates(path.as_ref())? {
        roots.add(certificate)?;
    }
    Ok(())
}
