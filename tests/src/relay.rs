//! A bad network between a connector and an edge: a UDP relay. By a seed it delays, loses, reorders and
//! duplicates datagrams. It lets only so many bytes through, goes dark on request, and changes a flow's
//! source port as a rebinding NAT does.
//!
//! ```text
//! connector ──► relay address ──► [impairment] ──► one socket per client ──► edge
//!           ◄──               ◄── [impairment] ◄──
//! ```
//! One thread reads the front, one per client reads the back, one delivers what is due. Datagrams that are
//! due together keep their order. Does not: understand QUIC.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};

/// How often a reading thread looks whether the relay has ended or its socket was replaced.
const LOOK: Duration = Duration::from_millis(50);

/// Datagrams held for later at most; more are lost, as in a router's queue.
const QUEUE_MAX: usize = 8192;

/// Largest UDP payload.
const DATAGRAM_BYTES_MAX: usize = 65_535;

/// What happens to each datagram, in both directions.
#[derive(Debug, Clone, Copy, Default)]
pub struct Impairment {
    /// Added to every datagram.
    pub delay: Duration,
    /// Uniformly random extra delay up to this; above the gap between two datagrams it reorders them.
    pub jitter: Duration,
    /// Share of datagrams lost, 0.0 to 1.0.
    pub loss: f64,
    /// Share of datagrams delivered twice.
    pub duplicate: f64,
    /// The narrowest link of the way, if it has one.
    pub link: Option<Link>,
}

/// A link with a queue before it, for each direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Link {
    /// UDP payload it carries per second.
    pub bytes_per_second: u64,
    /// Longest time a datagram waits for it; one that would wait longer is lost.
    pub queue: Duration,
}

impl Link {
    fn takes(self, bytes: usize) -> Duration {
        Duration::from_secs_f64(bytes as f64 / self.bytes_per_second as f64)
    }
}

/// A running relay; dropped, it ends.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddr,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    front: UdpSocket,
    target: SocketAddr,
    state: Mutex<State>,
    queued: Condvar,
    ended: AtomicBool,
    forwarded: AtomicU64,
    lost: AtomicU64,
}

#[derive(Debug)]
struct State {
    random: StdRng,
    impairment: Impairment,
    dark: bool,
    flows: BTreeMap<SocketAddr, Arc<UdpSocket>>,
    queue: BinaryHeap<Reverse<Held>>,
    next: u64,
    /// When the link has sent what waits for it, towards the target and back.
    link_free: [Option<Instant>; 2],
}

/// A datagram on its way; ordered by due time, then by arrival.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Held {
    due: Instant,
    number: u64,
    client: SocketAddr,
    towards_target: bool,
    bytes: Vec<u8>,
}

impl Relay {
    /// Relays between whoever sends to its address and `target`; `seed` decides every impairment.
    ///
    /// # Panics
    /// When no loopback socket can be had.
    pub fn start(target: SocketAddr, seed: u64, impairment: Impairment) -> Self {
        let front = socket().expect("a loopback UDP socket");
        let address = front.local_addr().expect("a bound socket has an address");
        let state = State {
            random: StdRng::seed_from_u64(seed),
            impairment,
            dark: false,
            flows: BTreeMap::new(),
            queue: BinaryHeap::new(),
            next: 0,
            link_free: [None; 2],
        };
        let shared = Arc::new(Shared {
            front,
            target,
            state: Mutex::new(state),
            queued: Condvar::new(),
            ended: AtomicBool::new(false),
            forwarded: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        });
        let (reader, sender) = (Arc::clone(&shared), Arc::clone(&shared));
        std::thread::spawn(move || reader.read_front());
        std::thread::spawn(move || sender.deliver());
        Self { address, shared }
    }

    /// Where clients send to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the impairment for datagrams that arrive from here on.
    pub fn set(&self, impairment: Impairment) {
        let mut state = self.shared.lock();
        state.impairment = impairment;
        state.link_free = [None; 2];
    }

    /// Loses everything while `dark`, both ways.
    pub fn set_dark(&self, dark: bool) {
        self.shared.lock().dark = dark;
    }

