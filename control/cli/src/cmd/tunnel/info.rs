//! `tunnel info`: one tunnel and its running connectors.

use std::cmp::Ordering;

use adit_control_api::replica::ClientView;
use adit_control_api::tunnel::TunnelView;
use anyhow::anyhow;

use super::resolve::tunnel_id;
use super::session::Session;
use super::view;
use crate::args::leaf::Chosen;
use crate::failure::Failure;
use crate::output::time::spelled_out;
use crate::output::{self, Format, table};
use crate::rest::Query;

/// Shows a tunnel.
pub(super) async fn run(chosen: &Chosen<'_>, session: &Session) -> Result<(), Failure> {
    let own = &chosen.own;
    let format = Format::from_flags(own)?;
    let order = order(own.text("sort-by").as_deref().unwrap_or("createdAt"))?;
    let id = tunnel_id(session, chosen.argument(0)).await?;
    let mut connectors = session
        .api
        .connectors(id)
        .await
        .map_err(|error| session.explain(error))?;
    let found = session
        .api
        .tunnels_matching(&Query::default().and("uuid", id))
        .await;
    let found = found.map_err(|error| session.explain(error))?;
    let [tunnel] = found.as_slice() else {
        let text = format!(
            "expected to find 1 tunnel with the id {id}, found {}",
            found.len()
        );
        return Err(Failure::from(anyhow!(text)).next("adit tunnel list"));
    };
    connectors.sort_by(order);
    if own.switch("invert-sort")?.unwrap_or(false) {
        connectors.reverse();
    }
    if format != Format::Text {
        return output::print_document(format, &view::info(tunnel, &connectors));
    }
    if connectors.is_empty() {
        return output::print(&format!(
            "Your tunnel {id} does not have any active connection.\n"
        ));
    }
    let with_pending = own.switch("show-recently-disconnected")?.unwrap_or(false);
    let table = table::render(&view::connector_rows(&connectors, with_pending));
    output::print(&format!("{}{table}{}", head(tunnel), view::refusals(&connectors)))
}

fn head(tunnel: &TunnelView) -> String {
    let created = spelled_out(tunnel.created_at);
    format!(
        "NAME:     {}\nID:       {}\nCREATED:  {created}\n\n",
        tunnel.name, tunnel.id
    )
}

type Order = fn(&ClientView, &ClientView) -> Ordering;

fn order(name: &str) -> Result<Order, Failure> {
    match name {
        "id" => Ok(|a, b| a.id.cmp(&b.id)),
        "createdAt" => Ok(|a, b| a.run_at.cmp(&b.run_at)),
        "numConnections" => Ok(|a, b| a.conns.len().cmp(&b.conns.len())),
        "version" => Ok(|a, b| a.version.cmp(&b.version)),
        other => {
            Err(anyhow!("cannot sort by '{other}', choose id, createdAt, numConnections or version").into())
        }
    }
}
