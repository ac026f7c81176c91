//! One WebSocket of `/logs`: from the wish to stream to the close.
//!
//! ```text
//! first message must be start_streaming ─► lines, as they come ◄─► stop_streaming, start_streaming
//!    else 4001                 somebody else streams: 4002            5 minutes without streaming: 4003
//! ```
//! A ping every 15 s; a client that does not read is not waited for: lines are lost, see [`super::live_log`].

use std::time::Duration;

use adit_driver::time::{Instant, sleep_until};
use adit_proto::websocket::{MessageError, Messages, Peer, Told, carrier, message};
use bytes::Bytes;
use serde_json::{Map, Value};

use super::live_log::{LiveLog, LogLine, Stream};
use super::log_stream::{self, ClientEvent, Filters, LogEvent, LogLevel};
use crate::edge_stream::{FromEdge, Gone, ToEdge};
use crate::origin::websocket::End;

/// Pause between pings.
const PING_INTERVAL: Duration = Duration::from_secs(15);

/// How long a client may stay that does not stream.
const IDLE_TIME_MAX: Duration = Duration::from_secs(5 * 60);

/// Largest message of a client; what they say has some hundred bytes.
const MESSAGE_BYTES_MAX: usize = 16 << 10;

/// Lines put into one message.
const BATCH_MAX: usize = 30;

/// Why the WebSocket is closed, and what the client is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Closing {
    /// The client said so.
    Normal,
    NotStarted,
    Busy,
    Idle,
    Broken(MessageError),
    Unknown,
}

impl Closing {
    const fn told(self) -> (u16, &'static str) {
        match self {
            Self::Normal => (1000, ""),
            Self::NotStarted => (4001, "expected start streaming as first event"),
            Self::Busy => (4002, "limit exceeded for streaming sessions"),
            Self::Idle => (4003, "session was idle for too long"),
            Self::Broken(error) => (error.close_code(), ""),
            Self::Unknown => (1003, "no such event"),
        }
    }
}

/// What happened next.
enum Next {
    Received(Bytes),
    Gone,
    /// None: another stream has taken the place.
    Lines(Vec<LogLine>),
    Ping,
    Idle,
}

struct LogSocket<'a> {
    log: &'a LiveLog,
    actor: &'a str,
    messages: Messages,
    stream: Option<Stream>,
    has_started: bool,
    idle_at: Instant,
    /// Lines lost by all streams when this one last told of it.
    lost: u64,
}

/// Streams until either side ends; `first` came along with the request.
pub(crate) async fn serve(
    log: &LiveLog,
    actor: &str,
    first: Bytes,
    send: &mut impl ToEdge,
    recv: &mut impl FromEdge,
) -> End {
    let mut socket = LogSocket {
        log,
        actor,
        messages: Messages::new(Peer::Client, MESSAGE_BYTES_MAX),
        stream: None,
        has_started: false,
        idle_at: Instant::now() + IDLE_TIME_MAX,
        lost: log.lost(),
    };
    match socket.run(first, send, recv).await {
        Ok(closing) => {
            let (code, reason) = closing.told();
            match send.write(message::close(code, reason, None)).await {
                Ok(()) => End::Finished,
                Err(Gone) => End::Gone,
            }
        }
        Err(Gone) => End::Gone,
    }
}

impl LogSocket<'_> {
    async fn run(
        &mut self,
        first: Bytes,
        send: &mut impl ToEdge,
        recv: &mut impl FromEdge,
    ) -> Result<Closing, Gone> {
        let mut next_ping = Instant::now() + PING_INTERVAL;
        let mut received = Next::Received(first);
        loop {
            match received {
                Next::Received(bytes) => {
                    if let Some(closing) = self.hear(bytes, send).await? {
                        return Ok(closing);
                    }
                }
                Next::Gone => return Err(Gone),
                Next::Lines(lines) if lines.is_empty() => return Ok(Closing::Busy),
                Next::Lines(lines) => self.tell(lines, send).await?,
                Next::Ping => {
                    next_ping = Instant::now() + PING_INTERVAL;
                    send.write(carrier::ping(None)).await?;
                }
                Next::Idle => return Ok(Closing::Idle),
            }
            received = self.next(next_ping, recv).await;
        }
    }

    async fn next(&mut self, next_ping: Instant, recv: &mut impl FromEdge) -> Next {
        let (idle_at, is_idle) = (self.idle_at, self.stream.is_none());
        let stream = self.stream.as_mut();
        let lines = async {
            let Some(stream) = stream else {
                return std::future::pending().await;
            };
            let mut batch = Vec::new();
            stream.lines.recv_many(&mut batch, BATCH_MAX).await;
            batch
        };
        tokio::select! {
            biased;
            chunk = recv.read_chunk() => match chunk {
                Ok(Some(bytes)) => Next::Received(bytes),
                Ok(None) | Err(_) => Next::Gone,
            },
            lines = lines => Next::Lines(lines),
            () = sleep_until(next_ping) => Next::Ping,
            () = sleep_until(idle_at), if is_idle => Next::Idle,
        }
    }

    /// Does what the client says.
    async fn hear(&mut self, mut bytes: Bytes, send: &mut impl ToEdge) -> Result<Option<Closing>, Gone> {
        loop {
            match self.messages.handle_bytes(&mut bytes) {
                Ok(None) => return Ok(None),
                Ok(Some(Told::Ping(payload))) => send.write(carrier::pong(&payload, None)).await?,
                Ok(Some(Told::Close(..))) => return Ok(Some(Closing::Normal)),
                Ok(Some(Told::Message(text))) => {
                    if let Some(closing) = self.obey(ClientEvent::parse(&text)) {
                        return Ok(Some(closing));
                    }
                }
                Err(error) => return Ok(Some(Closing::Broken(error))),
            }
        }
    }

    fn obey(&mut self, event: Option<ClientEvent>) -> Option<Closing> {
        match event {
            Some(ClientEvent::Start(filters)) => self.start(filters),
            _ if !self.has_started => Some(Closing::NotStarted),
            Some(ClientEvent::Stop) => {
                self.stream = None;
                self.idle_at = Instant::now() + IDLE_TIME_MAX;
                None
            }
            None => Some(Closing::Unknown),
        }
    }

    fn start(&mut self, filters: Filters) -> Option<Closing> {
        self.has_started = true;
        if let Some(stream) = &self.stream {
            stream.refilter(filters);
            return None;
        }
        let Ok(stream) = self.log.begin(self.actor, filters) else {
            return Some(Closing::Busy);
        };
        self.stream = Some(stream);
        tracing::info!("Streaming logs to a management session");
        None
    }

    /// Sends lines, and how many were lost behind them.
    async fn tell(&mut self, lines: Vec<LogLine>, send: &mut impl ToEdge) -> Result<(), Gone> {
        let mut lines: Vec<Value> = lines.into_iter().map(written).collect();
        let lost = self.log.lost();
        if lost > self.lost {
            let text = format!(
                "{} log lines were lost: they came faster than they were read",
                lost - self.lost
            );
            let time = lines.last().and_then(|line| line["time"].as_str());
            let time = time.unwrap_or_default().to_owned();
            lines.push(log_stream::line(
                &time,
                LogLevel::Warn,
                &text,
                LogEvent::Cloudflared,
                Map::new(),
            ));
            self.lost = lost;
        }
        send.write(message::text(log_stream::logs(lines).as_bytes(), None))
            .await
    }
}

fn written(line: LogLine) -> Value {
    log_stream::line(&line.time, line.level, &line.message, line.event, line.fields)
}
