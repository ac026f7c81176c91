//! Owns how an origin is spoken to: the `originRequest` keys, their defaults and their precedence.
//!
//! Three layers: what a rule says, what the file says for all rules, the default. A layer that says
//! nothing about a key leaves it to the next.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::access::AccessSettings;
use super::edits::EditsText;
use super::ip_rules::IpRuleText;
use crate::origin_pool::settings::PoolText;
use crate::proxy_protocol::Version;

/// Complete settings of one rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OriginSettings {
    /// Limit for connecting.
    pub connect_timeout: Duration,
    /// Limit for the TLS handshake.
    pub tls_timeout: Duration,
    /// TCP keep-alive interval; zero is off.
    pub tcp_keep_alive: Duration,
    /// Try the addresses of a name one after the other, without a race between IPv4 and IPv6.
    pub no_happy_eyeballs: bool,
    /// Idle connections kept per core.
    pub keep_alive_connections: usize,
    /// How long an idle connection is kept.
    pub keep_alive_timeout: Duration,
    /// Replaces the Host header; empty keeps it.
    pub http_host_header: String,
    /// TLS server name; empty for the service's host.
    pub origin_server_name: String,
    /// TLS server name is the request's host.
    pub match_sni_to_host: bool,
    /// PEM file of roots to trust besides the system's.
    pub ca_pool: Option<PathBuf>,
    /// Accept any certificate.
    pub no_tls_verify: bool,
    /// Never send a request body in chunks.
    pub disable_chunked_encoding: bool,
    /// Offer HTTP/2 to an origin that speaks TLS.
    pub http2_origin: bool,
    /// Speak HTTP/2 to an origin without TLS. Not a key of cloudflared.
    pub h2c_origin: bool,
    /// The visitor chooses the destination, whatever the service's address.
    pub bastion_mode: bool,
    /// What is spoken inside of a TCP service: `socks`, or empty for nothing.
    pub proxy_type: String,
    /// What `socks-proxy` may be asked for.
    pub ip_rules: Arc<[IpRuleText]>,
    /// What is demanded of requests.
    pub access: Option<Arc<AccessSettings>>,
    /// What is changed on the way. Not keys of cloudflared.
    pub edits: EditsText,
    /// Tells the origin whom each connection is for. Not a key of cloudflared.
    pub proxy_protocol: Option<Version>,
    /// Several addresses, and limits. Not keys of cloudflared.
    pub pool: PoolText,
}

/// What one layer says; `None` where it says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OriginOverrides {
    /// See [`OriginSettings::connect_timeout`].
    pub connect_timeout: Option<Duration>,
    /// See [`OriginSettings::tls_timeout`].
    pub tls_timeout: Option<Duration>,
    /// See [`OriginSettings::tcp_keep_alive`].
    pub tcp_keep_alive: Option<Duration>,
    /// See [`OriginSettings::no_happy_eyeballs`].
    pub no_happy_eyeballs: Option<bool>,
    /// See [`OriginSettings::keep_alive_connections`].
    pub keep_alive_connections: Option<usize>,
    /// See [`OriginSettings::keep_alive_timeout`].
    pub keep_alive_timeout: Option<Duration>,
    /// See [`OriginSettings::http_host_header`].
    pub http_host_header: Option<String>,
    /// See [`OriginSettings::origin_server_name`].
    pub origin_server_name: Option<String>,
    /// See [`OriginSettings::match_sni_to_host`].
    pub match_sni_to_host: Option<bool>,
    /// See [`OriginSettings::ca_pool`].
    pub ca_pool: Option<String>,
    /// See [`OriginSettings::no_tls_verify`].
    pub no_tls_verify: Option<bool>,
    /// See [`OriginSettings::disable_chunked_encoding`].
    pub disable_chunked_encoding: Option<bool>,
    /// See [`OriginSettings::http2_origin`].
    pub http2_origin: Option<bool>,
    /// See [`OriginSettings::h2c_origin`].
    pub h2c_origin: Option<bool>,
    /// See [`OriginSettings::bastion_mode`].
    pub bastion_mode: Option<bool>,
    /// See [`OriginSettings::proxy_type`].
    pub proxy_type: Option<String>,
    /// See [`OriginSettings::ip_rules`].
    pub ip_rules: Option<Arc<[IpRuleText]>>,
    /// See [`OriginSettings::access`]; replaced as a whole.
    pub access: Option<Arc<AccessSettings>>,
    /// See [`OriginSettings::edits`]; each key by itself.
    pub edits: EditsText,
    /// See [`OriginSettings::proxy_protocol`]; `Some(None)` turns it off.
    pub proxy_protocol: Option<Option<Version>>,
    /// See [`OriginSettings::pool`]; each key by itself.
    pub pool: PoolText,
}

