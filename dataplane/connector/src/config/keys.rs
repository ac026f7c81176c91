//! Keys and values of a configuration document, each read as the kind it must be.

use std::time::Duration;

use serde_json::{Map, Value};

use super::{ConfigError, duration};

/// How likely, from 0 to 1, a known key must be meant by an unknown one to be suggested.
const SIMILARITY_MIN: f64 = 0.8;

/// Edits that make a slip out of a known key, each with the shortest key for which they count. In a shorter
/// key an edit makes another word.
const SLIP_EDITS: [(usize, usize); 2] = [(8, 2), (4, 1)];

/// How a document writes durations.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Durations {
    /// As Go text: `config.yml`.
    Text,
    /// As whole seconds: configurations from an edge.
    Seconds,
}

/// Something in a document that has no effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Oddity {
    pub(crate) text: String,
    /// A known key is meant, with near certainty.
    pub(crate) is_slip: bool,
}

impl Oddity {
    /// One that may well be meant as it is.
    pub(crate) fn note(text: String) -> Self {
        Self { text, is_slip: false }
    }
}

/// One level of a document.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Keys<'a> {
    map: &'a Map<String, Value>,
    durations: Durations,
}

impl<'a> Keys<'a> {
    pub(crate) fn new(map: &'a Map<String, Value>, durations: Durations) -> Self {
        Self { map, durations }
    }

    /// A text.
    pub(crate) fn text(self, key: &str) -> Result<Option<String>, ConfigError> {
        self.read(key, "string", |value| value.as_str().map(str::to_owned))
    }

    /// Yes or no.
    pub(crate) fn switch(self, key: &str) -> Result<Option<bool>, ConfigError> {
        self.read(key, "bool", Value::as_bool)
    }

    /// A number of things.
    pub(crate) fn number(self, key: &str) -> Result<Option<u64>, ConfigError> {
        self.read(key, "int", Value::as_u64)
    }

    /// A duration.
    pub(crate) fn duration(self, key: &str) -> Result<Option<Duration>, ConfigError> {
        match self.durations {
            Durations::Seconds => self.read(key, "int", |value| value.as_u64().map(Duration::from_secs)),
            Durations::Text => {
                // YAML makes a number of what lacks its unit.
                let text = match self.map.get(key) {
                    Some(Value::Number(number)) => number.to_string(),
                    Some(_) | None => match self.text(key)? {
                        Some(text) => text,
                        None => return Ok(None),
                    },
                };
                let invalid = || ConfigError::Value {
                    key: key.to_owned(),
                    value: text.clone(),
                    why: duration::complaint(&text),
                };
                duration::parse(&text).map(Some).ok_or_else(invalid)
            }
        }
    }

    /// Texts; one alone need not be a list.
    pub(crate) fn texts(self, key: &str) -> Result<Vec<String>, ConfigError> {
        let texts = self.read(key, "list of strings", |value| match value {
            Value::String(text) => Some(vec![text.clone()]),
            Value::Array(items) => items
                .iter()
                .map(|item| item.as_str().map(str::to_owned))
                .collect(),
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_) => None,
        })?;
        Ok(texts.unwrap_or_default())
    }

    /// Whether anything is said, an empty list included.
    pub(crate) fn is_given(self, key: &str) -> bool {
        self.map.get(key).is_some_and(|value| !value.is_null())
    }

    /// Numbers.
    pub(crate) fn numbers(self, key: &str) -> Result<Vec<u64>, ConfigError> {
        let numbers = self.read(key, "list of ints", |value| {
            value.as_array()?.iter().map(Value::as_u64).collect()
        })?;
        Ok(numbers.unwrap_or_default())
    }

    /// Numbers and texts between commas; one alone need not be a list.
    pub(crate) fn numbers_or_texts(self, key: &str) -> Result<Option<String>, ConfigError> {
        let part = |value: &Value| match value {
            Value::String(text) => Some(text.clone()),
            Value::Number(number) => number.as_u64().map(|number| number.to_string()),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        };
        self.read(key, "int, string or list of them", |value| {
            match value.as_array() {
                Some(items) => items
                    .iter()
                    .map(part)
                    .collect::<Option<Vec<_>>>()
                    .map(|parts| parts.join(",")),
                None => part(value),
            }
        })
    }

    /// Names with a text each, in the names' order.
    pub(crate) fn pairs(self, key: &str) -> Result<Vec<(String, String)>, ConfigError> {
        let pairs = self.read(key, "map of strings", |value| {
            let pairs = value.as_object()?.iter();
            pairs
                .map(|(name, value)| Some((name.clone(), value.as_str()?.to_owned())))
                .collect()
        })?;
        Ok(pairs.unwrap_or_default())
    }

    /// A level below; absent and empty are the same.
    pub(crate) fn level(self, key: &str) -> Result<Option<Self>, ConfigError> {
        let map = match self.map.get(key) {
            None | Some(Value::Null) => return Ok(None),
            Some(value) => value.as_object().ok_or_else(|| kind(key, "map", value))?,
        };
        Ok(Some(Self::new(map, self.durations)))
    }

    /// A list of levels.
    pub(crate) fn levels(self, key: &str) -> Result<Vec<Self>, ConfigError> {
        let items = match self.map.get(key) {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(value) => value.as_array().ok_or_else(|| kind(key, "list", value))?,
        };
        let level = |item: &'a Value| {
            let map = item.as_object().ok_or_else(|| kind(key, "map", item))?;
            Ok(Self::new(map, self.durations))
        };
        items.iter().map(level).collect()
    }

    /// What to say about keys that are not among `known`.
    pub(crate) fn unknown(self, known: &[&str]) -> Vec<Oddity> {
        let unknown = self.map.keys().filter(|key| !known.contains(&key.as_str()));
        unknown.map(|key| describe(key, known)).collect()
    }

    fn read<T>(
        self,
        key: &str,
        expected: &'static str,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Option<T>, ConfigError> {
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => read(value).map(Some).ok_or_else(|| kind(key, expected, value)),
        }
    }
}

