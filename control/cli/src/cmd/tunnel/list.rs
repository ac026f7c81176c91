//! `tunnel list`.

use std::cmp::Ordering;

use adit_control_api::TunnelId;
use adit_control_api::tunnel::TunnelView;
use anyhow::Context as _;

use super::api_access::ApiAccess;
use super::view;
use crate::args::leaf::Chosen;
use crate::failure::Failure;
use crate::output::document::Node;
use crate::output::{self, Format, table};
use crate::rest::Query;

/// What is sorted by unless something else is asked for.
const SORT_DEFAULT: &str = "name";

/// Lists tunnels.
pub(super) async fn run(chosen: &Chosen<'_>, access: &ApiAccess) -> Result<(), Failure> {
    let own = &chosen.own;
    let format = Format::from_flags(own)?;
    let order = order(own.text("sort-by").as_deref().unwrap_or(SORT_DEFAULT));
    let query = query(chosen)?;
    let mut tunnels = access
        .api
        .tunnels_matching(&query)
        .await
        .map_err(|error| access.explain(error))?;
    tunnels.sort_by(order);
    if own.switch("invert-sort")?.unwrap_or(false) {
        tunnels.reverse();
    }
    if format != Format::Text {
        return output::print_document(format, &Node::List(tunnels.iter().map(view::tunnel).collect()));
    }
    if tunnels.is_empty() {
        return output::print(concat!(
            "No tunnels were found for the given filter flags. ",
            "You can use 'adit tunnel create' to create a tunnel.\n"
        ));
    }
    let with_pending = own.switch("show-recently-disconnected")?.unwrap_or(false);
    let hint =
        "You can obtain more detailed information for each tunnel with `adit tunnel info <name/uuid>`\n";
    output::print(&format!(
        "{hint}{}",
        table::render(&view::tunnel_rows(&tunnels, with_pending))
    ))
}

fn query(chosen: &Chosen<'_>) -> Result<Query, Failure> {
    let own = &chosen.own;
    let id = own.text("id").map(|id| {
        let parsed = id.parse::<TunnelId>();
        parsed.with_context(|| format!("{id} is not a valid tunnel ID"))
    });
    let id = id.transpose()?;
    Ok(Query::default()
        .and_if(
            !own.switch("show-deleted")?.unwrap_or(false),
            "is_deleted",
            "false",
        )
        .and_some("name", own.text("name"))
        .and_some("name_prefix", own.text("name-prefix"))
        .and_some("exclude_prefix", own.text("exclude-name-prefix"))
        .and_some("existed_at", own.text("when"))
        .and_some("uuid", id)
        .and_some("per_page", chosen.tunnel.parsed::<u32>("max-fetch-size")?))
}

type Order = fn(&TunnelView, &TunnelView) -> Ordering;

/// A field that cannot be sorted by is told and left aside.
fn order(name: &str) -> Order {
    match name {
        "name" => |a, b| a.name.cmp(&b.name),
        "id" => |a, b| a.id.cmp(&b.id),
        "createdAt" => |a, b| a.created_at.cmp(&b.created_at),
        "deletedAt" => |a, b| a.deleted_at.cmp(&b.deleted_at),
        "numConnections" => |a, b| a.connections.len().cmp(&b.connections.len()),
        other => {
            tracing::error!(
                "{other} is not a valid sort field. Valid sort fields are name, id, createdAt, deletedAt, numConnections. Defaulting to '{SORT_DEFAULT}'."
            );
            order(SORT_DEFAULT)
        }
    }
}
