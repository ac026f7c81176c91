//! Names of headers that an origin may take for one another.
//!
//! CGI and its successors (WSGI, Rack, PHP, FastCGI) pass headers on as variables: `X-Forwarded-For` becomes
//! `HTTP_X_FORWARDED_FOR`, and so does `X_Forwarded_For`. Some servers turn every character but letters and
//! digits into an underscore. Two names that become one variable are *alike*. Whoever removes a header, or
//! writes one that an origin believes, has to treat all names that are alike.

use std::borrow::Cow;

use http::{HeaderMap, HeaderName};

/// A name in which all that are alike are equal: lower case, with hyphens for what is no letter or digit.
///
/// `name` is in lower case, as `http` keeps it. Nearly all names come back as they are.
pub(crate) fn folded(name: &str) -> Cow<'_, str> {
    if name
        .bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
    {
        return Cow::Borrowed(name);
    }
    let fold = |letter: char| {
        if letter.is_ascii_alphanumeric() {
            letter
        } else {
            '-'
        }
    };
    Cow::Owned(name.chars().map(fold).collect())
}

/// Removes all headers whose names are like `name`, and itself.
pub(crate) fn remove(headers: &mut HeaderMap, name: &HeaderName) {
    headers.remove(name);
    let wanted = folded(name.as_str());
    headers.remove(&*wanted);
    // Rare: one look at each name finds that none is meant.
    while let Some(alike) = headers
        .keys()
        .find(|key| is_odd(key) && folded(key.as_str()) == wanted)
    {
        let alike = alike.clone();
        headers.remove(alike);
    }
}

/// Whether a name is more than letters, digits and hyphens, without which nothing but itself is like it.
fn is_odd(name: &HeaderName) -> bool {
    matches!(folded(name.as_str()), Cow::Owned(_))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_becomes_one_variable_is_alike() {
        for (name, expected) in [
            ("x-forwarded-for", "x-forwarded-for"),
            ("x_forwarded_for", "x-forwarded-for"),
            ("x.forwarded~for", "x-forwarded-for"),
            ("x-forwarded_for", "x-forwarded-for"),
            ("xforwardedfor", "xforwardedfor"),
        ] {
            assert_eq!(folded(name), expected);
        }
    }

    #[test]
    fn a_name_is_removed_with_all_that_are_like_it() {
        let names = ["x-user", "x_user", "x.user", "x_users", "other_name"];
        let value = http::HeaderValue::from_static("1");
        for by in ["x-user", "x_user"] {
            let mut headers: HeaderMap = names
                .iter()
                .map(|name| (HeaderName::from_static(name), value.clone()))
                .collect();
            remove(&mut headers, &HeaderName::from_static(by));
            // A name is looked for in all its forms, whichever was said.
            let mut left: Vec<_> = headers.keys().map(HeaderName::as_str).collect();
            left.sort_unstable();
            assert_eq!(left, ["other_name", "x_users"], "{by}");
        }
    }
}
