//! The registrar's rules one by one; `tests/sim` mixes them at random.

use std::time::SystemTime;

use adit_control_api::edge_link::{RegisterOutcome, Rejection};
use adit_control_api::snapshot::TunnelEntry;
use uuid::Uuid;

use super::*;

struct Lab {
    registrar: Registrar,
    snapshot: RouteSnapshot,
    now: Instant,
    next_connection: u128,
}

fn tunnel() -> TunnelId {
    TunnelId(Uuid::from_u128(1))
}

fn secret() -> SecretDigest {
    SecretDigest::of(b"secret")
}

impl Lab {
    fn new(replicas_max: u32) -> Self {
        let entry = TunnelEntry {
            account: "acct".parse().unwrap(),
            name: "lab".into(),
            secret_digest: secret(),
            remotely_managed: false,
            config_version: -1,
            replicas_max,
        };
        let snapshot = RouteSnapshot {
            tunnels: [(tunnel(), entry)].into_iter().collect(),
            ..RouteSnapshot::default()
        };
        Self {
            registrar: Registrar::default(),
            snapshot,
            now: Instant::now(),
            next_connection: 0,
        }
    }

    fn attach(&mut self, name: &str) -> SessionId {
        let info = EdgeInfo {
            name: name.into(),
            colo: "LAB".into(),
            region: "WEU".into(),
            run: Uuid::nil(),
            generation: 0,
            version: "0".into(),
        };
        self.registrar.handle_attach(&info, self.now).unwrap().0
    }

    fn connection(&mut self, connector: u128, index: u8) -> Connection {
        self.next_connection += 1;
        Connection {
            key: ConnectionKey {
                tunnel: tunnel(),
                connector: ConnectorId(Uuid::from_u128(connector)),
                index: ConnIndex(index),
                connection: ConnectionId(Uuid::from_u128(self.next_connection)),
            },
            account: "acct".parse().unwrap(),
            version: "1".into(),
            arch: "linux_amd64".into(),
            features: Vec::new(),
            origin_address: "192.0.2.1".parse().unwrap(),
            opened_at: SystemTime::UNIX_EPOCH + Duration::from_secs(self.next_connection as u64),
        }
    }

    fn register(&mut self, session: SessionId, connection: &Connection) -> (Verdict, Vec<Effect>) {
        self.registrar
            .handle_register(session, connection.clone(), &secret(), &self.snapshot)
            .unwrap()
    }

    fn report(&mut self, session: SessionId, living: &[Connection]) -> Vec<Rejection> {
        self.registrar
            .handle_report(session, living.to_vec(), true, true, &self.snapshot)
            .unwrap()
            .0
    }

    fn living(&self) -> Vec<ConnectionId> {
        self.registrar
            .lives()
            .map(|(_, live)| live.connection.key.connection)
            .collect()
    }
}

fn refusal(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Accepted(_) => "accepted",
        Verdict::Refused(reason) => reason.code(),
    }
}

#[test]
fn wrong_secret_account_or_tunnel_is_unauthorized() {
    let mut lab = Lab::new(100);
    let edge = lab.attach("e");
    let good = lab.connection(1, 0);
    let wrong = SecretDigest::of(b"wrong");
    let (verdict, _) = lab
        .registrar
        .handle_register(edge, good.clone(), &wrong, &lab.snapshot)
        .unwrap();
    assert_eq!(refusal(&verdict), "bad-secret");
    let RegisterOutcome::Refused(with_wrong_secret) = verdict.outcome() else {
        panic!("refused")
    };
    let foreign = Connection {
        account: "other".parse().unwrap(),
        ..good.clone()
    };
    assert_eq!(refusal(&lab.register(edge, &foreign).0), "unknown-tunnel");
    let mut unknown = good;
    unknown.key.tunnel = TunnelId(Uuid::from_u128(2));
    let (verdict, _) = lab.register(edge, &unknown);
    let RegisterOutcome::Refused(refused) = verdict.outcome() else {
        panic!("refused")
    };
    assert_eq!(
        (refused.cause.as_str(), refused.should_retry),
        ("Unauthorized: Invalid tunnel secret", false)
    );
    // A stranger sees no difference; the code is for our metrics.
    assert_eq!(
        (refused.cause, refused.should_retry, refused.retry_after),
        (
            with_wrong_secret.cause,
            with_wrong_secret.should_retry,
            with_wrong_secret.retry_after
        )
    );
    assert!(lab.living().is_empty());
}

