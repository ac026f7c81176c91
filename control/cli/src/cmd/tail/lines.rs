//! What `tail` asks of a connector, and how it prints what comes. Pure.

use anyhow::Context as _;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::args::lookup::Lookup;
use crate::failure::Failure;

const EVENTS: [&str; 4] = ["cloudflared", "http", "tcp", "udp"];
const LEVELS: [&str; 4] = ["debug", "info", "warn", "error"];

/// How lines are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// `time level event message fields`.
    Text,
    /// An object per line.
    Json,
}

impl Form {
    pub(super) fn from_flags(flags: &Lookup<'_>) -> Result<Self, Failure> {
        match flags.text("output").as_deref() {
            None | Some("default" | "") => Ok(Self::Text),
            Some("json") => Ok(Self::Json),
            Some(other) => Err(Failure::usage(format!(
                "invalid value for --output: '{other}' is neither default nor json"
            ))),
        }
    }
}

/// Which lines are wanted.
#[derive(Debug, PartialEq)]
pub(super) struct Wishes {
    events: Vec<String>,
    level: String,
    sample: f64,
}

impl Wishes {
    pub(super) fn from_flags(flags: &Lookup<'_>) -> Result<Self, Failure> {
        let events = flags.list("event");
        if let Some(unknown) = events.iter().find(|event| !EVENTS.contains(&event.as_str())) {
            return Err(Failure::usage(format!(
                "invalid value for --event: '{unknown}' is none of {}",
                EVENTS.join(", ")
            )));
        }
        let level = flags.text("level").unwrap_or_else(|| "debug".to_owned());
        if !LEVELS.contains(&level.as_str()) {
            return Err(Failure::usage(format!(
                "invalid value for --level: '{level}' is none of {}",
                LEVELS.join(", ")
            )));
        }
        let sample = flags.parsed::<f64>("sample")?.unwrap_or(1.0);
        if !(0.0..=1.0).contains(&sample) || sample == 0.0 {
            return Err(Failure::usage(format!(
                "invalid value for --sample: {sample} is not above 0.0 and at most 1.0"
            )));
        }
        Ok(Self {
            events,
            level,
            sample,
        })
    }

    /// The first message.
    pub(super) fn start_streaming(&self) -> Vec<u8> {
        let mut filters = json!({"level": self.level});
        if !self.events.is_empty() {
            filters["events"] = json!(self.events);
        }
        if self.sample < 1.0 {
            filters["sampling"] = json!(self.sample);
        }
        json!({"type": "start_streaming", "filters": filters})
            .to_string()
            .into_bytes()
    }
}

/// A message of a connector.
#[derive(Deserialize)]
struct Message {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    logs: Vec<Line>,
}

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    time: String,
    /// Stock connectors leave the least ones out.
    #[serde(default = "debug")]
    level: String,
    #[serde(default)]
    message: String,
    #[serde(default = "cloudflared")]
    event: String,
    #[serde(default)]
    fields: Option<Map<String, Value>>,
}

fn debug() -> String {
    "debug".to_owned()
}

fn cloudflared() -> String {
    "cloudflared".to_owned()
}

/// The lines of a message, ready to print; other messages are passed over.
pub(super) fn render(message: &[u8], form: Form) -> anyhow::Result<String> {
    let message: Message =
        serde_json::from_slice(message).context("the connector sent something that is no message")?;
    if message.kind != "logs" {
        return Ok(String::new());
    }
    Ok(message.logs.into_iter().map(|line| line.render(form)).collect())
}

impl Line {
    fn render(self, form: Form) -> String {
        match form {
            Form::Text => {
                let fields = self.fields.map_or(Value::Null, Value::Object);
                let [time, level, event, message] =
                    [&self.time, &self.level, &self.event, &self.message].map(|text| one_line(text));
                format!("{time} {level} {event} {message} {fields}\n")
            }
            Form::Json => {
                let mut line = Map::new();
                let texts = [
                    ("time", self.time),
                    ("level", self.level),
                    ("message", self.message),
                    ("event", self.event),
                ];
                line.extend(texts.map(|(key, text)| (key.to_owned(), text.into())));
                if let Some(fields) = self.fields.filter(|fields| !fields.is_empty()) {
                    line.insert("fields".to_owned(), fields.into());
                }
                format!("{}\n", Value::Object(line))
            }
        }
    }
}

/// What comes from afar must neither forge a line nor move the cursor.
fn one_line(text: &str) -> String {
    if text.chars().any(char::is_control) {
        text.escape_debug().to_string()
    } else {
        text.to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &[u8] = br#"{"type":"logs","logs":[
        {"time":"2026-01-02T03:04:05Z","level":"info","message":"one\ntwo","event":"http","fields":{"connIndex":0}},
        {"time":"2026-01-02T03:04:06Z","level":"warn","message":"m","event":"cloudflared","fields":{}}]}"#;

    #[test]
    fn lines_look_as_cloudflared_prints_them() {
        assert_eq!(
            render(MESSAGE, Form::Text).unwrap(),
            "2026-01-02T03:04:05Z info http one\\ntwo {\"connIndex\":0}\n\
             2026-01-02T03:04:06Z warn cloudflared m {}\n"
        );
        let json = render(MESSAGE, Form::Json).unwrap();
        let first: Value = serde_json::from_str(json.lines().next().unwrap()).unwrap();
        assert_eq!(first["message"], "one\ntwo");
        assert_eq!(render(br#"{"type":"news"}"#, Form::Text).unwrap(), "");
        let least = br#"{"type":"logs","logs":[{"time":"t","message":"m"}]}"#;
        assert_eq!(render(least, Form::Text).unwrap(), "t debug cloudflared m null\n");
        assert!(render(b"no message", Form::Text).is_err());
    }

    #[test]
    fn only_what_differs_from_everything_is_asked() {
        let all = Wishes {
            events: vec![],
            level: "debug".into(),
            sample: 1.0,
        };
        let said: Value = serde_json::from_slice(&all.start_streaming()).unwrap();
        assert_eq!(
            said,
            json!({"type": "start_streaming", "filters": {"level": "debug"}})
        );
        let some = Wishes {
            events: vec!["http".into()],
            level: "info".into(),
            sample: 0.5,
        };
        let said: Value = serde_json::from_slice(&some.start_streaming()).unwrap();
        assert_eq!(
            said["filters"],
            json!({"level": "info", "events": ["http"], "sampling": 0.5})
        );
    }
}
