//! The routes that control sends: held, told to every core, kept on disk.
//!
//! A whole snapshot is filed anew. A delta patches what is held, so it costs what it changes: in the routes
//! that cores share, in the versions of configurations, on disk.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use adit_control_api::snapshot::{Applied, RouteSnapshot, RouteTarget, SnapshotDelta, TunnelEntry};
use adit_control_api::{HostPattern, TunnelId};

use super::{ConfigVersions, Service};
use crate::cross_core::CoreMessage;
use crate::state::{Saver, Unsaved};
use crate::tunnels::routes::Routes;

/// The disk is written at most this often; a crash in between costs some deltas, which control repeats.
const SAVE_PAUSE: Duration = Duration::from_millis(200);

impl Service {
    pub(in crate::control_link) fn on_snapshot(&self, snapshot: RouteSnapshot) {
        if self.snapshot.borrow_mut().replace(snapshot) == Applied::Yes {
            self.tell_snapshot();
            self.unsaved.replace(Unsaved::Whole);
            self.is_dirty.notify_one();
        }
    }

    /// Returns the held generation when the delta does not fit it.
    pub(in crate::control_link) fn on_delta(&self, delta: SnapshotDelta) -> Result<(), u64> {
        let applied = self
            .snapshot
            .borrow_mut()
            .apply(delta.clone())
            .map_err(|gap| gap.held)?;
        if applied == Applied::Yes {
            self.tell_unreadable(delta.routes_set.iter());
            self.patch_versions(&delta);
            let patched = self.routes.borrow().patched(&delta);
            self.tell_routes(patched);
            let body = serde_json::to_vec(&delta).expect("maps with string keys");
            self.unsaved.borrow_mut().step(body);
            self.is_dirty.notify_one();
        }
        Ok(())
    }

    /// Tells the cores everything that is held.
    pub(super) fn tell_snapshot(&self) {
        let snapshot = self.snapshot.borrow();
        self.tell_unreadable(snapshot.routes.iter());
        let versions = snapshot.tunnels.iter();
        let versions: ConfigVersions = versions
            .filter_map(|(tunnel, entry)| Some((*tunnel, version(entry)?)))
            .collect();
        self.versions.send_if_modified(|told| {
            let is_new = *told != versions;
            *told = versions;
            is_new
        });
        self.tell_routes(Routes::of(&snapshot));
    }

    fn tell_routes(&self, routes: Routes) {
        let routes = Arc::new(routes);
        self.metrics.generation.set(routes.generation);
        for core in &self.cores {
            core.send(CoreMessage::Routes(routes.clone()));
        }
        self.routes.replace(routes);
    }

    /// Says once in the log that control is ahead of this edge.
    fn tell_unreadable<'a>(&self, mut routes: impl Iterator<Item = (&'a HostPattern, &'a RouteTarget)>) {
        if self.has_told_unreadable.get() {
            return;
        }
        if let Some((hostname, _)) = routes.find(|(_, target)| target.tunnel().is_none()) {
            self.has_told_unreadable.set(true);
            tracing::warn!(
                %hostname,
                "control routes a hostname in a way that this edge is too old for; it answers 503 \
                 (needs-newer-edge) for such ones, so update the edge"
            );
        }
    }

    /// Wakes whoever pushes configurations, if there is one more or a newer one.
    fn patch_versions(&self, delta: &SnapshotDelta) {
        self.versions.send_if_modified(|told| {
            let removed = delta.tunnels_removed.iter().map(|tunnel| (tunnel, None));
            let set = delta.tunnels_set.iter();
            let set = set.map(|(tunnel, entry)| (tunnel, version(entry)));
            removed.chain(set).fold(false, |is_new, (tunnel, version)| {
                set_version(told, tunnel, version) || is_new
            })
        });
    }

    /// Writes what is not on disk, for ever.
    pub(super) async fn save(self: Rc<Self>) {
        let new_saver = || Saver::new(self.settings.snapshot_file.clone());
        let mut saver = new_saver();
        loop {
            self.is_dirty.notified().await;
            let snapshot = self.snapshot.borrow().clone();
            let unsaved = self.unsaved.take();
            let saving = tokio::task::spawn_blocking(move || {
                let saved = saver.save(&snapshot, &unsaved);
                (saver, saved)
            });
            // One that panicked has left nobody who knows how the files are.
            let (after, saved) = saving.await.unwrap_or_else(|_| (new_saver(), Ok(0)));
            saver = after;
            match saved {
                Ok(bytes) => self.metrics.snapshot_bytes_written.add(bytes),
                Err(error) => {
                    self.metrics.snapshot_save_errors.add(1);
                    tracing::warn!(
                        %error,
                        "snapshot not saved; after a restart this edge starts from an older one"
                    );
                }
            }
            tokio::time::sleep(SAVE_PAUSE).await;
        }
    }
}

/// The version of the configuration that control holds for a tunnel, if it holds one.
fn version(entry: &TunnelEntry) -> Option<i32> {
    (entry.config_version >= 0).then_some(entry.config_version)
}

/// Whether this is another version than before.
fn set_version(told: &mut ConfigVersions, tunnel: &TunnelId, version: Option<i32>) -> bool {
    match version {
        None => told.remove_mut(tunnel),
        Some(version) if told.get(tunnel) == Some(&version) => false,
        Some(version) => {
            told.insert_mut(*tunnel, version);
            true
        }
    }
}
