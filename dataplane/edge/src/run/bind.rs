//! Binds every listener once per core, before anything is served.
//!
//! Listeners share their port between cores (SO_REUSEPORT), and the kernel would let a second process of the
//! same user join in and take half of the visitors. So each address is first bound alone, which fails while
//! anybody else has it.
//!
//! Connectors know one port for both of their transports, so TCP gets the number that UDP has.

use std::io;
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use adit_driver::{mailbox, tcp, udp};
use serde::Serialize;

use super::EdgeError;
use super::core_task::{Seed, Sockets};
use crate::config::{Config, HttpEntry, Listeners};
use crate::cross_core::CoreMessage;
use crate::metrics::CoreMetrics;

/// Where the edge listens, once port 0 is resolved; `addresses.json`.
#[derive(Debug, Serialize)]
pub(super) struct Addresses {
    pub(super) tunnel: SocketAddr,
    pub(super) tunnel_http2: Vec<SocketAddr>,
    pub(super) http: Vec<SocketAddr>,
    pub(super) https: Vec<SocketAddr>,
    pub(super) tcp: Vec<SocketAddr>,
    pub(super) admin: SocketAddr,
}

impl Addresses {
    pub(super) fn to_json(&self) -> Vec<u8> {
        let mut text = serde_json::to_vec(self).expect("addresses are plain text");
        text.push(b'\n');
        text
    }
}

/// How long a predecessor's socket may outlive it, and how often we look.
///
/// The kernel ends a killed process's rings in the background, and a receive in flight keeps its UDP socket
/// for that long: without this, a restart right after a crash fails.
const FREED_WITHIN: Duration = Duration::from_secs(3);
const FREED_LOOK: Duration = Duration::from_millis(50);

/// Ports that are tried to find one free for UDP and TCP.
const SAME_PORT_TRIES: usize = 32;

/// All listeners, each group in the order of the cores.
pub(super) struct Bound {
    tunnel: Vec<UdpSocket>,
    tunnel_http2: Vec<Vec<TcpListener>>,
    http: Vec<Vec<TcpListener>>,
    https: Vec<Vec<TcpListener>>,
    tcp: Vec<Vec<TcpListener>>,
    admin: tokio::net::TcpListener,
    addresses: Addresses,
}

impl Bound {
    pub(super) fn bind(config: &Config) -> Result<Self, EdgeError> {
        let (listeners, cores) = (&config.listeners, config.core_count());
        let refused = |address: SocketAddr, role| {
            move |source: io::Error| EdgeError::Bind {
                address,
                role,
                source,
            }
        };
        let group = |addresses: &[SocketAddr], role| {
            let bind = |address: &SocketAddr| {
                freed_soon(|| {
                    alone(*address, TcpListener::bind)?;
                    tcp::bind_group(*address, cores)
                })
                .map_err(refused(*address, role))
            };
            addresses.iter().map(bind).collect::<Result<Vec<_>, _>>()
        };
        let tunnel = freed_soon(|| bind_tunnel(listeners, cores))
            .map_err(refused(listeners.tunnel, "listeners.tunnel"))?;
        let tunnel_address = first(tunnel.first().map(UdpSocket::local_addr), listeners.tunnel);
        let beside = |address: &SocketAddr| match *address == listeners.tunnel {
            true => tunnel_address,
            false => *address,
        };
        let asked: Vec<_> = listeners.tunnel_http2.iter().map(beside).collect();
        let tunnel_http2 = group(&asked, "listeners.tunnel-http2")?;
        let listen = |entries: &[HttpEntry]| entries.iter().map(|entry| entry.listen).collect::<Vec<_>>();
        let (plain, secured) = (listen(&listeners.http), listen(&listeners.https));
        let raw: Vec<SocketAddr> = listeners.tcp.iter().map(|entry| entry.listen).collect();
        let http = group(&plain, "listeners.http")?;
        let https = group(&secured, "listeners.https")?;
        let tcp = group(&raw, "listeners.tcp")?;
        let admin = bind_admin(listeners.admin).map_err(refused(listeners.admin, "listeners.admin"))?;
        let addresses = Addresses {
            tunnel: tunnel_address,
            tunnel_http2: resolved(&tunnel_http2, &asked),
            http: resolved(&http, &plain),
            https: resolved(&https, &secured),
            tcp: resolved(&tcp, &raw),
            admin: admin.local_addr().unwrap_or(listeners.admin),
        };
        Ok(Self {
            tunnel,
            tunnel_http2,
            http,
            https,
            tcp,
            admin,
            addresses,
        })
    }

    pub(super) fn addresses(&self) -> Addresses {
        Addresses {
            tunnel: self.addresses.tunnel,
            tunnel_http2: self.addresses.tunnel_http2.clone(),
            http: self.addresses.http.clone(),
            https: self.addresses.https.clone(),
            tcp: self.addresses.tcp.clone(),
            admin: self.addresses.admin,
        }
    }

