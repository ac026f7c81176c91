//! Hostnames that lead to tunnels.
//!
//! A hostname belongs to one account: no pattern of one account may overlap a pattern of another. So nobody
//! can take single names out of another account's wildcard, or lay a wildcard over another account's names.

use adit_control_api::problem::{ApiError, Code};
use adit_control_api::route::{BulkRouteResult, DnsRouteResult, ROUTES_PER_CALL_MAX, RouteChange};
use adit_control_api::{AccountTag, HostPattern, TunnelId};
use time::OffsetDateTime;

use super::{Decided, Decision, tunnels};
use crate::facts::{Change, Facts, Route};

/// Hostnames of one account. Their number costs a write nothing; it bounds memory and snapshots.
pub const ROUTES_PER_ACCOUNT_MAX: usize = 200_000;

/// Refused hostnames of one list that are told.
pub const ERRORS_MAX: usize = 100;

/// Lets a hostname lead to a tunnel; `overwrite` allows taking it from another tunnel of the account.
///
/// # Errors
/// `Invalid` for a bad hostname, `NotFound` and `TunnelDeleted` for the tunnel, `HostnameTaken`,
/// `LimitReached`.
pub fn put(
    facts: &Facts,
    account: &AccountTag,
    tunnel: TunnelId,
    hostname: &str,
    overwrite: bool,
    now: OffsetDateTime,
) -> Decided<DnsRouteResult> {
    tunnels::living(facts, account, tunnel)?;
    let pattern = parse(hostname)?;
    if facts.is_anothers(account, &pattern) {
        return Err(Code::HostnameTaken.error(format!("{pattern} belongs to another account")));
    }
    let name = pattern.to_string();
    let cname = match facts.routes.get(&pattern) {
        None => RouteChange::New,
        Some(route) if route.tunnel == tunnel => RouteChange::Unchanged,
        Some(_) if overwrite => RouteChange::Updated,
        Some(route) => {
            return Err(Code::HostnameTaken.error(format!(
                "{name} leads to tunnel {} already; repeat with --overwrite-dns to move it",
                route.tunnel
            )));
        }
    };
    let changes = match cname {
        RouteChange::Unchanged => Vec::new(),
        RouteChange::New | RouteChange::Updated => {
            check_count(facts, account, cname)?;
            vec![Change::PutRoute(Route {
                pattern,
                account: account.clone(),
                tunnel,
                created_at: now,
            })]
        }
    };
    Ok(Decision {
        changes,
        answer: DnsRouteResult { cname, name },
    })
}

/// Lets all of these hostnames lead to a tunnel, each as [`put`] does, in this order. If any is refused the
/// answer is why, for at most [`ERRORS_MAX`] of them, and nothing changes.
///
/// # Errors
/// `NotFound` and `TunnelDeleted` for the tunnel, `TooLarge` for too many hostnames, `Invalid` for none.
pub fn put_all(
    facts: &Facts,
    account: &AccountTag,
    tunnel: TunnelId,
    hostnames: &[String],
    overwrite: bool,
    now: OffsetDateTime,
) -> Decided<Result<BulkRouteResult, Vec<ApiError>>> {
    tunnels::living(facts, account, tunnel)?;
    if hostnames.is_empty() {
        return Err(Code::Invalid.error("there is no hostname in the list"));
    }
    if hostnames.len() > ROUTES_PER_CALL_MAX {
        return Err(Code::TooLarge.error(format!(
            "the list has {} hostnames; {ROUTES_PER_CALL_MAX} are allowed at once",
            hostnames.len()
        )));
    }
    // Each is decided on what those before it left, so that counts and repeated names come out right.
    let mut facts = facts.clone();
    let (mut changes, mut errors) = (Vec::new(), Vec::new());
    let mut result = BulkRouteResult::default();
    for hostname in hostnames {
        match put(&facts, account, tunnel, hostname, overwrite, now) {
            Ok(decision) => {
                match decision.answer.cname {
                    RouteChange::New => result.new += 1,
                    RouteChange::Updated => result.updated += 1,
                    RouteChange::Unchanged => result.unchanged += 1,
                }
                for change in decision.changes {
                    facts.apply(change.clone());
                    changes.push(change);
                }
            }
            Err(error) => {
                errors.push(ApiError {
                    message: format!("{hostname}: {}", error.message),
                    ..error
                });
                if errors.len() == ERRORS_MAX {
                    break;
                }
            }
        }
    }
    if errors.is_empty() {
        return Ok(Decision {
            changes,
            answer: Ok(result),
        });
    }
    Ok(Decision {
        changes: Vec::new(),
        answer: Err(errors),
    })
}

