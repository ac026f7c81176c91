//! `adit access tcp` (also `ssh`, `rdp`, `smb`): brings a TCP service behind a tunnel to this machine.
//!
//! Each connection is a WebSocket of its own to the public side of an edge, over TLS. With `--url` a listener
//! takes connections; without it standard input and output are the one connection, as a `ProxyCommand` of ssh
//! wants it.
//!
//! `ssh-config` prints what makes ssh do so by itself.
//!
//! Source: cloudflared `cmd/cloudflared/access/carrier.go`, `carrier/*.go`.

pub(super) mod dial;
pub(super) mod relay;
mod ssh_config;

use std::os::fd::{AsFd as _, BorrowedFd};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, anyhow};
use clap::ArgMatches;
use tokio::io::{AsyncRead, AsyncWrite, join};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use self::dial::Service;
use self::relay::LocalEnd;
use super::block_on;
use crate::args::access_flags;
use crate::args::lookup::Environment;
use crate::failure::Failure;

/// Connections of one listener at once; further ones wait to be accepted.
const CONNECTIONS_MAX: usize = 1024;

/// Pause after a failure to accept, such as too many open files.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Runs `access tcp`.
pub(crate) fn run(access: &ArgMatches, environment: Environment<'_>) -> Result<(), Failure> {
    let (name, tcp) = access
        .subcommand()
        .ok_or_else(|| Failure::usage("no command was given"))?;
    if name == access_flags::SSH_CONFIG {
        return ssh_config::print(tcp, environment);
    }
    let flags = access_flags::view(tcp, environment);
    let headers = tcp.get_many::<String>("header").into_iter().flatten();
    let service = Service::new(&flags, headers.map(String::as_str))?;
    let argument = tcp.get_one::<String>(access_flags::ARGUMENTS).cloned();
    match flags.text("url").or(argument) {
        Some(url) => block_on(listen(service, &url)),
        None => block_on(async {
            carry(&service, stdio()?, LocalEnd::Process).await?;
            // The blocking read of standard input would keep the runtime from ending.
            std::process::exit(0)
        }),
    }
}

/// Standard input and output as one byte stream, without buffers of their own.
fn stdio() -> anyhow::Result<impl AsyncRead + AsyncWrite + Unpin> {
    let file = |stream: BorrowedFd<'_>| {
        let stream = stream
            .try_clone_to_owned()
            .context("cannot use standard input and output")?;
        anyhow::Ok(tokio::fs::File::from_std(stream.into()))
    };
    Ok(join(
        file(std::io::stdin().as_fd())?,
        file(std::io::stdout().as_fd())?,
    ))
}

/// Serves a listener until the process is stopped.
async fn listen(service: Service, url: &str) -> Result<(), Failure> {
    let address = url.split_once("://").map_or(url, |(_, address)| address);
    let address = address.trim_end_matches('/');
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("cannot listen on {address}"))?;
    let bound = listener
        .local_addr()
        .context("cannot tell the address listened on")?;
    tracing::info!(host = service.host(), url = %bound, "Start Websocket listener");
    let service = Arc::new(service);
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let place = Arc::clone(&room).acquire_owned().await;
        let place = place.map_err(|error| anyhow!(error))?;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(%error, "cannot switch off delays");
        }
        let service = Arc::clone(&service);
        // Ends with its connection, and with the process.
        tokio::spawn(async move {
            if let Err(error) = carry(&service, stream, LocalEnd::Socket).await {
                tracing::error!(error = format!("{error:#}"), "failed to connect to origin");
            }
            drop(place);
        });
    }
}

/// Carries one local connection to its end.
async fn carry<S>(service: &Service, local: S, end: LocalEnd) -> anyhow::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let opened = service.open().await?;
    relay::relay(local, opened, end).await
}
