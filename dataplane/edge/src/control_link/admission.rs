//! Decides a registration by the last snapshot alone, for when control is away. Pure.
//!
//! The same questions in the same order as control's registrar, over what this edge knows: it cannot count
//! replicas that are connected elsewhere, so a tunnel may pass its limit by as many edges as there are.

use std::time::{Duration, SystemTime};

use adit_control_api::digest::SecretDigest;
use adit_control_api::edge_link::{Accepted, Connection, Refused, RegisterOutcome};
use adit_control_api::snapshot::RouteSnapshot;
use adit_wire::{ConnectorId, TunnelId};

/// Admits or refuses `connection`, which presented `secret`; `replicas` are those connected here.
pub fn decide(
    snapshot: &RouteSnapshot,
    connection: &Connection,
    secret: &SecretDigest,
    replicas: &[ConnectorId],
) -> RegisterOutcome {
    if snapshot.generation == 0 {
        return refused("no-snapshot", "this edge has not heard from control yet", true);
    }
    // Gives one answer for all failures, after the same work, so a stranger does not learn which part was
    // right. Control may soon know better, of the tunnel and of its secret.
    let wrong = |code| refused(code, "Unauthorized: Invalid tunnel secret", true);
    let known = snapshot.tunnels.get(&connection.key.tunnel);
    let is_right = known
        .map_or(secret, |tunnel| &tunnel.secret_digest)
        .matches(secret);
    let Some(tunnel) = known else {
        return wrong("unknown-tunnel");
    };
    if tunnel.account != connection.account || !is_right {
        return wrong("bad-secret");
    }
    let is_new = !replicas.contains(&connection.key.connector);
    let limit = usize::try_from(tunnel.replicas_max).unwrap_or(usize::MAX);
    if is_new && replicas.len() >= limit {
        let cause = format!("the tunnel has reached its limit of {limit} replicas");
        return refused("too-many-replicas", &cause, true);
    }
    RegisterOutcome::Accepted(Accepted {
        remotely_managed: tunnel.remotely_managed,
        config_version: tunnel.config_version,
    })
}

/// The tunnel whose connectors `token` opens `path` of; the log says why it opens nothing.
pub(super) fn management(
    snapshot: &RouteSnapshot,
    token: &str,
    path: &str,
    now: SystemTime,
) -> Option<TunnelId> {
    let claims = match snapshot.management_key?.verify(token, now) {
        Ok(claims) => claims,
        Err(error) => {
            tracing::debug!(%error, "a management token was refused");
            return None;
        }
    };
    let tunnel = claims.tunnel.id;
    // A tunnel that was deleted since, or that is another account's.
    let is_owned = snapshot
        .tunnels
        .get(&tunnel)
        .is_some_and(|entry| entry.account == claims.tunnel.account_tag);
    if !is_owned || !claims.opens(path) {
        tracing::debug!(%tunnel, is_owned, path, "a management token does not open this");
        return None;
    }
    Some(tunnel)
}

fn refused(code: &str, cause: &str, should_retry: bool) -> RegisterOutcome {
    RegisterOutcome::Refused(Refused {
        cause: cause.to_owned(),
        code: code.to_owned(),
        should_retry,
        retry_after: Duration::ZERO,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use adit_control_api::edge_link::ConnectionKey;
    use adit_control_api::snapshot::TunnelEntry;
    use adit_wire::{ConnIndex, ConnectionId, TunnelId};
    use std::time::UNIX_EPOCH;
    use uuid::Uuid;

    fn snapshot() -> RouteSnapshot {
        let entry = TunnelEntry {
            account: "acct".parse().unwrap(),
            name: "lab".into(),
            secret_digest: SecretDigest::of(b"right"),
            remotely_managed: false,
            config_version: -1,
            replicas_max: 2,
        };
        let tunnels = [(TunnelId(Uuid::from_u128(1)), entry)].into_iter().collect();
        RouteSnapshot {
            generation: 3,
            tunnels,
            ..Default::default()
        }
    }

    fn connection(tunnel: u128, account: &str, connector: u128) -> Connection {
        Connection {
            key: ConnectionKey {
                tunnel: TunnelId(Uuid::from_u128(tunnel)),
                connector: ConnectorId(Uuid::from_u128(connector)),
                index: ConnIndex(0),
                connection: ConnectionId(Uuid::from_u128(9)),
            },
            account: account.parse().unwrap(),
            version: String::new(),
            arch: String::new(),
            features: Vec::new(),
            origin_address: [127, 0, 0, 1].into(),
            opened_at: UNIX_EPOCH,
        }
    }

    fn code(connection: &Connection, secret: &[u8], replicas: &[u128]) -> String {
        let replicas: Vec<_> = replicas
            .iter()
            .map(|id| ConnectorId(Uuid::from_u128(*id)))
            .collect();
        match decide(&snapshot(), connection, &SecretDigest::of(secret), &replicas) {
            RegisterOutcome::Accepted(_) => "accepted".into(),
            RegisterOutcome::Refused(refused) => refused.code,
        }
    }

    #[test]
    fn the_right_secret_of_a_known_tunnel_is_admitted_up_to_the_limit() {
        assert_eq!(code(&connection(1, "acct", 7), b"right", &[]), "accepted");
        assert_eq!(code(&connection(1, "acct", 7), b"right", &[7, 8]), "accepted");
        assert_eq!(
            code(&connection(1, "acct", 7), b"right", &[8, 9]),
            "too-many-replicas"
        );
    }

    #[test]
    fn without_any_snapshot_connectors_are_asked_to_come_back() {
        let outcome = decide(
            &RouteSnapshot::default(),
            &connection(1, "acct", 7),
            &SecretDigest::of(b"right"),
            &[],
        );
        assert!(matches!(outcome, RegisterOutcome::Refused(refused)
            if refused.code == "no-snapshot" && refused.should_retry));
    }

    #[test]
    fn strangers_are_refused() {
        assert_eq!(code(&connection(2, "acct", 7), b"right", &[]), "unknown-tunnel");
        assert_eq!(code(&connection(1, "acct", 7), b"wrong", &[]), "bad-secret");
        assert_eq!(code(&connection(1, "other", 7), b"right", &[]), "bad-secret");
    }
}
