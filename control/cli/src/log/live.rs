//! Hands events to whoever streams the connector's log.
//!
//! This layer ignores the level of the log, because a stream may want more than the terminal. While nobody
//! streams, every callsite is off for it, so lines that the log does not want cost nothing more.

use adit_connector::{LiveLog, LogEvent, LogLevel, LogLine};
use time::OffsetDateTime;
use tracing::level_filters::LevelFilter;
use tracing::subscriber::Interest;
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::{Context, Filter};

use super::layer::Collector;
use crate::output::time::to_seconds;

/// What is streamed: the connector's own events. The driver's would tell of the stream itself.
const STREAMED: &str = "adit_connector";

/// The field that says what an event is about.
const EVENT_FIELD: &str = "event";

/// The layer.
pub(super) struct LiveLayer(pub(super) LiveLog);

/// Lets pass what somebody wants to see.
pub(super) struct WhileStreaming(pub(super) LiveLog);

impl WhileStreaming {
    fn level(&self) -> LevelFilter {
        match self.0.level() {
            None => LevelFilter::OFF,
            Some(LogLevel::Debug) => LevelFilter::DEBUG,
            Some(LogLevel::Info) => LevelFilter::INFO,
            Some(LogLevel::Warn) => LevelFilter::WARN,
            Some(LogLevel::Error) => LevelFilter::ERROR,
        }
    }

    fn wants(&self, metadata: &Metadata<'_>) -> bool {
        metadata.is_event() && *metadata.level() <= self.level() && metadata.target().starts_with(STREAMED)
    }
}

impl<S> Filter<S> for WhileStreaming {
    fn enabled(&self, metadata: &Metadata<'_>, _: &Context<'_, S>) -> bool {
        self.wants(metadata)
    }

    fn callsite_enabled(&self, metadata: &'static Metadata<'static>) -> Interest {
        if self.wants(metadata) {
            Interest::always()
        } else {
            Interest::never()
        }
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level())
    }
}

impl<S: Subscriber> Layer<S> for LiveLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut collected = Collector::default();
        event.record(&mut collected);
        let mut about = LogEvent::Cloudflared;
        let mut fields = serde_json::Map::new();
        for (name, value) in collected.fields {
            match (name == EVENT_FIELD, value.as_u64().and_then(LogEvent::of_number)) {
                (true, Some(event)) => about = event,
                (true, None) | (false, _) => {
                    fields.insert(name.to_owned(), value);
                }
            }
        }
        self.0.push(LogLine {
            time: to_seconds(OffsetDateTime::now_utc()),
            level: level_of(*event.metadata().level()),
            event: about,
            message: collected.message,
            fields,
        });
    }
}

fn level_of(level: Level) -> LogLevel {
    match level {
        Level::ERROR => LogLevel::Error,
        Level::WARN => LogLevel::Warn,
        Level::INFO => LogLevel::Info,
        Level::DEBUG | Level::TRACE => LogLevel::Debug,
    }
}
