//! `adit tail`: the log of a running connector, as it is written, through an edge.
//!
//! ```text
//! control ─► token ─► wss://MANAGEMENT-HOSTNAME/logs?access_token=… ─► edge (verifies) ─► connector
//!                                        lines on standard output ◄───────────────────────┘
//! ```
//! Ends with the stream: when the connector closes it, or by a signal.
//!
//! Source: cloudflared `cmd/cloudflared/tail/cmd.go`.

mod lines;

use adit_control_api::ConnectorId;
use adit_control_api::management::Resource;
use adit_proto::websocket::{Messages, Peer, Told, carrier, message};
use anyhow::{Context as _, anyhow};
use bytes::BytesMut;
use clap::ArgMatches;
use http::StatusCode;
use serde_json::json;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::signal::unix::{SignalKind, signal};

use super::access::dial::{Opened, Refused, Service};
use super::access::relay::mask;
use super::block_on;
use super::tunnel::api_access::ApiAccess;
use super::tunnel::config_file::ConfigFile;
use super::tunnel::resolve::tunnel_id;
use crate::args::lookup::{Environment, Lookup};
use crate::args::tail_flags;
use crate::failure::Failure;
use crate::output;
use lines::{Form, Wishes};

/// Largest message of a connector: some dozens of lines.
const MESSAGE_BYTES_MAX: usize = 4 << 20;

/// Room for what is read at once.
const READ_BYTES: usize = 64 << 10;

/// Runs `tail` or `tail token`.
pub(crate) fn run(root: &ArgMatches, tail: &ArgMatches, environment: Environment<'_>) -> Result<(), Failure> {
    if let Some((_, token)) = tail.subcommand() {
        let flags = tail_flags::view(&[root, tail, token], environment);
        return block_on(print_token(&flags, token, "tail token", Resource::Logs));
    }
    let flags = tail_flags::view(&[root, tail], environment);
    let wishes = Wishes::from_flags(&flags)?;
    let form = Form::from_flags(&flags)?;
    block_on(stream(&flags, tail, &wishes, form))
}

/// Runs `management token`.
pub(crate) fn management(
    root: &ArgMatches,
    management: &ArgMatches,
    environment: Environment<'_>,
) -> Result<(), Failure> {
    let (_, token) = management
        .subcommand()
        .ok_or_else(|| Failure::usage("no command was given"))?;
    let flags = tail_flags::view(&[root, management, token], environment);
    let Some(resource) = flags.text("resource") else {
        return Err(Failure::usage(
            "--resource is needed: logs, admin or host_details",
        ));
    };
    let resource = Resource::parse(&resource)
        .ok_or_else(|| anyhow!("invalid resource '{resource}': must be one of: logs, admin, host_details"))?;
    block_on(print_token(&flags, token, "management token", resource))
}

async fn print_token(
    flags: &Lookup<'_>,
    command: &ArgMatches,
    name: &str,
    resource: Resource,
) -> Result<(), Failure> {
    let token = new_token(flags, command, name, resource).await?;
    output::print(&format!("{}\n", json!({"token": token})))
}

async fn new_token(
    flags: &Lookup<'_>,
    command: &ArgMatches,
    name: &str,
    resource: Resource,
) -> Result<String, Failure> {
    let mut arguments = command
        .get_many::<String>(tail_flags::ARGUMENTS)
        .into_iter()
        .flatten();
    let (Some(tunnel), None) = (arguments.next(), arguments.next()) else {
        return Err(Failure::arguments(
            name,
            format!("\"adit {name}\" accepts exactly one argument, the ID or name of the tunnel."),
        ));
    };
    let access = ApiAccess::open(flags, &ConfigFile::find(flags)?)?;
    let id = tunnel_id(&access, tunnel).await?;
    let token = access.api.management_token(id, resource).await;
    token.map_err(|error| access.explain(error))
}