#[test]
fn second_register_with_same_conn_index_replaces_the_first_and_tells_its_edge() {
    let mut lab = Lab::new(100);
    let (near, far) = (lab.attach("near"), lab.attach("far"));
    let (first, second) = (lab.connection(1, 0), lab.connection(1, 0));
    lab.register(near, &first);
    let (verdict, effects) = lab.register(far, &second);
    assert_eq!(refusal(&verdict), "accepted");
    assert_eq!(effects.len(), 1);
    assert_eq!(effects[0].session, near);
    assert_eq!(effects[0].disconnect.connection, Some(first.key.connection));
    assert_eq!(lab.living(), [second.key.connection]);
    // The first edge learns of the loss late: its word must not remove the newer connection.
    lab.registrar.handle_unregister(near, &first.key).unwrap();
    assert_eq!(lab.living(), [second.key.connection]);
}

#[test]
fn the_replica_limit_counts_replicas_and_not_connections() {
    let mut lab = Lab::new(2);
    let edge = lab.attach("e");
    for connector in [1, 2] {
        for index in 0..4 {
            let connection = lab.connection(connector, index);
            assert_eq!(refusal(&lab.register(edge, &connection).0), "accepted");
        }
    }
    let third = lab.connection(3, 0);
    let (verdict, _) = lab.register(edge, &third);
    assert_eq!(refusal(&verdict), "too-many-replicas");
    let RegisterOutcome::Refused(refused) = verdict.outcome() else {
        panic!("refused")
    };
    assert!(refused.should_retry && refused.cause.starts_with("Unauthorized: "));
}

#[test]
fn a_replica_out_of_sight_gives_way_at_the_limit() {
    let mut lab = Lab::new(1);
    let lost = lab.attach("lost");
    let old = lab.connection(1, 0);
    lab.register(lost, &old);
    lab.registrar.handle_detach(lost, lab.now);
    let edge = lab.attach("e");
    let new = lab.connection(2, 0);
    assert_eq!(refusal(&lab.register(edge, &new).0), "accepted");
    assert_eq!(lab.living(), [new.key.connection]);
    // When the lost edge returns, its replica is one too many.
    let lost = lab.attach("lost");
    assert_eq!(lab.report(lost, &[old]).len(), 1);
}

#[test]
fn a_detached_edges_connections_stay_until_the_time_is_up() {
    let mut lab = Lab::new(100);
    let edge = lab.attach("e");
    let connection = lab.connection(1, 0);
    lab.register(edge, &connection);
    lab.registrar.handle_detach(edge, lab.now);
    assert_eq!(lab.registrar.counts(), (0, 0, 1));
    assert_eq!(
        lab.registrar
            .handle_timeout(lab.now + PENDING_MAX - Duration::from_millis(1)),
        0
    );
    assert_eq!(lab.registrar.handle_timeout(lab.now + PENDING_MAX), 1);
    assert!(!lab.registrar.is_connected(tunnel()));
}

#[test]
fn a_report_restores_what_lives_and_drops_what_does_not() {
    let mut lab = Lab::new(100);
    let edge = lab.attach("e");
    let (kept, lost, early) = (lab.connection(1, 0), lab.connection(1, 1), lab.connection(1, 2));
    lab.register(edge, &kept);
    lab.register(edge, &lost);
    let edge = lab.attach("e");
    // Registered after the list was made and before it arrived.
    lab.register(edge, &early);
    assert!(lab.report(edge, std::slice::from_ref(&kept)).is_empty());
    assert_eq!(lab.living(), [kept.key.connection, early.key.connection]);
    assert_eq!(lab.registrar.counts(), (1, 2, 0));
}

