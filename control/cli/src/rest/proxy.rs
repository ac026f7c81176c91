//! The proxy that the environment names for HTTPS.

use adit_connector::edge_proxy::EdgeProxy;
use adit_proto::traversal::ProxyError;

/// Names of the variable with the proxy, in the order in which they count.
pub(crate) const HTTPS_PROXY: [&str; 2] = ["HTTPS_PROXY", "https_proxy"];

/// Names of the variable with the exceptions.
pub(crate) const NO_PROXY: [&str; 2] = ["NO_PROXY", "no_proxy"];

/// The first of the variables that is set to something.
pub(crate) fn variable(names: [&str; 2]) -> Option<String> {
    let set = names.into_iter().find_map(|name| std::env::var(name).ok());
    set.filter(|value| !value.is_empty())
}

/// The proxy for this destination, if there is one.
pub(super) fn of_environment(host: &str, port: u16) -> Result<Option<EdgeProxy>, ProxyError> {
    let Some(text) = variable(HTTPS_PROXY) else {
        return Ok(None);
    };
    let proxy = EdgeProxy::of_environment(text.parse()?, variable(NO_PROXY).as_deref());
    Ok(Some(proxy).filter(|proxy| proxy.is_for(host, port)))
}
