//! Tells a silent connection that has nothing to say from a dead one. Pure: counts and instants in, verdicts
//! out.
//!
//! ```text
//! strict    asked ─► late: doubt, PING    silent for `silence_max` ───────────────────► lost
//! patient   asked ─► late: doubt, PING, again each fifth of `silence_max` ─► a whole one: lost
//!           an exchange waits ─► silent for a fifth: PING, which asks
//!           neither: silence is welcome; a dialling side may PING by the clock, which asks
//! lingering lost to its tasks, PINGs go on; heard again: the peer is told that it is over
//! ```
//! What the network says (ICMP) is no proof, but a reason to ask at once. What it says of a question is
//! doubted. A peer is lost after a fifth of `silence_max` if it is silent and nobody was at its port three
//! times.
//!
//! *Late* is measured by the round trip: the peer had the time to answer the question and QUIC's first
//! repetitions of it. A near peer is doubted after a fifth of a second. Anything heard ends the doubt.
//!
//! A side has *asked* when it has sent a frame that the peer must acknowledge (RFC 9002 §2) and has heard
//! nothing since. Strict is how stock connectors see it, and every connection until its peer is known.
//!
//! Lingering is for a peer that has asked nothing during an outage and so has not noticed it: the first
//! packet that gets through tells it to dial again, long before its own next PING.
//!
//! Does not: read a clock, send anything, end connections ([`connection`](super::connection) does).

use std::time::{Duration, Instant};

use quinn_proto::FrameStats;

/// PINGs that go unanswered before a connection is lost.
const PROBES: u32 = 5;

/// Probe timeouts (RFC 9002 §6.2.1) after which an answer is late. By then the question was sent twice, and
/// there was time for an answer to the repetition.
const LATE_TIMEOUTS: u32 = 3;

/// An answer is not late before: processes stop for that long on a busy machine.
const LATE_MIN: Duration = Duration::from_millis(200);

/// Answers of the network that nobody is at the peer's port, after which a fifth of the silence is enough.
const REFUSALS: u32 = 3;

/// How long a peer may hold an acknowledgement back (RFC 9000 §18.2, the default of `max_ack_delay`).
const ACK_DELAY: Duration = Duration::from_millis(25);

/// How long the answer to a PING by the clock may take before QUIC is let look for a loss.
///
/// The peer holds an acknowledgement back for 25 ms, and QUIC's own timer goes off a round trip later. On a
/// short path a core that wakes a millisecond late asks twice, which is half of what an idle connection sends
/// (seen).
const PATIENCE: Duration = Duration::from_millis(250);

/// No rhythm becomes faster than this by itself.
const RHYTHM_MIN: Duration = Duration::from_secs(10);

/// How one connection is watched, and what has been seen of it.
#[derive(Debug)]
pub struct Watch {
    silence_max: Duration,
    mode: Mode,
    /// Next PING by the clock and the interval of those that follow.
    rhythm: Option<(Instant, Duration)>,
    frames_heard: u64,
    frames_asking: u64,
    challenges: u64,
    heard_at: Instant,
    /// The first question since then.
    asked_at: Option<Instant>,
    probed_at: Option<Instant>,
    /// A PING by the clock was sent then, and nothing else is to be acknowledged.
    pinged_alone_at: Option<Instant>,
    is_in_doubt: bool,
    /// How often the network said since the first question that nobody is at the peer's port.
    refusals: u32,
    /// Smoothed round trip.
    rtt: Duration,
    /// When to look again. It stays while what it is for moves away, so that a busy connection does not
    /// move its timer with every packet.
    look_at: Option<Instant>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Strict,
    Patient,
    Lingering,
}

/// What is to be done about a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Nothing,
    /// Send a PING.
    Ping,
    /// Send a PING: an answer has become late.
    Doubt,
    /// The peer counts as gone.
    Lost,
}

impl Watch {
    /// Watches a connection that begins `now`, strictly.
    pub fn new(now: Instant, silence_max: Duration) -> Self {
        Self {
            silence_max,
            mode: Mode::Strict,
            rhythm: None,
            frames_heard: 0,
            frames_asking: 0,
            challenges: 0,
            heard_at: now,
            asked_at: None,
            probed_at: None,
            pinged_alone_at: None,
            is_in_doubt: false,
            refusals: 0,
            rtt: silence_max,
            look_at: None,
        }
    }

