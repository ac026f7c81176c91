//! Creation and deletion of tunnels.

use adit_control_api::problem::{ApiError, Code};
use adit_control_api::tunnel::CreateTunnel;
use adit_control_api::{AccountTag, TunnelId};
use adit_wire::TunnelSecret;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use time::OffsetDateTime;
use uuid::Uuid;

use super::{Decided, Decision};
use crate::facts::{Change, Facts, Tunnel};

/// Longest tunnel name.
pub const NAME_BYTES_MAX: usize = 128;

/// Shortest secret: 256 bits, as the stock command line makes them.
pub const SECRET_BYTES_MIN: usize = 32;

/// Longest secret that is kept.
pub const SECRET_BYTES_MAX: usize = 256;

/// Living tunnels of one account. Their number costs a write nothing; it bounds memory and snapshots.
pub const TUNNELS_PER_ACCOUNT_MAX: usize = 100_000;

/// Deleted tunnels that an account can still list; beyond it the oldest are forgotten.
pub const DELETED_PER_ACCOUNT_MAX: usize = 1_000;

/// Creates a tunnel with the given new id.
///
/// # Errors
/// `Invalid` for a bad name or secret, `NameTaken`, `LimitReached`.
pub fn create(
    facts: &Facts,
    account: &AccountTag,
    request: &CreateTunnel,
    id: TunnelId,
    now: OffsetDateTime,
) -> Decided<Tunnel> {
    check_name(&request.name)?;
    let secret = parse_secret(&request.tunnel_secret)?;
    if facts.living_by_name(account, &request.name).is_some() {
        return Err(Code::NameTaken.error(format!(
            "a tunnel named {:?} exists already; choose another name or delete that one",
            request.name
        )));
    }
    if facts.living_count(account) >= TUNNELS_PER_ACCOUNT_MAX {
        return Err(Code::LimitReached.error(format!(
            "the account has {TUNNELS_PER_ACCOUNT_MAX} tunnels, which is the limit; delete unused ones"
        )));
    }
    let tunnel = Tunnel {
        id,
        account: account.clone(),
        name: request.name.clone(),
        secret,
        created_at: now,
        deleted_at: None,
        expires_at: None,
    };
    Ok(Decision {
        changes: vec![Change::PutTunnel(tunnel.clone())],
        answer: tunnel,
    })
}

/// Deletes a tunnel with its routes and configuration. Whether it may have live connections is the caller's
/// question: they are no facts.
///
/// # Errors
/// `NotFound`, `TunnelDeleted`.
pub fn delete(facts: &Facts, account: &AccountTag, id: TunnelId, now: OffsetDateTime) -> Decided<Tunnel> {
    let tunnel = living(facts, account, id)?;
    let deleted = Tunnel {
        deleted_at: Some(now),
        ..tunnel.clone()
    };
    let mut changes = vec![Change::PutTunnel(deleted.clone())];
    changes.extend(belongings(facts, id));
    changes.extend(oldest_deleted(facts, account).map(Change::RemoveTunnel));
    Ok(Decision {
        changes,
        answer: deleted,
    })
}

/// Takes a tunnel's routes and configuration away.
pub(super) fn belongings(facts: &Facts, id: TunnelId) -> impl Iterator<Item = Change> {
    let configuration = facts.configurations.get(&id);
    facts
        .routes_to(id)
        .map(|pattern| Change::RemoveRoute(pattern.clone()))
        .chain(configuration.map(|held| Change::RemoveConfiguration(held.tunnel)))
}

/// The living tunnel of this account, or the right refusal.
///
/// # Errors
/// `NotFound`, `TunnelDeleted`.
pub fn living<'a>(facts: &'a Facts, account: &AccountTag, id: TunnelId) -> Result<&'a Tunnel, ApiError> {
    let tunnel = facts.tunnel(account, id).ok_or_else(|| not_found(id))?;
    if !tunnel.is_living() {
        return Err(Code::TunnelDeleted.error(format!("tunnel {id} has been deleted")));
    }
    Ok(tunnel)
}

/// The refusal for an id that the account does not have.
pub fn not_found(id: TunnelId) -> ApiError {
    Code::NotFound.error(format!(
        "there is no tunnel {id}; 'tunnel list' shows those there are"
    ))
}

/// What has to go so that one more deleted tunnel fits.
fn oldest_deleted(facts: &Facts, account: &AccountTag) -> impl Iterator<Item = TunnelId> {
    let surplus = (facts.deleted_count(account) + 1).saturating_sub(DELETED_PER_ACCOUNT_MAX);
    facts.deleted_of(account).take(surplus)
}

