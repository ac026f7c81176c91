//! What control knows for good: accounts, tunnels, routes, configurations. All of it is in the store; this is
//! the copy in memory that answers are made from.
//!
//! Facts change only through [`Change`]s, in memory and in the store alike, so the two cannot drift apart.
//! A copy shares what it does not change, so a write costs what it touches and readers keep what they saw.
//!
//! Does not: decide which changes are allowed (see `change`), or know which connections live (see
//! `registrar`).

use std::fmt;

use adit_control_api::digest::SecretDigest;
use adit_control_api::persistent::PersistentMap;
use adit_control_api::{AccountTag, HostPattern, TunnelId};
use adit_wire::TunnelSecret;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use uuid::Uuid;

use self::index::{Holdings, Index};

mod index;

/// Names an account's hostnames in the REST API; the stock command line asks for one.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ZoneId(pub String);

/// Who owns tunnels and hostnames.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Account {
    /// Its id in paths, credentials and tokens.
    pub tag: AccountTag,
    /// Its name for people.
    pub name: String,
    /// Its zone.
    pub zone: ZoneId,
    /// Digest of its API token.
    pub token: SecretDigest,
    /// When it was created.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// A tunnel, living or deleted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Tunnel {
    /// Its id for ever.
    pub id: TunnelId,
    /// The account that owns it.
    pub account: AccountTag,
    /// Its name, unique among the account's living tunnels.
    pub name: String,
    /// What its connectors present. Needed again for `tunnel token`.
    #[serde(with = "secret_text")]
    pub secret: TunnelSecret,
    /// When it was created.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
    /// When it was deleted.
    #[serde(with = "time::serde::rfc3339::option")]
    pub deleted_at: Option<OffsetDateTime>,
    /// When it goes by itself: quick tunnels only.
    #[serde(
        default,
        with = "time::serde::rfc3339::option",
        skip_serializing_if = "Option::is_none"
    )]
    pub expires_at: Option<OffsetDateTime>,
}

/// A hostname that leads to a tunnel.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Route {
    /// The hostname or wildcard.
    pub pattern: HostPattern,
    /// The account it belongs to.
    pub account: AccountTag,
    /// Where it leads.
    pub tunnel: TunnelId,
    /// When it came to lead there.
    #[serde(with = "time::serde::rfc3339")]
    pub created_at: OffsetDateTime,
}

/// Ingress rules that control holds for a tunnel.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Configuration {
    /// Whose rules.
    pub tunnel: TunnelId,
    /// 1 at first, one more with every write.
    pub version: i32,
    /// The JSON that connectors get.
    pub config: serde_json::Value,
    /// When this version was written.
    #[serde(with = "time::serde::rfc3339")]
    pub written_at: OffsetDateTime,
}

/// Everything, at one generation. The maps are to be read; [`Facts::apply`] changes them.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Grows with every committed write.
    pub generation: u64,
    /// By tag.
    pub accounts: PersistentMap<AccountTag, Account>,
    /// By id, with the deleted ones.
    pub tunnels: PersistentMap<TunnelId, Tunnel>,
    /// By hostname.
    pub routes: PersistentMap<HostPattern, Route>,
    /// By tunnel.
    pub configurations: PersistentMap<TunnelId, Configuration>,
    index: Index,
}

/// One step from facts to facts. Several are committed together or not at all.
#[derive(Debug, Clone)]
pub enum Change {
    /// The facts have this generation afterwards.
    Generation(u64),
    /// Adds or replaces an account.
    PutAccount(Account),
    /// Adds or replaces a tunnel.
    PutTunnel(Tunnel),
    /// Forgets a tunnel that was deleted long ago.
    RemoveTunnel(TunnelId),
    /// Adds or replaces a route.
    PutRoute(Route),
    /// Removes a route.
    RemoveRoute(HostPattern),
    /// Adds or replaces a configuration.
    PutConfiguration(Configuration),
    /// Removes a configuration.
    RemoveConfiguration(TunnelId),
}

impl Facts {
    /// Takes one step.
    pub fn apply(&mut self, change: Change) {
        match change {
            Change::Generation(generation) => self.generation = generation,
            Change::PutAccount(account) => self.accounts.insert_mut(account.tag.clone(), account),
            Change::PutTunnel(tunnel) => {
                self.forget_tunnel(tunnel.id);
                self.index.add_tunnel(&tunnel);
                self.tunnels.insert_mut(tunnel.id, tunnel);
            }
            Change::RemoveTunnel(id) => self.forget_tunnel(id),
            Change::PutRoute(route) => {
                self.forget_route(&route.pattern);
                self.index.add_route(&route);
                self.routes.insert_mut(route.pattern.clone(), route);
            }
            Change::RemoveRoute(pattern) => self.forget_route(&pattern),
            Change::PutConfiguration(configuration) => {
                self.configurations
                    .insert_mut(configuration.tunnel, configuration);
            }
            Change::RemoveConfiguration(tunnel) => {
                self.configurations.remove_mut(&tunnel);
            }
        }
    }

    fn forget_tunnel(&mut self, id: TunnelId) {
        if let Some(held) = self.tunnels.get(&id) {
            self.index.remove_tunnel(held);
            self.tunnels.remove_mut(&id);
        }
    }