    /// Gives every flow a new source port towards the target and returns how many flows there are. What the
    /// target sends to an old port is lost, as behind a NAT.
    pub fn rebind(&self) -> usize {
        let clients: Vec<SocketAddr> = self.shared.lock().flows.keys().copied().collect();
        for client in &clients {
            self.shared.open_flow(*client);
        }
        clients.len()
    }

    /// Source addresses that the target sees.
    pub fn sources(&self) -> Vec<SocketAddr> {
        self.shared
            .lock()
            .flows
            .values()
            .filter_map(|socket| socket.local_addr().ok())
            .collect()
    }

    /// Datagrams passed on and datagrams lost on purpose.
    pub fn counts(&self) -> (u64, u64) {
        (
            self.shared.forwarded.load(Relaxed),
            self.shared.lost.load(Relaxed),
        )
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.ended.store(true, Relaxed);
        self.shared.queued.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_front(self: Arc<Self>) {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        while !self.ended.load(Relaxed) {
            // A refused datagram of ours comes back as an error here; the next one may do better.
            let Ok((length, client)) = self.front.recv_from(&mut buffer) else {
                continue;
            };
            if !self.lock().flows.contains_key(&client) {
                self.open_flow(client);
            }
            self.hold(client, true, &buffer[..length]);
        }
    }

    /// Gives `client` a socket of its own towards the target, in place of an older one.
    fn open_flow(self: &Arc<Self>, client: SocketAddr) {
        let back = Arc::new(socket().expect("a loopback UDP socket"));
        self.lock().flows.insert(client, Arc::clone(&back));
        let shared = Arc::clone(self);
        std::thread::spawn(move || shared.read_back(client, &back));
    }

    fn read_back(&self, client: SocketAddr, back: &Arc<UdpSocket>) {
        let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
        while !self.ended.load(Relaxed) {
            if let Ok((length, _)) = back.recv_from(&mut buffer) {
                self.hold(client, false, &buffer[..length]);
            }
            let replaced = self
                .lock()
                .flows
                .get(&client)
                .is_none_or(|current| !Arc::ptr_eq(current, back));
            if replaced {
                return;
            }
        }
    }

    fn hold(&self, client: SocketAddr, towards_target: bool, bytes: &[u8]) {
        let mut state = self.lock();
        let Impairment {
            delay,
            jitter,
            loss,
            duplicate,
            link,
        } = state.impairment;
        let is_lost = state.dark || state.random.random::<f64>() < loss || state.queue.len() >= QUEUE_MAX;
        let sent = match link {
            _ if is_lost => None,
            Some(link) => state.through(link, towards_target, bytes.len()),
            None => Some(Instant::now()),
        };
        let Some(sent) = sent else {
            self.lost.fetch_add(1, Relaxed);
            return;
        };
        let copies = if state.random.random::<f64>() < duplicate {
            2
        } else {
            1
        };
        for _ in 0..copies {
            let due = sent + delay + jitter.mul_f64(state.random.random::<f64>());
            let number = state.next;
            state.next += 1;
            state.queue.push(Reverse(Held {
                due,
                number,
                client,
                towards_target,
                bytes: bytes.to_vec(),
            }));
        }
        self.queued.notify_all();
    }

    fn deliver(&self) {
        let mut state = self.lock();
        while !self.ended.load(Relaxed) {
            let now = Instant::now();
            let pause = state
                .queue
                .peek()
                .map_or(LOOK, |Reverse(first)| first.due.saturating_duration_since(now));
            if !pause.is_zero() {
                state = self
                    .queued
                    .wait_timeout(state, pause.min(LOOK))
                    .unwrap_or_else(PoisonError::into_inner)
                    .0;
                continue;
            }
            let Some(Reverse(held)) = state.queue.pop() else {
                continue;
            };
            let flow = state.flows.get(&held.client).cloned();
            drop(state);
            // What the kernel refuses is lost, as a datagram may be.
            let sent = match (held.towards_target, flow) {
                (true, Some(flow)) => flow.send_to(&held.bytes, self.target).is_ok(),
                (true, None) => false,
                (false, _) => self.front.send_to(&held.bytes, held.client).is_ok(),
            };
            self.forwarded.fetch_add(u64::from(sent), Relaxed);
            state = self.lock();
        }
    }
}

impl State {
    /// When the link has sent these bytes; none if its queue is full.
    fn through(&mut self, link: Link, towards_target: bool, bytes: usize) -> Option<Instant> {
        let now = Instant::now();
        let free = &mut self.link_free[usize::from(towards_target)];
        let begin = free.map_or(now, |free| free.max(now));
        if begin > now + link.queue {
            return None;
        }
        let sent = begin + link.takes(bytes);
        *free = Some(sent);
        Some(sent)
    }
}

/// With buffers as large as those of the ends: what overflows them would be loss that nobody has asked for.
fn socket() -> io::Result<UdpSocket> {
    let socket = adit_driver::udp::bind((Ipv4Addr::LOCALHOST, 0).into(), false)?;
    socket.set_nonblocking(false)?;
    socket.set_read_timeout(Some(LOOK))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deadline;

    /// A UDP echo that also tells from which ports it was asked.
    fn echo() -> (SocketAddr, UdpSocket) {
        let socket = socket().expect("binds");
        (socket.local_addr().expect("bound"), socket)
    }

    fn exchange(client: &UdpSocket, relay: &Relay, server: &UdpSocket, text: &[u8]) -> SocketAddr {
        let mut buffer = [0; 64];
        client.send_to(text, relay.address()).expect("sends");
        let (length, from) = deadline::until("the relayed datagram", deadline::STEP, || {
            server.recv_from(&mut buffer).ok()
        });
        assert_eq!(&buffer[..length], text);
        server.send_to(text, from).expect("answers");
        let (length, _) = deadline::until("the answer", deadline::STEP, || {
            client.recv_from(&mut buffer).ok()
        });
        assert_eq!(&buffer[..length], text);
        from
    }

    #[test]
    fn a_rebinding_changes_the_source_port_and_nothing_else() {
        let (target, server) = echo();
        let relay = Relay::start(target, 1, Impairment::default());
        let client = socket().expect("binds");
        let before = exchange(&client, &relay, &server, b"one");
        assert_eq!(before, exchange(&client, &relay, &server, b"two"));
        assert_eq!(relay.rebind(), 1);
        let after = exchange(&client, &relay, &server, b"three");
        assert_ne!(before, after);
        assert_eq!(relay.sources(), [after]);
    }

    #[test]
    fn loss_follows_the_seed_and_darkness_loses_all() {
        let lost = |seed| {
            let (target, _server) = echo();
            let relay = Relay::start(
                target,
                seed,
                Impairment {
                    loss: 0.3,
                    ..Impairment::default()
                },
            );
            let client = socket().expect("binds");
            for _ in 0..200 {
                client.send_to(b"x", relay.address()).expect("sends");
            }
            deadline::until("all datagrams to be decided", deadline::STEP, || {
                let (forwarded, lost) = relay.counts();
                (forwarded + lost == 200).then_some(lost)
            })
        };
        let first = lost(5);
        assert!((30..90).contains(&first), "{first} of 200 lost at 30 %");
        assert_eq!(first, lost(5));

        let (target, _server) = echo();
        let relay = Relay::start(target, 1, Impairment::default());
        relay.set_dark(true);
        socket()
            .expect("binds")
            .send_to(b"x", relay.address())
            .expect("sends");
        deadline::until_true("the datagram to be lost", deadline::STEP, || {
            relay.counts() == (0, 1)
        });
    }

    #[test]
    fn a_narrow_link_delays_and_then_loses() {
        let (target, server) = echo();
        let link = Link {
            bytes_per_second: 1_000,
            queue: Duration::from_millis(250),
        };
        let impairment = Impairment {
            link: Some(link),
            ..Impairment::default()
        };
        let relay = Relay::start(target, 1, impairment);
        let client = socket().expect("binds");
        let start = Instant::now();
        // Each takes 100 ms: three find room in the queue, if they come at once, and more if they are late.
        for _ in 0..10 {
            client.send_to(&[0; 100], relay.address()).expect("sends");
        }
        let (forwarded, lost) = deadline::until("all datagrams to be decided", deadline::STEP, || {
            let (forwarded, lost) = relay.counts();
            (forwarded + lost == 10).then_some((forwarded, lost))
        });
        assert!(start.elapsed() >= Duration::from_millis(300), "{forwarded} came");
        assert!(forwarded >= 3 && lost > 0, "{forwarded} came, {lost} lost");
        drop(server);
    }
}