fn describe(key: &str, known: &[&str]) -> Oddity {
    if let Some(name) = known.iter().find(|name| is_slip(key, name)) {
        return Oddity {
            text: format!("{key} (did you mean {name}?)"),
            is_slip: true,
        };
    }
    let nearest = known
        .iter()
        .map(|name| (strsim::jaro_winkler(key, name), name))
        .max_by(|a, b| a.0.total_cmp(&b.0));
    let text = match nearest {
        Some((similarity, name)) if similarity >= SIMILARITY_MIN => format!("{key} (did you mean {name}?)"),
        Some(_) | None => key.to_owned(),
    };
    Oddity::note(text)
}

/// Whether `key` is `name` written wrong: by a letter or two, in other cases, or with other separators.
fn is_slip(key: &str, name: &str) -> bool {
    let bare = |text: &str| text.replace(['-', '_', ' '], "").to_lowercase();
    let (key, name) = (bare(key), bare(name));
    let edits = SLIP_EDITS.iter().find(|(length, _)| name.len() >= *length);
    strsim::osa_distance(&key, &name) <= edits.map_or(0, |(_, edits)| *edits)
}

fn kind(key: &str, expected: &'static str, value: &Value) -> ConfigError {
    let found = match value {
        Value::Null => "nothing",
        Value::Bool(_) => "bool",
        Value::Number(number) if number.is_f64() => "float",
        Value::Number(_) => "int",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "map",
    };
    ConfigError::Kind {
        key: key.to_owned(),
        expected,
        found,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn map(text: &str) -> Map<String, Value> {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn values_must_be_of_their_kind() {
        let map = map(r#"{"tunnel": 3, "retries": "x", "edge": ["a", 1], "ingress": {}, "tag": "a=b"}"#);
        let keys = Keys::new(&map, Durations::Text);
        let text = |error: ConfigError| error.to_string();
        assert_eq!(
            text(keys.text("tunnel").unwrap_err()),
            "expected string found int for tunnel"
        );
        assert_eq!(
            text(keys.number("retries").unwrap_err()),
            "expected int found string for retries"
        );
        assert_eq!(
            text(keys.texts("edge").unwrap_err()),
            "expected list of strings found list for edge"
        );
        assert_eq!(
            text(keys.levels("ingress").unwrap_err()),
            "expected list found map for ingress"
        );
        assert_eq!(keys.texts("tag").unwrap(), ["a=b"]);
        assert_eq!(keys.text("absent").unwrap(), None);
    }

    #[test]
    fn durations_are_text_or_seconds() {
        let map = map(r#"{"a": "1m", "b": 60}"#);
        let minute = Some(Duration::from_secs(60));
        assert_eq!(Keys::new(&map, Durations::Text).duration("a").unwrap(), minute);
        assert_eq!(Keys::new(&map, Durations::Seconds).duration("b").unwrap(), minute);
        let told = Keys::new(&map, Durations::Text).duration("b").unwrap_err();
        assert_eq!(
            told.to_string(),
            "invalid value \"60\" for b: it has no unit; for seconds write 60s"
        );
        assert!(Keys::new(&map, Durations::Seconds).duration("a").is_err());
    }

    #[test]
    fn an_unknown_key_is_told_with_its_nearest() {
        let map = map(r#"{"ingres": 1, "zzz": 1, "tunnel": 1}"#);
        let unknown = Keys::new(&map, Durations::Text).unknown(&["ingress", "tunnel"]);
        let texts: Vec<&str> = unknown.iter().map(|oddity| oddity.text.as_str()).collect();
        assert_eq!(texts, ["ingres (did you mean ingress?)", "zzz"]);
    }

    #[test]
    fn a_slip_is_told_from_another_word() {
        let known = [
            "ingress",
            "originRequest",
            "noTLSVerify",
            "tag",
            "path",
            "proxy-port",
            "edge",
        ];
        for (key, expected) in [
            ("ingres", true),
            ("Ingress", true),
            ("orignRequest", true),
            ("origin-request", true),
            ("noTlsVerify", true),
            ("no_tls_verify", true),
            ("edges", true),
            ("pth", true),
            ("tags", false),
            ("proxy-dns", false),
            ("x-anchors", false),
            ("egress", false),
        ] {
            assert_eq!(describe(key, &known).is_slip, expected, "{key}");
        }
    }
}
