//! Transport parameters and limits of our QUIC connections, and their conversion to quinn-proto.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use quinn_proto::crypto::rustls::{NoInitialCipherSuite, QuicClientConfig, QuicServerConfig};
use quinn_proto::{IdleTimeout, MtuDiscoveryConfig, TransportConfig, VarInt};

use super::window::{GROWN_BYTES_MAX, WindowBudget, Windows};
use crate::udp::route_payload_bytes;

/// What a side of a tunnel connection announces and allows itself.
#[derive(Clone, Debug)]
pub struct TransportSettings {
    /// Silence after which the connection is dead. The smaller of both sides' values counts.
    pub idle_timeout: Duration,
    /// Interval of PINGs on a silent connection; `None` leaves that to the peer.
    pub keep_alive: Option<Duration>,
    /// Silence after which a connection is dead whatever the idle timeout, unless
    /// [`Connection::allow_silence`](super::Connection::allow_silence) says otherwise; also of a handshake.
    pub silence_max: Duration,
    /// Bytes a peer may send ahead on a stream at first, and for as long as its reader is slower than the
    /// network.
    pub stream_window_bytes: u32,
    /// What that may grow to while the reader waits for the network.
    pub stream_window_bytes_max: u32,
    /// What all windows of the process may grow by.
    pub window_budget: Arc<WindowBudget>,
    /// Bytes we keep unacknowledged or unsent per connection before writers wait.
    pub send_window_bytes: u64,
    /// Bidirectional streams the peer may have open at once.
    pub peer_streams_max: u32,
    /// Largest UDP payload tried by path MTU discovery on a route that takes no jumbo frames.
    pub mtu_max: u16,
    /// Largest UDP payload tried on a route whose own MTU takes it.
    pub jumbo_mtu_max: u16,
}

/// Bytes that nobody reads are held here, so the window is small. It is not smaller than what a congestion
/// window lets through until the reader has shown that it is fast.
const STREAM_WINDOW_BYTES: u32 = 64 << 10;

/// Measured: windows below 256 KiB lose throughput on loopback already, above 4 MiB gain nothing.
const STREAM_WINDOW_BYTES_MAX: u32 = 4 << 20;

/// Datagrams are held for the application up to this many bytes, then the oldest are dropped.
const DATAGRAM_BUFFER_BYTES: usize = 1 << 20;

/// What a frame of 9,000 bytes leaves after the headers of IPv6 and UDP. Fewer packets per byte halve the CPU
/// of a bulk transfer. The peer must announce that it takes them, which stock cloudflared does not.
const JUMBO_PAYLOAD_BYTES: u16 = 9000 - 48;

/// Time until a path that did not take the largest packets is tried again. A search loses several of them, on
/// idle connections too.
const MTU_SEARCH_INTERVAL: Duration = Duration::from_secs(3600);

impl Default for TransportSettings {
    fn default() -> Self {
        Self {
            idle_timeout: Duration::from_secs(30),
            keep_alive: None,
            silence_max: Duration::from_secs(30),
            stream_window_bytes: STREAM_WINDOW_BYTES,
            stream_window_bytes_max: STREAM_WINDOW_BYTES_MAX,
            window_budget: WindowBudget::new(GROWN_BYTES_MAX),
            send_window_bytes: 2 * u64::from(STREAM_WINDOW_BYTES_MAX),
            peer_streams_max: 128,
            mtu_max: 1452,
            jumbo_mtu_max: JUMBO_PAYLOAD_BYTES,
        }
    }
}

impl TransportSettings {
    fn transport(&self, mtu_max: u16) -> Result<Arc<TransportConfig>, SettingsError> {
        let idle = IdleTimeout::try_from(self.idle_timeout).map_err(|_| SettingsError::IdleTimeout {
            value: self.idle_timeout,
        })?;
        let mut discovery = MtuDiscoveryConfig::default();
        discovery.upper_bound(mtu_max).interval(MTU_SEARCH_INTERVAL);
        let mut transport = TransportConfig::default();
        transport
            .max_idle_timeout(Some(idle))
            .keep_alive_interval(self.keep_alive)
            .stream_receive_window(VarInt::from_u32(self.stream_window_bytes))
            // Streams that nobody reads would use up a window of the connection, and stop all its other
            // streams. What a peer may send is bounded by the number of streams, the first window of each,
            // and the budget for their growth.
            .receive_window(VarInt::MAX)
            .send_window(self.send_window_bytes)
            .max_concurrent_bidi_streams(VarInt::from_u32(self.peer_streams_max))
            // Neither side of the protocol uses unidirectional streams.
            .max_concurrent_uni_streams(VarInt::from_u32(0))
            .datagram_receive_buffer_size(Some(DATAGRAM_BUFFER_BYTES))
            .datagram_send_buffer_size(DATAGRAM_BUFFER_BYTES)
            .mtu_discovery_config(Some(discovery));
        Ok(Arc::new(transport))
    }

