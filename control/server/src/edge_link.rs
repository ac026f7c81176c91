//! Control's end of the link to edges: listeners, and one session per attached edge.
//!
//! Over the Unix socket the file's mode (0600) says who may attach. Over TCP both sides show certificates of
//! the private CA, and an edge can attach only under its certificate's name.
//!
//! ```text
//! accept ─► (TLS) ─► serve: RPC driver ∥ pusher
//!                      calls ──► State ──► registrar
//!                      pusher ◄── published generations, disconnects, resyncs, the ping clock
//! ```
//! Every push waits for the edge's word before the next, so a slow edge holds one message, not a queue.

use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use adit_control_api::edge_link::reader_options;
use adit_control_api::edge_link_capnp::edge_gate;
use capnp_rpc::rpc_twoparty_capnp::Side;
use capnp_rpc::{RpcSystem, twoparty};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::task::spawn_local;
use tokio_util::compat::{TokioAsyncReadCompatExt, TokioAsyncWriteCompatExt};

use crate::ca::{Ca, common_name};
use crate::state::{Chain, State};

mod contest;
mod push;
mod session;
mod tls;

use contest::Contests;
use push::Ending;
use session::Peer;
pub(crate) use tls::LinkTls;
pub use tls::TlsError;

/// Links at once, attached or not. Beyond it, new ones wait in the kernel's queue.
const LINKS_MAX: usize = 2_000;

/// How long a new link may take for TLS, and then again to attach.
const OPENING_TIME: Duration = Duration::from_secs(5);

/// Pause after a failed accept (out of descriptors, mostly), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What every link shares.
pub(crate) struct EdgeLinks {
    state: Arc<State>,
    ca: Rc<Ca>,
    slots: Arc<Semaphore>,
    contests: Contests,
}

impl EdgeLinks {
    pub(crate) fn new(state: Arc<State>, ca: Rc<Ca>) -> Rc<Self> {
        Rc::new(Self {
            state,
            ca,
            slots: Arc::new(Semaphore::new(LINKS_MAX)),
            contests: Contests::default(),
        })
    }

    /// Serves edges of this machine until dropped.
    pub(crate) async fn serve_unix(self: Rc<Self>, listener: UnixListener) {
        loop {
            let slot = self.slots.clone().acquire_owned().await;
            match listener.accept().await {
                Ok((stream, _)) => {
                    let links = self.clone();
                    spawn_local(async move {
                        let peer = Peer {
                            identity: None,
                            address: "control's own machine".into(),
                        };
                        links.serve(stream, peer).await;
                        drop(slot);
                    });
                }
                Err(error) => self.pause(&error).await,
            }
        }
    }

    /// Serves remote edges until dropped.
    pub(crate) async fn serve_tcp(self: Rc<Self>, listener: TcpListener, tls: LinkTls) {
        loop {
            let slot = self.slots.clone().acquire_owned().await;
            match listener.accept().await {
                Ok((stream, address)) => {
                    let (links, acceptor) = (self.clone(), tls.acceptor(SystemTime::now()));
                    spawn_local(async move {
                        match tokio::time::timeout(OPENING_TIME, acceptor.accept(stream)).await {
                            Ok(Ok(stream)) => {
                                let name = stream
                                    .get_ref()
                                    .1
                                    .peer_certificates()
                                    .and_then(|chain| chain.first());
                                let peer = Peer {
                                    identity: Some(name.and_then(common_name).unwrap_or_default()),
                                    address: address.to_string(),
                                };
                                links.serve(stream, peer).await;
                            }
                            Ok(Err(error)) => {
                                tracing::warn!(%address, error = %Chain(&error), "an edge failed the TLS handshake");
                            }
                            Err(_) => {
                                tracing::warn!(%address, "an edge did not finish the TLS handshake in time")
                            }
                        }
                        drop(slot);
                    });
                }
                Err(error) => self.pause(&error).await,
            }
        }
    }

    /// Serves one link.
    async fn serve(&self, stream: impl AsyncRead + AsyncWrite + 'static, peer: Peer) {
        let address = peer.address.clone();
        let (reader, writer) = tokio::io::split(stream);
        let network = twoparty::VatNetwork::new(
            Box::pin(reader).compat(),
            Box::pin(writer).compat_write(),
            Side::Server,
            reader_options(),
        );
        let (gate, attached) = session::Gate::new(self.state.clone(), self.ca.clone(), peer);
        let client: edge_gate::Client = capnp_rpc::new_client(gate);
        let driver = RpcSystem::new(Box::new(network), Some(client.client));
        let pushes = async {
            let Ok(Ok(attached)) = tokio::time::timeout(OPENING_TIME, attached).await else {
                return;
            };
            let name = attached.edge.name.clone();
            tracing::info!(edge = name, colo = attached.edge.colo, "an edge attached");
            let ending = push::run(attached).await;
            if let Ending::Replaced(rival) = &ending
                && self.contests.is_news(&name, Instant::now())
            {
                tracing::warn!(
                    edge = name,
                    address,
                    other_address = rival.address,
                    other_colo = rival.edge.colo,
                    "two edges have one name and push each other off control; give each its own `name`"
                );
            }
            tracing::info!(edge = name, reason = %Chain(&ending), "an edge's session ended");
        };
        tokio::select! {
            // The edge is gone, or broke the protocol; the session's guard detaches it.
            result = driver => {
                if let Err(error) = result {
                    tracing::debug!(error = %error, "a control link broke");
                }
            }
            () = pushes => {}
        }
    }

    async fn pause(&self, error: &io::Error) {
        self.state.metrics.accept_failed();
        tracing::error!(%error, "cannot accept an edge's link");
        tokio::time::sleep(ACCEPT_PAUSE).await;
    }
}

/// Binds the socket for edges of this machine, mode 0600.
///
/// It is bound under another name, given its mode and renamed, so there is no moment at which others could
/// connect, and what a killed process left behind is replaced.
pub(crate) fn bind_unix(path: &Path) -> io::Result<UnixListener> {
    use std::os::unix::fs::PermissionsExt;

    let draft: PathBuf = path.with_extension(format!("{}", std::process::id()));
    crate::files::remove(&draft)?;
    let listener = UnixListener::bind(&draft)?;
    std::fs::set_permissions(&draft, std::fs::Permissions::from_mode(0o600))?;
    std::fs::rename(&draft, path)?;
    Ok(listener)
}
