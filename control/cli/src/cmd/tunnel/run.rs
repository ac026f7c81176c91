//! `tunnel run`: flags to the connector's configuration, then the connector until it ends.
//!
//! The connector reads files and tokens itself. Only a tunnel's name that no file explains is looked up
//! here, because the connector does not know the control API.

use std::path::{Path, PathBuf};

use adit_connector::{Config, ConfigError, Flags};
use adit_proto::ingress::settings::OriginOverrides;
use adit_wire::TunnelId;
use adit_wire::credentials::Credentials;
use anyhow::Context as _;

use super::api_access::ApiAccess;
use super::config_file::ConfigFile;
use super::resolve::tunnel_id;
use super::{credentials, search};
use crate::args::leaf::Chosen;
use crate::args::lookup::Lookup;
use crate::cmd::block_on;
use crate::failure::Failure;
use crate::rest::proxy;
use crate::{log, output};

/// Runs a tunnel.
pub(super) fn run(chosen: &Chosen<'_>, file: &ConfigFile) -> Result<(), Failure> {
    let mut flags = flags(&chosen.tunnel)?;
    let is_check = chosen.own.switch("check")? == Some(true);
    let name = match chosen.arguments.first() {
        Some(name) => Some(name.clone()),
        None => file.text("tunnel")?,
    };
    flags.tunnel = name;
    if !has_token(&flags, file)? {
        let Some(name) = &flags.tunnel else {
            let text = "\"adit tunnel run\" requires the ID or name of the tunnel to run as the last command line argument or in the configuration file.";
            return Err(Failure::arguments("tunnel run", text));
        };
        if name.parse::<TunnelId>().is_err() && !names_a_tunnel(&flags, file)? {
            let access = ApiAccess::open(&chosen.tunnel, file)?;
            flags.tunnel = Some(block_on(tunnel_id(&access, name))?.to_string());
        }
    }
    start(flags, is_check)
}

/// The configuration that the flags and the file make.
pub(super) fn resolve(flags: Flags) -> Result<Config, Failure> {
    match Config::resolve(flags) {
        Err(ConfigError::Token(_)) => Err(Failure::arguments(
            "tunnel run",
            "Provided Tunnel token is not valid.",
        )),
        Err(ConfigError::TokenFile(source)) => {
            let text = format!("Failed to read token file: {:#}", anyhow::Error::new(*source));
            Err(Failure::arguments("tunnel run", text))
        }
        other => Ok(other.context("cannot use the configuration of the connector")?),
    }
}

/// Runs the connector, or only checks its configuration.
pub(super) fn start(mut flags: Flags, is_check: bool) -> Result<(), Failure> {
    let log = log::connector();
    flags.log_file.clone_from(&log.file);
    let config = resolve(flags)?;
    for warning in config.warnings() {
        tracing::warn!("{warning}");
    }
    if is_check {
        config
            .check()
            .context("cannot use the configuration of the connector")?;
        return output::print("OK\n");
    }
    Ok(adit_connector::run(config, log.live.clone()).context("the connector stopped")?)
}

fn has_token(flags: &Flags, file: &ConfigFile) -> Result<bool, Failure> {
    let in_flags = flags.token.is_some() || flags.token_file.is_some();
    Ok(in_flags || file.text("token")?.is_some() || file.text("token-file")?.is_some())
}

/// Whether the credentials given say which tunnel they are for: then any name will do.
fn names_a_tunnel(flags: &Flags, file: &ConfigFile) -> Result<bool, Failure> {
    let contents = match &flags.credentials_contents {
        Some(text) => Some(text.clone()),
        None => file.text("credentials-contents")?,
    };
    if let Some(text) = contents {
        return Ok(Credentials::parse(text.as_bytes()).is_ok_and(|found| found.tunnel_id.is_some()));
    }
    let path = match &flags.credentials_file {
        Some(path) => Some(path.clone()),
        None => file
            .text("credentials-file")?
            .or(file.text("cred-file")?)
            .map(PathBuf::from),
    };
    let read = |path: &Path| credentials::read(&search::expand(&path.to_string_lossy()));
    // One that cannot be read is the connector's to complain about.
    Ok(path.is_some_and(|path| read(&path).map_or(true, |found| found.tunnel_id.is_some())))
}

/// What the command line and the environment say.
pub(super) fn flags(given: &Lookup<'_>) -> Result<Flags, Failure> {
    let path = |name: &str| given.text(name).map(PathBuf::from);
    Ok(Flags {
        quick: None,
        tunnel: None,
        config: path("config"),
        origincert: path("origincert"),
        // Unit files set variables and flags that stay empty.
        token: given.text("token").filter(|token| !token.is_empty()),
        token_file: path("token-file").filter(|path| !path.as_os_str().is_empty()),
        credentials_contents: given.text("credentials-contents"),
        credentials_file: path("credentials-file"),
        url: given.text("url"),
        hello_world: given.switch("hello-world")?,
        unix_socket: given.text("unix-socket"),
        bastion: given.switch("bastion")?,
        socks5: given.switch("socks5")?,
        origin: origin(given)?,
        edge: given.list("edge"),
        cacert: path("cacert"),
        edge_bind_address: given.parsed("edge-bind-address")?,
        edge_ip_version: given.text("edge-ip-version"),
        protocol: given.text("protocol"),
        edge_proxy: given.text("edge-proxy"),
        environment_proxy: proxy::variable(proxy::HTTPS_PROXY),
        no_proxy: proxy::variable(proxy::NO_PROXY),
        max_edge_addr_retries: given.parsed("max-edge-addr-retries")?,
        ha_connections: given.parsed("ha-connections")?,
        ready_connections: given.parsed("ready-connections")?,
        ready_locations: given.parsed("ready-locations")?,
        retries: given.parsed("retries")?,
        rpc_timeout: given.duration("rpc-timeout")?,
        grace_period: given.duration("grace-period")?,
        idle_ping_interval: given.duration("idle-ping-interval")?,
        config_watch: given.switch("config-watch")?,
        stdin_control: given.switch("stdin-control")?,
        tag: given.list("tag"),
        features: given.list("features"),
        post_quantum: given.switch("post-quantum")?,
        metrics: given.text("metrics"),
        loglevel: given.text("loglevel"),
        log_file: None,
        management_hostname: given.text("management-hostname"),
        service_op_ip: given.text("service-op-ip"),
        label: given.text("label"),
        pidfile: path("pidfile"),
        addresses_file: path("addresses-file"),
        io: given.parsed("io")?,
        cores: given.parsed("cores")?,
        cpus: given.parsed("cpus")?,
    })
}

/// The flags that say how an origin is spoken to.
fn origin(given: &Lookup<'_>) -> Result<OriginOverrides, Failure> {
    Ok(OriginOverrides {
        connect_timeout: given.duration("proxy-connect-timeout")?,
        tls_timeout: given.duration("proxy-tls-timeout")?,
        tcp_keep_alive: given.duration("proxy-tcp-keepalive")?,
        keep_alive_connections: given.parsed("proxy-keepalive-connections")?,
        keep_alive_timeout: given.duration("proxy-keepalive-timeout")?,
        http_host_header: given.text("http-host-header"),
        origin_server_name: given.text("origin-server-name"),
        no_happy_eyeballs: given.switch("proxy-no-happy-eyeballs")?,
        ca_pool: given.text("origin-ca-pool"),
        no_tls_verify: given.switch("no-tls-verify")?,
        disable_chunked_encoding: given.switch("no-chunked-encoding")?,
        http2_origin: given.switch("http2-origin")?,
        ..OriginOverrides::default()
    })
}