fn check_name(name: &str) -> Result<(), ApiError> {
    let reason = if name.is_empty() {
        "is empty"
    } else if name.len() > NAME_BYTES_MAX {
        "is longer than 128 bytes"
    } else if name.chars().any(char::is_control) {
        "has control characters"
    } else if Uuid::parse_str(name).is_ok() {
        "is a UUID, which could not be told from an id"
    } else {
        return Ok(());
    };
    Err(Code::Invalid.error(format!("the tunnel name {reason}")))
}

fn parse_secret(text: &str) -> Result<TunnelSecret, ApiError> {
    let bytes = STANDARD
        .decode(text)
        .map_err(|_| Code::Invalid.error("tunnel_secret is not padded standard base64"))?;
    if !(SECRET_BYTES_MIN..=SECRET_BYTES_MAX).contains(&bytes.len()) {
        return Err(Code::Invalid.error(format!(
            "tunnel_secret has {} bytes; {SECRET_BYTES_MIN} to {SECRET_BYTES_MAX} are allowed",
            bytes.len()
        )));
    }
    Ok(TunnelSecret::new(bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn account(name: &str) -> AccountTag {
        name.parse().unwrap()
    }

    fn request(name: &str) -> CreateTunnel {
        CreateTunnel {
            name: name.into(),
            tunnel_secret: STANDARD.encode([7; 32]),
        }
    }

    fn id(n: u128) -> TunnelId {
        TunnelId(Uuid::from_u128(n))
    }

    fn at(second: i64) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(second).unwrap()
    }

    fn with(facts: &mut Facts, decision: Decision<Tunnel>) -> Tunnel {
        decision
            .changes
            .into_iter()
            .for_each(|change| facts.apply(change));
        decision.answer
    }

    #[test]
    fn a_name_is_taken_only_within_the_account_and_only_while_its_tunnel_lives() {
        let mut facts = Facts::default();
        let (ours, theirs) = (account("a"), account("b"));
        let first = create(&facts, &ours, &request("lab"), id(1), at(1)).unwrap();
        with(&mut facts, first);
        let taken = create(&facts, &ours, &request("lab"), id(2), at(2)).unwrap_err();
        assert_eq!(taken.code, Code::NameTaken.number());
        let other = create(&facts, &theirs, &request("lab"), id(3), at(3)).unwrap();
        with(&mut facts, other);
        let gone = delete(&facts, &ours, id(1), at(4)).unwrap();
        with(&mut facts, gone);
        assert!(create(&facts, &ours, &request("lab"), id(4), at(5)).is_ok());
    }

    #[test]
    fn bad_names_and_secrets_are_invalid() {
        let facts = Facts::default();
        for name in [
            "",
            "a\nb",
            &"x".repeat(129),
            "11111111-2222-3333-4444-555555555555",
        ] {
            let refused = create(&facts, &account("a"), &request(name), id(1), at(1)).unwrap_err();
            assert_eq!(refused.code, Code::Invalid.number(), "{name:?}");
        }
        for secret in ["", "%%%", &STANDARD.encode([1; 31]), &STANDARD.encode([1; 257])] {
            let bad = CreateTunnel {
                name: "lab".into(),
                tunnel_secret: secret.into(),
            };
            let refused = create(&facts, &account("a"), &bad, id(1), at(1)).unwrap_err();
            assert_eq!(refused.code, Code::Invalid.number(), "{secret:?}");
        }
    }

    #[test]
    fn foreign_unknown_and_deleted_tunnels_cannot_be_deleted() {
        let mut facts = Facts::default();
        let made = create(&facts, &account("a"), &request("lab"), id(1), at(1)).unwrap();
        with(&mut facts, made);
        let code = |facts: &Facts, tag: &str, n| {
            delete(facts, &account(tag), id(n), at(2))
                .map(|_| 0)
                .unwrap_or_else(|error| error.code)
        };
        assert_eq!(code(&facts, "b", 1), Code::NotFound.number());
        assert_eq!(code(&facts, "a", 2), Code::NotFound.number());
        let gone = delete(&facts, &account("a"), id(1), at(2)).unwrap();
        with(&mut facts, gone);
        assert_eq!(code(&facts, "a", 1), Code::TunnelDeleted.number());
    }

    #[test]
    fn deleted_tunnels_are_kept_up_to_the_limit_and_the_oldest_go_first() {
        let mut facts = Facts::default();
        let ours = account("a");
        let rounds = DELETED_PER_ACCOUNT_MAX + 5;
        for n in 0..rounds {
            let tunnel = id(n as u128);
            let made = create(&facts, &ours, &request("lab"), tunnel, at(n as i64)).unwrap();
            with(&mut facts, made);
            let gone = delete(&facts, &ours, tunnel, at(n as i64)).unwrap();
            with(&mut facts, gone);
        }
        assert_eq!(facts.tunnels.size(), DELETED_PER_ACCOUNT_MAX);
        assert!(!facts.tunnels.contains_key(&id(4)) && facts.tunnels.contains_key(&id(5)));
    }
}
