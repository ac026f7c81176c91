//! Rules of snapshots and deltas on small hand-made states; `tests/sim` tries random ones.

use uuid::Uuid;

use super::*;

fn entry(name: &str) -> TunnelEntry {
    TunnelEntry {
        account: "acct".parse().unwrap(),
        name: name.into(),
        secret_digest: SecretDigest::of(name.as_bytes()),
        remotely_managed: false,
        config_version: -1,
        replicas_max: REPLICAS_MAX_DEFAULT,
    }
}

fn tunnel(n: u128) -> TunnelId {
    TunnelId(Uuid::from_u128(n))
}

fn state(generation: u64, routes: &[(&str, u128)], tunnels: &[(u128, &str)]) -> RouteSnapshot {
    RouteSnapshot {
        generation,
        routes: routes
            .iter()
            .map(|(host, id)| (host.parse().unwrap(), RouteTarget::Tunnel(tunnel(*id))))
            .collect(),
        tunnels: tunnels
            .iter()
            .map(|(id, name)| (tunnel(*id), entry(name)))
            .collect(),
        management_key: None,
    }
}

#[test]
fn a_delta_carries_only_what_differs_and_leads_to_the_newer_state() {
    let old = state(
        4,
        &[("a.test", 1), ("b.test", 1), ("*.c.test", 2)],
        &[(1, "one"), (2, "two")],
    );
    let new = state(
        7,
        &[("a.test", 1), ("b.test", 3), ("d.test", 3)],
        &[(1, "one"), (3, "three")],
    );
    let delta = old.delta_to(&new);
    assert_eq!(delta.routes_set.len(), 2);
    assert_eq!(delta.routes_removed, ["*.c.test".parse().unwrap()]);
    assert_eq!(delta.tunnels_set.keys().copied().collect::<Vec<_>>(), [tunnel(3)]);
    assert_eq!(delta.tunnels_removed, [tunnel(2)]);

    let wire: SnapshotDelta = serde_json::from_slice(&serde_json::to_vec(&delta).unwrap()).unwrap();
    let mut held = old;
    assert_eq!(held.apply(wire), Ok(Applied::Yes));
    assert!(held.same_content(&new));
    assert_eq!(held.generation, 7);
}

/// What this release writes; never to be changed, so that later ones are held to reading it.
const SNAPSHOT_0_1: &str = include_str!("../../fixtures/snapshot-0.1.json");
const DELTA_0_1: &str = include_str!("../../fixtures/delta-0.1.json");

#[test]
fn snapshots_of_release_0_1_are_read_and_written_as_they_were() {
    let mut held: RouteSnapshot = serde_json::from_str(SNAPSHOT_0_1).unwrap();
    let known = state(4, &[("*.c.test", 2), ("a.test", 1)], &[(1, "one"), (2, "two")]);
    assert!(held.same_content(&known) && held.generation == 4);
    assert_eq!(serde_json::to_string(&held).unwrap(), SNAPSHOT_0_1.trim_end());
    let delta: SnapshotDelta = serde_json::from_str(DELTA_0_1).unwrap();
    assert_eq!(serde_json::to_string(&delta).unwrap(), DELTA_0_1.trim_end());
    assert_eq!(held.apply(delta), Ok(Applied::Yes));
    let after = state(5, &[("a.test", 3)], &[(1, "one"), (3, "three")]);
    assert!(held.same_content(&after) && held.generation == 5);
}

#[test]
fn what_a_newer_control_says_is_kept_and_spoils_nothing_else() {
    let text = r#"{"generation":6,"routes":{"a.test":{"tunnel":"00000000-0000-0000-0000-000000000001"},"b.test":{"pool":{"name":"blue","spill":3}},"c.test":"everywhere"},"tunnels":{},"colours":["new"]}"#;
    let newer: RouteSnapshot = serde_json::from_str(text).unwrap();
    let target = |held: &RouteSnapshot, host: &str| held.routes[&host.parse().unwrap()].clone();
    assert_eq!(target(&newer, "a.test").tunnel(), Some(tunnel(1)));
    assert_eq!(target(&newer, "b.test").tunnel(), None);
    let disk = serde_json::to_string(&newer).unwrap();
    assert!(
        disk.contains(r#""b.test":{"pool":{"name":"blue","spill":3}}"#),
        "{disk}"
    );
    assert!(disk.contains(r#""c.test":"everywhere""#), "{disk}");
    let mut held = state(5, &[("b.test", 1)], &[]);
    held.apply(held.delta_to(&newer)).unwrap();
    assert!(held.same_content(&newer));
}

#[test]
fn a_repeated_or_late_delta_changes_nothing() {
    let first = state(1, &[], &[(1, "one")]);
    let second = state(2, &[("a.test", 1)], &[(1, "one")]);
    let third = state(3, &[], &[(1, "one")]);
    let (to_second, to_third) = (first.delta_to(&second), second.delta_to(&third));
    let mut held = first;
    held.apply(to_second.clone()).unwrap();
    held.apply(to_third).unwrap();
    assert_eq!(held.apply(to_second), Ok(Applied::Stale));
    assert!(held.same_content(&third));
}

#[test]
fn a_gap_is_an_error_and_changes_nothing() {
    let mut held = state(1, &[], &[]);
    let delta = state(2, &[], &[]).delta_to(&state(3, &[("a.test", 1)], &[]));
    assert_eq!(held.apply(delta), Err(DeltaGap { held: 1, from: 2 }));
    assert!(held.routes.is_empty());
    assert_eq!(held.generation, 1);
}

#[test]
fn an_older_snapshot_is_dropped_and_an_equal_one_taken() {
    let mut held = state(5, &[("a.test", 1)], &[]);
    assert_eq!(held.replace(state(4, &[], &[])), Applied::Stale);
    assert_eq!(held.routes.size(), 1);
    assert_eq!(held.replace(state(5, &[], &[])), Applied::Yes);
    assert!(held.routes.is_empty());
}
