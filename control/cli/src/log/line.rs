//! One log line from its parts, for people or as JSON. Pure.

use serde_json::{Map, Value};
use tracing::Level;

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// `TIME LVL message key=value`.
    Text,
    /// An object per line.
    Json,
}

/// A field's name and value.
pub(super) type Field = (&'static str, Value);

/// Renders a line with its newline. Of two fields with one name the last one counts.
pub(super) fn render(shape: Shape, time: &str, level: Level, message: &str, fields: &[Field]) -> String {
    match shape {
        Shape::Text => render_text(time, level, message, fields),
        Shape::Json => render_json(time, level, message, fields),
    }
}

fn render_text(time: &str, level: Level, message: &str, fields: &[Field]) -> String {
    let name = match level {
        Level::ERROR => "ERR",
        Level::WARN => "WRN",
        Level::INFO => "INF",
        Level::DEBUG => "DBG",
        Level::TRACE => "TRC",
    };
    let mut line = format!("{time} {name} {}", one_line(message));
    for (index, (key, value)) in fields.iter().enumerate() {
        let is_replaced = fields.iter().skip(index + 1).any(|(later, _)| later == key);
        if is_replaced {
            continue;
        }
        let text = match value {
            Value::String(text) if needs_quotes(text) => value.to_string(),
            Value::String(text) => text.clone(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                value.to_string()
            }
        };
        line.push_str(&format!(" {key}={text}"));
    }
    line.push('\n');
    line
}

fn render_json(time: &str, level: Level, message: &str, fields: &[Field]) -> String {
    let name = match level {
        Level::ERROR => "error",
        Level::WARN => "warn",
        Level::INFO => "info",
        Level::DEBUG => "debug",
        Level::TRACE => "trace",
    };
    let mut object = Map::new();
    object.extend(
        fields
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.clone())),
    );
    object.insert("level".to_owned(), name.into());
    object.insert("time".to_owned(), time.into());
    object.insert("message".to_owned(), message.into());
    format!("{}\n", Value::Object(object))
}

/// Control characters become escapes, so that a message can neither forge a line nor move the cursor.
fn one_line(message: &str) -> String {
    if message.chars().any(char::is_control) {
        message.escape_debug().to_string()
    } else {
        message.to_owned()
    }
}

fn needs_quotes(text: &str) -> bool {
    text.is_empty()
        || text
            .bytes()
            .any(|byte| !(0x21..=0x7e).contains(&byte) || byte == b'"' || byte == b'\\')
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: &str = "2026-01-02T03:04:05Z";

    #[test]
    fn text_lines_quote_only_what_needs_it() {
        let fields = [
            ("connIndex", Value::from(0)),
            ("ip", Value::from("127.0.0.1")),
            ("error", Value::from("it \"broke\"")),
        ];
        let expected = "2026-01-02T03:04:05Z INF Registered connection connIndex=0 ip=127.0.0.1 error=\"it \\\"broke\\\"\"\n";
        assert_eq!(
            render(Shape::Text, TIME, Level::INFO, "Registered connection", &fields),
            expected
        );
    }

    #[test]
    fn an_event_field_replaces_the_span_field_of_the_same_name() {
        let fields = [("core", Value::from(0)), ("core", Value::from(1))];
        assert_eq!(
            render(Shape::Text, TIME, Level::WARN, "m", &fields),
            "2026-01-02T03:04:05Z WRN m core=1\n"
        );
    }

    #[test]
    fn a_message_cannot_forge_another_line() {
        let line = render(Shape::Text, TIME, Level::ERROR, "a\n2026 INF b\u{1b}[2J", &[]);
        assert_eq!(line.matches('\n').count(), 1);
        assert!(!line.contains('\u{1b}'));
    }

    #[test]
    fn json_lines_are_objects_with_the_usual_keys() {
        let line = render(
            Shape::Json,
            TIME,
            Level::ERROR,
            "m",
            &[("n", Value::from(3)), ("level", "x".into())],
        );
        let object: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(
            object,
            serde_json::json!({"level": "error", "time": TIME, "message": "m", "n": 3})
        );
    }
}