/// Frees a hostname.
///
/// # Errors
/// `Invalid` for a bad hostname, `NotFound` when it does not lead to this tunnel of this account.
pub fn remove(facts: &Facts, account: &AccountTag, tunnel: TunnelId, hostname: &str) -> Decided<HostPattern> {
    let pattern = parse(hostname)?;
    let held = facts.routes.get(&pattern);
    if !held.is_some_and(|route| route.account == *account && route.tunnel == tunnel) {
        return Err(Code::NotFound.error(format!("{pattern} does not lead to tunnel {tunnel}")));
    }
    Ok(Decision {
        changes: vec![Change::RemoveRoute(pattern.clone())],
        answer: pattern,
    })
}

/// Whether some hostname matches both.
pub fn overlap(a: &HostPattern, b: &HostPattern) -> bool {
    match (a, b) {
        (HostPattern::Exact(a), HostPattern::Exact(b)) => a == b,
        (HostPattern::Exact(name), wildcard @ HostPattern::Wildcard(_))
        | (wildcard @ HostPattern::Wildcard(_), HostPattern::Exact(name)) => wildcard.matches(name),
        (HostPattern::Wildcard(a_suffix), HostPattern::Wildcard(b_suffix)) => {
            a_suffix == b_suffix || a.matches(b_suffix) || b.matches(a_suffix)
        }
    }
}

fn parse(hostname: &str) -> Result<HostPattern, ApiError> {
    hostname
        .parse()
        .map_err(|error| Code::Invalid.error(format!("{hostname:?} is not a hostname: {error}")))
}