    /// Silence is welcome from here on while nobody waits for anything.
    pub fn be_patient(&mut self) {
        self.mode = Mode::Patient;
    }

    /// PINGs at `first` and every `interval` after it, whatever else is said.
    pub fn ping_by_clock(&mut self, first: Instant, interval: Duration) {
        self.rhythm = Some((first, interval));
    }

    /// Goes on asking after a lost connection. Returns false for one that is not worth it.
    pub fn linger(&mut self) -> bool {
        let is_patient = self.mode == Mode::Patient;
        if is_patient {
            self.mode = Mode::Lingering;
            self.rhythm = None;
        }
        is_patient
    }

    /// Whether the connection is lost to its tasks and its peer is to be told.
    pub fn is_lingering(&self) -> bool {
        self.mode == Mode::Lingering
    }

    /// Whether an answer is outstanding.
    pub fn has_asked(&self) -> bool {
        self.asked_at.is_some()
    }

    /// Whether the peer is late with an answer.
    pub fn is_in_doubt(&self) -> bool {
        self.is_in_doubt
    }

    /// Takes the smoothed round trip and the counts after a turn, in which receiving comes before sending.
    /// Returns whether something was heard.
    pub fn note(&mut self, now: Instant, rtt: Duration, sent: &FrameStats, received: &FrameStats) -> bool {
        self.rtt = rtt;
        let (heard, asking) = (frames_heard(received), frames_asking(sent));
        let is_heard = std::mem::replace(&mut self.frames_heard, heard) != heard;
        if is_heard {
            self.heard_at = now;
            self.asked_at = None;
            self.probed_at = None;
            self.pinged_alone_at = None;
            self.is_in_doubt = false;
            self.refusals = 0;
        }
        let before = std::mem::replace(&mut self.frames_asking, asking);
        if before != asking {
            let is_first = self.asked_at.is_none() && asking == before.wrapping_add(1);
            self.pinged_alone_at = self.pinged_alone_at.filter(|_| is_first);
            self.asked_at.get_or_insert(now);
        }
        is_heard
    }

    /// The network says that the peer is not there. With `is_port` its host has nobody at the port, else
    /// there is no way to it.
    pub fn unreachable(&mut self, now: Instant, is_port: bool) -> Verdict {
        if self.mode == Mode::Lingering {
            return Verdict::Nothing;
        }
        if self.asked_at.is_none() {
            // About something that wants no answer.
            return Verdict::Ping;
        }
        self.refusals += u32::from(is_port);
        if self.is_in_doubt {
            return Verdict::Nothing;
        }
        self.probed_at = Some(now);
        self.is_in_doubt = true;
        Verdict::Doubt
    }

    /// Until when QUIC's own timers are not worth a wakeup: they only wait for the answer to a lone PING.
    pub fn patience(&self, has_exchange: bool) -> Option<Instant> {
        let is_welcome = self.mode == Mode::Patient && !has_exchange;
        let pinged_at = self.pinged_alone_at.filter(|_| is_welcome);
        pinged_at.map(|at| at + PATIENCE)
    }

    /// Whether the peer has just seen this side at a new address, which its challenge of the path shows (RFC
    /// 9000 §9.1). Only a side with a rhythm of PINGs asks. A middlebox has forgotten the old address sooner
    /// than we spoke, so the rhythm becomes twice as fast.
    pub fn has_moved(&mut self, received: &FrameStats) -> bool {
        let challenges = received.path_challenge;
        let is_news = std::mem::replace(&mut self.challenges, challenges) != challenges;
        let Some((_, interval)) = &mut self.rhythm else {
            return false;
        };
        if is_news && *interval > RHYTHM_MIN {
            *interval = (*interval / 2).max(RHYTHM_MIN);
        }
        is_news
    }

    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    pub fn poll_timeout(&mut self, has_exchange: bool) -> Option<Instant> {
        let next = self.next(has_exchange);
        let is_soon_enough = self.look_at.zip(next).is_some_and(|(look, next)| look <= next);
        if !is_soon_enough {
            self.look_at = next;
        }
        self.look_at
    }

