//! What a rule changes on the way to its origin and back: the path, and headers of requests and responses.
//!
//! ```text
//! visitor's path ─► stripPrefix ─► pathRewrite ─► origin      headers: remove, then set, then add
//! ```
//! The query stays as it is. Rules are still chosen by the visitor's path. The keys are ours; cloudflared
//! ignores them.

use std::fmt;
use std::sync::Arc;

use http::header::{
    CONNECTION, CONTENT_LENGTH, HOST, HeaderMap, HeaderName, HeaderValue, TE, TRANSFER_ENCODING, UPGRADE,
};
use http::uri::{InvalidUri, PathAndQuery};
use regex::{Regex, RegexBuilder};

use super::{IngressError, path};
use crate::exchange::look_alike;

/// Headers of one direction that a rule may name, in all.
pub const HEADERS_MAX: usize = 100;

/// Longest target that a rewrite may make: what servers take at least.
const TARGET_BYTES_MAX: usize = 8000;

/// Headers that belong to a connection or to a body, or have a key of their own.
const FORBIDDEN: [HeaderName; 6] = [HOST, CONNECTION, CONTENT_LENGTH, TE, TRANSFER_ENCODING, UPGRADE];

/// `set`, `add` and `remove` as written. Values are often credentials, so none is printed for debugging.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct HeaderEditsText {
    /// Replaces all headers of the name.
    pub set: Vec<(String, String)>,
    /// Comes beside what there is.
    pub add: Vec<(String, String)>,
    /// Names.
    pub remove: Vec<String>,
}

impl fmt::Debug for HeaderEditsText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = |pairs: &[(String, String)]| -> Vec<String> {
            pairs.iter().map(|(name, _)| name.clone()).collect()
        };
        f.debug_struct("HeaderEditsText")
            .field("set", &names(&self.set))
            .field("add", &names(&self.add))
            .field("remove", &self.remove)
            .finish()
    }
}

/// The keys as one layer writes them; `None` where it says nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EditsText {
    /// Cut off the path if it begins with it.
    pub strip_prefix: Option<String>,
    /// Expression, and what takes the place of its first match.
    pub path_rewrite: Option<(String, String)>,
    /// Towards the origin.
    pub request_headers: Option<Arc<HeaderEditsText>>,
    /// Towards the visitor.
    pub response_headers: Option<Arc<HeaderEditsText>>,
}

impl EditsText {
    /// These where `layer` says nothing, and `layer` where it says something.
    #[must_use]
    pub fn with(self, layer: &Self) -> Self {
        let layer = layer.clone();
        Self {
            strip_prefix: layer.strip_prefix.or(self.strip_prefix),
            path_rewrite: layer.path_rewrite.or(self.path_rewrite),
            request_headers: layer.request_headers.or(self.request_headers),
            response_headers: layer.response_headers.or(self.response_headers),
        }
    }
}

/// What can be done to an exchange.
#[derive(Debug, Clone)]
pub struct Edits {
    /// Without a slash at its end; empty for nothing.
    strip_prefix: String,
    path_rewrite: Option<(Regex, String)>,
    request: HeaderEdits,
    response: HeaderEdits,
}

/// Checked changes of headers.
#[derive(Debug, Clone, Default)]
struct HeaderEdits {
    set: Vec<(HeaderName, HeaderValue)>,
    add: Vec<(HeaderName, HeaderValue)>,
    remove: Vec<HeaderName>,
}

impl Edits {
    /// Checks what is written; `None` if it changes nothing.
    ///
    /// # Errors
    /// [`IngressError::Edit`].
    pub fn parse(text: &EditsText) -> Result<Option<Self>, IngressError> {
        if *text == EditsText::default() {
            return Ok(None);
        }
        let strip_prefix = text.strip_prefix.as_deref().unwrap_or_default();
        if !strip_prefix.is_empty() && !strip_prefix.starts_with('/') {
            return Err(wrong("stripPrefix", strip_prefix, "it must begin with a slash"));
        }
        let rewrite = |(pattern, replacement): &(String, String)| {
            let expression = RegexBuilder::new(pattern)
                .size_limit(path::PROGRAM_BYTES_MAX)
                .build();
            let expression = expression.map_err(|error| wrong("pathRewrite", pattern, &error.to_string()))?;
            Ok((expression, replacement.clone()))
        };
        let headers = |key, text: &Option<Arc<HeaderEditsText>>| match text {
            Some(text) => HeaderEdits::parse(key, text),
            None => Ok(HeaderEdits::default()),
        };
        Ok(Some(Self {
            strip_prefix: strip_prefix.trim_end_matches('/').to_owned(),
            path_rewrite: text.path_rewrite.as_ref().map(rewrite).transpose()?,
            request: headers("requestHeaders", &text.request_headers)?,
            response: headers("responseHeaders", &text.response_headers)?,
        }))
    }

