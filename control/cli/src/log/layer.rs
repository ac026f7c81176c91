//! Turns tracing's events into lines: collects the fields of the event and of the spans around it.

use std::fmt::Debug;
use std::io::{self, Write};
use std::sync::Mutex;

use serde_json::Value;
use time::OffsetDateTime;
use tracing::field::{Field as TracingField, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::LookupSpan;

use super::file::Reopened;
use super::line::{Field, Shape, render};
use super::rolling::Rolling;
use crate::output::time::to_seconds;

/// Where lines go.
#[derive(Debug)]
pub(super) enum Sink {
    /// Standard error.
    Console,
    /// A file opened for appending.
    File(Reopened),
    /// A file that is put aside when it is full.
    Rolling(Rolling),
}

/// Writes every event as one line with one write, so that lines of several threads do not mix.
#[derive(Debug)]
pub(super) struct LineLayer {
    shape: Shape,
    sink: Mutex<Sink>,
}

/// A span's fields, kept with the span.
struct SpanFields(Vec<Field>);

/// Collects fields; the message apart.
#[derive(Default)]
pub(super) struct Collector {
    pub(super) message: String,
    pub(super) fields: Vec<Field>,
}

impl LineLayer {
    pub(super) fn new(shape: Shape, sink: Sink) -> Self {
        Self {
            shape,
            sink: Mutex::new(sink),
        }
    }

    fn write(&self, line: &str) {
        // A full disk or a closed terminal must not stop the process, and there is nowhere left to tell.
        let Ok(mut sink) = self.sink.lock() else { return };
        let _unwritable = match &mut *sink {
            Sink::Console => io::stderr().lock().write_all(line.as_bytes()),
            Sink::File(file) => file.write_all(line.as_bytes()),
            Sink::Rolling(file) => file.write(line.as_bytes(), OffsetDateTime::now_utc()),
        };
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for LineLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut extensions = span.extensions_mut();
        // Several layers share the span: the first one collects for all.
        if extensions.get_mut::<SpanFields>().is_none() {
            let mut collector = Collector::default();
            attributes.record(&mut collector);
            extensions.insert(SpanFields(collector.fields));
        }
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        let Some(span) = context.span(id) else { return };
        let mut collector = Collector::default();
        values.record(&mut collector);
        if let Some(SpanFields(fields)) = span.extensions_mut().get_mut::<SpanFields>() {
            fields.retain(|(name, _)| !collector.fields.iter().any(|(new, _)| new == name));
            fields.append(&mut collector.fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut of_event = Collector::default();
        event.record(&mut of_event);
        let mut fields = Vec::new();
        for span in context
            .event_scope(event)
            .into_iter()
            .flat_map(|scope| scope.from_root())
        {
            if let Some(SpanFields(of_span)) = span.extensions().get::<SpanFields>() {
                fields.extend(of_span.iter().cloned());
            }
        }
        fields.append(&mut of_event.fields);
        let now = to_seconds(OffsetDateTime::now_utc());
        let line = render(
            self.shape,
            &now,
            *event.metadata().level(),
            &of_event.message,
            &fields,
        );
        self.write(&line);
    }
}

impl Collector {
    fn add(&mut self, field: &TracingField, value: Value) {
        match (field.name(), value) {
            ("message", Value::String(text)) => self.message = text,
            (name, value) => self.fields.push((name, value)),
        }
    }
}

impl Visit for Collector {
    fn record_f64(&mut self, field: &TracingField, value: f64) {
        self.add(field, value.into());
    }

    fn record_i64(&mut self, field: &TracingField, value: i64) {
        self.add(field, value.into());
    }

    fn record_u64(&mut self, field: &TracingField, value: u64) {
        self.add(field, value.into());
    }

    fn record_bool(&mut self, field: &TracingField, value: bool) {
        self.add(field, value.into());
    }

    fn record_str(&mut self, field: &TracingField, value: &str) {
        self.add(field, value.into());
    }

    fn record_error(&mut self, field: &TracingField, value: &(dyn std::error::Error + 'static)) {
        let causes = std::iter::successors(Some(value), |error| error.source());
        let text: Vec<String> = causes.map(ToString::to_string).collect();
        self.add(field, text.join(": ").into());
    }

    fn record_debug(&mut self, field: &TracingField, value: &dyn Debug) {
        self.add(field, format!("{value:?}").into());
    }
}
