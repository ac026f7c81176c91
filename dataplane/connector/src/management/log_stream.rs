//! What the two sides of a log stream say: a client's wishes, and lines that fit them. Pure.
//!
//! ```text
//! client: {"type":"start_streaming","filters":{"events":["http"],"level":"info","sampling":0.5}}
//!         {"type":"stop_streaming"}
//! server: {"type":"logs","logs":[{"time":"…","level":"info","message":"…","event":"http","fields":{…}}]}
//! ```
//! Source: cloudflared `management/events.go`.

use serde_json::{Map, Value, json};

/// By their numbers in the log.
const EVENTS: [(LogEvent, &str); 4] = [
    (LogEvent::Cloudflared, "cloudflared"),
    (LogEvent::Http, "http"),
    (LogEvent::Tcp, "tcp"),
    (LogEvent::Udp, "udp"),
];

/// What a line is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum LogEvent {
    /// The connector itself.
    Cloudflared = 0,
    /// An exchange of HTTP.
    Http = 1,
    /// A TCP flow.
    Tcp = 2,
    /// A UDP flow.
    Udp = 3,
}

impl LogEvent {
    /// Finds the event of a number in the log.
    pub fn of_number(number: u64) -> Option<Self> {
        let index = usize::try_from(number).ok()?;
        EVENTS.get(index).map(|(event, _)| *event)
    }

    /// Its name in streams.
    pub fn as_str(self) -> &'static str {
        EVENTS[self as usize].1
    }

    /// Reads a name.
    pub fn parse(name: &str) -> Option<Self> {
        EVENTS
            .iter()
            .find(|(_, known)| *known == name)
            .map(|(event, _)| *event)
    }
}

/// How grave a line is; a greater one is graver.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum LogLevel {
    /// Of every exchange.
    Debug = 1,
    /// Life-cycle.
    Info = 2,
    /// Degraded but handled.
    Warn = 3,
    /// Somebody must act.
    Error = 4,
}

impl LogLevel {
    /// Its name in streams.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
        }
    }

    /// Reads a name.
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Debug, Self::Info, Self::Warn, Self::Error]
            .into_iter()
            .find(|level| level.as_str() == name)
    }
}

/// Which lines a client wants.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Filters {
    /// One bit per event; none set means all.
    events: u8,
    /// Only lines of this level or a more severe one.
    pub(crate) level: LogLevel,
    /// Part of the lines, above 0 and at most 1.
    sampling: f64,
}

impl Default for Filters {
    fn default() -> Self {
        Self {
            events: 0,
            level: LogLevel::Debug,
            sampling: 1.0,
        }
    }
}

impl Filters {
    /// Whether a line is wanted; `chance` is a random number from 0 to below 1.
    pub(crate) fn pass(&self, level: LogLevel, event: LogEvent, chance: f64) -> bool {
        let is_asked = self.events == 0 || self.events & (1 << event as u8) != 0;
        is_asked && level >= self.level && chance < self.sampling
    }

    fn read(filters: Option<&Value>) -> Option<Self> {
        let mut read = Self::default();
        let filters = match filters {
            None | Some(Value::Null) => return Some(read),
            Some(filters) => filters.as_object()?,
        };
        if let Some(events) = present(filters, "events") {
            for event in events.as_array()? {
                read.events |= 1 << LogEvent::parse(event.as_str()?)? as u8;
            }
        }
        if let Some(level) = present(filters, "level") {
            read.level = LogLevel::parse(level.as_str()?)?;
        }
        if let Some(sampling) = present(filters, "sampling") {
            let sampling = sampling.as_f64()?;
            // What is out of range means all, as with cloudflared.
            if sampling > 0.0 && sampling < 1.0 {
                read.sampling = sampling;
            }
        }
        Some(read)
    }
}

fn present<'a>(object: &'a Map<String, Value>, name: &str) -> Option<&'a Value> {
    object.get(name).filter(|value| !value.is_null())
}

/// What a client says.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ClientEvent {
    /// Begin, or go on with other filters.
    Start(Filters),
    /// Pause.
    Stop,
}

impl ClientEvent {
    /// Reads a message; `None` for what no client says.
    pub(crate) fn parse(message: &[u8]) -> Option<Self> {
        let message: Map<String, Value> = serde_json::from_slice(message).ok()?;
        match message.get("type")?.as_str()? {
            "start_streaming" => Filters::read(message.get("filters")).map(Self::Start),
            "stop_streaming" => Some(Self::Stop),
            _ => None,
        }
    }
}

/// A message with lines, each as [`line`] writes it.
pub(crate) fn logs(lines: Vec<Value>) -> String {
    json!({"type": "logs", "logs": lines}).to_string()
}

/// One line.
pub(crate) fn line(
    time: &str,
    level: LogLevel,
    message: &str,
    event: LogEvent,
    fields: Map<String, Value>,
) -> Value {
    json!({
        "time": time,
        "level": level.as_str(),
        "message": message,
        "event": event.as_str(),
        "fields": fields,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_say_what_they_want() {
        let start = |text: &str| match ClientEvent::parse(text.as_bytes()) {
            Some(ClientEvent::Start(filters)) => Some(filters),
            Some(ClientEvent::Stop) | None => None,
        };
        assert_eq!(start(r#"{"type":"start_streaming"}"#), Some(Filters::default()));
        let all = r#"{"type":"start_streaming","filters":{"events":["http","udp"],"level":"warn","sampling":0.25}}"#;
        let filters = start(all).unwrap();
        assert!(filters.pass(LogLevel::Error, LogEvent::Http, 0.0));
        assert!(!filters.pass(LogLevel::Info, LogEvent::Http, 0.0));
        assert!(!filters.pass(LogLevel::Warn, LogEvent::Tcp, 0.0));
        assert!(!filters.pass(LogLevel::Warn, LogEvent::Udp, 0.25));
        let empty = start(r#"{"type":"start_streaming","filters":{"events":[],"level":null,"sampling":7}}"#);
        assert_eq!(empty, Some(Filters::default()));
        assert_eq!(
            ClientEvent::parse(br#"{"type":"stop_streaming"}"#),
            Some(ClientEvent::Stop)
        );
    }

    #[test]
    fn what_is_no_wish_is_refused() {
        for text in [
            "",
            "[]",
            "{}",
            r#"{"type":"logs"}"#,
            r#"{"type":1}"#,
            r#"{"type":"start_streaming","filters":[]}"#,
            r#"{"type":"start_streaming","filters":{"level":"loud"}}"#,
            r#"{"type":"start_streaming","filters":{"events":["smtp"]}}"#,
            r#"{"type":"start_streaming","filters":{"sampling":"half"}}"#,
        ] {
            assert_eq!(ClientEvent::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn events_have_the_numbers_of_the_log() {
        for (number, (event, name)) in (0..).zip(EVENTS) {
            assert_eq!(event as u8, number);
            assert_eq!(LogEvent::of_number(u64::from(number)), Some(event));
            assert_eq!(LogEvent::parse(name), Some(event));
        }
        assert_eq!(LogEvent::of_number(4), None);
    }
}
