//! What of a configuration can change while the edge runs.
//!
//! All cores share it and it is replaced whole, like a snapshot of routes. A read costs a few nanoseconds and
//! takes no lock. A visitor's connection and a request read it once for each value they need.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use adit_proto::exchange::edge::Policy;
use arc_swap::{ArcSwap, Guard};
use serde_json::Value;

use super::{Config, Passthrough};

/// Keys of the file that follow a reload; all others wait for the next start.
const KEYS: &[&str] = &[
    "access-log",
    "certificates",
    "limits.idle-timeout",
    "limits.response-head-timeout",
    "limits.visitor-connections",
    "passthrough",
    "trusted-proxies",
];

/// Keys below these have a life of their own.
const SECTIONS: &[&str] = &["control", "limits", "listeners", "management"];

/// The values in force.
pub(crate) struct Current {
    pub(crate) idle_timeout: Duration,
    pub(crate) response_head_timeout: Duration,
    pub(crate) visitor_connections: usize,
    pub(crate) passthrough: Passthrough,
    pub(crate) policy: Policy,
}

/// The way to them; clones lead to the same.
#[derive(Clone)]
pub(crate) struct LiveConfig {
    start: Arc<Config>,
    current: Arc<ArcSwap<Current>>,
}

impl LiveConfig {
    /// Begins with the values that the edge starts with.
    pub(crate) fn new(start: Arc<Config>) -> Self {
        let current = Arc::new(ArcSwap::from_pointee(Current::of(&start, &start)));
        Self { start, current }
    }

    /// All values as at the start.
    pub(crate) fn start(&self) -> &Arc<Config> {
        &self.start
    }

    /// The values in force.
    pub(crate) fn current(&self) -> Guard<Arc<Current>> {
        self.current.load()
    }

    /// Puts those of `new` in force.
    pub(crate) fn replace(&self, new: &Config) {
        self.current.store(Arc::new(Current::of(new, &self.start)));
    }

    /// Keys whose values in `new` wait for the next start.
    pub(crate) fn for_next_start(&self, new: &Config) -> Vec<String> {
        let (old, new) = (&self.start.written, &new.written);
        let mut keys: Vec<&String> = old.keys().chain(new.keys()).collect();
        keys.sort();
        keys.dedup();
        let waits = |key: &&String| old.get(*key) != new.get(*key) && !KEYS.contains(&key.as_str());
        let mut waiting: Vec<String> = keys.into_iter().filter(waits).cloned().collect();
        let is_logged = |config: &BTreeMap<String, Value>| config.contains_key(ACCESS_LOG);
        if is_logged(old) != is_logged(new) {
            // Only another file can be taken up: the writer runs, or does not, from the start on.
            waiting.push(ACCESS_LOG.to_owned());
        }
        waiting
    }
}

const ACCESS_LOG: &str = "access-log";

impl Current {
    fn of(config: &Config, start: &Config) -> Self {
        Self {
            idle_timeout: config.limits.idle_timeout,
            response_head_timeout: config.limits.response_head_timeout,
            visitor_connections: config.limits.visitor_connections,
            passthrough: config.passthrough.clone(),
            policy: Policy {
                trusted_proxies: config.trusted_proxies.clone(),
                colo: start.colo.clone(),
            },
        }
    }
}

/// The values of a valid file by their keys, as they are written; those of sections by `section.key`.
pub(super) fn written(text: &str) -> BTreeMap<String, Value> {
    let tree: Option<BTreeMap<String, Value>> = serde_saphyr::from_str(text).ok();
    let mut flat = BTreeMap::new();
    for (key, value) in tree.unwrap_or_default() {
        let section = value.as_object().filter(|_| SECTIONS.contains(&key.as_str()));
        if let Some(section) = section {
            let inner = section.iter();
            flat.extend(inner.map(|(inner, value)| (format!("{key}.{inner}"), value.clone())));
        } else {
            flat.insert(key, value);
        }
    }
    flat
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn config(text: &str) -> Config {
        Config::parse(
            Path::new("/etc/adit/edge.yml"),
            &format!("control: {{socket: a.sock}}\n{text}"),
        )
        .unwrap()
    }

    #[test]
    fn what_can_change_does_and_the_rest_is_named() {
        let live = LiveConfig::new(Arc::new(config(
            "colo: fra1\nlimits: {idle-timeout: 5s, memory: 64MiB}\n",
        )));
        let new = config(
            "colo: lon1\nlimits: {idle-timeout: 7s, memory: 128MiB}\ntrusted-proxies: [10.0.0.0/8]\n\
             listeners: {admin: '127.0.0.1:1'}\naccess-log: a.log\n",
        );
        assert_eq!(
            live.for_next_start(&new),
            ["colo", "limits.memory", "listeners.admin", "access-log"]
        );
        live.replace(&new);
        let current = live.current();
        assert_eq!(current.idle_timeout, Duration::from_secs(7));
        assert!(current.policy.trusts([10, 1, 1, 1].into()));
        assert_eq!(current.policy.colo, "fra1");
        assert_eq!(live.start().limits.idle_timeout, Duration::from_secs(5));
        assert!(live.for_next_start(live.start()).is_empty());
    }
}
