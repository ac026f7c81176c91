//! The keys that an access service publishes, fetched when they are needed and kept.

use std::cell::{Cell, RefCell};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use adit_driver::time::timeout;
use adit_proto::error_chain::chain;
use bytes::Bytes;
use http::header::{ACCEPT, HOST};
use http::{HeaderValue, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use tokio::sync::Mutex;
use tokio::task::spawn_local;

use super::AccessError;
use super::token::{Key, Token};
use crate::origin::CoreOrigins;
use crate::origin::dial::{DialParameters, Place, Target};
use crate::origin::member::builder;
use crate::origin::tls::{Alpn, TlsOptions};

/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 256 << 10;

/// Limit of connecting, of the handshake, and of all of it.
const FETCH_TIME_MAX: Duration = Duration::from_secs(10);

/// Between fetches for tokens of keys that are not known: anybody can make up such tokens.
const FETCH_INTERVAL_MIN: Duration = Duration::from_secs(5);

/// Keys are fetched anew after this, so that withdrawn ones lose their force.
const AGE_MAX: Duration = Duration::from_secs(60 * 60);

/// One core's copy of published keys.
pub(super) struct KeySet {
    target: Target,
    host: String,
    authority: HeaderValue,
    path: Uri,
    keys: RefCell<Vec<Key>>,
    fetched_at: Cell<Option<Instant>>,
    tried_at: Cell<Option<Instant>>,
    /// Held while the keys are fetched.
    fetching: Mutex<()>,
}

impl KeySet {
    /// The keys at `url`; `None` if that cannot be asked for.
    pub(super) fn new(url: &Uri, ca_pool: Option<PathBuf>) -> Option<Self> {
        let authority = url.authority()?;
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        let is_tls = url.scheme_str() == Some("https");
        let target = Target {
            place: Place::Tcp {
                host: host.to_owned(),
                port: authority.port_u16().unwrap_or(if is_tls { 443 } else { 80 }),
            },
            tls: is_tls.then_some(TlsOptions {
                no_verify: false,
                ca_pool,
            }),
            connect_timeout: FETCH_TIME_MAX,
            tls_timeout: FETCH_TIME_MAX,
            keep_alive: None,
            happy_eyeballs: true,
            proxy_protocol: None,
        };
        Some(Self {
            target,
            host: host.to_owned(),
            authority: HeaderValue::from_str(authority.as_str()).ok()?,
            path: Uri::from(url.path_and_query()?.clone()),
            keys: RefCell::default(),
            fetched_at: Cell::default(),
            tried_at: Cell::default(),
            fetching: Mutex::default(),
        })
    }

    /// Whether one of the keys has signed `token`.
    pub(super) async fn verify(&self, core: &CoreOrigins, token: &Token<'_>) -> Result<(), AccessError> {
        if self.is_fresh()
            && let Some(verdict) = self.verdict(token)
        {
            return verdict;
        }
        let fetched = self.refresh(core).await;
        match (self.verdict(token), fetched) {
            // Old keys are better than none while new ones cannot be had.
            (Some(verdict), _) => verdict,
            (None, Ok(())) => Err(AccessError::UnknownKey),
            (None, Err(error)) => Err(error),
        }
    }

    fn is_fresh(&self) -> bool {
        let fetched_at = self.fetched_at.get();
        fetched_at.is_some_and(|fetched| fetched.elapsed() < AGE_MAX)
    }

    /// What the known keys say; `None` if the token names none of them.
    fn verdict(&self, token: &Token<'_>) -> Option<Result<(), AccessError>> {
        let keys = self.keys.borrow();
        let mut named = keys.iter().filter(|key| key.is_named_by(token)).peekable();
        named.peek()?;
        Some(if named.any(|key| key.has_signed(token)) {
            Ok(())
        } else {
            Err(AccessError::Signature)
        })
    }

    /// Fetches the keys, unless that was tried a moment ago.
    async fn refresh(&self, core: &CoreOrigins) -> Result<(), AccessError> {
        let _turn = self.fetching.lock().await;
        let tried_at = self.tried_at.get();
        if tried_at.is_some_and(|tried| tried.elapsed() < FETCH_INTERVAL_MIN) {
            return Ok(());
        }
        self.tried_at.set(Some(Instant::now()));
        let fetched = match timeout(FETCH_TIME_MAX, self.fetch(core)).await {
            Ok(fetched) => fetched,
            Err(_) => Err(AccessError::Keys(format!("no answer within {FETCH_TIME_MAX:?}"))),
        };
        let keys = fetched?;
        tracing::debug!(
            host = self.host,
            count = keys.len(),
            "Fetched the keys of access tokens"
        );
        self.keys.replace(keys);
        self.fetched_at.set(Some(Instant::now()));
        Ok(())
    }

    async fn fetch(&self, core: &CoreOrigins) -> Result<Vec<Key>, AccessError> {
        let failed = |error: &dyn std::error::Error| AccessError::Keys(chain(error));
        let asked = DialParameters {
            server_name: Some(self.host.clone()),
            visitor: None,
            interim: None,
        };
        let dialling = self.target.dial(core.io_mode(), core.tls(), &asked, Alpn::Http1);
        let io = dialling.await.map_err(|error| failed(&error))?;
        let handshake = builder().handshake(TokioIo::new(io)).await;
        let (mut sender, connection) = handshake.map_err(|error| failed(&error))?;
        // Ends with the sender, whether or not there is an answer.
        spawn_local(async move {
            if let Err(error) = connection.await {
                tracing::trace!(%error, "connection for keys ended");
            }
        });
        let mut request = Request::new(Empty::<Bytes>::new());
        *request.uri_mut() = self.path.clone();
        request.headers_mut().insert(HOST, self.authority.clone());
        let json = HeaderValue::from_static("application/json");
        request.headers_mut().insert(ACCEPT, json);
        let answer = sender
            .send_request(request)
            .await
            .map_err(|error| failed(&error))?;
        if answer.status() != StatusCode::OK {
            return Err(AccessError::Keys(format!("the answer is {}", answer.status())));
        }
        let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX).collect().await;
        let body = body
            .map_err(|error| AccessError::Keys(error.to_string()))?
            .to_bytes();
        Key::read_all(&body).ok_or_else(|| AccessError::Keys("the answer is no set of keys".to_owned()))
    }
}