    /// A further handle on a socket of the tunnel port, to send from.
    pub(super) fn tunnel_socket(&self) -> io::Result<UdpSocket> {
        let socket = self.tunnel.first().ok_or(io::ErrorKind::NotFound)?;
        socket.try_clone()
    }

    /// Deals the sockets out to the cores.
    pub(super) fn split(
        self,
        inboxes: Vec<mailbox::Receiver<CoreMessage>>,
        metrics: Vec<Arc<CoreMetrics>>,
    ) -> (Vec<Seed>, tokio::net::TcpListener) {
        let mut tunnel_http2 = deal(self.tunnel_http2, inboxes.len());
        let mut http = deal(self.http, inboxes.len());
        let mut https = deal(self.https, inboxes.len());
        let mut tcp = deal(self.tcp, inboxes.len());
        let seeds = self.tunnel.into_iter().zip(inboxes).zip(metrics);
        let seeds = seeds.map(|((tunnel, inbox), metrics)| Seed {
            sockets: Sockets {
                tunnel,
                tunnel_http2: tunnel_http2.next().unwrap_or_default(),
                http: http.next().unwrap_or_default(),
                https: https.next().unwrap_or_default(),
                tcp: tcp.next().unwrap_or_default(),
            },
            inbox,
            metrics,
        });
        (seeds.collect(), self.admin)
    }
}

/// Binds, waiting for an address that its last user is about to give back.
fn freed_soon<T>(bind: impl Fn() -> io::Result<T>) -> io::Result<T> {
    let started = Instant::now();
    loop {
        match bind() {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse && started.elapsed() < FREED_WITHIN => {
                std::thread::sleep(FREED_LOOK);
            }
            other => return other,
        }
    }
}

/// Binds UDP for connectors. Where any port will do, for TCP as well, it is one that is free for both.
fn bind_tunnel(listeners: &Listeners, cores: usize) -> io::Result<Vec<UdpSocket>> {
    let address = listeners.tunnel;
    alone(address, UdpSocket::bind)?;
    let mut taken = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..SAME_PORT_TRIES {
        let sockets = udp::bind_group(address, cores)?;
        let bound = first(sockets.first().map(UdpSocket::local_addr), address);
        if address.port() != 0 || !listeners.tunnel_http2.contains(&address) {
            return Ok(sockets);
        }
        match alone(bound, TcpListener::bind) {
            Ok(()) => return Ok(sockets),
            Err(error) => taken = error,
        }
    }
    Err(taken)
}

/// Fails if anybody has the address; port 0 is always free.
fn alone<T>(address: SocketAddr, bind: impl Fn(SocketAddr) -> io::Result<T>) -> io::Result<()> {
    if address.port() != 0 {
        drop(bind(address)?);
    }
    Ok(())
}

fn bind_admin(address: SocketAddr) -> io::Result<tokio::net::TcpListener> {
    let listener = TcpListener::bind(address)?;
    listener.set_nonblocking(true)?;
    tokio::net::TcpListener::from_std(listener)
}

/// Turns one list of sockets per address into one list of sockets per core.
fn deal(groups: Vec<Vec<TcpListener>>, cores: usize) -> impl Iterator<Item = Vec<TcpListener>> {
    let mut per_core: Vec<Vec<TcpListener>> = (0..cores).map(|_| Vec::new()).collect();
    for group in groups {
        for (core, listener) in per_core.iter_mut().zip(group) {
            core.push(listener);
        }
    }
    per_core.into_iter()
}

fn resolved(groups: &[Vec<TcpListener>], asked: &[SocketAddr]) -> Vec<SocketAddr> {
    groups
        .iter()
        .zip(asked)
        .map(|(group, asked)| first(group.first().map(TcpListener::local_addr), *asked))
        .collect()
}

fn first(address: Option<io::Result<SocketAddr>>, asked: SocketAddr) -> SocketAddr {
    address.and_then(Result::ok).unwrap_or(asked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_any_port_will_do_tcp_gets_the_one_of_udp() {
        let text = "listeners: {tunnel: '127.0.0.1:0', http: [], https: [], admin: '127.0.0.1:0'}\ncores: 2\n\
                    control: {socket: s}";
        let config = Config::parse("edge.yml".as_ref(), text).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let _entered = runtime.enter();
        let bound = Bound::bind(&config).unwrap();
        assert_ne!(bound.addresses.tunnel.port(), 0);
        assert_eq!(bound.addresses.tunnel_http2, [bound.addresses.tunnel]);
        assert_eq!(bound.tunnel_http2[0].len(), 2);
    }

    #[test]
    fn an_address_shared_by_somebody_else_counts_as_taken() {
        let taken = tcp::bind_group(([127, 0, 0, 1], 0).into(), 2).unwrap();
        let address = taken[0].local_addr().unwrap();
        let refused = alone(address, TcpListener::bind).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        drop(taken);
        alone(address, TcpListener::bind).unwrap();
    }
}
