//! A small ordered tree, rendered as JSON or YAML.
//!
//! The two renderings name the same fields differently (`created_at` against `createdat`): that is how
//! cloudflared's own output is, so every key carries both names.

/// A value of a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Node {
    /// A string.
    Text(String),
    /// A time or another word that needs no quotes in YAML.
    Word(String),
    /// True or false.
    Switch(bool),
    /// A whole number.
    Number(i64),
    /// Values in order.
    List(Vec<Self>),
    /// Fields in order.
    Map(Vec<(Key, Self)>),
}

/// A field's names.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    /// Name in JSON.
    pub(crate) json: &'static str,
    /// Name in YAML.
    pub(crate) yaml: &'static str,
}

/// A field's names: JSON, YAML.
pub(crate) const fn key(json: &'static str, yaml: &'static str) -> Key {
    Key { json, yaml }
}

impl Node {
    /// A string value.
    pub(crate) fn text(value: impl ToString) -> Self {
        Self::Text(value.to_string())
    }

    /// JSON, indented by two spaces, without a final newline.
    pub(crate) fn to_json(&self) -> String {
        let mut out = String::new();
        self.write_json(&mut out, 0);
        out
    }

    /// YAML with a final newline.
    pub(crate) fn to_yaml(&self) -> String {
        let mut out = String::new();
        match self {
            Self::List(items) if !items.is_empty() => Self::write_yaml_items(items, &mut out, 0),
            Self::Map(fields) if !fields.is_empty() => Self::write_yaml_fields(fields, &mut out, 0),
            Self::List(_)
            | Self::Map(_)
            | Self::Text(_)
            | Self::Word(_)
            | Self::Switch(_)
            | Self::Number(_) => {
                self.write_yaml_inline(&mut out);
            }
        }
        out
    }

    fn write_json(&self, out: &mut String, depth: usize) {
        let indent = |out: &mut String, depth: usize| {
            out.push('\n');
            out.push_str(&"  ".repeat(depth));
        };
        match self {
            Self::Text(text) | Self::Word(text) => out.push_str(&quoted(text)),
            Self::Number(number) => out.push_str(&number.to_string()),
            Self::Switch(value) => out.push_str(if *value { "true" } else { "false" }),
            Self::List(items) if items.is_empty() => out.push_str("[]"),
            Self::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    out.push(if index == 0 { '[' } else { ',' });
                    indent(out, depth + 1);
                    item.write_json(out, depth + 1);
                }
                indent(out, depth);
                out.push(']');
            }
            Self::Map(fields) if fields.is_empty() => out.push_str("{}"),
            Self::Map(fields) => {
                for (index, (key, value)) in fields.iter().enumerate() {
                    out.push(if index == 0 { '{' } else { ',' });
                    indent(out, depth + 1);
                    out.push_str(&quoted(key.json));
                    out.push_str(": ");
                    value.write_json(out, depth + 1);
                }
                indent(out, depth);
                out.push('}');
            }
        }
    }

    fn write_yaml_items(items: &[Self], out: &mut String, depth: usize) {
        for item in items {
            out.push_str(&" ".repeat(depth));
            out.push_str("- ");
            match item {
                Self::Map(fields) if !fields.is_empty() => {
                    let mut inner = String::new();
                    Self::write_yaml_fields(fields, &mut inner, depth + 2);
                    out.push_str(inner.trim_start_matches(' '));
                }
                Self::List(_)
                | Self::Map(_)
                | Self::Text(_)
                | Self::Word(_)
                | Self::Switch(_)
                | Self::Number(_) => {
                    item.write_yaml_inline(out);
                }
            }
        }
    }

    fn write_yaml_fields(fields: &[(Key, Self)], out: &mut String, depth: usize) {
        for (key, value) in fields {
            out.push_str(&" ".repeat(depth));
            out.push_str(key.yaml);
            out.push(':');
            match value {
                Self::List(items) if !items.is_empty() => {
                    out.push('\n');
                    Self::write_yaml_items(items, out, deeper(depth));
                }
                Self::Map(fields) if !fields.is_empty() => {
                    out.push('\n');
                    Self::write_yaml_fields(fields, out, deeper(depth));
                }
                Self::List(_)
                | Self::Map(_)
                | Self::Text(_)
                | Self::Word(_)
                | Self::Switch(_)
                | Self::Number(_) => {
                    out.push(' ');
                    value.write_yaml_inline(out);
                }
            }
        }
    }

    /// Writes a value that fits on its line; deeper lists and maps appear in flow style.
    fn write_yaml_inline(&self, out: &mut String) {
        match self {
            Self::Text(text) if is_plain(text) => out.push_str(text),
            Self::Text(text) => out.push_str(&quoted(text)),
            Self::Word(text) => out.push_str(text),
            Self::Switch(_) | Self::Number(_) | Self::List(_) | Self::Map(_) => self.write_json(out, 0),
        }
        out.push('\n');
    }
}

/// Column where what stands below a field at `depth` begins: cloudflared's writer goes on to the next
/// multiple of four.
const fn deeper(depth: usize) -> usize {
    (depth / 4 + 1) * 4
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// Whether YAML reads `text` as a string without quotes.
fn is_plain(text: &str) -> bool {
    let starts_well = text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '/' || c == '_');
    let safe = text
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || "_-./+@".contains(c));
    let is_number = text.parse::<f64>().is_ok() || text.starts_with("0x") || text.starts_with("0o");
    let looks_like_date = text.len() == 10 && text.bytes().filter(|byte| *byte == b'-').count() == 2;
    let is_keyword = matches!(
        text.to_ascii_lowercase().as_str(),
        "true" | "false" | "yes" | "no" | "on" | "off" | "y" | "n" | "null"
    );
    starts_well && safe && !is_number && !looks_like_date && !is_keyword
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Node {
        let connection = Node::Map(vec![
            (key("colo_name", "coloname"), Node::text("lab01")),
            (
                key("is_pending_reconnect", "ispendingreconnect"),
                Node::Switch(false),
            ),
        ]);
        Node::List(vec![Node::Map(vec![
            (key("id", "id"), Node::text("a-1")),
            (
                key("created_at", "createdat"),
                Node::Word("2026-01-02T03:04:05Z".to_owned()),
            ),
            (key("connections", "connections"), Node::List(vec![connection])),
            (key("none", "none"), Node::List(Vec::new())),
        ])])
    }

    #[test]
    fn json_is_indented_by_two_spaces_and_keeps_the_order() {
        let expected = r#"[
  {
    "id": "a-1",
    "created_at": "2026-01-02T03:04:05Z",
    "connections": [
      {
        "colo_name": "lab01",
        "is_pending_reconnect": false
      }
    ],
    "none": []
  }
]"#;
        assert_eq!(sample().to_json(), expected);
    }

    #[test]
    fn yaml_uses_its_own_key_names() {
        let expected = concat!(
            "- id: a-1\n",
            "  createdat: 2026-01-02T03:04:05Z\n",
            "  connections:\n",
            "    - coloname: lab01\n",
            "      ispendingreconnect: false\n",
            "  none: []\n",
        );
        assert_eq!(sample().to_yaml(), expected);
    }

    #[test]
    fn yaml_quotes_what_would_not_read_as_a_string() {
        for text in ["yes", "1e3", "12", "", "a: b", "#x", "2026-01-02", "-"] {
            assert!(!is_plain(text), "{text}");
        }
        for text in [
            "lab",
            "11111111-2222-3333-4444-555555555555",
            "127.0.0.1",
            "linux_amd64",
        ] {
            assert!(is_plain(text), "{text}");
        }
    }
}
