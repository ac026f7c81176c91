//! Where log lines and whoever streams them meet: one stream at a time, and a short queue before it.
//!
//! The logger asks [`LiveLog::level`] which lines are wanted, and nearly always none is. It hands wanted
//! lines over ([`LiveLog::push`]). A full queue drops lines and counts them, so a slow reader never holds the
//! connector up.
//!
//! A later stream of the same actor takes the place of the earlier; another actor's is refused meanwhile.

use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use adit_driver::mailbox::{self, Receiver, Sender};
use serde_json::{Map, Value};

use super::log_stream::{Filters, LogEvent, LogLevel};

/// Lines that may wait for the stream.
const LINES_MAX: usize = 30;

/// [`LiveLog::level`] when nobody listens; no level is as great.
const SILENT: u8 = u8::MAX;

/// One line of the log.
#[derive(Debug, Clone, PartialEq)]
pub struct LogLine {
    /// When, RFC 3339.
    pub time: String,
    /// How grave.
    pub level: LogLevel,
    /// About what.
    pub event: LogEvent,
    /// What.
    pub message: String,
    /// Facts.
    pub fields: Map<String, Value>,
}

/// The hub; clones are the same one.
#[derive(Clone)]
pub struct LiveLog(Arc<Hub>);

struct Hub {
    /// The least grave level that is wanted.
    level: AtomicU8,
    stream: Mutex<Option<Streaming>>,
    next_id: AtomicU64,
    lost: AtomicU64,
}

struct Streaming {
    id: u64,
    actor: String,
    filters: Filters,
    lines: Sender<LogLine>,
    /// State of the generator that samples.
    dice: u64,
}

/// Somebody else streams.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Busy;

/// A claim to the lines; dropping it ends the stream.
pub(crate) struct Stream {
    hub: LiveLog,
    id: u64,
    /// Ends when a later stream takes the place.
    pub(crate) lines: Receiver<LogLine>,
}

impl Default for LiveLog {
    fn default() -> Self {
        Self(Arc::new(Hub {
            level: AtomicU8::new(SILENT),
            stream: Mutex::default(),
            next_id: AtomicU64::new(1),
            lost: AtomicU64::new(0),
        }))
    }
}

impl std::fmt::Debug for LiveLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LiveLog(..)")
    }
}

impl LiveLog {
    /// The least severe level that anybody wants, or `None`. Loggers may keep the answer until `tracing` asks
    /// them again, so interest in all callsites is computed anew whenever it changes.
    pub fn level(&self) -> Option<LogLevel> {
        match self.0.level.load(Ordering::Relaxed) {
            1 => Some(LogLevel::Debug),
            2 => Some(LogLevel::Info),
            3 => Some(LogLevel::Warn),
            4 => Some(LogLevel::Error),
            _ => None,
        }
    }

    /// Takes a line for the stream, if it is wanted and there is room.
    pub fn push(&self, line: LogLine) {
        let mut held = self.stream();
        let Some(stream) = held.as_mut() else { return };
        let chance = stream.roll();
        if stream.filters.pass(line.level, line.event, chance) && stream.lines.try_send(line).is_err() {
            self.0.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Lines that found the queue full, ever.
    pub(crate) fn lost(&self) -> u64 {
        self.0.lost.load(Ordering::Relaxed)
    }

    /// Begins a stream for `actor`.
    pub(crate) fn begin(&self, actor: &str, filters: Filters) -> Result<Stream, Busy> {
        let (sender, lines) = mailbox::mailbox(LINES_MAX);
        let id = self.0.next_id.fetch_add(1, Ordering::Relaxed);
        let level = filters.level;
        let mut held = self.stream();
        if held.as_ref().is_some_and(|stream| stream.actor != actor) {
            return Err(Busy);
        }
        *held = Some(Streaming {
            id,
            actor: actor.to_owned(),
            filters,
            lines: sender,
            dice: id.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        });
        self.set_level(held, level as u8);
        Ok(Stream {
            hub: self.clone(),
            id,
            lines,
        })
    }

    fn end(&self, id: u64) {
        let mut held = self.stream();
        if held.as_ref().is_some_and(|stream| stream.id == id) {
            *held = None;
            self.set_level(held, SILENT);
        }
    }

    /// Under the lock, or the end of one stream could silence the next.
    fn set_level(&self, held: MutexGuard<'_, Option<Streaming>>, level: u8) {
        let is_new = self.0.level.swap(level, Ordering::Relaxed) != level;
        // Computing interest may log.
        drop(held);
        if is_new {
            tracing::callsite::rebuild_interest_cache();
        }
    }

    fn stream(&self) -> MutexGuard<'_, Option<Streaming>> {
        self.0.stream.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Stream {
    /// Wants other lines from here on.
    pub(crate) fn refilter(&self, filters: Filters) {
        let level = filters.level as u8;
        let mut held = self.hub.stream();
        let own = held.as_mut().filter(|stream| stream.id == self.id);
        let is_own = own.map(|stream| stream.filters = filters).is_some();
        if is_own {
            self.hub.set_level(held, level);
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.hub.end(self.id);
    }
}

impl Streaming {
    /// A number from 0 to below 1 (xorshift64*): which lines are left out need not be secret.
    fn roll(&mut self) -> f64 {
        self.dice ^= self.dice >> 12;
        self.dice ^= self.dice << 25;
        self.dice ^= self.dice >> 27;
        let bits = self.dice.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 11;
        bits as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(level: LogLevel, event: LogEvent) -> LogLine {
        LogLine {
            time: String::new(),
            level,
            event,
            message: "m".into(),
            fields: Map::new(),
        }
    }

    #[tokio::test]
    async fn one_streams_and_only_the_same_actor_takes_its_place() {
        let log = LiveLog::default();
        assert_eq!(log.level(), None);
        log.push(line(LogLevel::Error, LogEvent::Http));
        let mut first = log.begin("me", Filters::default()).unwrap();
        assert_eq!(log.level(), Some(LogLevel::Debug));
        assert!(matches!(log.begin("you", Filters::default()), Err(Busy)));
        let mut second = log.begin("me", Filters::default()).unwrap();
        assert_eq!(first.lines.recv().await, None);
        drop(first);
        log.push(line(LogLevel::Debug, LogEvent::Tcp));
        assert_eq!(second.lines.recv().await.unwrap().event, LogEvent::Tcp);
        drop(second);
        assert_eq!(log.level(), None);
        assert!(log.begin("you", Filters::default()).is_ok());
    }

    #[test]
    fn a_slow_reader_loses_lines_which_are_counted() {
        let log = LiveLog::default();
        let _stream = log.begin("me", Filters::default()).unwrap();
        for _ in 0..LINES_MAX + 3 {
            log.push(line(LogLevel::Info, LogEvent::Cloudflared));
        }
        assert_eq!(log.lost(), 3);
    }

    #[test]
    fn chances_are_spread_evenly() {
        let mut stream = Streaming {
            id: 1,
            actor: String::new(),
            filters: Filters::default(),
            lines: mailbox::mailbox(1).0,
            dice: 1,
        };
        let below = (0..10_000).filter(|_| stream.roll() < 0.25).count();
        assert!((2_300..2_700).contains(&below), "{below}");
    }
}
