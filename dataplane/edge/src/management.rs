//! Requests for the management service of connectors: which they are, who may make them, and for whom.
//!
//! ```text
//! https://HOSTNAME/logs?access_token=…&connector_id=…      HOSTNAME is `management.hostname`
//!      └ token verified on the service thread ─► its tunnel ─► that replica, or any of the tunnel
//!                                                  └ with the Host that connectors know:
//!                                                    `management.connector-hostname`
//! ```
//! A connector believes any token. So nothing reaches it under that Host but by this way, whatever routes
//! say. Tokens travel in the query, so they pass only over TLS and never into the access log.

use std::cell::Cell;

use adit_control_api::management::TOKEN_BYTES_MAX;
use adit_proto::exchange::edge::Scheme;
use adit_proto::exchange::error_code::ErrorCode;
use adit_wire::{ConnectorId, Hostname, TunnelId};
use http::Uri;

use crate::config::{Config, Names};
use crate::control_link::ServiceHandle;

/// Tokens of one core that are being verified at once. Anybody may send some, and each costs the service
/// thread a signature.
const CHECKS_MAX: usize = 4;

/// A core's gate to management services.
pub(crate) struct Management {
    names: Names,
    /// Absent without a link to control.
    service: Option<ServiceHandle>,
    checks: Cell<usize>,
}

/// Who is to get a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Admitted {
    pub(crate) tunnel: TunnelId,
    /// This replica, or any.
    pub(crate) connector: Option<ConnectorId>,
}

impl Management {
    pub(crate) fn new(config: &Config, service: Option<ServiceHandle>) -> Self {
        Self {
            names: config.management.clone(),
            service,
            checks: Cell::new(0),
        }
    }

    /// Whether a request for `host` is for a management service, or would be taken for one.
    pub(crate) fn is_meant(&self, host: &Hostname) -> bool {
        self.names.hostname.as_ref() == Some(host) || self.names.connector == *host
    }

    /// What connectors take for their own service.
    pub(crate) fn connector_hostname(&self) -> &Hostname {
        &self.names.connector
    }

    /// Lets a request pass if its token is good.
    pub(crate) async fn admit(
        &self,
        host: &Hostname,
        scheme: Scheme,
        uri: &Uri,
    ) -> Result<Admitted, ErrorCode> {
        let (Some(hostname), Some(service)) = (&self.names.hostname, &self.service) else {
            return Err(ErrorCode::HostnameUnknown);
        };
        if host != hostname {
            return Err(ErrorCode::HostnameUnknown);
        }
        let query = uri.query().unwrap_or_default();
        let token = value(query, "access_token").filter(|token| token.len() <= TOKEN_BYTES_MAX);
        let token = token.ok_or(ErrorCode::ManagementToken)?;
        if scheme != Scheme::Https {
            return Err(ErrorCode::ManagementToken);
        }
        let connector = match value(query, "connector_id") {
            None | Some("") => None,
            Some(text) => Some(text.parse().map_err(|_| ErrorCode::BadRequest)?),
        };
        let Some(_check) = Check::begin(&self.checks) else {
            return Err(ErrorCode::Overloaded);
        };
        let tunnel = service.admit_management(token.to_owned(), uri.path().to_owned());
        let tunnel = tunnel.await.ok_or(ErrorCode::ManagementToken)?;
        Ok(Admitted { tunnel, connector })
    }
}

/// A token that is being verified.
struct Check<'a>(&'a Cell<usize>);

impl<'a> Check<'a> {
    fn begin(checks: &'a Cell<usize>) -> Option<Self> {
        let count = checks.get() + 1;
        (count <= CHECKS_MAX).then(|| {
            checks.set(count);
            Self(checks)
        })
    }
}

impl Drop for Check<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// The first value of a name in a query. Neither tokens nor ids need to be escaped, so nothing is unescaped.
fn value<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_found_by_their_whole_name() {
        let query = "my_access_token=a&access_token=b.c-d&access_token=e&flag";
        assert_eq!(value(query, "access_token"), Some("b.c-d"));
        assert_eq!(value(query, "flag"), None);
        assert_eq!(value("", "access_token"), None);
    }

    #[test]
    fn checks_are_bounded_and_given_back() {
        let checks = Cell::new(0);
        let held: Vec<_> = (0..CHECKS_MAX).map(|_| Check::begin(&checks).unwrap()).collect();
        assert!(Check::begin(&checks).is_none());
        drop(held);
        assert!(Check::begin(&checks).is_some());
    }
}
