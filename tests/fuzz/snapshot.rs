//! What control tells edges and edges keep on disk: snapshots and the differences between them.

use adit_control_api::snapshot::{Applied, RouteSnapshot, RouteTarget, SnapshotDelta};
use adit_proto::host_map::HostMap;
use adit_wire::hostname::HostPattern;

use crate::engine::{MemoryBound, Target, run};

/// Maps of small entries; a node of a tree has room for eleven.
const MAPS: MemoryBound = MemoryBound {
    base_bytes: 32 * 1024,
    factor: 64,
};

/// What an edge holds before a delta comes.
const HELD: &[u8] = include_bytes!("corpus/snapshot/two_tunnels");

#[test]
fn snapshot() {
    run(&Target {
        name: "snapshot",
        memory: MAPS,
        check: |input| {
            let Ok(snapshot) = serde_json::from_slice::<RouteSnapshot>(input) else {
                return;
            };
            let file = serde_json::to_vec(&snapshot).expect("maps with string keys");
            let again: RouteSnapshot = serde_json::from_slice(&file).expect("our own file is valid");
            // What only newer programs read is kept, but its numbers need not be the same to the last bit.
            let is_known = snapshot.routes.values().all(|target| target.tunnel().is_some());
            assert!(!is_known || again.same_content(&snapshot));
            assert_eq!(again.generation, snapshot.generation);
            // A core files it, and finds each route under its own name.
            let routes: HostMap<&RouteTarget> = snapshot
                .routes
                .iter()
                .map(|(pattern, target)| (pattern.clone(), target))
                .collect();
            for (pattern, target) in &snapshot.routes {
                if let HostPattern::Exact(name) = pattern {
                    assert_eq!(routes.get(name), Some(&target));
                }
            }
            // An edge that starts from nothing gets there by a delta as well.
            let mut edge = RouteSnapshot::default();
            let delta = edge.delta_to(&snapshot);
            match edge.apply(delta).expect("it starts from what is held") {
                Applied::Yes => assert!(edge.same_content(&snapshot)),
                Applied::Stale => assert_eq!(snapshot.generation, 0),
            }
        },
    });
}

#[test]
fn snapshot_delta() {
    run(&Target {
        name: "snapshot_delta",
        memory: MAPS,
        check: |input| {
            let Ok(delta) = serde_json::from_slice::<SnapshotDelta>(input) else {
                return;
            };
            let sent = serde_json::to_vec(&delta).expect("maps with string keys");
            let again: SnapshotDelta = serde_json::from_slice(&sent).expect("our own delta is valid");
            let mut edge: RouteSnapshot = serde_json::from_slice(HELD).expect("a valid file of the corpus");
            let before = edge.clone();
            match edge.apply(delta) {
                Ok(Applied::Yes) => {
                    assert!(edge.generation > before.generation);
                    let mut same = before;
                    assert_eq!(same.apply(again), Ok(Applied::Yes));
                    assert!(same.same_content(&edge));
                }
                Ok(Applied::Stale) | Err(_) => {
                    assert!(edge.generation == before.generation && edge.same_content(&before));
                }
            }
        },
    });
}
