//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::suite::options::Suite;

/// Measures a server or a tunnel from outside.
#[derive(Debug, Parser)]
#[command(name = "adit-bench", version)]
pub(crate) struct Args {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Offer requests at a fixed rate.
    Load(Load),
    /// Move bytes through one URL each way.
    Bulk(Bulk),
    /// Listen to streams of events and tell how late each event comes.
    Events(Events),
    /// Keep connections open after one request on each.
    Hold(Hold),
    /// Measure what encryption, UDP and TCP cost by themselves on this machine.
    Floor(Floor),
    /// Serve `/` (1 KB), `/bytes/N` (N bytes), `POST /sink` (swallows its body), `/events/N` (an event every
    /// N milliseconds) and `/ws` (WebSocket echo).
    Origin(Origin),
    /// Set subjects up side by side, measure them in turn, and write a report; `bench/run` builds and starts
    /// this.
    Suite(Box<Suite>),
}

/// Where requests go.
#[derive(Debug, clap::Args)]
pub(crate) struct Where {
    /// Address, http:// or https://.
    pub(crate) url: String,
    /// Host header (and TLS server name) when it differs from the URL's host.
    #[arg(long)]
    pub(crate) host: Option<String>,
    /// Speak HTTP/2.
    #[arg(long)]
    pub(crate) h2: bool,
    /// Accept any certificate.
    #[arg(short = 'k', long)]
    pub(crate) insecure: bool,
    /// Certificates that may sign the server's.
    #[arg(long, value_name = "FILE")]
    pub(crate) cacert: Option<PathBuf>,
}

/// Whose CPU time is counted, and how the result is printed.
#[derive(Debug, clap::Args)]
pub(crate) struct Watch {
    /// Count the CPU time of this process; may be repeated.
    #[arg(long, value_name = "NAME=PID", value_parser = parse_pid)]
    pub(crate) pid: Vec<(String, u32)>,
    /// Count every process whose command line contains this text; may be repeated.
    #[arg(long = "match", value_name = "TEXT")]
    pub(crate) matching: Vec<String>,
    /// Print JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Arguments of `load`.
#[derive(Debug, clap::Args)]
pub(crate) struct Load {
    #[command(flatten)]
    pub(crate) to: Where,
    /// Requests per second, whatever the server does.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub(crate) rate: u32,
    /// Send the next request of a connection when its last one is answered, whatever --rate says. Shows how
    /// much a server takes; its latencies hide stalls.
    #[arg(long)]
    pub(crate) closed: bool,
    /// Make a new connection for each request, with a full TLS handshake.
    #[arg(long, conflicts_with = "websocket")]
    pub(crate) fresh: bool,
    /// Upgrade each connection to WebSocket, and send messages that come back in place of requests.
    #[arg(long, conflicts_with = "h2")]
    pub(crate) websocket: bool,
    /// For how long requests become due.
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    pub(crate) duration: Duration,
    /// Connections.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) connections: u32,
    /// Requests in flight per HTTP/2 connection at most.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) streams: u32,
    /// Threads that send.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) threads: u32,
    /// Limit for one request.
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) watch: Watch,
}

/// Arguments of `bulk`.
#[derive(Debug, clap::Args)]
pub(crate) struct Bulk {
    #[command(flatten)]
    pub(crate) to: Where,
    /// Bytes to fetch from URL/bytes/N; suffixes K, M, G mean powers of 1000.
    #[arg(long, default_value = "0", value_parser = parse_bytes)]
    pub(crate) download: u64,
    /// Bytes to send to URL/sink.
    #[arg(long, default_value = "0", value_parser = parse_bytes)]
    pub(crate) upload: u64,
    /// Move bare bytes after an upgrade: fetch them from URL/raw/source/N and send them to URL/raw/sink/N.
    #[arg(long, conflicts_with = "h2")]
    pub(crate) upgrade: bool,
    /// Transfers side by side, each of the whole size.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    pub(crate) parallel: u32,
    /// Limit for each direction.
    #[arg(long, default_value = "600s", value_parser = parse_duration)]
    pub(crate) timeout: Duration,
    #[command(flatten)]
    pub(crate) watch: Watch,
}

