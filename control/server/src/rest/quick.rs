//! `POST /tunnel`: a quick tunnel for whoever asks.
//!
//! Stock clients look at nothing of the answer but `result`, not even at its status.

use std::sync::Arc;

use adit_control_api::quick::QuickTunnelView;
use axum::Extension;
use axum::extract::State as Shared;
use axum::http::HeaderMap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::answer::{self, Answer};
use super::listen::Peer;
use crate::quick::Desk;

/// Where a proxy says on whose behalf it asks.
const FORWARDED_FOR: &str = "x-forwarded-for";

pub(super) async fn create(
    Shared(desk): Shared<Arc<Desk>>,
    Extension(Peer(peer)): Extension<Peer>,
    headers: HeaderMap,
) -> Answer {
    let forwarded_for = headers
        .get_all(FORWARDED_FOR)
        .iter()
        .next_back()
        .and_then(|value| value.to_str().ok());
    let made = desk.hand_out(peer, forwarded_for).await?;
    let settings = desk.settings();
    Ok(answer::one(QuickTunnelView {
        id: made.tunnel.id,
        name: made.tunnel.name,
        hostname: made.hostname.to_string(),
        account_tag: made.tunnel.account,
        secret: STANDARD.encode(made.tunnel.secret.as_bytes()),
        ca: (!settings.edges.is_empty()).then(|| desk.ca.clone()),
        edges: settings.edges.clone(),
    }))
}
