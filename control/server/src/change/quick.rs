//! Quick tunnels: made for anybody who asks, under a random hostname, and gone after a while.
//!
//! A quick tunnel is a tunnel of the operator's account that has a time to end. It is listed, routed and
//! admitted like any other. When it ends nothing of it is kept, so strangers cannot push the operator's own
//! deleted tunnels out of the list.
//!
//! Does not: count who asks how often (see `quick`), or draw random numbers.

use std::time::Duration;

use adit_control_api::problem::Code;
use adit_control_api::{AccountTag, HostPattern, Hostname, TunnelId};
use adit_wire::TunnelSecret;
use time::OffsetDateTime;

use self::words::WORDS;
use super::{Decided, Decision, routes, tunnels};
use crate::facts::{Change, Facts, Tunnel};

mod words;

/// Words of a hostname: 2^32 names, too many to find somebody's by trying.
pub const WORDS_PER_NAME: usize = 4;

/// Before the words in the tunnel's name, so that listings tell it from the operator's own.
const NAME_PREFIX: &str = "quick-";

/// What a new quick tunnel is made from.
#[derive(Debug)]
pub struct Draft<'a> {
    /// The account it counts to.
    pub account: &'a AccountTag,
    /// Its hostname ends in this.
    pub domain: &'a Hostname,
    /// How long it lives.
    pub lifetime: Duration,
    /// How many there may be.
    pub tunnels_max: usize,
    /// Its id.
    pub id: TunnelId,
    /// Its secret.
    pub secret: TunnelSecret,
    /// Random words by number; the first that are free name it.
    pub names: Vec<[u8; WORDS_PER_NAME]>,
}

/// A quick tunnel that was made.
#[derive(Debug)]
pub struct Made {
    /// The tunnel.
    pub tunnel: Tunnel,
    /// Where visitors reach it.
    pub hostname: HostPattern,
}

/// Makes a quick tunnel and its route.
///
/// # Errors
/// `LimitReached`. `HostnameTaken` when the domain lies in another account's names. `Unavailable` when none
/// of the drawn names is free.
pub fn create(facts: &Facts, draft: &Draft<'_>, now: OffsetDateTime) -> Decided<Made> {
    if facts.quick_count() >= draft.tunnels_max {
        return Err(Code::LimitReached.error(format!(
            "there are {} quick tunnels, which is the limit; try again when some have ended",
            draft.tunnels_max
        )));
    }
    let is_free = |(words, hostname): &(String, HostPattern)| {
        let name = format!("{NAME_PREFIX}{words}");
        !facts.routes.contains_key(hostname) && facts.living_by_name(draft.account, &name).is_none()
    };
    let mut drawn = draft.names.iter().filter_map(|name| named(*name, draft.domain));
    let (words, hostname) = drawn
        .find(is_free)
        .ok_or_else(|| Code::Unavailable.error("no free hostname was found; try again"))?;
    let tunnel = Tunnel {
        id: draft.id,
        account: draft.account.clone(),
        name: format!("{NAME_PREFIX}{words}"),
        secret: draft.secret.clone(),
        created_at: now,
        deleted_at: None,
        expires_at: Some(now + draft.lifetime),
    };
    let mut with_tunnel = facts.clone();
    with_tunnel.apply(Change::PutTunnel(tunnel.clone()));
    let routed = routes::put(
        &with_tunnel,
        draft.account,
        draft.id,
        &hostname.to_string(),
        false,
        now,
    )?;
    let mut changes = vec![Change::PutTunnel(tunnel.clone())];
    changes.extend(routed.changes);
    Ok(Decision {
        changes,
        answer: Made { tunnel, hostname },
    })
}

/// Removes the quick tunnels whose time has come, and those that `is_abandoned`, with everything of theirs.
pub fn expire(
    facts: &Facts,
    now: OffsetDateTime,
    is_abandoned: impl Fn(TunnelId) -> bool,
) -> Decision<Vec<TunnelId>> {
    let ended: Vec<TunnelId> = facts
        .quick_tunnels()
        .filter(|tunnel| tunnel.expires_at.is_some_and(|at| at <= now) || abandoned(tunnel, &is_abandoned))
        .map(|tunnel| tunnel.id)
        .collect();
    let mut changes = Vec::new();
    for id in &ended {
        changes.extend(tunnels::belongings(facts, *id));
        changes.push(Change::RemoveTunnel(*id));
    }
    Decision {
        changes,
        answer: ended,
    }
}

fn abandoned(tunnel: &Tunnel, is_abandoned: &impl Fn(TunnelId) -> bool) -> bool {
    // One that the operator deleted has nothing left to serve or to list.
    tunnel.is_quick() && (!tunnel.is_living() || is_abandoned(tunnel.id))
}

fn named(name: [u8; WORDS_PER_NAME], domain: &Hostname) -> Option<(String, HostPattern)> {
    let words = name.map(|number| WORDS[usize::from(number)]).join("-");
    let hostname = format!("{words}.{domain}").parse().ok()?;
    Some((words, hostname))
}

#[cfg(test)]
mod tests;