/// Arguments of `events`.
#[derive(Debug, clap::Args)]
pub(crate) struct Events {
    #[command(flatten)]
    pub(crate) to: Where,
    /// Pause between two events of a stream.
    #[arg(long, default_value = "10ms", value_parser = parse_duration)]
    pub(crate) every: Duration,
    /// For how long to listen.
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    pub(crate) duration: Duration,
    /// Streams side by side, each on a connection of its own.
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub(crate) connections: u32,
    #[command(flatten)]
    pub(crate) watch: Watch,
}

/// Arguments of `hold`.
#[derive(Debug, clap::Args)]
pub(crate) struct Hold {
    #[command(flatten)]
    pub(crate) to: Where,
    /// Connections to open.
    #[arg(long, default_value_t = 1_000, value_parser = clap::value_parser!(u32).range(1..=60_000))]
    pub(crate) connections: u32,
    /// For how long to keep them once all are open.
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    pub(crate) duration: Duration,
}

/// Arguments of `floor`.
#[derive(Debug, clap::Args)]
pub(crate) struct Floor {
    /// CPU of the sending thread and CPU of the receiving thread.
    #[arg(long, value_delimiter = ',', num_args = 1.., default_value = "0,1")]
    pub(crate) cpus: Vec<usize>,
    /// Length of each measurement.
    #[arg(long, default_value = "500ms", value_parser = parse_duration)]
    pub(crate) duration: Duration,
}

/// Arguments of `origin`.
#[derive(Debug, clap::Args)]
pub(crate) struct Origin {
    /// Address to listen on; the one in use is printed.
    #[arg(long, default_value = "127.0.0.1:9000")]
    pub(crate) listen: SocketAddr,
    /// Address to listen on with TLS; the one in use is printed after the plain one.
    #[arg(long, requires = "cert", requires = "key")]
    pub(crate) tls_listen: Option<SocketAddr>,
    /// Certificate chain for TLS, PEM.
    #[arg(long, value_name = "FILE")]
    pub(crate) cert: Option<PathBuf>,
    /// Private key for TLS, PEM.
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
}

/// Longest time any argument may ask for: a forgotten run must end.
const DURATION_MAX: Duration = Duration::from_secs(3600);

/// Largest transfer that may be asked for.
const BYTES_MAX: u64 = 1 << 40;

fn parse_pid(text: &str) -> Result<(String, u32), String> {
    let (name, pid) = text.split_once('=').ok_or("write NAME=PID")?;
    let pid = pid.parse().map_err(|_| format!("'{pid}' is not a process id"))?;
    Ok((name.to_owned(), pid))
}

fn parse_duration(text: &str) -> Result<Duration, String> {
    let units = [("ms", 0.001), ("s", 1.0), ("m", 60.0)];
    let parsed = units.iter().find_map(|(unit, seconds)| {
        let number: f64 = text.strip_suffix(unit)?.parse().ok()?;
        Duration::try_from_secs_f64(number * seconds).ok()
    });
    let duration = parsed.ok_or("write a number and ms, s or m")?;
    if duration > DURATION_MAX {
        Err("at most 60m".to_owned())
    } else {
        Ok(duration)
    }
}

fn parse_bytes(text: &str) -> Result<u64, String> {
    let (digits, factor) = match text.chars().last() {
        Some('K') => (&text[..text.len() - 1], 1_000),
        Some('M') => (&text[..text.len() - 1], 1_000_000),
        Some('G') => (&text[..text.len() - 1], 1_000_000_000),
        Some(_) | None => (text, 1),
    };
    let number: u64 = digits
        .parse()
        .map_err(|_| "write a number of bytes, such as 500M".to_owned())?;
    number
        .checked_mul(factor)
        .filter(|bytes| *bytes <= BYTES_MAX)
        .ok_or_else(|| "at most 1 TiB".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory as _;

    #[test]
    fn the_grammar_is_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn sizes_and_times_have_suffixes() {
        assert_eq!(parse_bytes("2G"), Ok(2_000_000_000));
        assert_eq!(parse_bytes("7"), Ok(7));
        assert!(parse_bytes("9999G").is_err());
        assert!(parse_bytes("G").is_err());
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert!(parse_duration("61m").is_err());
        assert!(parse_duration("10").is_err());
    }

    #[test]
    fn a_process_has_a_name_and_a_number() {
        assert_eq!(parse_pid("edge=12"), Ok(("edge".to_owned(), 12)));
        assert!(parse_pid("12").is_err());
    }
}