impl Default for OriginSettings {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(30),
            tls_timeout: Duration::from_secs(10),
            tcp_keep_alive: Duration::from_secs(30),
            no_happy_eyeballs: false,
            keep_alive_connections: 100,
            keep_alive_timeout: Duration::from_secs(90),
            http_host_header: String::new(),
            origin_server_name: String::new(),
            match_sni_to_host: false,
            ca_pool: None,
            no_tls_verify: false,
            disable_chunked_encoding: false,
            http2_origin: false,
            h2c_origin: false,
            bastion_mode: false,
            proxy_type: String::new(),
            ip_rules: Arc::default(),
            access: None,
            edits: EditsText::default(),
            proxy_protocol: None,
            pool: PoolText::default(),
        }
    }
}

impl OriginSettings {
    /// Whether SOCKS5 is spoken inside of a TCP service. Unknown types are plain, as in cloudflared.
    pub fn is_socks(&self) -> bool {
        self.proxy_type == "socks"
    }

    /// These settings where `layer` says nothing, and `layer` where it says something.
    #[must_use]
    pub fn with(self, layer: &OriginOverrides) -> Self {
        Self {
            connect_timeout: layer.connect_timeout.unwrap_or(self.connect_timeout),
            tls_timeout: layer.tls_timeout.unwrap_or(self.tls_timeout),
            tcp_keep_alive: layer.tcp_keep_alive.unwrap_or(self.tcp_keep_alive),
            no_happy_eyeballs: layer.no_happy_eyeballs.unwrap_or(self.no_happy_eyeballs),
            keep_alive_connections: layer
                .keep_alive_connections
                .unwrap_or(self.keep_alive_connections),
            keep_alive_timeout: layer.keep_alive_timeout.unwrap_or(self.keep_alive_timeout),
            http_host_header: layer.http_host_header.clone().unwrap_or(self.http_host_header),
            origin_server_name: layer
                .origin_server_name
                .clone()
                .unwrap_or(self.origin_server_name),
            match_sni_to_host: layer.match_sni_to_host.unwrap_or(self.match_sni_to_host),
            ca_pool: match layer.ca_pool.as_deref() {
                None => self.ca_pool,
                Some("") => None,
                Some(path) => Some(path.into()),
            },
            no_tls_verify: layer.no_tls_verify.unwrap_or(self.no_tls_verify),
            disable_chunked_encoding: layer
                .disable_chunked_encoding
                .unwrap_or(self.disable_chunked_encoding),
            http2_origin: layer.http2_origin.unwrap_or(self.http2_origin),
            h2c_origin: layer.h2c_origin.unwrap_or(self.h2c_origin),
            bastion_mode: layer.bastion_mode.unwrap_or(self.bastion_mode),
            proxy_type: layer.proxy_type.clone().unwrap_or(self.proxy_type),
            ip_rules: layer.ip_rules.clone().unwrap_or(self.ip_rules),
            access: layer.access.clone().or(self.access),
            edits: self.edits.with(&layer.edits),
            proxy_protocol: layer.proxy_protocol.unwrap_or(self.proxy_protocol),
            pool: self.pool.with(&layer.pool),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rule_overrides_the_file_and_the_file_the_default() {
        let file = OriginOverrides {
            connect_timeout: Some(Duration::from_secs(5)),
            no_tls_verify: Some(true),
            ca_pool: Some("/ca.pem".into()),
            ..OriginOverrides::default()
        };
        let rule = OriginOverrides {
            no_tls_verify: Some(false),
            ca_pool: Some(String::new()),
            ..OriginOverrides::default()
        };
        let settings = OriginSettings::default().with(&file).with(&rule);
        assert_eq!(settings.connect_timeout, Duration::from_secs(5));
        assert_eq!(settings.tls_timeout, Duration::from_secs(10));
        assert_eq!((settings.no_tls_verify, settings.ca_pool), (false, None));
    }
}
