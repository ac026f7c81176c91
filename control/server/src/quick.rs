//! The desk where quick tunnels are handed out: who may have one now, and which are over.
//!
//! ```text
//! POST /tunnel ─► rate of the address ─► draw id, secret, names ─► change::quick (pure) ─► store
//! sweep ────────► time is over, or nobody has been connected for long ─► removed, connections closed
//! ```
//! Expired tunnels are swept also when quick tunnels are no longer offered.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use adit_control_api::TunnelId;
use adit_control_api::problem::{ApiError, Code};
use adit_wire::TunnelSecret;
use time::OffsetDateTime;
use uuid::Uuid;

use self::rate::{Rate, Refused};
use crate::change::Decision;
use crate::change::quick::{self as change, Draft, Made, WORDS_PER_NAME};
use crate::change::tunnels::SECRET_BYTES_MIN;
use crate::config::QuickTunnels;
use crate::state::State;

mod rate;

/// Names drawn for one tunnel. With a million of them in use the chance that all are taken is below 10^-28.
const NAMES_DRAWN: usize = 8;

/// Hands out quick tunnels.
pub(crate) struct Desk {
    /// Everything control knows.
    pub(crate) state: Arc<State>,
    /// How they are offered. Held for a clone or a replacement, never across a wait.
    settings: Mutex<Arc<QuickTunnels>>,
    /// Name of the account they count to.
    account: String,
    /// Root of the CA that signs edges' certificates.
    pub(crate) ca: String,
    rate: Mutex<Rate>,
}

impl Desk {
    /// A desk for these settings.
    pub(crate) fn new(state: Arc<State>, settings: QuickTunnels, account: String, ca: String) -> Self {
        let rate = Mutex::new(Rate::per_hour(settings.per_address));
        Self {
            state,
            settings: Mutex::new(Arc::new(settings)),
            account,
            ca,
            rate,
        }
    }

    /// How they are offered at this moment.
    pub(crate) fn settings(&self) -> Arc<QuickTunnels> {
        self.settings
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Offers them differently from here on; those that are out keep the life they were given.
    pub(crate) fn change(&self, settings: QuickTunnels) {
        if settings.per_address != self.settings().per_address {
            let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
            *rate = Rate::per_hour(settings.per_address);
        }
        *self.settings.lock().unwrap_or_else(PoisonError::into_inner) = Arc::new(settings);
    }

    /// Makes a quick tunnel for whoever asks from `peer`, for whom a trusted proxy may speak.
    ///
    /// # Errors
    /// `LimitReached` when the address asks too often or there are too many; what the store says.
    pub(crate) async fn hand_out(
        &self,
        peer: SocketAddr,
        forwarded_for: Option<&str>,
    ) -> Result<Made, ApiError> {
        let address = self.asker(peer.ip(), forwarded_for);
        let admitted = {
            // A step of it does not panic half-way.
            let mut rate = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
            rate.take(address, Instant::now())
        };
        if let Err(refused) = admitted {
            self.state.metrics.quick_refused();
            let (refusal, wait) = match refused {
                Refused::TooOften { wait } => ("this address has asked for too many quick tunnels", wait),
                Refused::TooMany { wait } => ("too many addresses ask for quick tunnels", wait),
            };
            let seconds = wait.as_secs() + 1;
            return Err(Code::LimitReached.error(format!("{refusal}; try again in {seconds} s")));
        }
        let (secret, names) =
            draw().ok_or_else(|| Code::Unavailable.error("no random bytes are available"))?;
        let (account, settings) = (self.account.clone(), self.settings());
        let (id, now) = (TunnelId(Uuid::new_v4()), OffsetDateTime::now_utc());
        let made = self
            .state
            .write(move |facts| {
                let account = facts.accounts.values().find(|found| found.name == account);
                let account = account.ok_or_else(|| Code::NotFound.error("the account is gone"))?;
                let draft = Draft {
                    account: &account.tag,
                    domain: &settings.domain,
                    lifetime: settings.expires_after,
                    tunnels_max: settings.tunnels_max,
                    id,
                    secret: secret.clone(),
                    names: names.clone(),
                };
                change::create(facts, &draft, now)
            })
            .await
            .inspect_err(|_| self.state.metrics.quick_refused())?;
        self.state.metrics.quick_made();
        tracing::info!(tunnel = %made.tunnel.id, hostname = %made.hostname, %address, "a quick tunnel is created");
        Ok(made)
    }

    /// Who asks: the peer, or whom the last of `X-Forwarded-For` names if the peer is a trusted proxy.
    fn asker(&self, peer: IpAddr, forwarded_for: Option<&str>) -> IpAddr {
        let peer = peer.to_canonical();
        if !self.settings().trusted_proxies.contains(&peer) {
            return peer;
        }
        let named = forwarded_for.and_then(|list| list.rsplit(',').next()?.trim().parse::<IpAddr>().ok());
        named.map_or(peer, |address| address.to_canonical())
    }
}

/// Since when quick tunnels are without connections, as far as this process has seen.
#[derive(Debug, Default)]
pub(crate) struct Absences {
    since: BTreeMap<TunnelId, Instant>,
}

impl Absences {
    /// Looks at all quick tunnels; what is not among them is forgotten.
    fn look(&mut self, tunnels: impl Iterator<Item = (TunnelId, bool)>, now: Instant) {
        let seen = tunnels
            .filter(|(_, is_connected)| !is_connected)
            .map(|(id, _)| (id, self.since.get(&id).copied().unwrap_or(now)))
            .collect();
        self.since = seen;
    }

