//! Tunnels, connectors and connections as rows of tables and as documents. Pure.

use std::collections::BTreeMap;

use adit_control_api::replica::{ClientView, ConnectionView};
use adit_control_api::tunnel::TunnelView;

use crate::output::Format;
use crate::output::document::{Key, Node, key};
use crate::output::time::{NEVER, exact, to_seconds};

/// The table of `list`.
pub(super) fn tunnel_rows(tunnels: &[TunnelView], with_pending: bool) -> Vec<Vec<String>> {
    let head = ["ID", "NAME", "CREATED", "CONNECTIONS"]
        .map(str::to_owned)
        .to_vec();
    let row = |tunnel: &TunnelView| {
        vec![
            tunnel.id.to_string(),
            tunnel.name.clone(),
            to_seconds(tunnel.created_at),
            per_colo(&tunnel.connections, with_pending),
        ]
    };
    std::iter::once(head).chain(tunnels.iter().map(row)).collect()
}

/// The table of `info`.
pub(super) fn connector_rows(connectors: &[ClientView], with_pending: bool) -> Vec<Vec<String>> {
    let head = [
        "CONNECTOR ID",
        "CREATED",
        "ARCHITECTURE",
        "VERSION",
        "ORIGIN IP",
        "EDGE",
    ]
    .map(str::to_owned);
    let row = |client: &ClientView| {
        let origin = client
            .conns
            .first()
            .map(|connection| connection.origin_ip.to_string());
        vec![
            client.id.to_string(),
            to_seconds(client.run_at),
            client.arch.clone(),
            client.version.clone(),
            origin.unwrap_or_default(),
            per_colo(&client.conns, with_pending),
        ]
    };
    std::iter::once(head.to_vec())
        .chain(connectors.iter().map(row))
        .collect()
}

/// A line for each connector that would not take the newest configuration.
pub(super) fn refusals(connectors: &[ClientView]) -> String {
    let line = |client: &ClientView| {
        let refused = client.config_refused.as_ref()?;
        let in_force = match client.config_version {
            Some(version) if version >= 0 => format!("keeps version {version}"),
            Some(_) | None => "keeps its own".to_owned(),
        };
        Some(format!(
            "\nConnector {} refused version {} of the configuration and {in_force}: {}\n",
            client.id,
            refused.version,
            refused.error.escape_debug()
        ))
    };
    connectors.iter().filter_map(line).collect()
}

/// `2xlab01, 1xlab02`: how many connections end at each colo.
pub(super) fn per_colo(connections: &[ConnectionView], with_pending: bool) -> String {
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for connection in connections
        .iter()
        .filter(|connection| with_pending || !connection.is_pending_reconnect)
    {
        *counts.entry(&connection.colo_name).or_default() += 1;
    }
    let parts: Vec<String> = counts
        .iter()
        .map(|(colo, count)| format!("{count}x{colo}"))
        .collect();
    parts.join(", ")
}

/// A tunnel as a document.
pub(super) fn tunnel(tunnel: &TunnelView) -> Node {
    Node::Map(tunnel_fields(tunnel))
}

/// A new tunnel with its token: beside its fields in JSON, beside the tunnel in YAML, as cloudflared has it.
pub(super) fn created(format: Format, tunnel: &TunnelView, token: &str) -> Node {
    let token = (key("token", "token"), Node::text(token));
    let mut fields = tunnel_fields(tunnel);
    if format == Format::Yaml {
        fields = vec![(key("tunnel", "tunnel"), Node::Map(fields))];
    }
    fields.push(token);
    Node::Map(fields)
}

fn tunnel_fields(tunnel: &TunnelView) -> Vec<(Key, Node)> {
    let deleted = tunnel.deleted_at.map_or_else(|| NEVER.to_owned(), exact);
    vec![
        (key("id", "id"), Node::text(tunnel.id)),
        (key("name", "name"), Node::text(&tunnel.name)),
        (
            key("created_at", "createdat"),
            Node::Word(exact(tunnel.created_at)),
        ),
        (key("deleted_at", "deletedat"), Node::Word(deleted)),
        (
            key("connections", "connections"),
            connections(&tunnel.connections),
        ),
    ]
}

/// A tunnel with its connectors as a document.
pub(super) fn info(tunnel: &TunnelView, connectors: &[ClientView]) -> Node {
    Node::Map(vec![
        (key("id", "id"), Node::text(tunnel.id)),
        (key("name", "name"), Node::text(&tunnel.name)),
        (
            key("createdAt", "createdat"),
            Node::Word(exact(tunnel.created_at)),
        ),
        (
            key("conns", "connectors"),
            Node::List(connectors.iter().map(connector).collect()),
        ),
    ])
}

