//! Asks the addresses of origins whether they work, where `healthCheck` wants it.
//!
//! One core does it for the process, with a task for each address. An HTTP origin gets a connection of its
//! own, a request, and is well with the head of an answer. A TCP service only gets a connection. The
//! [`group`](crate::origin::group) gets the result.
//!
//! Does not: decide what a failed check means (`adit_proto::origin_pool::health` does).

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use adit_driver::time::{sleep, timeout};
use adit_proto::ingress::address::OriginAddress;
use adit_proto::origin_pool::MemberId;
use adit_proto::origin_pool::settings::HealthCheck;
use http::header::{HOST, USER_AGENT};
use http::{HeaderValue, Request};
use tokio::task::JoinSet;

use crate::exchange_task::ExchangeCore;
use crate::origin::body::{Progress, RequestBody};
use crate::origin::dial::{DialParameters, Place};
use crate::origin::group::Group;
use crate::origin::http_origin::HttpOrigin;
use crate::origin::tcp::TcpOrigin;
use crate::origin::{CoreOrigins, OriginError};
use crate::rules::Service;

/// Tells origins' logs who asks.
const AGENT: HeaderValue =
    HeaderValue::from_static(concat!("adit/", env!("CARGO_PKG_VERSION"), " health check"));

/// Checks what the ingress in force wants checked, for ever.
pub(crate) async fn run(core: Rc<ExchangeCore>) {
    let mut changes = core.settings.changes.subscribe();
    loop {
        changes.borrow_and_update();
        let rules = core.rules.of(&core.settings.ingress.load());
        let mut watched = JoinSet::new();
        for served in rules.served() {
            let group = match &served.service {
                Service::Http(origin) => origin.group(),
                Service::Tcp(origin) => origin.group(),
                Service::Status(_) | Service::HelloWorld => None,
            };
            let Some(group) = group else { continue };
            let Some((check, addresses)) = group.to_check() else {
                continue;
            };
            // Spread over the interval, so that an origin is not asked everywhere at once.
            let share = check.interval / u32::try_from(addresses.len()).unwrap_or(1).max(1);
            for (turn, address) in (0..).zip(addresses) {
                let watch = Watch {
                    core: Rc::clone(&core),
                    service: served.service.clone(),
                    group: Arc::clone(group),
                    check: check.clone(),
                };
                watched.spawn_local(watch.run(address, share * turn));
            }
        }
        drop(rules);
        if changes.changed().await.is_err() {
            return;
        }
        // The checks under way end with the set.
    }
}

/// The checks of one address.
struct Watch {
    core: Rc<ExchangeCore>,
    service: Service,
    group: Arc<Group>,
    check: HealthCheck,
}

impl Watch {
    async fn run(self, (member, address): (MemberId, Arc<OriginAddress>), delay: Duration) {
        sleep(delay).await;
        loop {
            let checked = timeout(self.check.timeout, self.ask(&address)).await;
            let is_well = match checked {
                Ok(Ok(is_well)) => is_well,
                Ok(Err(error)) => {
                    tracing::debug!(%address, %error, "A check of an address failed");
                    false
                }
                Err(_) => {
                    tracing::debug!(%address, limit = ?self.check.timeout, "A check of an address took too long");
                    false
                }
            };
            if self.group.checked(member, is_well) {
                self.core.settings.look_at_origins();
            }
            sleep(self.check.interval).await;
        }
    }

    async fn ask(&self, address: &OriginAddress) -> Result<bool, OriginError> {
        let core = &self.core.origins;
        match (&self.service, &self.check.path) {
            (Service::Http(origin), Some(path)) => {
                let status = ask_http(core, origin, address, path).await?;
                Ok(self.check.expects(status))
            }
            (Service::Tcp(origin), _) => ask_tcp(core, origin, address).await.map(|()| true),
            (Service::Http(_), None) | (Service::Status(_) | Service::HelloWorld, _) => Ok(true),
        }
    }
}

/// The status of the answer to a request for `path`.
async fn ask_http(
    core: &CoreOrigins,
    origin: &HttpOrigin,
    address: &OriginAddress,
    path: &str,
) -> Result<u16, OriginError> {
    let host = match &origin.template.target.place {
        Place::Tcp { host, port } => OriginAddress::Tcp {
            host: host.as_str().into(),
            port: *port,
        }
        .to_string(),
        Place::Unix { .. } => "localhost".to_owned(),
    };
    let asked = DialParameters {
        server_name: origin.server_name(&host).map(str::to_owned),
        visitor: None,
        interim: None,
    };
    let mut request = Request::new(RequestBody::Empty);
    // Checked when the configuration was read.
    *request.uri_mut() = path.parse().unwrap_or_default();
    let host = HeaderValue::from_str(&host).ok();
    let host = origin.host_header.clone().or(host);
    request.headers_mut().extend(host.map(|host| (HOST, host)));
    request.headers_mut().insert(USER_AGENT, AGENT);
    let member = origin.template.member(address);
    let sent = member.send(core, &asked, request, &Progress::done()).await;
    sent.map(|reply| reply.status().as_u16())
        .map_err(|failed| failed.error)
}

async fn ask_tcp(core: &CoreOrigins, origin: &TcpOrigin, address: &OriginAddress) -> Result<(), OriginError> {
    let io = origin
        .dial_at(core, address.into(), &DialParameters::default())
        .await?;
    drop(io);
    Ok(())
}
