//! What control knows for good: accounts, tunnels, routes, configurations. All of it is in the store; this is
//! the copy in memory that answers are made from.
//!
//! Facts change only through [`Change`]s, in memory and in the store alike, so the two cannot drift apart.
//!
//! Does not: decide which changes are allowed (see `change`), or know which connections live (see
//! `registrar`).

use std::collections::BTreeMap;
use std::fmt;

use adit_control_api::digest::SecretDigest;
use adit_control_api::{AccountTag, HostPattern, TunnelId};
use adit_wire::TunnelSecret;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;

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

/// Everything, at one generation.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    /// Grows with every committed write.
    pub generation: u64,
    /// By tag.
    pub accounts: BTreeMap<AccountTag, Account>,
    /// By id, with the deleted ones.
    pub tunnels: BTreeMap<TunnelId, Tunnel>,
    /// By hostname.
    pub routes: BTreeMap<HostPattern, Route>,
    /// By tunnel.
    pub configurations: BTreeMap<TunnelId, Configuration>,
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
            Change::PutAccount(account) => {
                self.accounts.insert(account.tag.clone(), account);
            }
            Change::PutTunnel(tunnel) => {
                self.tunnels.insert(tunnel.id, tunnel);
            }
            Change::RemoveTunnel(id) => {
                self.tunnels.remove(&id);
            }
            Change::PutRoute(route) => {
                self.routes.insert(route.pattern.clone(), route);
            }
            Change::RemoveRoute(pattern) => {
                self.routes.remove(&pattern);
            }
            Change::PutConfiguration(configuration) => {
                self.configurations.insert(configuration.tunnel, configuration);
            }
            Change::RemoveConfiguration(tunnel) => {
                self.configurations.remove(&tunnel);
            }
        }
    }

    /// A tunnel of this account, living or deleted.
    pub fn tunnel(&self, account: &AccountTag, id: TunnelId) -> Option<&Tunnel> {
        self.tunnels.get(&id).filter(|tunnel| tunnel.account == *account)
    }

    /// The tunnels of one account, with the deleted ones.
    pub fn tunnels_of<'a>(&'a self, account: &'a AccountTag) -> impl Iterator<Item = &'a Tunnel> {
        self.tunnels
            .values()
            .filter(move |tunnel| tunnel.account == *account)
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