    fn forget_route(&mut self, pattern: &HostPattern) {
        if let Some(held) = self.routes.get(pattern) {
            self.index.remove_route(held);
            self.routes.remove_mut(pattern);
        }
    }

    /// A tunnel of this account, living or deleted.
    pub fn tunnel(&self, account: &AccountTag, id: TunnelId) -> Option<&Tunnel> {
        self.tunnels.get(&id).filter(|tunnel| tunnel.account == *account)
    }

    /// The tunnels of one account, with the deleted ones.
    pub fn tunnels_of(&self, account: &AccountTag) -> impl Iterator<Item = &Tunnel> {
        let held = self.holdings(account).map(|held| held.tunnels.iter());
        held.into_iter().flatten().filter_map(|id| self.tunnels.get(id))
    }

    /// How many living tunnels an account has.
    pub fn living_count(&self, account: &AccountTag) -> usize {
        self.holdings(account).map_or(0, |held| held.living.size())
    }

    /// How many tunnels live, of all accounts.
    pub fn living_count_of_all(&self) -> usize {
        let holdings = self.index.holdings.values();
        holdings.map(|held| held.living.size()).sum()
    }

    /// The living tunnel of this name in an account.
    pub fn living_by_name(&self, account: &AccountTag, name: &str) -> Option<&Tunnel> {
        let named = |id: Uuid| (name.to_owned(), TunnelId(id));
        let held = self.holdings(account)?;
        let (_, id) = held
            .living
            .range(named(Uuid::nil())..=named(Uuid::max()))
            .next()?;
        self.tunnels.get(id)
    }

    /// How many deleted tunnels of an account are kept.
    pub fn deleted_count(&self, account: &AccountTag) -> usize {
        self.holdings(account).map_or(0, |held| held.deleted.size())
    }

    /// The deleted tunnels of an account that are kept, the oldest first.
    pub fn deleted_of(&self, account: &AccountTag) -> impl Iterator<Item = TunnelId> {
        let held = self.holdings(account).map(|held| held.deleted.iter());
        held.into_iter().flatten().map(|(_, id)| *id)
    }

    /// How many quick tunnels there are.
    pub fn quick_count(&self) -> usize {
        self.index.quick.size()
    }

    /// The quick tunnels of all accounts, the first to end first.
    pub fn quick_tunnels(&self) -> impl Iterator<Item = &Tunnel> {
        let quick = self.index.quick.iter();
        quick.filter_map(|(_, id)| self.tunnels.get(id))
    }

    /// How many hostnames an account has.
    pub fn route_count(&self, account: &AccountTag) -> usize {
        self.holdings(account).map_or(0, |held| held.routes)
    }

    /// The patterns that lead to a tunnel, whether it lives or not.
    pub fn routes_to(&self, tunnel: TunnelId) -> impl Iterator<Item = &HostPattern> {
        let led = self.index.led.get(&tunnel).map(|led| led.iter());
        led.into_iter().flatten()
    }

    /// Whether some hostname that matches this pattern belongs to another account.
    ///
    /// A name can only be shared with itself, with the wildcards that it lies under and, as a wildcard, with
    /// what lies beneath it. So this costs a look-up per label.
    pub fn is_anothers(&self, account: &AccountTag, pattern: &HostPattern) -> bool {
        let belongs = |pattern: &HostPattern| {
            let held = self.routes.get(pattern);
            held.is_some_and(|route| route.account != *account)
        };
        let is_beneath = index::above(pattern).any(|name| belongs(&HostPattern::Wildcard(name)));
        let is_above = match pattern {
            HostPattern::Exact(_) => false,
            HostPattern::Wildcard(suffix) => {
                let counts = self.index.beneath.get(suffix);
                // The first that is not ours decides, so two are looked at.
                counts.is_some_and(|counts| counts.keys().any(|holder| holder != account))
            }
        };
        belongs(pattern) || is_beneath || is_above
    }

    fn holdings(&self, account: &AccountTag) -> Option<&Holdings> {
        self.index.holdings.get(account)
    }

    /// The account whose API token has this digest.
    ///
    /// Every account is compared, so the time does not tell which one it was.
    pub fn account_by_token(&self, token: &SecretDigest) -> Option<&Account> {
        self.accounts.values().fold(None, |found, account| {
            if account.token.matches(token) {
                Some(account)
            } else {
                found
            }
        })
    }
}

impl Tunnel {
    /// Whether connectors may use it.
    pub const fn is_living(&self) -> bool {
        self.deleted_at.is_none()
    }

    /// Whether it was made for somebody without an account and goes by itself.
    pub const fn is_quick(&self) -> bool {
        self.expires_at.is_some()
    }
}

impl fmt::Display for ZoneId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A secret as padded standard base64, in the store only.
mod secret_text {
    use adit_wire::TunnelSecret;
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(secret: &TunnelSecret, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(secret.as_bytes()))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<TunnelSecret, D::Error> {
        let text = String::deserialize(deserializer)?;
        let bytes = STANDARD.decode(text).map_err(serde::de::Error::custom)?;
        Ok(TunnelSecret::new(bytes))
    }
}