    /// The target for the origin.
    ///
    /// # Errors
    /// If what comes out is no target.
    pub fn target(&self, target: PathAndQuery) -> Result<PathAndQuery, InvalidUri> {
        let old = target.path();
        let mut path = self.strip(old);
        if let Some((expression, replacement)) = &self.path_rewrite {
            path = expression.replace(&path, replacement).into_owned();
        }
        if path == old {
            return Ok(target);
        }
        if !path.starts_with('/') {
            path.insert(0, '/');
        }
        if let Some(query) = target.query() {
            path.push('?');
            path.push_str(query);
        }
        if path.len() > TARGET_BYTES_MAX {
            // The parser's word for what is too long.
            return PathAndQuery::try_from("\n");
        }
        PathAndQuery::try_from(path)
    }

    /// Changes the headers of a request. Headers of the visitor that an origin may take for one that is set
    /// or removed are removed as well, because an origin believes what a rule sets.
    pub fn request(&self, headers: &mut HeaderMap) {
        let named = self.request.set.iter().map(|(name, _)| name);
        for name in named.chain(&self.request.remove) {
            look_alike::remove(headers, name);
        }
        self.request.apply(headers);
    }

    /// Changes the headers of a response.
    pub fn response(&self, headers: &mut HeaderMap) {
        self.response.apply(headers);
    }

    /// Changes the headers of an interim answer: what the origin has not said there is not added.
    pub fn interim(&self, headers: &mut HeaderMap) {
        let said: Vec<HeaderName> = headers.keys().cloned().collect();
        self.response.apply(headers);
        let added = self.response.set.iter().chain(&self.response.add);
        for (name, _) in added.filter(|(name, _)| !said.contains(name)) {
            headers.remove(name);
        }
    }

    /// Only whole segments are cut off: `/api` of `/api/x`, and not of `/apis`.
    fn strip(&self, path: &str) -> String {
        match path.strip_prefix(&self.strip_prefix) {
            Some("") => "/".to_owned(),
            Some(rest) if rest.starts_with('/') => rest.to_owned(),
            Some(_) | None => path.to_owned(),
        }
    }
}

impl HeaderEdits {
    fn parse(key: &'static str, text: &HeaderEditsText) -> Result<Self, IngressError> {
        if text.set.len() + text.add.len() + text.remove.len() > HEADERS_MAX {
            let count = HEADERS_MAX.to_string();
            return Err(wrong(key, &count, "that is the most headers of one direction"));
        }
        let name = |text: &str| {
            let name =
                HeaderName::try_from(text).map_err(|_| wrong(key, text, "it is no name of a header"))?;
            if FORBIDDEN.contains(&name) {
                let why = "that header belongs to the connection, to the body, or to httpHostHeader";
                return Err(wrong(key, text, why));
            }
            Ok(name)
        };
        let line = |(of, value): &(String, String)| {
            // Names the header only. The value may be a credential, and errors are told to edges and logs.
            let mut checked = HeaderValue::from_str(value)
                .map_err(|_| wrong(key, of, "what it is given is no value of a header"))?;
            checked.set_sensitive(true);
            Ok((name(of)?, checked))
        };
        Ok(Self {
            set: text.set.iter().map(line).collect::<Result<_, _>>()?,
            add: text.add.iter().map(line).collect::<Result<_, _>>()?,
            remove: text.remove.iter().map(|of| name(of)).collect::<Result<_, _>>()?,
        })
    }

    fn apply(&self, headers: &mut HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name, value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name, value.clone());
        }
    }
}

