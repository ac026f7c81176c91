//! Names that are not routed like others: those whose TLS the edge does not end, and those of management
//! services.

use adit_proto::host_map::HostMap;
use adit_proto::proxy_protocol::Version;
use adit_wire::{HostPattern, Hostname};

use super::resolve::Resolver;
use super::{ConfigError, Names, file};

const KEY: &str = "passthrough";

/// Looked up for each handshake, by hash; an operator who lists more means something else.
const PATTERNS_MAX: usize = 4_096;

/// Hostnames that are carried to their tunnels as they come.
#[derive(Clone, Debug, Default)]
pub(crate) struct Passthrough {
    entries: Vec<(HostPattern, Option<Version>)>,
    by_name: HostMap<Option<Version>>,
}

impl Passthrough {
    pub(crate) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether `name` is listed, and which PROXY header its origins want.
    pub(crate) fn get(&self, name: &Hostname) -> Option<Option<Version>> {
        self.by_name.get(name).copied()
    }

    /// In the order of the file.
    pub(super) fn entries(&self) -> &[(HostPattern, Option<Version>)] {
        &self.entries
    }
}

impl Resolver<'_> {
    pub(super) fn management(&self, written: file::Management) -> Result<Names, ConfigError> {
        let parse = |key, text: Option<String>| {
            let parsed = text.map(|text| {
                text.parse::<Hostname>()
                    .map_err(|error| self.refuse(key, format!("{text:?}: {error}")))
            });
            parsed.transpose()
        };
        Ok(Names {
            hostname: parse("management.hostname", written.hostname)?,
            connector: parse("management.connector-hostname", written.connector_hostname)?
                .unwrap_or_else(Names::connector_default),
        })
    }

    pub(super) fn passthrough(&self, written: Vec<file::Passthrough>) -> Result<Passthrough, ConfigError> {
        if written.len() > PATTERNS_MAX {
            return Err(self.refuse(
                KEY,
                format!("{} hostnames, at most {PATTERNS_MAX}", written.len()),
            ));
        }
        let mut found = Passthrough::default();
        for entry in written {
            let (text, sends) = match entry {
                file::Passthrough::Name(name) => (name, None),
                file::Passthrough::Table(table) => (table.hostname, table.send_proxy),
            };
            let sends = self.send_proxy(KEY, sends.as_deref())?;
            let pattern: HostPattern = text.parse().map_err(|error| {
                let reason = format!("{text:?}: {error}; write a name, or *.name for all below it");
                self.refuse(KEY, reason)
            })?;
            if found.by_name.insert(pattern.clone(), sends).is_some() {
                return Err(self.refuse(KEY, format!("{text:?} is listed twice")));
            }
            found.entries.push((pattern, sends));
        }
        Ok(found)
    }
}
