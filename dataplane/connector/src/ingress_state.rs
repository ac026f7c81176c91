//! The rules in force, with their version and the addresses of their origins.

use std::sync::Arc;

use adit_proto::ingress::host::HostFilter;
use adit_proto::ingress::{Ingress, Rule};
use adit_wire::config_push::VERSION_NONE;
use adit_wire::registration::{HEALTH_RULES_MAX, RuleHealth};

use crate::origin::group::{Group, Groups};

/// The ingress and its version; [`VERSION_NONE`] is the local one.
pub(crate) struct IngressState {
    pub(crate) version: i32,
    pub(crate) ingress: Ingress,
    /// By position of the rule.
    pub(crate) groups: Vec<Option<Arc<Group>>>,
}

impl IngressState {
    /// The configuration read at start.
    pub(crate) fn local(ingress: Ingress, groups: &Groups) -> Self {
        Self {
            version: VERSION_NONE,
            groups: groups.follow(&ingress, &[]),
            ingress,
        }
    }

    /// The addresses of the rule at `place`, if there are several or limits.
    pub(crate) fn group(&self, place: usize) -> Option<&Arc<Group>> {
        self.groups.get(place)?.as_ref()
    }

    /// The rules whose origin is down: all of its addresses, by the checks of `healthCheck`.
    pub(crate) fn down(&self) -> impl Iterator<Item = &Rule> {
        let rules = self.ingress.rules().iter().zip(&self.groups);
        let down = rules.filter(|(_, group)| group.as_ref().is_some_and(|group| group.is_down()));
        down.map(|(rule, _)| rule)
    }

    /// What edges of ours are told: the rules up to the last one that is down.
    pub(crate) fn health(&self) -> Vec<RuleHealth> {
        let rules = self.ingress.rules().iter().zip(&self.groups);
        let told = rules.take(HEALTH_RULES_MAX).map(|(rule, group)| RuleHealth {
            hostname: hostname(rule),
            has_path: rule.path.is_some(),
            path: rule
                .path
                .as_ref()
                .map_or_else(String::new, |path| path.as_str().to_owned()),
            is_down: group.as_ref().is_some_and(|group| group.is_down()),
        });
        let mut told: Vec<_> = told.collect();
        let count = told
            .iter()
            .rposition(|rule| rule.is_down)
            .map_or(0, |last| last + 1);
        told.truncate(count);
        told
    }

    /// Every such group.
    pub(crate) fn groups(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.groups.iter().flatten()
    }
}

/// The name that edges know a rule by; empty for every name.
pub(crate) fn hostname(rule: &Rule) -> String {
    match &rule.hostname {
        HostFilter::Any => String::new(),
        filter @ (HostFilter::Exact { .. } | HostFilter::Below { .. }) => filter.to_string(),
    }
}
