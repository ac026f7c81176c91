//! `management:` under which names the management service of connectors is reached.

use adit_control_api::management::CONNECTOR_HOSTNAME;
use adit_wire::Hostname;

/// `management:` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Names {
    /// Where operators reach the service; `None` for nowhere.
    pub(crate) hostname: Option<Hostname>,
    /// What connectors take for their own service.
    pub(crate) connector: Hostname,
}

impl Names {
    /// What connectors listen to when nobody says otherwise.
    pub(crate) fn connector_default() -> Hostname {
        CONNECTOR_HOSTNAME
            .parse()
            .expect("the customary hostname is a hostname")
    }
}
