//! `tunnel info`: one tunnel and its running connectors.

use std::cmp::Ordering;

use adit_control_api::replica::ClientView;
use adit_control_api::tunnel::TunnelView;
use anyhow::anyhow;

use super::api_access::ApiAccess;
use super::resolve::tunnel_id;
use super::view;
use crate::args::leaf::Chosen;
use crate::failure::Failure;
use crate::output::time::spelled_out;
use crate::output::{self, Format, table};
use crate::rest::Query;

/// What is sorted by unless something else is asked for.
const SORT_DEFAULT: &str = "createdAt";

/// Shows a tunnel.
pub(super) async fn run(chosen: &Chosen<'_>, access: &ApiAccess) -> Result<(), Failure> {
    let own = &chosen.own;
    let format = Format::from_flags(own)?;
    let order = order(own.text("sort-by").as_deref().unwrap_or(SORT_DEFAULT));
    let id = tunnel_id(access, chosen.argument(0)).await?;
    let mut connectors = access
        .api
        .connectors(id)
        .await
        .map_err(|error| access.explain(error))?;
    let found = access
        .api
        .tunnels_matching(&Query::default().and("uuid", id))
        .await;
    let found = found.map_err(|error| access.explain(error))?;
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

/// A field that cannot be sorted by is told and left aside.
fn order(name: &str) -> Order {
    match name {
        "id" => |a, b| a.id.cmp(&b.id),
        "createdAt" => |a, b| a.run_at.cmp(&b.run_at),
        "numConnections" => |a, b| a.conns.len().cmp(&b.conns.len()),
        "version" => |a, b| a.version.cmp(&b.version),
        other => {
            tracing::error!(
                "{other} is not a valid sort field. Valid sort fields are id, createdAt, numConnections, version. Defaulting to '{SORT_DEFAULT}'."
            );
            order(SORT_DEFAULT)
        }
    }
}
