//! The tunnel and its route, made over the REST API if they are not there yet.

use adit_control_api::TunnelId;
use adit_wire::HostPattern;
use adit_wire::origin_cert::OriginCert;
use anyhow::Context as _;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::layout::Layout;
use super::ready::ControlAddresses;
use crate::cmd::tunnel::create::random_secret;
use crate::failure::Failure;
use crate::rest::{Access, Api, Query};

/// Name of the one tunnel.
const TUNNEL_NAME: &str = "up";

/// The tunnel to run.
#[derive(Debug)]
pub(super) struct Tunnel {
    pub(super) id: TunnelId,
    pub(super) token: String,
}

/// Finds or creates the tunnel and routes the hostname to it.
pub(super) async fn tunnel(
    layout: &Layout,
    control: &ControlAddresses,
    hostname: &HostPattern,
) -> Result<Tunnel, Failure> {
    let path = layout.cert();
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let cert = OriginCert::parse(&text).with_context(|| format!("{} is not a credential", path.display()))?;
    let api = Api::new(Access {
        url: control.api.clone(),
        account: cert.account_id,
        zone: cert.zone_id,
        token: cert.api_token,
    });
    let id = find_or_create(&api).await.context("cannot prepare the tunnel")?;
    api.route_dns(id, &hostname.to_string(), true)
        .await
        .context("cannot route the hostname")?;
    let token = api.token(id).await.context("cannot get the tunnel's token")?;
    Ok(Tunnel { id, token })
}

async fn find_or_create(api: &Api) -> anyhow::Result<TunnelId> {
    let query = Query::default()
        .and("is_deleted", "false")
        .and("name", TUNNEL_NAME);
    if let [found, ..] = api.tunnels_matching(&query).await?.as_slice() {
        return Ok(found.id);
    }
    let secret = random_secret()?;
    let created = api
        .create_tunnel(TUNNEL_NAME, &STANDARD.encode(secret.as_bytes()))
        .await?;
    Ok(created.tunnel.id)
}