fn connector(client: &ClientView) -> Node {
    let mut fields = vec![
        (key("id", "id"), Node::text(client.id)),
        (
            key("features", "features"),
            Node::List(client.features.iter().map(Node::text).collect()),
        ),
        (key("version", "version"), Node::text(&client.version)),
        (key("arch", "arch"), Node::text(&client.arch)),
        (key("run_at", "runat"), Node::Word(exact(client.run_at))),
        (key("conns", "connections"), connections(&client.conns)),
    ];
    // Ours, and only where there is something to say: scripts know the others.
    if let Some(version) = client.config_version {
        fields.push((
            key("config_version", "configversion"),
            Node::Number(version.into()),
        ));
    }
    if let Some(refused) = &client.config_refused {
        let refused = Node::Map(vec![
            (key("version", "version"), Node::Number(refused.version.into())),
            (key("error", "error"), Node::text(&refused.error)),
        ]);
        fields.push((key("config_refused", "configrefused"), refused));
    }
    Node::Map(fields)
}

fn connections(connections: &[ConnectionView]) -> Node {
    let connection = |connection: &ConnectionView| {
        Node::Map(vec![
            (key("colo_name", "coloname"), Node::text(&connection.colo_name)),
            (key("id", "id"), Node::text(connection.id)),
            (
                key("is_pending_reconnect", "ispendingreconnect"),
                Node::Switch(connection.is_pending_reconnect),
            ),
            (key("origin_ip", "originip"), Node::text(connection.origin_ip)),
            (
                key("opened_at", "openedat"),
                Node::Word(exact(connection.opened_at)),
            ),
        ])
    };
    Node::List(connections.iter().map(connection).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use adit_control_api::replica::RefusedView;

    use crate::output::table;

    fn lab() -> TunnelView {
        let text = r#"{"id":"11111111-2222-3333-4444-555555555555","name":"lab",
            "created_at":"2026-01-02T03:04:05Z","deleted_at":null,"connections":[
            {"colo_name":"lab02","id":"22222222-2222-3333-4444-555555555555","is_pending_reconnect":false,
             "origin_ip":"127.0.0.1","opened_at":"2026-01-02T03:04:06Z"},
            {"colo_name":"lab01","id":"32222222-2222-3333-4444-555555555555","is_pending_reconnect":false,
             "origin_ip":"127.0.0.1","opened_at":"2026-01-02T03:04:06Z"},
            {"colo_name":"lab01","id":"42222222-2222-3333-4444-555555555555","is_pending_reconnect":true,
             "origin_ip":"127.0.0.1","opened_at":"2026-01-02T03:04:06Z"}]}"#;
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn connections_are_counted_per_colo_and_pending_ones_only_on_request() {
        assert_eq!(per_colo(&lab().connections, false), "1xlab01, 1xlab02");
        assert_eq!(per_colo(&lab().connections, true), "2xlab01, 1xlab02");
    }

    #[test]
    fn the_list_is_a_table_with_a_line_per_tunnel() {
        let expected = concat!(
            "ID                                   NAME CREATED              CONNECTIONS      \n",
            "11111111-2222-3333-4444-555555555555 lab  2026-01-02T03:04:05Z 1xlab01, 1xlab02 \n",
        );
        assert_eq!(table::render(&tunnel_rows(&[lab()], false)), expected);
    }

    #[test]
    fn a_connector_row_names_the_address_it_dials_from() {
        let client = ClientView {
            id: "52222222-2222-3333-4444-555555555555".parse().unwrap(),
            features: Vec::new(),
            version: "2026.8.2".to_owned(),
            arch: "linux_amd64".to_owned(),
            run_at: lab().created_at,
            conns: lab().connections,
            config_version: Some(2),
            config_refused: Some(RefusedView {
                version: 3,
                error: "no\nservice".to_owned(),
            }),
        };
        assert_eq!(
            refusals(std::slice::from_ref(&client)),
            "\nConnector 52222222-2222-3333-4444-555555555555 refused version 3 of the configuration and keeps version 2: no\\nservice\n"
        );
        let json: serde_json::Value =
            serde_json::from_str(&info(&lab(), std::slice::from_ref(&client)).to_json()).unwrap();
        assert_eq!(json["conns"][0]["config_version"], 2);
        assert_eq!(json["conns"][0]["config_refused"]["version"], 3);
        let expected = concat!(
            "CONNECTOR ID                         CREATED              ARCHITECTURE VERSION  ORIGIN IP EDGE             \n",
            "52222222-2222-3333-4444-555555555555 2026-01-02T03:04:05Z linux_amd64  2026.8.2 127.0.0.1 1xlab01, 1xlab02 \n",
        );
        assert_eq!(table::render(&connector_rows(&[client], false)), expected);
    }

    #[test]
    fn a_living_tunnel_has_the_zero_time_as_its_deletion() {
        let json: serde_json::Value = serde_json::from_str(&tunnel(&lab()).to_json()).unwrap();
        assert_eq!(json["deleted_at"], "0001-01-01T00:00:00Z");
        assert_eq!(json["connections"][2]["is_pending_reconnect"], true);
        assert!(
            tunnel(&lab())
                .to_yaml()
                .contains("\ndeletedat: 0001-01-01T00:00:00Z\n")
        );
    }
}
