//! `adit up`: control, edge and connector on this machine, started by one command and stopped together.
//!
//! ```text
//! control ─ addresses.json ─► tunnel and route over REST ─► edge
//! edge ─ addresses.json ─► connector ─ /ready ─► "ready"
//! ```
//! The three are child processes of the same executable with generated configuration files in the state
//! directory. They die with this process, and if one of them ends, all end and the reason is told.
//!
//! However it is ended, short of SIGKILL, it removes what it wrote into a temporary directory, which holds
//! keys. SIGHUP is passed on, unless it says that the terminal is gone.

mod certificate;
mod child;
mod family;
mod files;
mod layout;
mod origin;
mod provision;
mod ready;
mod shares;
mod signals;

use std::net::SocketAddr;
use std::path::PathBuf;

use adit_driver::core::CORES_MAX;
use adit_driver::cpus::Cpus;
use adit_driver::kernel::IoChoice;
use adit_proto::ingress::service::OriginService;

use self::family::{Family, Role};
use self::files::{ConnectorFile, EdgeFile};
use self::layout::Layout;
use self::ready::{ControlAddresses, EdgeAddresses};
use self::shares::Shares;
use self::signals::Signals;
use crate::cmd::block_on;
use crate::failure::Failure;
use crate::output;

/// Starts control, edge and connector for one origin and waits until it is served.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The origin to serve, such as http://127.0.0.1:8000.
    #[arg(long, conflicts_with = "hello_world")]
    url: Option<String>,
    /// Serve a built-in page.
    #[arg(long)]
    hello_world: bool,
    /// The hostname visitors use.
    #[arg(long, default_value = "app.localhost")]
    hostname: adit_wire::HostPattern,
    /// Where visitors reach the edge over HTTP.
    #[arg(long, default_value = "127.0.0.1:8080", value_parser = address)]
    http: SocketAddr,
    /// Where visitors reach the edge over HTTPS, with a throw-away certificate.
    #[arg(long, default_value = "127.0.0.1:8443", value_parser = address)]
    https: SocketAddr,
    /// Keep tunnels and keys here to start again with them; without it nothing is kept.
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// How the kernel is asked: auto, uring or portable.
    #[arg(long, default_value = "auto")]
    io: IoChoice,
    /// Cores each of edge and connector uses; all by default.
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..=CORES_MAX as i64))]
    cores: Option<u16>,
    /// CPUs to pin cores to, such as 0-3,8: the edge has the first half of them, the connector the other.
    #[arg(long, value_name = "LIST")]
    cpus: Option<Cpus>,
}

fn address(text: &str) -> Result<SocketAddr, &'static str> {
    text.parse()
        .map_err(|_| "an address with a port is needed, such as 127.0.0.1:8080 or [::]:8080")
}

/// Runs until a signal or until a child ends.
pub(crate) fn run(arguments: &Arguments) -> Result<(), Failure> {
    let service = match (&arguments.url, arguments.hello_world) {
        (Some(url), _) => {
            let parsed = OriginService::parse_flag(url);
            let parsed =
                parsed.map_err(|error| Failure::usage(format!("invalid value for --url: {error}")))?;
            parsed.to_string()
        }
        (None, true) => "hello_world".to_owned(),
        (None, false) => {
            return Err(
                Failure::usage("there is nothing to serve").next("adit up --hello-world, or --url URL")
            );
        }
    };
    let shares = arguments
        .cpus
        .as_ref()
        .map(|cpus| Shares::of(cpus, arguments.cores));
    let shares = shares
        .transpose()
        .map_err(|error| Failure::usage(format!("invalid value for --cpus: {error}")))?;
    block_on(async {
        // Before there is anything that would be left behind.
        let mut stop = Signals::listen()?;
        let layout = Layout::prepare(arguments.state_dir.as_deref())?;
        let mut family = Family::default();
        let pids = family.pids();
        let outcome = tokio::select! {
            outcome = serve(arguments, &service, shares.as_ref(), &layout, &mut family) => outcome,
            () = stop.received(|| pids.hang_up()) => Ok(()),
        };
        tokio::select! {
            () = family.stop() => {}
            () = stop.received(|| ()) => family.kill().await,
        }
        outcome
    })
}

/// Starts everything in order, says that it is ready, and returns when a child has ended.
async fn serve(
    arguments: &Arguments,
    service: &str,
    shares: Option<&Shares>,
    layout: &Layout,
    family: &mut Family,
) -> Result<(), Failure> {
    origin::warn_if_down(service).await;
    layout.write(&layout.control_config(), &files::control(layout))?;
    family.start(Role::Control, control_command(layout))?;
    let control: ControlAddresses = family
        .while_running(ready::addresses(&layout.control_addresses()))
        .await?;
    let tunnel = family
        .while_running(provision::tunnel(layout, &control, &arguments.hostname))
        .await?;

    certificate::write(layout, &arguments.hostname)?;
    let edge_file = EdgeFile {
        http: arguments.http,
        https: arguments.https,
    };
    layout.write(&layout.edge_config(), &edge_file.render(layout))?;
    family.start(Role::Edge, edge_command(arguments, shares, layout))?;
    let edge: EdgeAddresses = family
        .while_running(ready::addresses(&layout.edge_addresses()))
        .await?;

    let connector_file = ConnectorFile {
        tunnel: tunnel.id,
        edge: edge.tunnel,
        service,
    };
    layout.write(&layout.connector_token(), &tunnel.token)?;
    layout.write(&layout.connector_config(), &connector_file.render(layout))?;
    family.start(Role::Connector, connector_command(arguments, shares, layout))?;
    family
        .while_running(ready::connections(
            &layout.connector_addresses(),
            files::CONNECTIONS,
        ))
        .await?;

    output::print(&format!("{}\n", edge.ready_line(&arguments.hostname)))?;
    for line in edge.curl_lines(&arguments.hostname) {
        output::tell(&line);
    }
    Err(family.first_end().await)
}

fn control_command(layout: &Layout) -> Vec<String> {
    vec![
        "control".to_owned(),
        "--config".to_owned(),
        layout.control_config().display().to_string(),
    ]
}

fn edge_command(arguments: &Arguments, shares: Option<&Shares>, layout: &Layout) -> Vec<String> {
    let mut command = vec![
        "edge".to_owned(),
        "--config".to_owned(),
        layout.edge_config().display().to_string(),
    ];
    command.extend(core_flags(arguments, shares.map(|shares| &shares.edge)));
    command
}

fn connector_command(arguments: &Arguments, shares: Option<&Shares>, layout: &Layout) -> Vec<String> {
    let config = layout.connector_config().display().to_string();
    let addresses = layout.connector_addresses().display().to_string();
    let mut command = ["tunnel", "--config", &config, "--addresses-file", &addresses]
        .map(str::to_owned)
        .to_vec();
    command.extend(core_flags(arguments, shares.map(|shares| &shares.connector)));
    command.push("run".to_owned());
    command
}

fn core_flags(arguments: &Arguments, cpus: Option<&Cpus>) -> Vec<String> {
    let mut flags = vec!["--io".to_owned(), arguments.io.to_string()];
    flags.extend(
        arguments
            .cores
            .into_iter()
            .flat_map(|cores| ["--cores".to_owned(), cores.to_string()]),
    );
    flags.extend(
        cpus.into_iter()
            .flat_map(|cpus| ["--cpus".to_owned(), cpus.to_string()]),
    );
    flags
}