    /// What is to be done, if it is time for something.
    pub fn handle_timeout(&mut self, now: Instant, has_exchange: bool) -> Verdict {
        if self.look_at.is_none_or(|look| look > now) {
            return Verdict::Nothing;
        }
        self.look_at = None;
        if self.lost_at().is_some_and(|at| at <= now) {
            return Verdict::Lost;
        }
        let is_due = match &mut self.rhythm {
            Some((next, interval)) if *next <= now => {
                *next = now + *interval;
                true
            }
            Some(_) | None => false,
        };
        if self.doubt_at().is_some_and(|at| at <= now) {
            self.probed_at = Some(now);
            self.is_in_doubt = true;
            return Verdict::Doubt;
        }
        if self.probe_at(has_exchange).is_some_and(|at| at <= now) {
            self.probed_at = Some(now);
            return Verdict::Ping;
        }
        if !is_due {
            return Verdict::Nothing;
        }
        self.pinged_alone_at = (self.asked_at.is_none() && !has_exchange).then_some(now);
        Verdict::Ping
    }

    fn next(&self, has_exchange: bool) -> Option<Instant> {
        let rhythm = self.rhythm.map(|(next, _)| next);
        [
            self.lost_at(),
            self.doubt_at(),
            self.probe_at(has_exchange),
            rhythm,
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn lost_at(&self) -> Option<Instant> {
        let since = match self.mode {
            // A question extends the wait, as it does QUIC's own idle timeout (RFC 9000 §10.1).
            Mode::Strict => Some(self.asked_at.unwrap_or(self.heard_at)),
            Mode::Patient => self.asked_at,
            // QUIC's idle timeout ends it.
            Mode::Lingering => return None,
        };
        let patience = match self.refusals >= REFUSALS && self.asked_at.is_some() {
            true => self.silence_max / PROBES,
            false => self.silence_max,
        };
        since.map(|since| since + patience)
    }

    /// When an answer becomes late.
    fn doubt_at(&self) -> Option<Instant> {
        if self.is_in_doubt || self.mode == Mode::Lingering {
            return None;
        }
        let late = match self.pinged_alone_at {
            // QUIC has not been let repeat it for that long.
            Some(_) => self.late().max(2 * PATIENCE).min(self.silence_max / PROBES),
            None => self.late(),
        };
        self.asked_at.map(|at| at + late)
    }

    /// Time for the answer to a question.
    fn late(&self) -> Duration {
        let longest = self.silence_max / PROBES;
        (self.probe_timeout() * LATE_TIMEOUTS).clamp(LATE_MIN.min(longest), longest)
    }

    /// That of QUIC, with half a round trip for its variance of a steady path, and as much again to spare.
    fn probe_timeout(&self) -> Duration {
        self.rtt.saturating_mul(2).saturating_add(ACK_DELAY)
    }

    fn probe_at(&self, has_exchange: bool) -> Option<Instant> {
        let since = match self.mode {
            Mode::Strict => None,
            Mode::Patient => self
                .probed_at
                .or(self.asked_at)
                .or_else(|| has_exchange.then_some(self.heard_at)),
            Mode::Lingering => Some(self.probed_at.unwrap_or(self.heard_at)),
        };
        since.map(|since| since + self.silence_max / PROBES)
    }
}

/// Only frames of packets that decrypted are counted, so nobody else can keep a connection alive.
fn frames_heard(received: &FrameStats) -> u64 {
    received.acks + received.connection_close + frames_asking(received)
}

/// Frames that make a packet ack-eliciting.
fn frames_asking(sent: &FrameStats) -> u64 {
    sent.ack_frequency
        + sent.crypto
        + sent.data_blocked
        + sent.datagram
        + u64::from(sent.handshake_done)
        + sent.immediate_ack
        + sent.max_data
        + sent.max_stream_data
        + sent.max_streams_bidi
        + sent.max_streams_uni
        + sent.new_connection_id
        + sent.new_token
        + sent.path_challenge
        + sent.path_response
        + sent.ping
        + sent.reset_stream
        + sent.retire_connection_id
        + sent.stream_data_blocked
        + sent.streams_blocked_bidi
        + sent.streams_blocked_uni
        + sent.stop_sending
        + sent.stream
}

#[cfg(test)]
mod tests;
