//! What of a configuration can change while the edge runs.
//!
//! All cores share it and it is replaced whole, like a snapshot of routes. A read costs a few nanoseconds and
//! takes no lock. A visitor's connection and a request read it once for each value they need.

use adit_proto::ejection;
use adit_proto::exchange::edge::Policy;
use arc_swap::{ArcSwap, Guard};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Config, Limits, Passthrough};

/// Keys of the file that follow a reload; all others wait for the next start.
const KEYS: &[&str] = &[
    "access-log",
    "certificates",
    "ejection",
    "limits.address-share",
    "limits.connections-per-address",
    "limits.exchanges-per-address",
    "limits.idle-timeout",
    "limits.memory",
    "limits.reconnect-wait",
    "limits.response-head-timeout",
    "limits.send-timeout",
    "limits.streams-per-connection",
    "limits.tunnel-share",
    "limits.visitor-connections",
    "passthrough",
    "trusted-proxies",
];

/// Keys below these have a life of their own.
const SECTIONS: &[&str] = &["control", "limits", "listeners", "management"];

/// The values in force.
pub(crate) struct Current {
    pub(crate) limits: Limits,
    pub(crate) ejection: ejection::Settings,
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

    /// The same, to be kept.
    pub(crate) fn whole(&self) -> Arc<Current> {
        self.current.load_full()
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
            limits: config.limits,
            ejection: config.ejection,
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
    use std::time::Duration;

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
            ["colo", "listeners.admin", "access-log"]
        );
        live.replace(&new);
        let current = live.current();
        assert_eq!(current.limits.idle_timeout, Duration::from_secs(7));
        assert_eq!(current.limits.memory_bytes, 128 << 20);
        assert!(current.policy.trusts([10, 1, 1, 1].into()));
        assert_eq!(current.policy.colo, "fra1");
        assert_eq!(live.start().limits.idle_timeout, Duration::from_secs(5));
        assert!(live.for_next_start(live.start()).is_empty());
    }
}