    fn lasting(&self) -> Lasting {
        Lasting {
            silence_max: self.silence_max,
            windows: Windows {
                first_bytes: self.stream_window_bytes.into(),
                max_bytes: self.stream_window_bytes_max.into(),
                budget: self.window_budget.clone(),
            },
        }
    }
}

/// Why settings cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SettingsError {
    /// QUIC counts idle time in a 62-bit number of milliseconds.
    #[error("idle timeout {value:?} is too long for QUIC")]
    IdleTimeout {
        /// The refused value.
        value: Duration,
    },
    /// The TLS configuration lacks TLS 1.3 with AES-128-GCM, which QUIC needs for its first packets.
    #[error("TLS configuration has no TLS 1.3 AES-128-GCM suite")]
    Tls(#[from] NoInitialCipherSuite),
}

/// A listening side's configuration; cheap to clone and shared by all cores.
#[derive(Clone, Debug)]
pub struct ServerConfig(ByRoute<Arc<quinn_proto::ServerConfig>>);

/// A dialling side's configuration; cheap to clone.
#[derive(Clone, Debug)]
pub struct ClientConfig(ByRoute<quinn_proto::ClientConfig>);

/// The same but for the largest packet that is tried.
#[derive(Clone, Debug)]
struct ByRoute<C> {
    usual: C,
    jumbo: C,
    jumbo_mtu_max: u16,
    lasting: Lasting,
}

/// What a connection keeps of its settings.
#[derive(Clone, Debug)]
pub(crate) struct Lasting {
    /// See [`TransportSettings::silence_max`].
    pub(crate) silence_max: Duration,
    pub(crate) windows: Windows,
}

impl<C: Clone> ByRoute<C> {
    /// Trying sizes that this host's own route to the peer cannot carry would only cost time.
    fn towards(&self, peer: SocketAddr) -> &C {
        let takes_jumbo = route_payload_bytes(peer).is_some_and(|bytes| bytes >= self.jumbo_mtu_max.into());
        if takes_jumbo { &self.jumbo } else { &self.usual }
    }
}

impl ServerConfig {
    /// What an endpoint starts with, and what a connection uses on a route that takes no jumbo frames.
    #[must_use]
    pub fn usual(&self) -> Arc<quinn_proto::ServerConfig> {
        Arc::clone(&self.0.usual)
    }

    /// What holds for a connection as long as it lives.
    pub(crate) fn lasting(&self) -> Lasting {
        self.0.lasting.clone()
    }

    /// What a connection from `peer` uses.
    pub(crate) fn towards(&self, peer: SocketAddr) -> Arc<quinn_proto::ServerConfig> {
        Arc::clone(self.0.towards(peer))
    }
}

impl ClientConfig {
    /// What a connection uses on a route that takes no jumbo frames.
    #[must_use]
    pub fn usual(&self) -> quinn_proto::ClientConfig {
        self.0.usual.clone()
    }

    /// What holds for a connection as long as it lives.
    pub(crate) fn lasting(&self) -> Lasting {
        self.0.lasting.clone()
    }

    /// What a connection to `peer` uses.
    pub(crate) fn towards(&self, peer: SocketAddr) -> quinn_proto::ClientConfig {
        self.0.towards(peer).clone()
    }
}

/// Makes a listening configuration. All cores must share one, so that Retry tokens made by one core are
/// known to the others.
///
/// # Errors
/// [`SettingsError`] for an impossible idle timeout or TLS configuration.
pub fn server_config(
    tls: rustls::ServerConfig,
    settings: &TransportSettings,
) -> Result<ServerConfig, SettingsError> {
    let crypto = QuicServerConfig::try_from(tls)?;
    let mut usual = quinn_proto::ServerConfig::with_crypto(Arc::new(crypto));
    // A copy shares the key of Retry tokens, so either accepts the other's.
    let mut jumbo = usual.clone();
    usual.transport_config(settings.transport(settings.mtu_max)?);
    jumbo.transport_config(settings.transport(settings.jumbo_mtu_max)?);
    Ok(ServerConfig(ByRoute {
        usual: Arc::new(usual),
        jumbo: Arc::new(jumbo),
        jumbo_mtu_max: settings.jumbo_mtu_max,
        lasting: settings.lasting(),
    }))
}

/// Makes a dialling configuration.
///
/// # Errors
/// [`SettingsError`] for an impossible idle timeout or TLS configuration.
pub fn client_config(
    tls: rustls::ClientConfig,
    settings: &TransportSettings,
) -> Result<ClientConfig, SettingsError> {
    let crypto = QuicClientConfig::try_from(tls)?;
    let mut usual = quinn_proto::ClientConfig::new(Arc::new(crypto));
    let mut jumbo = usual.clone();
    usual.transport_config(settings.transport(settings.mtu_max)?);
    jumbo.transport_config(settings.transport(settings.jumbo_mtu_max)?);
    Ok(ClientConfig(ByRoute {
        usual,
        jumbo,
        jumbo_mtu_max: settings.jumbo_mtu_max,
        lasting: settings.lasting(),
    }))
}