#[test]
fn a_report_does_not_bring_back_what_left_while_it_was_under_way() {
    let mut lab = Lab::new(100);
    let edge = lab.attach("e");
    let (first, second) = (lab.connection(1, 0), lab.connection(1, 1));
    let snapshot = lab.snapshot.clone();
    lab.registrar
        .handle_report(edge, vec![first], true, false, &snapshot)
        .unwrap();
    lab.registrar.handle_unregister(edge, &second.key).unwrap();
    lab.registrar
        .handle_report(edge, vec![second], false, true, &snapshot)
        .unwrap();
    assert_eq!(lab.living().len(), 1);
}

#[test]
fn a_report_of_an_older_connection_does_not_displace_a_newer_one() {
    let mut lab = Lab::new(100);
    let (old, new) = (lab.connection(1, 0), lab.connection(1, 0));
    let edge = lab.attach("e");
    lab.register(edge, &new);
    let returned = lab.attach("returned");
    let rejected = lab.report(returned, std::slice::from_ref(&old));
    assert_eq!(rejected.len(), 1);
    assert_eq!(rejected[0].refused.code, "replaced");
    assert_eq!(lab.living(), [new.key.connection]);
}

// Found by simulation, seed 80: the older one's report came between the newer one's attachment and report.
#[test]
fn a_report_of_an_older_connection_does_not_end_a_newer_one_that_is_yet_to_be_reported() {
    let mut lab = Lab::new(100);
    let (old, new) = (lab.connection(1, 0), lab.connection(1, 0));
    let near = lab.attach("near");
    lab.register(near, &new);
    let (near, far) = (lab.attach("near"), lab.attach("far"));
    let snapshot = lab.snapshot.clone();
    let (rejected, effects) = lab
        .registrar
        .handle_report(far, vec![old], true, true, &snapshot)
        .unwrap();
    assert!(rejected.is_empty() && effects.is_empty());
    let (_, effects) = lab
        .registrar
        .handle_report(near, vec![new.clone()], true, true, &snapshot)
        .unwrap();
    assert_eq!(
        effects.iter().map(|effect| effect.session).collect::<Vec<_>>(),
        [far]
    );
    assert_eq!(lab.living(), [new.key.connection]);
}

#[test]
fn an_older_session_of_an_edge_has_no_more_say() {
    let mut lab = Lab::new(100);
    let old = lab.attach("e");
    let new = lab.attach("e");
    let connection = lab.connection(1, 0);
    let answer = lab
        .registrar
        .handle_register(old, connection.clone(), &secret(), &lab.snapshot);
    assert_eq!(answer.map(|_| ()), Err(SessionEnded));
    lab.register(new, &connection);
    lab.registrar.handle_detach(old, lab.now);
    assert_eq!(lab.registrar.counts(), (1, 1, 0));
}

#[test]
fn cleanup_names_each_edge_once_and_may_be_of_one_replica() {
    let mut lab = Lab::new(100);
    let (near, far) = (lab.attach("near"), lab.attach("far"));
    for (session, connector, index) in [(near, 1, 0), (near, 1, 1), (far, 1, 2), (far, 2, 0)] {
        let connection = lab.connection(connector, index);
        lab.register(session, &connection);
    }
    let one = Some(ConnectorId(Uuid::from_u128(1)));
    let effects = lab.registrar.handle_cleanup(tunnel(), one, "asked to");
    assert_eq!(
        effects.iter().map(|effect| effect.session).collect::<Vec<_>>(),
        [near, far]
    );
    assert_eq!(lab.living().len(), 1);
    assert_eq!(lab.registrar.handle_cleanup(tunnel(), None, "asked to").len(), 1);
    assert!(lab.living().is_empty());
}