fn wrong(key: &'static str, value: &str, why: &str) -> IngressError {
    IngressError::Edit {
        key,
        value: value.to_owned(),
        why: why.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edits(text: &EditsText) -> Edits {
        Edits::parse(text).unwrap().expect("something is changed")
    }

    fn target(text: &EditsText, given: &'static str) -> String {
        let made = edits(text).target(PathAndQuery::from_static(given));
        made.map_or_else(|error| error.to_string(), |target| target.to_string())
    }

    #[test]
    fn prefixes_are_cut_off_at_segments() {
        for prefix in ["/api", "/api/"] {
            let text = EditsText {
                strip_prefix: Some(prefix.to_owned()),
                ..EditsText::default()
            };
            for (given, wanted) in [
                ("/api/x?a=/api", "/x?a=/api"),
                ("/api", "/"),
                ("/api/", "/"),
                ("/api?x", "/?x"),
                ("/apis", "/apis"),
                ("/x/api/", "/x/api/"),
            ] {
                assert_eq!(target(&text, given), wanted, "{given}");
            }
        }
    }

    #[test]
    fn paths_are_rewritten_after_that() {
        let text = EditsText {
            strip_prefix: Some("/old".to_owned()),
            path_rewrite: Some(("^/v1/([^/]+)".to_owned(), "/new/${1}/one".to_owned())),
            ..EditsText::default()
        };
        assert_eq!(target(&text, "/old/v1/me/x?y"), "/new/me/one/x?y");
        assert_eq!(target(&text, "/v2/me"), "/v2/me");
        let bare = EditsText {
            path_rewrite: Some((".*".to_owned(), "x y".to_owned())),
            ..EditsText::default()
        };
        assert!(edits(&bare).target(PathAndQuery::from_static("/a")).is_err());
        let long = EditsText {
            path_rewrite: Some((".*".to_owned(), "x".repeat(TARGET_BYTES_MAX))),
            ..EditsText::default()
        };
        assert!(edits(&long).target(PathAndQuery::from_static("/a")).is_err());
        let relative = EditsText {
            path_rewrite: Some(("^/".to_owned(), String::new())),
            ..EditsText::default()
        };
        assert_eq!(target(&relative, "/a"), "/a");
    }

    #[test]
    fn headers_are_removed_set_and_added_in_this_order() {
        let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let text = EditsText {
            request_headers: Some(Arc::new(HeaderEditsText {
                set: vec![pair("X-A", "new")],
                add: vec![pair("X-A", "more"), pair("x-b", "only")],
                remove: vec!["X-B".to_owned(), "X-C".to_owned()],
            })),
            ..EditsText::default()
        };
        let mut headers = HeaderMap::new();
        for (name, value) in [("x-a", "1"), ("x-a", "2"), ("x-b", "3"), ("x-d", "4")] {
            headers.append(name, HeaderValue::from_static(value));
        }
        let edits = edits(&text);
        edits.response(&mut headers);
        assert_eq!(headers.len(), 4);
        edits.request(&mut headers);
        let all = |name: &str| headers.get_all(name).iter().collect::<Vec<_>>();
        assert_eq!(all("x-a"), ["new", "more"]);
        assert_eq!(all("x-b"), ["only"]);
        assert_eq!(all("x-d"), ["4"]);
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        assert!(Edits::parse(&EditsText::default()).unwrap().is_none());
        let headers = |set: &str, value: &str| EditsText {
            response_headers: Some(Arc::new(HeaderEditsText {
                set: vec![(set.to_owned(), value.to_owned())],
                ..HeaderEditsText::default()
            })),
            ..EditsText::default()
        };
        for (text, complaint) in [
            (headers("a b", "x"), "responseHeaders \"a b\": it is no name"),
            (
                headers("a", "x\ny"),
                "responseHeaders \"a\": what it is given is no value",
            ),
            (
                headers("Content-Length", "1"),
                "responseHeaders \"Content-Length\": that header",
            ),
            (
                EditsText {
                    strip_prefix: Some("api".to_owned()),
                    ..EditsText::default()
                },
                "stripPrefix \"api\": it must begin with a slash",
            ),
            (
                EditsText {
                    path_rewrite: Some(("(".to_owned(), String::new())),
                    ..EditsText::default()
                },
                "pathRewrite \"(\": ",
            ),
        ] {
            let told = Edits::parse(&text).unwrap_err().to_string();
            assert!(told.starts_with(complaint), "{told}");
        }
    }
}
