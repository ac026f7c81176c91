//! How the CPUs given to `adit up` are dealt out between edge and connector, the two that carry bytes.

use adit_driver::cpus::{Cpus, CpusError};

use super::files::CONNECTIONS;

/// Who is pinned to what.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Shares {
    pub(super) edge: Cpus,
    pub(super) connector: Cpus,
}

impl Shares {
    /// Gives the connector the last half, though no more than it has connections, and the edge the rest. With
    /// a number of cores each gets as many; they share CPUs only when there are too few for both.
    ///
    /// # Errors
    /// [`CpusError`] when this machine cannot do that.
    pub(super) fn of(cpus: &Cpus, cores: Option<u16>) -> Result<Self, CpusError> {
        let shares = Self::deal(cpus, cores.map(usize::from));
        cpus.check(cores.map_or(1, usize::from))?;
        Ok(shares)
    }

    fn deal(cpus: &Cpus, cores: Option<usize>) -> Self {
        let connector = cores.unwrap_or_else(|| (cpus.len() / 2).clamp(1, CONNECTIONS as usize));
        let edge = cores.unwrap_or_else(|| cpus.len().saturating_sub(connector).max(1));
        Self {
            edge: cpus.first(edge),
            connector: cpus.last(connector),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn edge_and_connector_share_a_cpu_only_when_they_must() {
        for (cpus, cores, edge, connector) in [
            ("3", None, "3", "3"),
            ("0-1", None, "0", "1"),
            ("0-2", None, "0-1", "2"),
            ("0-15", None, "0-11", "12-15"),
            ("0-3", Some(1), "0", "3"),
            ("0-3", Some(2), "0-1", "2-3"),
            ("0-2", Some(2), "0-1", "1-2"),
        ] {
            let shares = Shares::deal(&cpus.parse().unwrap(), cores);
            let wanted = Shares {
                edge: edge.parse().unwrap(),
                connector: connector.parse().unwrap(),
            };
            assert_eq!(shares, wanted, "{cpus} for {cores:?}");
        }
    }

    #[test]
    fn too_few_for_the_cores_is_an_error() {
        let one = Cpus::allowed().first(1);
        assert!(Shares::of(&one, Some(1)).is_ok());
        let refused = Shares::of(&one, Some(2));
        assert!(
            matches!(refused, Err(CpusError::TooFew { cores: 2, .. })),
            "{refused:?}"
        );
    }
}
