//! A quick tunnel: asked for without an account, under a random hostname, run until it is stopped or expires.
//!
//! Source: cloudflared `cmd/cloudflared/tunnel/quick_tunnel.go`.

use adit_connector::{Flags, Identity, QuickTunnel};
use adit_control_api::quick::QuickTunnelView;
use adit_wire::TunnelSecret;
use adit_wire::registration::TunnelAuth;
use anyhow::{Context as _, anyhow};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::run;
use crate::args::leaf::Chosen;
use crate::cmd::block_on;
use crate::failure::Failure;
use crate::rest;

/// Spaces between the box and what is in it.
const BOX_PADDING: usize = 2;

/// The tunnel of a rehearsal.
const STAND_IN_ID: &str = "00000000-0000-0000-0000-000000000000";

/// Gets a quick tunnel and runs it.
pub(super) fn get_and_run(chosen: &Chosen<'_>, service: Option<String>) -> Result<(), Failure> {
    let Some(service) = service.filter(|service| !service.is_empty()) else {
        let text = "a quick tunnel needs to know who gives one: --quick-service URL, the environment variable TUNNEL_QUICK_SERVICE or the key quick-service of config.yml, with the address of a control that has quick-tunnels in its control.yml.";
        return Err(anyhow!(text).into());
    };
    let mut flags = run::flags(&chosen.tunnel)?;
    rehearse(&flags)?;
    tracing::info!("Requesting new quick Tunnel on {service}...");
    let view = block_on(async {
        let answer = rest::quick_tunnel(&service).await;
        Ok(answer.with_context(|| format!("failed to request quick Tunnel of {service}"))?)
    })?;
    for line in in_box(&[
        "Your quick Tunnel has been created! Visit it at (it may take some time to be reachable):",
        &url(&view.hostname),
    ]) {
        tracing::info!("{line}");
    }
    flags.ha_connections = Some(1);
    flags.quick = Some(tunnel(view)?);
    run::start(flags, false)
}

/// Refuses what no tunnel could run before a quick tunnel is asked for: the service counts those it gives,
/// also unused ones.
fn rehearse(flags: &Flags) -> Result<(), Failure> {
    let stand_in = QuickTunnelView {
        id: STAND_IN_ID.parse().context("a stand-in is a tunnel")?,
        name: String::new(),
        hostname: String::new(),
        account_tag: "stand-in".parse().context("a stand-in is an account")?,
        secret: String::new(),
        edges: vec!["stand-in:7844".to_owned()],
        ca: None,
    };
    let flags = Flags {
        quick: Some(tunnel(stand_in)?),
        ..flags.clone()
    };
    run::resolve(flags).map(drop)
}

fn tunnel(view: QuickTunnelView) -> Result<QuickTunnel, Failure> {
    let secret = STANDARD.decode(&view.secret);
    let secret = secret.context("the secret of the quick Tunnel is not base64")?;
    Ok(QuickTunnel {
        hostname: view.hostname,
        identity: Identity {
            tunnel_id: view.id,
            auth: TunnelAuth {
                account_tag: view.account_tag,
                secret: TunnelSecret::new(secret),
            },
        },
        edges: view.edges,
        ca: view.ca,
    })
}

fn url(hostname: &str) -> String {
    if hostname.starts_with("https://") {
        hostname.to_owned()
    } else {
        format!("https://{hostname}")
    }
}

fn in_box(lines: &[&str]) -> Vec<String> {
    let width = lines.iter().map(|line| line.chars().count()).max().unwrap_or(0);
    let border = format!("+{}+", "-".repeat(width + 2 * BOX_PADDING));
    let padding = " ".repeat(BOX_PADDING);
    let inner = lines
        .iter()
        .map(|line| format!("|{padding}{line:width$}{padding}|"));
    std::iter::once(border.clone())
        .chain(inner)
        .chain([border])
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_box_is_as_wide_as_its_longest_line() {
        assert_eq!(
            in_box(&["ab", "https://c.test"]),
            [
                "+------------------+",
                "|  ab              |",
                "|  https://c.test  |",
                "+------------------+",
            ]
        );
    }

    #[test]
    fn a_hostname_may_come_as_an_address() {
        assert_eq!(url("a.example.test"), "https://a.example.test");
        assert_eq!(url("https://a.example.test"), "https://a.example.test");
    }
}
