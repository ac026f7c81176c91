//! Query strings and path segments with the escapes they need.

use std::fmt;

/// Parameters in the order they were added.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(Vec<(&'static str, String)>);

impl Query {
    /// Adds a parameter.
    #[must_use]
    pub(crate) fn and(mut self, name: &'static str, value: impl ToString) -> Self {
        self.0.push((name, value.to_string()));
        self
    }

    /// Adds a parameter if `wanted`.
    #[must_use]
    pub(crate) fn and_if(self, wanted: bool, name: &'static str, value: impl ToString) -> Self {
        if wanted { self.and(name, value) } else { self }
    }

    /// Adds a parameter if there is a value.
    #[must_use]
    pub(crate) fn and_some(self, name: &'static str, value: Option<impl ToString>) -> Self {
        match value {
            Some(value) => self.and(name, value),
            None => self,
        }
    }
}

impl fmt::Display for Query {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (name, value)) in self.0.iter().enumerate() {
            let mark = if index == 0 { '?' } else { '&' };
            write!(f, "{mark}{name}={}", encode(value))?;
        }
        Ok(())
    }
}

/// Escapes everything but the unreserved characters of RFC 3986 §2.3.
pub(super) fn encode(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_escaped_and_joined() {
        let query = Query::default()
            .and("name", "a b&c")
            .and_if(false, "x", 1)
            .and_some("page", Some(2));
        assert_eq!(query.to_string(), "?name=a%20b%26c&page=2");
        assert_eq!(Query::default().to_string(), "");
    }
}
