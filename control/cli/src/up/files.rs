//! The configuration files of the three children, written out for them and for whoever wants to look.
//!
//! Strings are quoted as JSON, which YAML reads as well. Ports that nobody outside needs to know are 0.

use std::net::SocketAddr;
use std::path::Path;

use adit_control_api::TunnelId;

use super::layout::Layout;

/// Connections of the connector, all to the one edge.
pub(super) const CONNECTIONS: u32 = 4;

/// Name and site of the one edge: there is no other.
const EDGE: &str = "name: up\ncolo: loc01\nregion: local\n";

/// `control.yml`.
pub(super) fn control(layout: &Layout) -> String {
    let socket = path(layout.socket());
    let state = path(&layout.control_dir());
    format!("listen: \"127.0.0.1:0\"\nedge-socket: {socket}\nstate-dir: {state}\n")
}

/// What `edge.yml` says.
pub(super) struct EdgeFile {
    pub(super) http: SocketAddr,
    pub(super) https: SocketAddr,
}

/// What the connector's `config.yml` says.
pub(super) struct ConnectorFile<'a> {
    pub(super) tunnel: TunnelId,
    pub(super) edge: SocketAddr,
    pub(super) service: &'a str,
}

impl EdgeFile {
    /// The text of the file.
    pub(super) fn render(&self, layout: &Layout) -> String {
        let lines = [
            "listeners:".to_owned(),
            "  tunnel: \"127.0.0.1:0\"".to_owned(),
            format!("  http: [\"{}\"]", self.http),
            format!("  https: [\"{}\"]", self.https),
            "  admin: \"127.0.0.1:0\"".to_owned(),
            "certificates:".to_owned(),
            format!("  - cert: {}", path(&layout.certificate())),
            format!("    key: {}", path(&layout.certificate_key())),
            format!("control: {{socket: {}}}", path(layout.socket())),
            format!("state-dir: {}", path(&layout.edge_dir())),
        ];
        format!("{EDGE}{}\n", lines.join("\n"))
    }
}

impl ConnectorFile<'_> {
    /// The text of the file.
    pub(super) fn render(&self, layout: &Layout) -> String {
        let edges = vec![format!("\"{}\"", self.edge); CONNECTIONS as usize];
        let lines = [
            format!("tunnel: {}", self.tunnel),
            format!("token-file: {}", path(&layout.connector_token())),
            format!("edge: [{}]", edges.join(", ")),
            format!("cacert: {}", path(&layout.ca())),
            "protocol: quic".to_owned(),
            "metrics: \"127.0.0.1:0\"".to_owned(),
            "grace-period: 5s".to_owned(),
            "ingress:".to_owned(),
            format!("  - service: {}", quoted(self.service)),
        ];
        format!("{}\n", lines.join("\n"))
    }
}

fn path(path: &Path) -> String {
    quoted(&path.display().to_string())
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn read(text: &str) -> Value {
        serde_saphyr::from_str(text).unwrap()
    }

    #[test]
    fn control_listens_where_only_we_look() {
        let layout = Layout::prepare(None).unwrap();
        let text = control(&layout);
        let config = adit_control::Config::parse(&text, &layout.control_config()).unwrap();
        assert_eq!(config.listen.port(), 0);
        assert_eq!(config.state_dir, layout.control_dir());
        assert_eq!(config.edge_socket, layout.socket());
    }

    #[test]
    fn the_edge_listens_for_visitors_where_it_was_told() {
        let layout = Layout::prepare(None).unwrap();
        let file = EdgeFile {
            http: "127.0.0.1:8080".parse().unwrap(),
            https: "[::1]:8443".parse().unwrap(),
        };
        let config = read(&file.render(&layout));
        assert_eq!(config["listeners"]["http"][0], "127.0.0.1:8080");
        assert_eq!(config["listeners"]["https"][0], "[::1]:8443");
        assert_eq!(config["control"]["socket"], layout.socket().to_str().unwrap());
        assert_eq!(
            config["certificates"][0]["cert"],
            layout.certificate().to_str().unwrap()
        );
    }

    #[test]
    fn the_connector_dials_the_edge_once_per_connection_and_services_are_quoted() {
        let layout = Layout::prepare(None).unwrap();
        let file = ConnectorFile {
            tunnel: "11111111-2222-3333-4444-555555555555".parse().unwrap(),
            edge: "127.0.0.1:4433".parse().unwrap(),
            service: "unix:/run/a \"b\": #c.sock",
        };
        let config = read(&file.render(&layout));
        assert_eq!(config["edge"].as_array().unwrap().len(), 4);
        assert_eq!(config["tunnel"], "11111111-2222-3333-4444-555555555555");
        assert_eq!(config["ingress"][0]["service"], "unix:/run/a \"b\": #c.sock");
    }
}