    fn is_longer(&self, id: TunnelId, limit: Duration, now: Instant) -> bool {
        self.since
            .get(&id)
            .is_some_and(|since| now.saturating_duration_since(*since) >= limit)
    }
}

/// Removes the quick tunnels that are over, and closes what is connected of them. Returns how many.
///
/// # Errors
/// When the store does not take it; the next sweep tries again.
pub(crate) async fn sweep(
    state: &Arc<State>,
    absences: &mut Absences,
    idle_after: Option<Duration>,
) -> Result<usize, ApiError> {
    let now = Instant::now();
    let facts = state.facts();
    let quick = facts.quick_tunnels();
    let connected: Vec<_> = state.ask(|registrar| {
        quick
            .map(|tunnel| (tunnel.id, registrar.is_connected(tunnel.id)))
            .collect()
    });
    absences.look(connected.into_iter(), now);
    let is_abandoned = |id| idle_after.is_some_and(|limit| absences.is_longer(id, limit, now));
    let due = change::expire(&facts, OffsetDateTime::now_utc(), is_abandoned).answer;
    if due.is_empty() {
        return Ok(0);
    }
    let ended = state
        .write(move |facts| {
            // On the newest facts: the operator may have removed some meanwhile.
            let Decision { changes, answer } =
                change::expire(facts, OffsetDateTime::now_utc(), |id| due.contains(&id));
            Ok(Decision { changes, answer })
        })
        .await?;
    for id in &ended {
        state.cleanup(*id, None, "the quick tunnel has ended");
        tracing::info!(tunnel = %id, "a quick tunnel has ended");
    }
    Ok(ended.len())
}

fn draw() -> Option<(TunnelSecret, Vec<[u8; WORDS_PER_NAME]>)> {
    let mut secret = [0; SECRET_BYTES_MIN];
    aws_lc_rs::rand::fill(&mut secret).ok()?;
    let mut bytes = [0; NAMES_DRAWN * WORDS_PER_NAME];
    aws_lc_rs::rand::fill(&mut bytes).ok()?;
    let (names, _) = bytes.as_chunks::<WORDS_PER_NAME>();
    Some((TunnelSecret::new(secret), names.to_vec()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_absence_begins_when_first_seen_and_ends_with_a_connection() {
        let (start, id) = (Instant::now(), TunnelId(Uuid::from_u128(1)));
        let (minute, mut absences) = (Duration::from_secs(60), Absences::default());
        let mut longer = |is_connected, after: u64| {
            let now = start + Duration::from_secs(after);
            absences.look([(id, is_connected)].into_iter(), now);
            absences.is_longer(id, minute, now)
        };
        assert!(!longer(false, 0));
        assert!(!longer(false, 59));
        assert!(longer(false, 60));
        assert!(!longer(true, 61));
        assert!(!longer(false, 62));
        assert!(!longer(false, 121));
        assert!(longer(false, 122));
    }
}
