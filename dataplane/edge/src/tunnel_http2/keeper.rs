//! Notices a connector that is gone without a word: TCP alone would take a quarter of an hour.
//!
//! ```text
//! heard ── silent for 15 s, for 5 s while an exchange runs, or asked ─► PING ── 10 s without a byte ─► silent
//! ```
//! Any byte is a sign of life, so a PING that waits behind a long body accuses nobody.

use std::future::{pending, poll_fn};
use std::time::Duration;

use adit_driver::time::{now, sleep_until, timeout_at};
use h2::{Ping, PingPong};

use super::watched::Pulse;

/// Silence after which an idle connector is asked. With the answer's time this keeps a loss below 30 s, and costs an
/// idle connection four PINGs a minute.
const IDLE_SILENCE: Duration = Duration::from_millis(if cfg!(test) { 300 } else { 15_000 });

/// The same while somebody waits for an answer.
const AWAITED_SILENCE: Duration = Duration::from_millis(if cfg!(test) { 100 } else { 5_000 });

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
        let mut deadline = asked_at + ANSWER_TIME;
        while timeout_at(deadline, poll_fn(|cx| pings.poll_pong(cx)))
            .await
            .is_err()
        {
            if pulse.heard_at() + ANSWER_TIME <= now() {
                return;
            }
            deadline = pulse.heard_at() + ANSWER_TIME;
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
        if pulse.take_doubt() || due <= now() {
            return;
        }
        tokio::select! {
            () = sleep_until(due) => {}
            () = pulse.asked() => {}
        }
    }
}