async fn stream(flags: &Lookup<'_>, tail: &ArgMatches, wishes: &Wishes, form: Form) -> Result<(), Failure> {
    let connector = flags.text("connector-id").filter(|id| !id.is_empty());
    let connector = connector
        .map(|id| {
            id.parse::<ConnectorId>()
                .map_err(|_| Failure::usage(format!("invalid value for --connector-id: '{id}' is no UUID")))
        })
        .transpose()?;
    // cloudflared goes to a host of Cloudflare's by default, which must never see a token of ours.
    let hostname = flags
        .text("management-hostname")
        .filter(|hostname| !hostname.is_empty());
    let hostname = hostname.ok_or_else(|| {
        let text = "--management-hostname is needed: the edge's management.hostname, as in its edge.yml";
        Failure::usage(text).next("the same with --management-hostname, or with TUNNEL_MANAGEMENT_HOSTNAME")
    })?;
    let token = match flags.text("token") {
        Some(token) => token,
        None => new_token(flags, tail, "tail", Resource::Logs).await?,
    };
    let mut path = format!("/logs?access_token={token}");
    if let Some(connector) = connector {
        path.push_str(&format!("&connector_id={connector}"));
    }
    let service = Service::at(
        &hostname,
        path,
        flags.text("connect-to").as_deref(),
        flags.text("cacert").as_deref(),
    )?;
    let opened = service.open().await.map_err(explain)?;
    follow(opened, wishes, form).await
}

/// Prints lines until the stream ends or a signal comes.
async fn follow(mut opened: Opened, wishes: &Wishes, form: Form) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate()).context("cannot listen for signals")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot listen for signals")?;
    say(
        &mut opened,
        &message::text(&wishes.start_streaming(), Some(mask()?)),
    )
    .await?;
    let mut messages = Messages::new(Peer::Server, MESSAGE_BYTES_MAX);
    let mut buffer = BytesMut::new();
    loop {
        buffer.reserve(READ_BYTES);
        let read = tokio::select! {
            read = opened.io.read_buf(&mut buffer) => read,
            _ = terminate.recv() => return leave(opened).await,
            _ = interrupt.recv() => return leave(opened).await,
        };
        if read.context("the connection to the edge broke off")? == 0 {
            return Err(anyhow!("the edge ended the connection").into());
        }
        let mut bytes = buffer.split().freeze();
        while let Some(told) = messages
            .handle_bytes(&mut bytes)
            .context("the connector cannot be understood")?
        {
            match told {
                Told::Message(text) => output::print(&lines::render(&text, form)?)?,
                Told::Ping(payload) => say(&mut opened, &carrier::pong(&payload, Some(mask()?))).await?,
                Told::Close(code, reason) => return Err(closed(code, &reason)),
            }
        }
    }
}

async fn say(opened: &mut Opened, frame: &[u8]) -> Result<(), Failure> {
    let said = async {
        opened.io.write_all(frame).await?;
        opened.io.flush().await
    };
    Ok(said.await.context("the connection to the edge broke off")?)
}

/// Says goodbye; whether anybody hears it matters to nobody.
async fn leave(mut opened: Opened) -> Result<(), Failure> {
    let _unheard = say(&mut opened, &carrier::close(Some(mask()?))).await;
    Ok(())
}

fn closed(code: Option<u16>, reason: &[u8]) -> Failure {
    let reason = String::from_utf8_lossy(reason);
    let code = code.map_or_else(|| "without a code".to_owned(), |code| format!("with code {code}"));
    let failure = Failure::from(anyhow!("the connector ended the stream {code}: {reason}"));
    if reason.starts_with("limit exceeded") {
        failure.next("again later: one log stream of a connector is open at a time")
    } else {
        failure
    }
}

/// What to try when there is no stream.
fn explain(error: anyhow::Error) -> Failure {
    let status = error
        .downcast_ref::<Refused>()
        .map(|refused| refused.status.as_u16());
    let failure = match status {
        Some(530) => {
            let text = "no cloudflared connector available or reachable via management request";
            Failure::from(anyhow!(
                "{text} (a recent version of it is required to use streaming logs)"
            ))
        }
        Some(_) | None => Failure::from(error),
    };
    match status.and_then(|status| StatusCode::from_u16(status).ok()) {
        Some(StatusCode::UNAUTHORIZED) => failure.next("adit tail token TUNNEL, for a token of this control"),
        Some(StatusCode::NOT_FOUND) => {
            failure.next("--management-hostname with the edge's management.hostname, as in its edge.yml")
        }
        Some(status) if status.as_u16() == 530 => {
            failure.next("adit tunnel info TUNNEL, then --connector-id of a replica that this edge has")
        }
        Some(_) | None => failure,
    }
}