fn check_count(facts: &Facts, account: &AccountTag, change: RouteChange) -> Result<(), ApiError> {
    if change == RouteChange::New && facts.route_count(account) >= ROUTES_PER_ACCOUNT_MAX {
        return Err(Code::LimitReached.error(format!(
            "the account has {ROUTES_PER_ACCOUNT_MAX} hostnames, which is the limit; use a wildcard"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use adit_wire::TunnelSecret;
    use uuid::Uuid;

    use super::*;
    use crate::facts::Tunnel;

    const NOW: OffsetDateTime = OffsetDateTime::UNIX_EPOCH;

    fn id(n: u128) -> TunnelId {
        TunnelId(Uuid::from_u128(n))
    }

    /// Tunnels 1 and 2 of account `a`, 3 of account `b`.
    fn facts() -> Facts {
        let mut facts = Facts::default();
        for (n, account) in [(1, "a"), (2, "a"), (3, "b")] {
            facts.apply(Change::PutTunnel(Tunnel {
                id: id(n),
                account: account.parse().unwrap(),
                name: format!("t{n}"),
                secret: TunnelSecret::new([0; 32]),
                created_at: NOW,
                deleted_at: None,
                expires_at: None,
            }));
        }
        facts
    }

    fn route(
        facts: &mut Facts,
        account: &str,
        n: u128,
        host: &str,
        overwrite: bool,
    ) -> Result<RouteChange, u32> {
        let decision =
            put(facts, &account.parse().unwrap(), id(n), host, overwrite, NOW).map_err(|error| error.code)?;
        decision
            .changes
            .into_iter()
            .for_each(|change| facts.apply(change));
        Ok(decision.answer.cname)
    }

    #[test]
    fn a_hostname_moves_within_the_account_only_when_told_to() {
        let mut facts = facts();
        assert_eq!(route(&mut facts, "a", 1, "App.Test", false), Ok(RouteChange::New));
        assert_eq!(
            route(&mut facts, "a", 1, "app.test", false),
            Ok(RouteChange::Unchanged)
        );
        assert_eq!(
            route(&mut facts, "a", 2, "app.test", false),
            Err(Code::HostnameTaken.number())
        );
        assert_eq!(
            route(&mut facts, "a", 2, "app.test", true),
            Ok(RouteChange::Updated)
        );
        assert_eq!(facts.routes.values().next().unwrap().tunnel, id(2));
    }

    #[test]
    fn no_pattern_overlaps_another_accounts_even_when_told_to_overwrite() {
        let taken = Err(Code::HostnameTaken.number());
        for (ours, theirs) in [
            ("app.test", "app.test"),
            ("*.test", "app.test"),
            ("app.test", "*.test"),
            ("*.test", "*.test"),
            ("*.test", "*.sub.test"),
            ("*.sub.test", "*.test"),
        ] {
            let mut facts = facts();
            assert_eq!(route(&mut facts, "a", 1, ours, false), Ok(RouteChange::New));
            assert_eq!(route(&mut facts, "b", 3, theirs, true), taken, "{ours} {theirs}");
        }
        let mut facts = facts();
        route(&mut facts, "a", 1, "*.sub.test", false).unwrap();
        for free in ["sub.test", "*.other.test", "test", "xsub.test"] {
            assert_eq!(
                route(&mut facts, "b", 3, free, false),
                Ok(RouteChange::New),
                "{free}"
            );
        }
    }

    #[test]
    fn of_a_list_all_hostnames_change_or_none_and_each_refused_one_is_told() {
        let mut facts = facts();
        let account: AccountTag = "a".parse().unwrap();
        route(&mut facts, "a", 2, "old.test", false).unwrap();
        route(&mut facts, "b", 3, "*.theirs.test", false).unwrap();
        let call = |facts: &Facts, hosts: &[&str], overwrite| {
            let hosts: Vec<String> = hosts.iter().map(|host| (*host).to_owned()).collect();
            put_all(facts, &account, id(1), &hosts, overwrite, NOW)
        };
        let bad = ["new.test", "a.theirs.test", "old.test", "no host"];
        let decision = call(&facts, &bad, false).unwrap();
        assert!(decision.changes.is_empty());
        let told: Vec<_> = decision.answer.unwrap_err();
        let codes: Vec<_> = told.iter().map(|error| error.code).collect();
        let (taken, invalid) = (Code::HostnameTaken.number(), Code::Invalid.number());
        assert_eq!(codes, [taken, taken, invalid]);
        for (error, host) in told.iter().zip(&bad[1..]) {
            assert!(error.message.starts_with(&format!("{host}: ")), "{error}");
        }

        let decision = call(&facts, &["new.test", "old.test", "NEW.test"], true).unwrap();
        let result = decision.answer.unwrap();
        assert_eq!((result.new, result.updated, result.unchanged), (1, 1, 1));
        assert_eq!(decision.changes.len(), 2);
        decision
            .changes
            .into_iter()
            .for_each(|change| facts.apply(change));
        assert_eq!(facts.routes_to(id(1)).count(), 2);

        let many = vec!["x"; ROUTES_PER_CALL_MAX + 1];
        assert_eq!(
            call(&facts, &many, false).unwrap_err().code,
            Code::TooLarge.number()
        );
        assert_eq!(call(&facts, &[], false).unwrap_err().code, invalid);
        let all_bad = vec!["no host"; ROUTES_PER_CALL_MAX];
        let told = call(&facts, &all_bad, false).unwrap().answer.unwrap_err();
        assert_eq!(told.len(), ERRORS_MAX);
    }

    #[test]
    fn a_foreign_tunnel_cannot_be_routed_to_nor_a_foreign_route_removed() {
        let mut facts = facts();
        assert_eq!(
            route(&mut facts, "a", 3, "app.test", false),
            Err(Code::NotFound.number())
        );
        route(&mut facts, "a", 1, "app.test", false).unwrap();
        let theirs = remove(&facts, &"b".parse().unwrap(), id(1), "app.test").unwrap_err();
        assert_eq!(theirs.code, Code::NotFound.number());
        assert!(remove(&facts, &"a".parse().unwrap(), id(1), "app.test").is_ok());
    }
}
