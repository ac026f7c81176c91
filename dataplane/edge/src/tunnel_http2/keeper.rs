//! Notices a connector that is gone without a word: TCP alone would take a quarter of an hour.
//!
//! ```text
//! heard ── silent for 15 s, for 1 s while an exchange runs, or asked ─► PING
//!                                              ├─ 1 s without a byte ──► late
//!                                              └─ 10 s without a byte ─► silent
//! ```
//! One that is late gets no new exchange until it is heard again. Any byte is a sign of life, so a PING that
//! waits behind a long body does no harm.

use std::future::{pending, poll_fn};
use std::time::Duration;

use adit_driver::time::{now, sleep_until, timeout_at};
use h2::{Ping, PingPong};

use super::watched::Pulse;

/// Silence after which an idle connector is asked. With the time for the answer a loss is noticed in less
/// than 30 s, at four PINGs a minute for an idle connector.
const IDLE_SILENCE: Duration = Duration::from_millis(if cfg!(test) { 300 } else { 15_000 });

/// The same while somebody waits for an answer: as over QUIC.
const AWAITED_SILENCE: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 1_000 });

/// Time for any byte after a PING before its answer is late. On most paths TCP has sent it again by then. TCP
/// tells nothing of round trips here.
const LATE_TIME: Duration = Duration::from_millis(if cfg!(test) { 200 } else { 1_000 });

/// Time for any byte after a PING.
const ANSWER_TIME: Duration = Duration::from_millis(if cfg!(test) { 2_000 } else { 10_000 });

/// Returns when the connector must be taken for gone.
pub(super) async fn until_silent(pings: Option<PingPong>, pulse: &Pulse) {
    // Given out once per connection, and only asked for here.
    let Some(mut pings) = pings else {
        return pending().await;
    };
    loop {
        wait_for_reason(pulse).await;
        let asked_at = now();
        if pings.send_ping(Ping::opaque()).is_err() {
            // The connection has ended, which its own future tells.
            return pending().await;
        }
        let mut deadline = asked_at + LATE_TIME;
        while timeout_at(deadline, poll_fn(|cx| pings.poll_pong(cx)))
            .await
            .is_err()
        {
            let silent_since = pulse.heard_at().max(asked_at);
            let (late_at, silent_at) = (silent_since + LATE_TIME, silent_since + ANSWER_TIME);
            if silent_at <= now() {
                return;
            }
            let is_late = late_at <= now();
            pulse.set_late(is_late);
            deadline = if is_late { silent_at } else { late_at };
        }
    }
}

/// Waits until the connector was silent for long enough, or somebody wants to know.
async fn wait_for_reason(pulse: &Pulse) {
    loop {
        let silence = if pulse.is_awaited() {
            AWAITED_SILENCE
        } else {
            IDLE_SILENCE
        };
        let due = pulse.heard_at() + silence;
        if pulse.take_question() || due <= now() {
            return;
        }
        tokio::select! {
            () = sleep_until(due) => {}
            () = pulse.asked() => {}
        }
    }
}
